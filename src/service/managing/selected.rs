//! Which guests may be moved, by the settings and by numad's options.

use placer_engine::NodeSet;
use placer_engine::balance::{Fixed, Guest};
use placer_engine::claims::{ProcessId, Processes};

use super::NumadOptions;
use crate::service::running::Observation;
use crate::settings::{Selector, Settings};

/// Returns the guests as plans take them, those fixed that may not be moved. All of them count for the load.
pub(super) fn guests(
    seen: &Observation,
    ids: &[ProcessId],
    set: &Settings,
    options: &NumadOptions,
    look: &mut Processes,
) -> Vec<Guest> {
    let reserved = reserved(seen, options);
    let mut guests = seen.plan_guests();
    for ((guest, known), id) in guests.iter_mut().zip(&seen.guests).zip(ids) {
        let (manage, pid) = (&set.manage, known.name.pid);
        let needed = manage.guests.is_some() || !manage.except.is_empty();
        // Read only if it is asked for.
        let uid = needed.then(|| look.standing(pid)).flatten().map(|standing| standing.uid);
        let cgroup = needed.then(|| look.own_cgroup(id)).flatten().map(|cgroup| cgroup.path);
        let is_one_of = |selectors: &[Selector]| {
            let cgroup = cgroup.as_deref().unwrap_or_default();
            selectors.iter().any(|selector| selector.takes(uid, cgroup, &known.name.program))
        };
        let chosen = manage.guests.as_deref().is_none_or(is_one_of) && !is_one_of(&manage.except);
        if !may_move(pid, chosen, options) {
            // The reason is not shown anywhere.
            guest.fixed = guest.fixed.or(Some(Fixed::Bound));
        }
        guest.allowed = guest.allowed.difference(&reserved.difference(&guest.threads));
    }
    guests
}

/// Says whether a guest may be moved that the settings choose or do not.
fn may_move(pid: u32, chosen: bool, options: &NumadOptions) -> bool {
    let included = options.include.contains(&pid);
    included || chosen && !options.only_listed && !options.exclude.contains(&pid)
}

/// Returns the nodes that have CPUs of `-R`.
fn reserved(seen: &Observation, options: &NumadOptions) -> NodeSet {
    let Some((version, list)) = &options.reserved else { return NodeSet::new() };
    let named = seen.snapshot.host().numad.reserve(*version, list).named;
    let nodes = seen.snapshot.topology().nodes().iter();
    nodes.filter(|node| !node.cpus.intersection(&named).is_empty()).map(|node| node.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numads_lists_come_before_the_settings() {
        let (one, two) = ([1].into(), [2].into());
        let options = NumadOptions { include: one, exclude: two, ..NumadOptions::default() };
        let moved = |pid, chosen| may_move(pid, chosen, &options);
        assert_eq!(
            [moved(1, false), moved(2, true), moved(3, true), moved(3, false)],
            [true, false, true, false]
        );
        let options = NumadOptions { only_listed: true, ..options };
        assert!(may_move(1, true, &options) && !may_move(3, true, &options));
    }
}
