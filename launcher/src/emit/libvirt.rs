//! Elements of a libvirt domain definition.

use super::Settings;
use crate::binding::Binding;
use crate::guest::MemoryMode;

/// Returns the elements `<vcpu>` and `<numatune>` that place a guest of `vcpus` CPUs by hand,
/// instead of asking numad with `placement='auto'`.
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
///     emit::libvirt(&binding, 4).text,
///     "<vcpu placement='static' cpuset='4-7'>4</vcpu>
/// <numatune>
///   <memory mode='strict' nodeset='1'/>
/// </numatune>
/// ",
/// );
/// ```
pub fn libvirt(binding: &Binding, vcpus: u32) -> Settings {
    let mut settings = Settings::default();
    let cpuset = match binding.cpus.is_empty() {
        true => String::new(),
        false => format!(" cpuset='{}'", binding.cpus),
    };
    settings.text.push_str(&format!("<vcpu placement='static'{cpuset}>{vcpus}</vcpu>\n"));
    let nodes = match binding.mode {
        MemoryMode::Strict | MemoryMode::Interleave => &binding.memory,
        MemoryMode::Preferred => &binding.preferred,
        MemoryMode::None => return settings,
        // A policy of its own is not inherited either: libvirt's daemon starts the guest.
        MemoryMode::PreferredMany | MemoryMode::WeightedInterleave => {
            let mode = binding.mode;
            settings.notes.push(format!("libvirt has no memory mode {mode}: choose another mode"));
            return settings;
        }
    };
    if !nodes.is_empty() {
        let mode = binding.mode;
        settings.text.push_str(&format!(
            "<numatune>\n  <memory mode='{mode}' nodeset='{nodes}'/>\n</numatune>\n"
        ));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::samples::binding;
    use super::*;

    #[test]
    fn preferred_names_one_node_and_unknown_modes_are_told() {
        let preferred = libvirt(&binding(&[0], &[0, 2], MemoryMode::Preferred), 2);
        assert!(preferred.text.contains("<memory mode='preferred' nodeset='2'/>"), "{preferred:?}");
        let many = libvirt(&binding(&[0], &[0, 2], MemoryMode::PreferredMany), 2);
        assert!(!many.text.contains("numatune") && many.notes.len() == 1, "{many:?}");
        let none = libvirt(&binding(&[], &[], MemoryMode::None), 2);
        assert_eq!(none.text, "<vcpu placement='static'>2</vcpu>\n");
    }
}
