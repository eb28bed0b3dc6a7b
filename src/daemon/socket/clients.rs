//! How many are connected, and how many of them are being answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::geteuid;

use crate::settings;

/// Places beyond the limit for root and for the daemon itself, so that it can always be asked how
/// it is, and told to release.
const RESERVE: u32 = 32;

/// The connections there are.
#[derive(Debug, Default)]
pub(super) struct Clients {
    counts: Mutex<Counts>,
    working: AtomicUsize,
    /// Of answers that are long or take long, so many are made at once.
    heavy: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_user: HashMap<u32, u32>,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    uid: u32,
}

/// A count that goes down again when it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Clients {
    /// Gives a user's connection its place; `None` when there are too many.
    pub(super) fn admit(this: &Arc<Self>, uid: u32, set: &settings::Daemon) -> Option<Place> {
        let trusted = uid == 0 || uid == geteuid().as_raw();
        let mut counts = this.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if trusted { set.clients.saturating_add(RESERVE) } else { set.clients };
        let of_user = counts.by_user.get(&uid).copied().unwrap_or(0);
        if counts.all >= most || (!trusted && of_user >= set.clients_per_user) {
            return None;
        }
        counts.all += 1;
        *counts.by_user.entry(uid).or_insert(0) += 1;
        Some(Place { clients: Arc::clone(this), uid })
    }

    /// Returns how many questions are being answered.
    pub(super) fn working(&self) -> usize {
        self.working.load(Ordering::Acquire)
    }

    pub(super) fn work(&self) -> Counted<'_> {
        self.working.fetch_add(1, Ordering::AcqRel);
        Counted(&self.working)
    }

    /// Returns leave to make a long answer; `None` while too many are made.
    pub(super) fn heavy(&self) -> Option<Counted<'_>> {
        const MOST: usize = 8;
        let before = self.heavy.fetch_add(1, Ordering::AcqRel);
        let leave = Counted(&self.heavy);
        (before < MOST).then_some(leave)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.by_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.by_user.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_all_leave_room_for_root() {
        let clients = Arc::new(Clients::default());
        let set = settings::Daemon { clients: 3, clients_per_user: 2, ..Default::default() };
        let (alice, bob) = (4_000_000, 4_000_001);
        let admit = |uid| Clients::admit(&clients, uid, &set);
        let first = admit(alice);
        let second = admit(alice);
        assert!(first.is_some() && second.is_some() && admit(alice).is_none());
        let third = admit(bob);
        assert!(third.is_some() && admit(bob).is_none());
        assert!(admit(0).is_some());
        drop(first);
        assert!(admit(alice).is_some());
        drop((second, third));
        assert_eq!(clients.counts.lock().expect("not poisoned").by_user.len(), 0);
    }
}
