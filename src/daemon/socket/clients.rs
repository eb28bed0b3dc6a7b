//! How many are connected, and how many of them are being answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::settings;

/// Places beyond the limit for root and for the daemon itself, so that it can always be asked how
/// it is, and told to release.
const RESERVE: u32 = 32;
/// So many questions of one user who is not root are answered at once, however many connections he
/// has: the CPUs, and the ledger's lock, are others' as well.
const AT_ONCE: u32 = 2;
/// How long a question waits for that.
const TURN: Duration = Duration::from_secs(1);

/// The connections there are.
#[derive(Debug)]
pub(super) struct Clients {
    /// For so many there are descriptors.
    room: u32,
    counts: Mutex<Counts>,
    working: AtomicUsize,
    /// Of answers that are long or take long, so many are made at once.
    heavy: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_user: HashMap<u32, (u32, Arc<Turns>)>,
}

/// How many questions of one user are being answered.
#[derive(Debug, Default)]
struct Turns {
    taken: Mutex<u32>,
    freed: Condvar,
}

/// Leave to answer a question; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Turns>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = &self.0 {
            *turns.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            turns.freed.notify_one();
        }
    }
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

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

impl Clients {
    /// Begins with nobody, and descriptors for so many.
    pub(super) fn new(room: u32) -> Self {
        let (counts, working, heavy) = Default::default();
        Self { room, counts, working, heavy }
    }

    /// Gives a user's connection its place; `None` when there are too many.
    pub(super) fn admit(this: &Arc<Self>, uid: u32, set: &settings::Daemon) -> Option<Place> {
        let trusted = is_trusted(uid);
        let mut counts = this.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match trusted {
            true => set.clients.saturating_add(RESERVE).min(this.room),
            false => set.clients.min(this.room - RESERVE.min(this.room / 4)),
        };
        let of_user = counts.by_user.get(&uid).map_or(0, |(count, _)| *count);
        if counts.all >= most || (!trusted && of_user >= set.clients_per_user) {
            return None;
        }
        counts.all += 1;
        counts.by_user.entry(uid).or_default().0 += 1;
        Some(Place { clients: Arc::clone(this), uid })
    }

    /// Waits for a connected user's turn to be answered; `None` when it does not come.
    pub(super) fn turn(&self, uid: u32) -> Option<Turn> {
        if is_trusted(uid) {
            return Some(Turn(None));
        }
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = counts.by_user.get(&uid).map(|(_, turns)| Arc::clone(turns));
        drop(counts);
        let turns = turns.unwrap_or_default();
        let taken = turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |taken: &mut u32| *taken >= AT_ONCE;
        let waited = turns.freed.wait_timeout_while(taken, TURN, busy);
        let (mut taken, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            return None;
        }
        *taken += 1;
        drop(taken);
        Some(Turn(Some(turns)))
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
        if let Some((count, _)) = counts.by_user.get_mut(&self.uid) {
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
        let clients = Arc::new(Clients::new(100));
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

    #[test]
    fn what_there_are_descriptors_for_is_all_there_is() {
        let clients = Arc::new(Clients::new(8));
        let set = settings::Daemon::default();
        let of = |uid| std::iter::from_fn(|| Clients::admit(&clients, uid, &set)).collect();
        let alice: Vec<Place> = of(4_000_000);
        let root: Vec<Place> = of(0);
        assert_eq!((alice.len(), root.len()), (6, 2));
    }

    #[test]
    fn a_user_is_answered_twice_at_once_and_root_always() {
        let clients = Arc::new(Clients::new(100));
        let (alice, bob, set) = (4_000_000, 4_000_001, settings::Daemon::default());
        let places: Vec<_> =
            [alice, bob].iter().map(|&uid| Clients::admit(&clients, uid, &set)).collect();
        let turn = |uid| clients.turn(uid);
        let (first, second) = (turn(alice), turn(alice));
        assert!(first.is_some() && second.is_some() && turn(alice).is_none());
        assert!(turn(bob).is_some() && turn(0).is_some());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| turn(alice).is_some());
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            assert!(third.join().expect("no panic"));
        });
        drop(places);
    }
}
