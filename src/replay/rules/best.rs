//! Policy `best`, asked as `advise` asks it; and its split of a guest over nodes that others chose.

use placer_engine::Bytes;
use placer_engine::policy::best::{self, Host, Node, Prefer, Request, Workspace};
use placer_engine::policy::numad::Version;

use super::super::machine::{Machine, Node as Built, WINDOW};
use super::{Part, Seen, Tuning, View, Want, numad};

/// Up to so many useful nodes policy `best` looks at every set, and needs no hint.
const ALL_SETS_ARE_SEEN: usize = 16;

/// Policy `best` with its buffers.
pub(super) struct Best {
    tuning: Tuning,
    prefer: Prefer,
    /// `None` on a host that policy `best` has no figures for; none such gets here.
    host: Option<Host>,
    space: Workspace,
    figures: Vec<Node>,
    /// Ids of the nodes of each version of numad, from which a search begins.
    seeds: [Vec<u32>; 2],
}

impl Best {
    pub(super) fn new(tuning: Tuning, prefer: Prefer, machine: &Machine) -> Self {
        let nothing = |built: &Built| Node {
            id: built.id.0,
            cpus: 0,
            cap: 0.0,
            idle: 0.0,
            mem: 0.0,
            mem_total: 0.0,
        };
        let figures: Vec<Node> = machine.nodes.iter().map(nothing).collect();
        let host = Host::new(figures.clone(), std::sync::Arc::clone(&machine.fabric)).ok();
        let (space, seeds) = (Workspace::new(), Default::default());
        Self { tuning, prefer, host, space, figures, seeds }
    }

    fn question<'a>(&self, want: Want, seeds: &'a [&'a [u32]]) -> Request<'a> {
        Request {
            cpus: f64::from(want.cpus) / 100.0,
            memory: f64::from(want.mib),
            memory_bound: self.tuning.memory_bound,
            prefer: self.prefer,
            effort: self.tuning.effort,
            seeds,
        }
    }

    /// Makes the figures of what is seen; `reserve` keeps back what the engine does.
    fn renew(&mut self, view: View<'_>, keeps_reserve: bool) -> Option<()> {
        self.figures.clear();
        let all = view.machine.nodes.iter().zip(view.nodes);
        self.figures
            .extend(all.map(|(built, seen)| figures(view.machine, built, seen, keeps_reserve)));
        self.host.as_mut()?.renew(&self.figures).ok()
    }

    /// Chooses as the engine's `advise` does; false where the guest does not fit.
    pub(super) fn solve(
        &mut self,
        view: View<'_>,
        want: Want,
        named: &mut Vec<usize>,
        parts: &mut Vec<Part>,
    ) -> bool {
        let plain = self.question(want, &[]);
        self.renew(view, true);
        let Some(host) = &self.host else { return false };
        // What does not fit is answered too, with less than was asked for: here it is refused.
        if host.nodes().iter().map(|node| node.mem).sum::<f64>() < f64::from(want.mib) {
            return false;
        }
        let at = |id| view.machine.nodes.binary_search_by_key(&id, |node| node.id.0).unwrap_or(0);
        let part =
            |share: &best::Share| Part { at: at(share.node), cpus: share.cpus, mib: share.mem };
        if !best::prove_single_node(host, &plain, &mut self.space) {
            self.search(view, want, named);
        }
        let solution = self.space.solution();
        if !solution.fits || solution.split.is_empty() {
            return false;
        }
        named.extend(solution.nodes.iter().map(|&id| at(id)));
        parts.extend(solution.split.iter().map(part));
        true
    }

    /// Looks for the answer among sets of nodes.
    fn search(&mut self, view: View<'_>, want: Want, named: &mut Vec<usize>) {
        let Some(host) = &self.host else { return };
        // numad's own sets are among the candidates of a search that cannot see all.
        self.seeds.iter_mut().for_each(Vec::clear);
        if host.useful() > ALL_SETS_ARE_SEEN {
            for (seed, version) in self.seeds.iter_mut().zip(Version::ALL) {
                numad::choose(version, view, want, named);
                seed.extend(named.drain(..).map(|at| view.machine.nodes[at].id.0));
            }
        }
        let seeds = self.seeds.each_ref().map(Vec::as_slice);
        let question = Request { seeds: &seeds, ..self.question(want, &[]) };
        best::solve_by_sets(host, &question, &mut self.space);
    }

    /// Splits a guest over nodes that were named by another rule; false where they have no CPUs.
    pub(super) fn split(
        &mut self,
        view: View<'_>,
        want: Want,
        named: &[usize],
        parts: &mut Vec<Part>,
    ) -> bool {
        let (cpus, mib) = (f64::from(want.cpus) / 100.0, f64::from(want.mib));
        if let &[at] = named {
            parts.push(Part { at, cpus, mib });
            return view.machine.nodes[at].cap > 0.0;
        }
        if named.iter().all(|&at| view.machine.nodes[at].cap <= 0.0) {
            return false;
        }
        let plain = self.question(want, &[]);
        let ids: Vec<u32> = named.iter().map(|&at| view.machine.nodes[at].id.0).collect();
        self.renew(view, false);
        let placed = self.host.as_ref().and_then(|host| best::place(host, &plain, &ids));
        match placed {
            Some(placed) => {
                parts.extend(named.iter().zip(&placed.split).map(|(&at, share)| Part {
                    at,
                    cpus: share.cpus,
                    mib: share.mem,
                }));
            }
            // No memory on any of them: by their CPUs.
            None => {
                let all: f64 = named.iter().map(|&at| view.machine.nodes[at].cap).sum();
                parts.extend(named.iter().map(|&at| {
                    let share = view.machine.nodes[at].cap / all;
                    Part { at, cpus: cpus * share, mib: 0.0 }
                }));
            }
        }
        true
    }
}

/// What the engine makes of a node: see `usable` there.
fn figures(machine: &Machine, built: &Built, seen: &Seen, keeps_reserve: bool) -> Node {
    let reserve = if keeps_reserve { placer_engine::reserve(built.total).get() } else { 0 };
    let free = Bytes::from_mib(seen.free).unwrap_or_default().saturating_sub(Bytes::new(reserve));
    let free = free.saturating_sub(Bytes::from_mib(seen.claimed).unwrap_or_default());
    Node {
        id: built.id.0,
        cpus: seen.cpus,
        cap: seen.cap,
        idle: (idle(machine, built, seen) - hundredths(seen.claimed_cpus)).max(0.0),
        mem: mib(free),
        mem_total: mib(built.total),
    }
}

/// Returns what of a node's capacity is idle: what is busy fills the first threads of all cores
/// before the others.
fn idle(machine: &Machine, built: &Built, seen: &Seen) -> f64 {
    let busy = ticks(seen.busy) / ticks(WINDOW);
    let used = busy.min(built.cores) + (busy - built.cores).max(0.0) * machine.further;
    ((seen.cap - used).max(0.0) * 1e6).round() / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "ticks of one window")]
fn ticks(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 hundredths of a CPU")]
fn hundredths(count: u64) -> f64 {
    count as f64 / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "no host has 2^53 bytes")]
fn mib(memory: Bytes) -> f64 {
    memory.get() as f64 / 1_048_576.0
}
