//! Options of numactl.

use super::Settings;
use crate::binding::Binding;
use crate::guest::MemoryMode;

/// Returns the options with which numactl binds a command in the same way, on one line, as in
/// `numactl $(placer advise --emit numactl 4:8G) COMMAND`.
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
/// assert_eq!(emit::numactl(&binding).text, "--physcpubind=4-7 --membind=1\n");
/// ```
pub fn numactl(binding: &Binding) -> Settings {
    let mut settings = Settings::default();
    let cpus = (!binding.cpus.is_empty()).then(|| format!("--physcpubind={}", binding.cpus));
    let options: Vec<String> = cpus.into_iter().chain(memory_option(binding)).collect();
    if !options.is_empty() {
        settings.text = options.join(" ") + "\n";
    }
    if let (MemoryMode::WeightedInterleave, Some(since)) = (binding.mode, binding.mode.since()) {
        let note = format!("--weighted-interleave needs numactl 2.0.19 and Linux {since} or later");
        settings.notes.push(note);
    }
    settings
}

/// Returns the option for the memory alone.
pub(super) fn memory_option(binding: &Binding) -> Option<String> {
    let (option, nodes) = match binding.mode {
        MemoryMode::None => return None,
        MemoryMode::Strict => ("membind", &binding.memory),
        MemoryMode::Preferred => ("preferred", &binding.preferred),
        MemoryMode::PreferredMany => ("preferred-many", &binding.memory),
        MemoryMode::Interleave => ("interleave", &binding.memory),
        MemoryMode::WeightedInterleave => ("weighted-interleave", &binding.memory),
    };
    (!nodes.is_empty()).then(|| format!("--{option}={nodes}"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::binding;
    use super::*;

    #[test]
    fn each_mode_has_its_option() {
        let expected = [
            (MemoryMode::Strict, "--physcpubind=0-1,9 --membind=0,2-3\n"),
            (MemoryMode::Preferred, "--physcpubind=0-1,9 --preferred=3\n"),
            (MemoryMode::PreferredMany, "--physcpubind=0-1,9 --preferred-many=0,2-3\n"),
            (MemoryMode::Interleave, "--physcpubind=0-1,9 --interleave=0,2-3\n"),
            (MemoryMode::WeightedInterleave, "--physcpubind=0-1,9 --weighted-interleave=0,2-3\n"),
            (MemoryMode::None, "--physcpubind=0-1,9\n"),
        ];
        assert_eq!(expected.len(), MemoryMode::ALL.len());
        for (mode, text) in expected {
            assert_eq!(numactl(&binding(&[0, 1, 9], &[0, 2, 3], mode)).text, text);
        }
        let nothing = binding(&[], &[], MemoryMode::None);
        assert_eq!(numactl(&nothing), Settings::default());
        let memory_alone = binding(&[], &[5], MemoryMode::Strict);
        assert_eq!(numactl(&memory_alone).text, "--membind=5\n");
    }
}
