//! A binding as settings for other programs: `placer advise --emit FORM`.
//!
//! Pure: text from a [`Binding`]. What a program has no setting for is named in a
//! note, with the command that does it instead; nothing is left out silently.

mod libvirt;
mod lxc;
mod numactl;
mod ranks;
mod systemd;

pub use libvirt::libvirt;
pub use lxc::lxc;
pub use numactl::numactl;
#[doc(hidden)]
pub use ranks::{LogicalCores, hydra, rankfile, rankfile_physical};
pub use systemd::systemd;

use crate::binding::Binding;
use crate::guest::MemoryMode;

/// Settings for another program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The settings, each line with its end. Empty when nothing is bound.
    pub text: String,
    /// What they do not do, as half sentences.
    pub notes: Vec<String>,
}

impl Settings {
    fn line(&mut self, key: &str, between: &str, value: &dyn std::fmt::Display) {
        self.text.push_str(&format!("{key}{between}{value}\n"));
    }

    /// Notes that `program` cannot bind memory this way, and that numactl can.
    fn memory_needs_numactl(&mut self, binding: &Binding, program: &str) {
        if let Some(option) = numactl::memory_option(binding) {
            let mode = binding.mode;
            self.notes.push(format!(
                "{program} has no setting for memory mode {mode}: start the guest through \
                 \"numactl {option}\", or choose another mode"
            ));
        }
    }
}

/// Whether the memory of a guest may be held to its nodes by a cpuset too. Only strict memory may:
/// the other modes go elsewhere when the nodes are full, which a cpuset would turn into the end of
/// the guest.
pub(crate) fn holds_memory(binding: &Binding) -> bool {
    binding.mode == MemoryMode::Strict && !binding.memory.is_empty()
}

/// Returns what the cpuset of a guest's group holds: files and their lists.
pub(crate) fn cpuset(binding: &Binding) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    if !binding.cpus.is_empty() {
        files.push(("cpuset.cpus", binding.cpus.to_string()));
    }
    if holds_memory(binding) {
        files.push(("cpuset.mems", binding.memory.to_string()));
    }
    files
}

#[cfg(test)]
pub(crate) mod samples {
    use placer_engine::{CpuId, NodeId};

    use super::*;

    /// Returns a binding to some CPUs and nodes, most memory on the last of them.
    pub(crate) fn binding(cpus: &[u32], nodes: &[u32], mode: MemoryMode) -> Binding {
        Binding {
            cpus: cpus.iter().copied().map(CpuId).collect(),
            memory: nodes.iter().copied().map(NodeId).collect(),
            preferred: nodes.last().copied().map(NodeId).into_iter().collect(),
            mode,
        }
    }
}
