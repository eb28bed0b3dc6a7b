//! Directives of a systemd unit.

use super::{Settings, holds_memory};
use crate::binding::Binding;
use crate::guest::MemoryMode;

/// Returns the lines of a `[Service]` section that bind it in the same way.
///
/// `CPUAffinity=`, `NUMAPolicy=` and `NUMAMask=` are set before the program begins (systemd 243);
/// `AllowedCPUs=` and `AllowedMemoryNodes=` hold it there by its control group (systemd 244).
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
///     emit::systemd(&binding).text,
///     "CPUAffinity=4-7\nNUMAPolicy=bind\nNUMAMask=1\nAllowedCPUs=4-7\nAllowedMemoryNodes=1\n",
/// );
/// ```
pub fn systemd(binding: &Binding) -> Settings {
    let mut settings = Settings::default();
    if !binding.cpus.is_empty() {
        settings.line("CPUAffinity", "=", &binding.cpus);
    }
    let policy = match binding.mode {
        MemoryMode::Strict => Some(("bind", &binding.memory)),
        MemoryMode::Preferred => Some(("preferred", &binding.preferred)),
        MemoryMode::Interleave => Some(("interleave", &binding.memory)),
        MemoryMode::PreferredMany | MemoryMode::WeightedInterleave => {
            settings.memory_needs_numactl(binding, "systemd");
            None
        }
        MemoryMode::None => None,
    };
    if let Some((policy, nodes)) = policy.filter(|(_, nodes)| !nodes.is_empty()) {
        settings.line("NUMAPolicy", "=", &policy);
        settings.line("NUMAMask", "=", nodes);
    }
    if !binding.cpus.is_empty() {
        settings.line("AllowedCPUs", "=", &binding.cpus);
    }
    if holds_memory(binding) {
        settings.line("AllowedMemoryNodes", "=", &binding.memory);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::samples::binding;
    use super::*;

    #[test]
    fn only_strict_memory_is_held_by_the_group() {
        let of = |mode| systemd(&binding(&[0, 1, 9], &[0, 2], mode));
        let all = |policy: &str, held: &str| {
            format!("CPUAffinity=0-1,9\n{policy}AllowedCPUs=0-1,9\n{held}")
        };
        for (mode, policy, held) in [
            (MemoryMode::Strict, "NUMAPolicy=bind\nNUMAMask=0,2\n", "AllowedMemoryNodes=0,2\n"),
            (MemoryMode::Preferred, "NUMAPolicy=preferred\nNUMAMask=2\n", ""),
            (MemoryMode::Interleave, "NUMAPolicy=interleave\nNUMAMask=0,2\n", ""),
            (MemoryMode::None, "", ""),
        ] {
            let expected = Settings { text: all(policy, held), notes: Vec::new() };
            assert_eq!(of(mode), expected, "{mode}");
        }
    }

    #[test]
    fn modes_that_systemd_lacks_are_told() {
        let settings = systemd(&binding(&[0], &[0, 2], MemoryMode::PreferredMany));
        assert_eq!(settings.text, "CPUAffinity=0\nAllowedCPUs=0\n");
        assert_eq!(
            settings.notes,
            ["systemd has no setting for memory mode preferred-many: start the guest through \
              \"numactl --preferred-many=0,2\", or choose another mode"]
        );
        assert_eq!(systemd(&binding(&[], &[], MemoryMode::None)), Settings::default());
    }
}
