//! Owners of claims that this process watches, each by a descriptor of its own.
//!
//! A process that decides often looks at each owner once. A pidfd stays with its process whatever becomes of the
//! pid, and the kernel reports those whose processes have ended. Beside 1,000 owners a decision then costs one system
//! call in place of 1,000.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::claim::ProcessId;

/// The number of ended processes that the kernel reports at once.
const EVENTS: usize = 64;

/// The owners that a process watches. Clones share them. By default none is watched.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownOwners(Option<Arc<Mutex<Watched>>>);

/// Processes, each with its descriptor.
#[derive(Debug)]
pub(super) struct Watched {
    most: usize,
    epoll: Option<Epoll>,
    descriptors: HashMap<ProcessId, OwnedFd>,
    /// By the number under which the kernel reports them.
    processes: HashMap<u64, ProcessId>,
    next: u64,
}

impl KnownOwners {
    /// Watches this number of owners at most, each with a descriptor, until they end: for a process that stays.
    pub(super) fn up_to(most: usize) -> Self {
        let watched = Watched {
            most,
            epoll: None,
            descriptors: HashMap::new(),
            processes: HashMap::new(),
            next: 0,
        };
        Self(Some(Arc::new(Mutex::new(watched))))
    }

    /// Returns the watched owners that live now. `None` where none is watched, or another thread has them at the moment,
    /// which is not waited for.
    pub(super) fn now(&self) -> Option<MutexGuard<'_, Watched>> {
        let mut watched = self.0.as_ref()?.try_lock().ok()?;
        watched.drop_ended();
        Some(watched)
    }
}

impl Watched {
    /// Returns whether a process is watched: it lived when the kernel was asked last.
    pub(super) fn has(&self, process: &ProcessId) -> bool {
        self.descriptors.contains_key(process)
    }

    /// Returns whether another one can be watched.
    pub(super) fn has_room(&self) -> bool {
        self.descriptors.len() < self.most
    }

    /// Watches an owner in this pid namespace, if `lives` finds it alive. That is asked once the descriptor is open: the
    /// owner had its pid before, and has it afterwards, so the descriptor is of no other process.
    pub(super) fn watch_if(&mut self, process: ProcessId, lives: impl FnOnce() -> bool) -> bool {
        let descriptor = self.descriptor(process);
        let lives = lives();
        if lives && let Some(descriptor) = descriptor {
            self.add(process, descriptor);
        }
        lives
    }

    /// Drops all but some, to make room.
    pub(super) fn keep_only(&mut self, owners: &BTreeSet<&ProcessId>) {
        let others = self.processes.iter().filter(|(_, process)| !owners.contains(process));
        let others: Vec<u64> = others.map(|(&number, _)| number).collect();
        others.into_iter().for_each(|number| self.drop_one(number));
    }

    fn descriptor(&self, process: ProcessId) -> Option<OwnedFd> {
        if !self.has_room() || self.has(&process) {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
        // Linux before 5.3 has none; then the owner is looked at for each decision.
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    fn add(&mut self, process: ProcessId, descriptor: OwnedFd) {
        if self.epoll.is_none() {
            self.epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok();
        }
        let Some(epoll) = &self.epoll else { return };
        // A pidfd is readable once its process has ended, waited for or not.
        if epoll.add(&descriptor, EpollEvent::new(EpollFlags::EPOLLIN, self.next)).is_ok() {
            self.descriptors.insert(process, descriptor);
            self.processes.insert(self.next, process);
            self.next += 1;
        }
    }

    fn drop_ended(&mut self) {
        for _ in 0..=self.descriptors.len() / EVENTS {
            let Some(epoll) = &self.epoll else { return };
            let mut events = [EpollEvent::empty(); EVENTS];
            let Ok(count) = epoll.wait(&mut events, EpollTimeout::ZERO) else {
                // What cannot be asked about is not known.
                self.descriptors.clear();
                self.processes.clear();
                self.epoll = None;
                return;
            };
            events[..count].iter().for_each(|event| self.drop_one(event.data()));
            if count < EVENTS {
                return;
            }
        }
    }

    fn drop_one(&mut self, number: u64) {
        let process = self.processes.remove(&number);
        let descriptor = process.and_then(|process| self.descriptors.remove(&process));
        if let (Some(epoll), Some(descriptor)) = (&self.epoll, descriptor) {
            // Closing it would do, unless a child has a copy.
            let _ = epoll.delete(descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::proc::Processes;
    use super::*;

    fn child() -> std::process::Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep")
    }

    #[test]
    fn watched_owners_are_known_until_they_end_and_are_not_waited_for() {
        let mut look = Processes::look().expect("a live host");
        let mut children: Vec<_> = (0..2 * EVENTS + 3).map(|_| child()).collect();
        let ids: Vec<ProcessId> =
            children.iter().map(|child| look.identify(child.id()).expect("it lives")).collect();
        let owners = KnownOwners::up_to(1000);
        let mut watched = owners.now().expect("no other thread");
        for &id in &ids {
            assert!(watched.watch_if(id, || true));
        }
        assert!(!watched.watch_if(ProcessId { start: 1, ..ids[0] }, || false));
        assert!(owners.now().is_none(), "another thread would wait");
        drop(watched);
        let living = |owners: &KnownOwners| {
            let watched = owners.now().expect("no other thread");
            ids.iter().filter(|id| watched.has(id)).count()
        };
        assert_eq!(living(&owners), ids.len());
        children[0].kill().expect("killed");
        let ended = || living(&owners) == ids.len() - 1;
        while !ended() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("waited for");
        }
        assert_eq!(living(&owners), 0);
        assert!(owners.now().expect("no other thread").processes.is_empty());
    }

    #[test]
    fn no_more_are_watched_than_may_be_and_owners_come_before_others() {
        let mut look = Processes::look().expect("a live host");
        let mut children: Vec<_> = (0..5).map(|_| child()).collect();
        let ids: Vec<ProcessId> =
            children.iter().map(|child| look.identify(child.id()).expect("it lives")).collect();
        let owners = KnownOwners::up_to(3);
        let mut watched = owners.now().expect("no other thread");
        assert!(ids.iter().all(|&id| watched.watch_if(id, || true)), "all live");
        let has = |watched: &Watched| ids.iter().map(|id| watched.has(id)).collect::<Vec<_>>();
        assert_eq!(has(&watched), [true, true, true, false, false]);
        watched.keep_only(&BTreeSet::from([&ids[1]]));
        assert!(watched.watch_if(ids[4], || true));
        assert_eq!(has(&watched), [false, true, false, false, true]);
        drop(watched);
        for child in &mut children {
            child.kill().expect("killed");
            child.wait().expect("waited for");
        }
        assert!(!owners.now().expect("no other thread").has(&ids[1]));
        assert!(KnownOwners::default().now().is_none());
    }
}
