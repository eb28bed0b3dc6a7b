//! The rules of other programs: functions of what each node has free, and of nothing else.

use std::cmp::Reverse;

use super::{View, Want};

/// A node as these rules see it.
#[derive(Clone, Copy)]
struct Node {
    mib: u64,
    /// Hundredths of a CPU it has, busy or not.
    cpus: u64,
}

fn node(view: View<'_>, at: usize) -> Node {
    Node { mib: view.nodes[at].left(), cpus: u64::from(view.nodes[at].cpus) * 100 }
}

/// What is still missing of a guest.
#[derive(Clone, Copy)]
struct Lack {
    mib: u64,
    cpus: u64,
}

impl Lack {
    fn all(want: Want) -> Self {
        Self { mib: u64::from(want.mib), cpus: u64::from(want.cpus) }
    }

    fn less(self, node: Node) -> Self {
        let (mib, cpus) = (self.mib.saturating_sub(node.mib), self.cpus.saturating_sub(node.cpus));
        Self { mib, cpus }
    }

    fn is_none(self) -> bool {
        self.mib == 0 && self.cpus == 0
    }
}

/// The lowest node that holds the guest; where none does, nodes from the lowest on until they do.
pub(super) fn first_fit(view: View<'_>, want: Want, named: &mut Vec<usize>) {
    let count = view.nodes.len();
    let lack = Lack::all(want);
    if let Some(at) = (0..count).find(|&at| lack.less(node(view, at)).is_none()) {
        named.push(at);
        return;
    }
    until_held(view, lack, 0..count, named);
}

/// The node with most free memory, and with it the next ones until they hold the guest.
pub(super) fn most_free(view: View<'_>, want: Want, named: &mut Vec<usize>) {
    let mut order: Vec<usize> = (0..view.nodes.len()).collect();
    order.sort_by_key(|&at| Reverse(node(view, at).mib));
    until_held(view, Lack::all(want), order.into_iter(), named);
    named.sort_unstable();
}

/// Names nodes in an order until they hold the guest; those with nothing that is missing are left out.
fn until_held(
    view: View<'_>,
    mut lack: Lack,
    order: impl Iterator<Item = usize>,
    named: &mut Vec<usize>,
) {
    for at in order {
        if lack.is_none() {
            break;
        }
        let next = lack.less(node(view, at));
        if next.mib < lack.mib || next.cpus < lack.cpus {
            named.push(at);
            lack = next;
        }
    }
}

/// How many sets the searches below look at before they take the best so far.
const STEPS: u32 = 200_000;

/// The fewest nodes that hold the guest, of these the set that is lowest as a binary number.
pub(super) fn narrowest(view: View<'_>, want: Want, named: &mut Vec<usize>) {
    let nodes: Vec<Node> = (0..view.nodes.len()).map(|at| node(view, at)).collect();
    let lack = Lack::all(want);
    let mut steps = STEPS;
    for size in fewest(&nodes, lack)..=nodes.len() {
        named.clear();
        if lowest(&nodes, nodes.len(), size, lack, named, &mut steps) {
            named.sort_unstable();
            return;
        }
    }
    named.clear();
    until_held(view, lack, 0..nodes.len(), named);
}

/// Returns the least size that could do, by memory and by CPUs apart.
fn fewest(nodes: &[Node], lack: Lack) -> usize {
    let least = |figure: fn(&Node) -> u64, wanted: u64| {
        let mut all: Vec<u64> = nodes.iter().map(figure).collect();
        all.sort_unstable_by_key(|&amount| Reverse(amount));
        let mut sum = 0u64;
        let enough = all.iter().position(|&amount| {
            sum = sum.saturating_add(amount);
            sum >= wanted
        });
        enough.map_or(nodes.len(), |at| at + 1)
    };
    least(|node| node.mib, lack.mib).max(least(|node| node.cpus, lack.cpus)).max(1)
}

/// Finds `size` nodes below position `end` that hold what is missing: the set whose highest node is
/// lowest, then the next highest, and so on.
fn lowest(
    nodes: &[Node],
    end: usize,
    size: usize,
    lack: Lack,
    named: &mut Vec<usize>,
    steps: &mut u32,
) -> bool {
    if size == 0 {
        return lack.is_none();
    }
    // The most that `size - 1` nodes below have, by memory and by CPUs apart.
    let (mut mib, mut cpus) = (Top::new(size - 1), Top::new(size - 1));
    for at in 0..end {
        if at + 1 >= size {
            if *steps == 0 {
                return false;
            }
            *steps -= 1;
            let rest = lack.less(nodes[at]);
            if mib.sum >= rest.mib && cpus.sum >= rest.cpus {
                named.push(at);
                if lowest(nodes, at, size - 1, rest, named, steps) {
                    return true;
                }
                named.pop();
            }
        }
        mib.add(nodes[at].mib);
        cpus.add(nodes[at].cpus);
    }
    false
}

/// The sum of the largest few of some amounts.
struct Top {
    largest: Vec<u64>,
    most: usize,
    sum: u64,
}

impl Top {
    fn new(most: usize) -> Self {
        Self { largest: Vec::with_capacity(most + 1), most, sum: 0 }
    }

    fn add(&mut self, amount: u64) {
        let place = self.largest.partition_point(|&other| other >= amount);
        if place < self.most {
            self.largest.insert(place, amount);
            self.sum += amount;
            if self.largest.len() > self.most {
                self.sum -= self.largest.pop().unwrap_or_default();
            }
        }
    }
}

/// The fewest nodes that hold the guest, of these those on which the fewest vCPUs may run, then
/// those with most free memory, then the first in the order of ids.
pub(super) fn xen(view: View<'_>, want: Want, named: &mut Vec<usize>) {
    let count = view.nodes.len();
    let nodes: Vec<Node> = (0..count).map(|at| node(view, at)).collect();
    let mut order: Vec<usize> = (0..count).collect();
    // So that the first set that is found is nearly always the answer.
    order.sort_by_key(|&at| (view.nodes[at].vcpus, Reverse(nodes[at].mib)));
    let lack = Lack::all(want);
    for size in fewest(&nodes, lack)..=count {
        let mut search = Search {
            view,
            nodes: &nodes,
            order: &order,
            set: Vec::with_capacity(size),
            best: None,
            steps: STEPS,
        };
        search.go(0, size, lack, 0, 0);
        if let Some((_, _, set)) = search.best {
            named.extend(set);
            return;
        }
    }
    until_held(view, lack, 0..count, named);
}

/// All sets of one size, as far as they can be better than the best so far.
struct Search<'a> {
    view: View<'a>,
    nodes: &'a [Node],
    order: &'a [usize],
    set: Vec<usize>,
    /// vCPUs, memory turned so that less is more, positions.
    best: Option<(u64, Reverse<u64>, Vec<usize>)>,
    steps: u32,
}

impl Search<'_> {
    fn go(&mut self, from: usize, size: usize, lack: Lack, vcpus: u64, mib: u64) {
        if size == 0 {
            let more = |best: &(u64, Reverse<u64>, _)| (vcpus, Reverse(mib)) <= (best.0, best.1);
            if lack.is_none() && self.best.as_ref().is_none_or(more) {
                let mut set = self.set.clone();
                set.sort_unstable();
                let found = (vcpus, Reverse(mib), set);
                if self.best.as_ref().is_none_or(|best| found < *best) {
                    self.best = Some(found);
                }
            }
            return;
        }
        for place in from..self.order.len() {
            // vCPUs rise along the order: what follows has at least as many.
            let at = self.order[place];
            let least = (self.view.nodes[at].vcpus).saturating_mul(size as u64);
            let worse = self.best.as_ref().is_some_and(|best| vcpus.saturating_add(least) > best.0);
            if worse || self.steps == 0 || self.order.len() - place < size {
                return;
            }
            self.steps -= 1;
            self.set.push(at);
            let more = (vcpus + self.view.nodes[at].vcpus, mib.saturating_add(self.nodes[at].mib));
            self.go(place + 1, size - 1, lack.less(self.nodes[at]), more.0, more.1);
            self.set.pop();
        }
    }
}
