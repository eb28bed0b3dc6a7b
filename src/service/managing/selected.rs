//! Which guests may be moved, by the settings and by numad's options.

use std::path::Path;

use placer_engine::NodeSet;
use placer_engine::balance::{Fixed, Guest};
use placer_engine::claims::{ProcessId, Processes};
use placer_launcher::cgroup::Tree;

use super::NumadOptions;
use crate::service::notes::Notes;
use crate::service::running::Observation;
use crate::settings::{Manage, Selector, Settings};

/// Returns the guests as plans take them, those fixed that may not be moved. All of them count for the load.
pub(super) fn guests(
    seen: &Observation,
    ids: &[ProcessId],
    set: &Settings,
    options: &NumadOptions,
    look: &mut Processes,
    notes: &mut Notes,
) -> Vec<Guest> {
    let manage = &set.manage;
    let mut selectors = manage.guests.iter().flatten().chain(&manage.except);
    if selectors.any(is_of_cgroup) && !has_one_hierarchy() {
        notes.warn(
            "cgroup, unit and guest in [manage] cannot be matched here: the control groups are \
             cgroup v1. Guests that except may mean are left alone",
        );
    }
    let reserved = reserved(seen, options);
    let mut guests = seen.plan_guests();
    for ((guest, known), id) in guests.iter_mut().zip(&seen.guests).zip(ids) {
        let needed = manage.guests.is_some() || !manage.except.is_empty();
        // Read only if it is asked for.
        let uid =
            needed.then(|| look.standing(known.name.pid)).flatten().map(|standing| standing.uid);
        let cgroup = needed.then(|| look.own_cgroup(id)).flatten().map(|cgroup| cgroup.path);
        let facts = Facts { uid, cgroup: cgroup.as_deref(), program: &known.name.program };
        if !may_move(id, facts.choose(manage), options) {
            // The reason is not shown anywhere.
            guest.fixed = guest.fixed.or(Some(Fixed::Bound));
        }
        guest.allowed = guest.allowed.difference(&reserved.difference(&guest.threads));
    }
    guests
}

/// Says whether a guest may be moved that the settings choose or do not.
fn may_move(guest: &ProcessId, chosen: bool, options: &NumadOptions) -> bool {
    let included = options.include.contains(guest);
    included || chosen && !options.only_listed && !options.exclude.contains(guest)
}

/// What selectors ask of a guest, as far as it is known.
struct Facts<'a> {
    uid: Option<u32>,
    cgroup: Option<&'a str>,
    program: &'a str,
}

impl Facts<'_> {
    /// Says whether the settings choose it. One that may be excepted, as far as is known, is.
    fn choose(&self, manage: &Manage) -> bool {
        let takes = |selector: &Selector| {
            selector.takes(self.uid, self.cgroup.unwrap_or_default(), self.program)
        };
        manage.guests.as_deref().is_none_or(|guests| guests.iter().any(takes))
            && !manage.except.iter().any(|one| self.cannot_tell(one) || takes(one))
    }

    fn cannot_tell(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Uid(_) => self.uid.is_none(),
            Selector::Program(_) => self.program.is_empty(),
            _ => self.cgroup.is_none(),
        }
    }
}

/// Returns whether control groups are where [`Processes::own_cgroup`] finds them: not on hosts of cgroup v1, nor of both.
fn has_one_hierarchy() -> bool {
    Tree::read(Path::new("/")).mount.as_deref() == Some(Path::new("/sys/fs/cgroup"))
}

fn is_of_cgroup(selector: &Selector) -> bool {
    matches!(selector, Selector::Cgroup(_) | Selector::Unit(_) | Selector::Guest(_))
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
        let process = |pid| ProcessId { pid_namespace: 1, pid, start: 100 };
        let (include, exclude) = (vec![process(1)], vec![process(2)]);
        let options = NumadOptions { include, exclude, ..NumadOptions::default() };
        let moved = |pid, chosen| may_move(&process(pid), chosen, &options);
        assert_eq!(
            [moved(1, false), moved(2, true), moved(3, true), moved(3, false)],
            [true, false, true, false]
        );
        let later = ProcessId { start: 200, ..process(1) };
        assert!(
            !may_move(&later, false, &options),
            "another process has the pid of one that was listed"
        );
        let options = NumadOptions { only_listed: true, ..options };
        assert!(may_move(&process(1), true, &options) && !may_move(&process(3), true, &options));
    }

    #[test]
    fn a_guest_that_may_be_excepted_is_left_alone() {
        let unit = || Selector::Unit("db.service".to_owned());
        let guest = || Selector::Guest("db1".to_owned());
        let group = || Selector::Cgroup("/machine.slice".to_owned());
        let program = || Selector::Program("postgres".to_owned());
        let known = Facts { uid: Some(7), cgroup: Some("/system.slice/a.service"), program: "a" };
        let unknown = Facts { uid: None, cgroup: None, program: "a" };
        let except = |one: Selector| Manage { except: vec![one], ..Manage::default() };
        for one in [unit(), guest(), group(), Selector::Uid(8)] {
            let manage = except(one);
            assert!(known.choose(&manage), "{manage:?}");
            assert!(!unknown.choose(&manage), "{manage:?}");
        }
        assert!(unknown.choose(&except(program())), "its program is known");
        assert!(!Facts { program: "", ..unknown }.choose(&except(program())));
        assert!(unknown.choose(&Manage::default()));
        // Those that are to be moved are not guessed.
        let only = Manage { guests: Some(vec![unit()]), ..Manage::default() };
        assert!(!unknown.choose(&only));
    }
}
