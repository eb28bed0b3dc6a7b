//! Guests that own their CPUs: which CPU has an owner, and what that leaves in each last-level cache.

use std::collections::BTreeMap;

use placer_engine::policy::cache::{Core, Thread, free_capacity};

use super::machine::{Machine, cpus};
use super::rules::{CpuRule, Part, Seen};

/// The CPUs of a host, by node, cache and core.
pub(super) struct Owned<'a> {
    machine: &'a Machine,
    nodes: Vec<Vec<Vec<Core>>>,
    /// Node, cache, core and thread of a CPU.
    places: BTreeMap<u32, [usize; 4]>,
}

/// What came of the CPUs of guests that own theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Guests that a cache of the host has enough CPUs for, and how many of them are in several.
    pub guests: u64,
    pub across: u64,
    /// When the last guest has come: caches that have no owner, and how many the CPUs without an owner would
    /// make up.
    pub whole: u64,
    pub possible: u64,
}

impl<'a> Owned<'a> {
    pub(super) fn new(machine: &'a Machine) -> Self {
        let mut places = BTreeMap::new();
        let mut nodes = Vec::new();
        for (at, node) in machine.nodes.iter().enumerate() {
            let busy = cpus(node.busy) / f64::from(node.cpus.max(1));
            let mut caches = Vec::new();
            for (cache, cores) in node.caches.iter().enumerate() {
                let core = |(core, threads): (usize, &Vec<u32>)| {
                    let thread = |(nth, &cpu): (usize, &u32)| {
                        places.insert(cpu, [at, cache, core, nth]);
                        Thread { cpu, idle: 1.0 - busy, taken: false }
                    };
                    Core { threads: threads.iter().enumerate().map(thread).collect() }
                };
                caches.push(cores.iter().enumerate().map(core).collect());
            }
            nodes.push(caches);
        }
        Self { machine, nodes, places }
    }

    /// Shows rules what no guest owns: guests run on CPUs of their own, and leave the others idle.
    pub(super) fn show(&self, seen: &mut [Seen]) {
        for ((seen, node), built) in seen.iter_mut().zip(&self.nodes).zip(&self.machine.nodes) {
            (seen.cpus, seen.cap) = (0, 0.0);
            for core in node.iter().flatten() {
                let free = free_threads(core);
                let owned = free < core.threads.len();
                let free = u32::try_from(free).unwrap_or(u32::MAX);
                seen.cpus += free;
                seen.cap += free_capacity(free, 0.0, owned, self.machine.further).0;
            }
            seen.cap = (seen.cap * 1e6).round() / 1e6;
            seen.busy = super::state::busy_ticks(built.busy);
            seen.claimed_cpus = 0;
        }
    }

    /// Gives a guest CPUs on the nodes that it was given, in the measure of its parts as far as there are
    /// CPUs; `None` where there are not enough.
    pub(super) fn take(&mut self, rule: CpuRule, parts: &[Part], vcpus: usize) -> Option<Vec<u32>> {
        let free = |at: usize| self.nodes[at].iter().flatten().map(free_threads).sum::<usize>();
        let mut counts: Vec<(usize, usize, usize)> = Vec::new();
        let mut left = vcpus;
        for part in parts {
            let (free, wanted) = (free(part.at), whole(part.cpus));
            let here = wanted.min(free).min(left);
            left -= here;
            counts.push((part.at, here, free));
        }
        for (_, here, free) in &mut counts {
            let more = left.min(*free - *here);
            *here += more;
            left -= more;
        }
        if left > 0 {
            return None;
        }
        let mut cpus = Vec::new();
        for (at, here, _) in counts.into_iter().filter(|&(_, here, _)| here > 0) {
            cpus.extend(rule.choose(&self.nodes[at], here)?);
        }
        self.mark(&cpus, true);
        Some(cpus)
    }

    /// Takes the CPUs of a guest back.
    pub(super) fn give_back(&mut self, cpus: &[u32]) {
        self.mark(cpus, false);
    }

    fn mark(&mut self, cpus: &[u32], taken: bool) {
        for [node, cache, core, thread] in cpus.iter().filter_map(|cpu| self.places.get(cpu)) {
            self.nodes[*node][*cache][*core].threads[*thread].taken = taken;
        }
    }

    /// Counts a guest that was given these CPUs.
    pub(super) fn count(&self, cpus: &[u32], pins: &mut Pins) {
        let sizes = self.nodes.iter().flatten().map(|cache| threads(cache));
        if cpus.len() <= sizes.max().unwrap_or_default() {
            let place = |cpu| self.places.get(cpu).map(|&[node, cache, ..]| (node, cache));
            let first = cpus.first().and_then(place);
            pins.guests += 1;
            pins.across += u64::from(cpus.iter().any(|cpu| place(cpu) != first));
        }
    }

    /// Counts the caches of which no CPU has an owner.
    pub(super) fn count_whole(&self, pins: &mut Pins) {
        (pins.whole, pins.possible) = (0, 0);
        for caches in &self.nodes {
            let free = |cache: &Vec<Core>| cache.iter().map(free_threads).sum::<usize>();
            let whole = caches.iter().filter(|&cache| free(cache) == threads(cache)).count();
            let (all, unowned) = caches.iter().fold((0, 0), |(all, unowned), cache| {
                (all + threads(cache), unowned + free(cache))
            });
            pins.whole += whole as u64;
            pins.possible += (unowned * caches.len()).checked_div(all).unwrap_or_default() as u64;
        }
    }
}

fn threads(cache: &[Core]) -> usize {
    cache.iter().map(|core| core.threads.len()).sum()
}

fn free_threads(core: &Core) -> usize {
    core.threads.iter().filter(|thread| !thread.taken).count()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
fn whole(cpus: f64) -> usize {
    (cpus + 1e-6) as usize
}
