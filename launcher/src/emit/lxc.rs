//! Lines of an LXC configuration.

use super::{Settings, cpuset};
use crate::binding::Binding;
use crate::guest::MemoryMode;

/// Returns the configuration lines that hold a container to the same CPUs and, in strict mode, to
/// the same nodes. For hosts whose cpuset controller is in cgroup v2.
///
/// LXC has no setting for a memory policy, so the other modes need it to be started through
/// something that has, which a note says; its containers inherit the policy.
///
/// ```
/// use placer_engine::{CpuId, NodeId};
/// use placer_launcher::{Binding, MemoryMode, emit};
/// let binding = Binding {
///     cpus: (4..=7).map(CpuId).collect(),
///     memory: [NodeId(1)].into_iter().collect(),
///     preferred: [NodeId(1)].into_iter().collect(),
///     mode: MemoryMode::Strict,
/// };
/// assert_eq!(
///     emit::lxc(&binding).text,
///     "lxc.cgroup2.cpuset.cpus = 4-7\nlxc.cgroup2.cpuset.mems = 1\n",
/// );
/// ```
pub fn lxc(binding: &Binding) -> Settings {
    let mut settings = Settings::default();
    for (file, value) in cpuset(binding) {
        settings.line(&format!("lxc.cgroup2.{file}"), " = ", &value);
    }
    if binding.mode != MemoryMode::Strict {
        settings.memory_needs_numactl(binding, "LXC");
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::samples::binding;
    use super::*;

    #[test]
    fn cpus_always_and_nodes_when_strict() {
        let strict = lxc(&binding(&[0, 1, 9], &[0, 2], MemoryMode::Strict));
        let text = "lxc.cgroup2.cpuset.cpus = 0-1,9\nlxc.cgroup2.cpuset.mems = 0,2\n";
        assert_eq!(strict, Settings { text: text.to_owned(), notes: Vec::new() });
        let preferred = lxc(&binding(&[0], &[0, 2], MemoryMode::Preferred));
        assert_eq!(preferred.text, "lxc.cgroup2.cpuset.cpus = 0\n");
        assert_eq!(
            preferred.notes,
            ["LXC has no setting for memory mode preferred: start the guest through \
              \"numactl --preferred=2\", or choose another mode"]
        );
        assert_eq!(lxc(&binding(&[], &[], MemoryMode::None)), Settings::default());
    }
}
