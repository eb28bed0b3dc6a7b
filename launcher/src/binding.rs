//! What is done to a guest so that the advice holds.

use std::ffi::OsString;

use placer_engine::{Advice, CpuSet, NodeSet, Snapshot};

use crate::guest::{CpuPlacement, Guest, MemoryMode, NodeChoice};
use crate::step::Step;

/// Where a guest runs and where its memory lies.
///
/// ```
/// use placer_engine::{Request, Snapshot, SysRoot, advise};
/// use placer_launcher::{Binding, MemoryMode};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// let snapshot = Snapshot::take(&SysRoot::at(dir), std::time::Duration::ZERO)?;
/// let advice = advise(&snapshot, &"2:200".parse::<Request>()?)?;
/// let binding = Binding::of(&advice, MemoryMode::Strict);
/// assert_eq!(binding.cpus, advice.cpus);
/// let steps = binding.steps(vec!["true".into()]);
/// assert_eq!(steps.len(), 3); // CPUs, memory, exec
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The CPUs its threads roam over; the empty set binds none.
    pub cpus: CpuSet,
    /// The nodes its memory is bound to, the one that carries most of it first in `preferred`.
    pub memory: NodeSet,
    /// The node that carries most of its memory.
    pub preferred: NodeSet,
    /// How.
    pub mode: MemoryMode,
}

impl Binding {
    /// Makes the binding that an advice asks for: its CPUs, and the memory of
    /// [`Advice::memory_nodes`] alone. The kernel refuses a policy of nodes without memory.
    pub fn of(advice: &Advice, mode: MemoryMode) -> Self {
        let memory = advice.memory_nodes.clone();
        // Of equally loaded nodes the lowest.
        let most = advice
            .split
            .iter()
            .filter(|share| memory.contains(share.node))
            .reduce(|most, share| if share.memory > most.memory { share } else { most });
        let preferred = most.map(|share| share.node).or_else(|| memory.first());
        Self {
            cpus: advice.cpus.clone(),
            preferred: preferred.into_iter().collect(),
            // Without a node that has memory nothing can be bound.
            mode: if memory.is_empty() { MemoryMode::None } else { mode },
            memory,
        }
    }

    /// Makes the binding for a guest: what its definition fixes by hand goes before the advice.
    pub fn of_guest(guest: &Guest, snapshot: &Snapshot, advice: &Advice) -> Self {
        let mut binding = Self::of(advice, guest.mode);
        match &guest.placement {
            CpuPlacement::Advised { .. } => {}
            CpuPlacement::Fixed(cpus) => binding.cpus.clone_from(cpus),
            CpuPlacement::All => {
                let topology = snapshot.topology();
                let all = topology.cpus_of(&topology.node_set());
                binding.cpus = all.difference(topology.isolated());
            }
        }
        if let (NodeChoice::Fixed(nodes), true) = (&guest.nodes, guest.mode != MemoryMode::None) {
            // The user's word stands, also where the kernel will refuse it.
            binding.mode = guest.mode;
            if !binding.preferred.is_subset(nodes) {
                binding.preferred = nodes.first().into_iter().collect();
            }
            binding.memory.clone_from(nodes);
        }
        let host = snapshot.topology().node_set();
        if host.len() == 1 && binding.memory.is_subset(&host) {
            // All memory is there: a policy would change nothing, and may be forbidden.
            binding.mode = MemoryMode::None;
        }
        binding
    }

    /// Returns what is done, in order, to a process that then becomes `argv`.
    ///
    /// CPUs before memory: so the first page that the policy brings comes from where the process
    /// runs.
    pub fn steps(&self, argv: Vec<OsString>) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.cpus.is_empty() {
            steps.push(Step::Affinity { cpus: self.cpus.clone() });
        }
        let nodes = match self.mode {
            MemoryMode::Preferred => &self.preferred,
            _ => &self.memory,
        };
        steps.push(Step::Memory { mode: self.mode, nodes: nodes.clone() });
        steps.push(Step::Exec { argv });
        steps
    }
}
