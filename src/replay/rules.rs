//! The rules that are compared, each from what it sees of a host to the nodes it names.
//!
//! | rule | as | nodes |
//! |---|---|---|
//! | `best` | placer | the engine's policy `best`, most room first |
//! | `pack` | placer | the same with `--prefer pack` |
//! | `numad` | numad 0.5 of 2015 | the engine's policy `numad-2015` |
//! | `numad-2025` | numad 0.5 of 2025 | the engine's policy `numad-2025` |
//! | `first-fit` | many schedulers | the lowest node that holds the guest |
//! | `most-free` | Nova since 26 | the nodes with most free memory |
//! | `narrowest` | Kubernetes, Nova before 26 | the fewest nodes, of these the lowest |
//! | `xen` | Xen since 4.3 | the fewest nodes, of these the fewest vCPUs, then most free memory |
//!
//! | `kubelet` | Kubernetes' static CPU policy with caches | those of `narrowest` |
//! | `lowest-idle` | LXD, scripts | those of `first-fit` |
//!
//! The last two choose single CPUs ([`CpuRule`]) and are for guests that own their CPUs; `best` and `pack`
//! then choose by caches, the others as placer did before it knew caches.
//!
//! A set *holds* a guest when its nodes have the memory free, by what is seen, and as many CPUs as
//! are asked for, however busy: vCPUs may be promised over and over, as Nova and Xen do it and as
//! placer's own policies do. (Kubernetes gives whole CPUs away and would refuse there.)

mod best;
mod cpus;
mod numad;
mod simple;
#[cfg(test)]
mod tests;

use std::fmt;

use placer_engine::policy::best::Prefer;
use placer_engine::policy::numad::Version;

use super::machine::Machine;
pub use cpus::CpuRule;
pub(super) use numad::figures as numad_figures;

/// Which rule chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The engine's policy `best`, most room first.
    Best,
    /// The same, fullest nodes first.
    Pack,
    /// The engine's policy `numad`, as this version.
    Numad(Version),
    /// The lowest node that holds the guest; where none does, nodes from the lowest on until they do.
    FirstFit,
    /// The node with most free memory, and with it the next ones until they hold the guest. So Nova
    /// spreads since release 26 (Zed): cells with more free resources first.
    MostFree,
    /// Of the sets that hold the guest those with the fewest nodes, of these the one that is lowest
    /// as a binary number; distances do not count. So Kubernetes' topology manager orders its hints
    /// (narrower before wider, then the mask that is less), and memory manager and kubelet refuse
    /// what no mask holds. Nova took the first cells that hold the guest before release 26.
    Narrowest,
    /// Of the sets that hold the guest those with the fewest nodes, of these the ones on which the
    /// fewest vCPUs may run, then the one with most free memory, then the first. So libxl places a
    /// domain, which gives up above 16 nodes; here the search ends after 200,000 sets.
    Xen,
    /// The nodes of [`Narrowest`](Self::Narrowest), and there the lowest free caches.
    Kubelet,
    /// The nodes of [`FirstFit`](Self::FirstFit), and there the lowest idle CPUs.
    LowestIdle,
}

/// Those that choose nodes, in the order in which they are shown.
const ALL: [Rule; 8] = [
    Rule::Best,
    Rule::Pack,
    Rule::Numad(Version::V2015),
    Rule::Numad(Version::V2025),
    Rule::FirstFit,
    Rule::MostFree,
    Rule::Narrowest,
    Rule::Xen,
];

impl Rule {
    /// Returns those that choose nodes, in the order in which they are shown.
    pub fn all() -> [Self; 8] {
        ALL
    }

    /// Returns those that choose single CPUs, for guests that own them.
    pub fn of_cpus() -> [Self; 2] {
        [Self::Kubelet, Self::LowestIdle]
    }

    /// Returns how it chooses CPUs inside the nodes, for guests that own them.
    pub(super) fn cpus(self) -> CpuRule {
        match self {
            Self::Best | Self::Pack => CpuRule::Caches,
            Self::Kubelet => CpuRule::Kubelet,
            Self::LowestIdle => CpuRule::LowestIdle,
            _ => CpuRule::Node,
        }
    }

    /// Says whether it searches among sets of nodes by policy `best`.
    pub(crate) fn searches(self) -> bool {
        matches!(self, Self::Best | Self::Pack)
    }

    /// Returns the name it is asked for by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Pack => "pack",
            Self::Numad(Version::V2015) => "numad",
            Self::Numad(Version::V2025) => "numad-2025",
            Self::FirstFit => "first-fit",
            Self::MostFree => "most-free",
            Self::Narrowest => "narrowest",
            Self::Xen => "xen",
            Self::Kubelet => "kubelet",
            Self::LowestIdle => "lowest-idle",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What may be set about policy `best`, and about slowdown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// The part of its time that a guest waits for memory.
    pub memory_bound: f64,
    /// How many steps a search beyond 16 nodes may take; `None`: the engine's own number.
    pub effort: Option<u64>,
}

/// One node as a rule sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Free memory in MiB, as it is measured.
    pub(super) free: u64,
    /// What of it is claimed.
    pub(super) claimed: u64,
    /// Busy ticks of all CPUs in a window: at most all.
    pub(super) busy: u64,
    /// Hundredths of a CPU that are claimed.
    pub(super) claimed_cpus: u64,
    /// Hundredths of vCPUs of all guests that may run here.
    pub(super) vcpus: u64,
    /// CPUs that guests may have: those without an owner, where guests own theirs.
    pub(super) cpus: u32,
    /// The capacity of these, weighted for hardware threads.
    pub(super) cap: f64,
}

impl Seen {
    /// Returns the memory that may be promised.
    pub(super) fn left(&self) -> u64 {
        self.free.saturating_sub(self.claimed)
    }
}

/// A host as a rule sees it, in the order of the nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) machine: &'a Machine,
    pub(super) nodes: &'a [Seen],
}

/// What a guest asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// Hundredths of a CPU.
    pub(super) cpus: u32,
    pub(super) mib: u32,
}

/// One node's part of a guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    /// The node's position.
    pub(super) at: usize,
    /// CPUs.
    pub(super) cpus: f64,
    /// MiB.
    pub(super) mib: f64,
}

/// One rule at work, with its buffers.
pub(super) struct Chooser {
    rule: Rule,
    best: best::Best,
    /// The positions of the nodes that were named, ascending.
    pub(super) named: Vec<usize>,
    /// What each of them is expected to carry.
    pub(super) parts: Vec<Part>,
}

impl Chooser {
    /// Returns a rule that is ready to be asked about a host.
    pub(super) fn new(rule: Rule, tuning: Tuning, machine: &Machine) -> Self {
        let prefer = if rule == Rule::Pack { Prefer::Pack } else { Prefer::Room };
        let best = best::Best::new(tuning, prefer, machine);
        Self { rule, best, named: Vec::new(), parts: Vec::new() }
    }

    /// Chooses nodes for a guest; false when it is refused.
    pub(super) fn choose(&mut self, view: View<'_>, want: Want) -> bool {
        self.named.clear();
        self.parts.clear();
        let free: u64 = view.nodes.iter().map(Seen::left).sum();
        let cpus = view.nodes.iter().map(|node| u64::from(node.cpus) * 100).sum::<u64>();
        if free < u64::from(want.mib) || cpus < u64::from(want.cpus) {
            return false;
        }
        let Self { rule, best, named, parts } = self;
        match rule {
            Rule::Best | Rule::Pack => return best.solve(view, want, named, parts),
            Rule::Numad(version) => numad::choose(*version, view, want, named),
            Rule::FirstFit | Rule::LowestIdle => simple::first_fit(view, want, named),
            Rule::MostFree => simple::most_free(view, want, named),
            Rule::Narrowest | Rule::Kubelet => simple::narrowest(view, want, named),
            Rule::Xen => simple::xen(view, want, named),
        }
        best.split(view, want, named, parts)
    }
}
