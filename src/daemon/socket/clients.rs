//! How many are connected, and how many of them are being answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use placer_engine::claims::Principal;

use crate::daemon::peer::Peer;
use crate::settings;

/// Places beyond the limit for root and for the daemon itself, so that it can always be asked how
/// it is, and told to release.
const RESERVE: u32 = 32;
/// Questions of one account that are answered at once, however many connections it
/// has: the CPUs, and the ledger's lock, are others' as well.
const AT_ONCE: u32 = 2;
/// How long a question waits for that.
const TURN: Duration = Duration::from_secs(1);
/// Answers that are long or take long: of one user at once, and of the host.
const HEAVY: u32 = 2;
const HOSTS_HEAVY: u32 = 8;

/// The connections there are.
#[derive(Debug)]
pub(super) struct Clients {
    /// For so many there are descriptors.
    room: u32,
    counts: Mutex<Counts>,
    working: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    by_account: BTreeMap<Account, (u32, Arc<Turns>)>,
}

/// Whose connections are counted together: a user's with those of all subordinate users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Account {
    /// Root, and the user that the daemon runs as.
    Trusted,
    User(Principal),
}

impl Account {
    pub(super) fn of(peer: &Peer) -> Self {
        if peer.is_trusted() { Self::Trusted } else { Self::User(peer.principal) }
    }
}

/// How many questions of one account are being answered, and how many of them are long.
#[derive(Debug, Default)]
struct Turns {
    taken: Mutex<u32>,
    freed: Condvar,
    heavy: Mutex<u32>,
}

/// Leave to answer a question; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn(Option<Arc<Turns>>);

/// Leave to make a long answer; given back when dropped.
#[derive(Debug)]
pub(super) struct Heavy(Arc<Turns>);

impl Drop for Heavy {
    fn drop(&mut self) {
        *self.0.heavy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

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
    account: Account,
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
    /// Begins with nobody, and descriptors for so many.
    pub(super) fn new(room: u32) -> Self {
        let (counts, working) = Default::default();
        Self { room, counts, working }
    }

    /// Gives a connection its place; `None` when there are too many.
    pub(super) fn admit(
        this: &Arc<Self>,
        account: Account,
        set: &settings::Daemon,
    ) -> Option<Place> {
        let trusted = account == Account::Trusted;
        let mut counts = this.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match trusted {
            true => set.clients.saturating_add(RESERVE).min(this.room),
            false => set.clients.min(this.room - RESERVE.min(this.room / 4)),
        };
        let of_account = counts.by_account.get(&account).map_or(0, |(count, _)| *count);
        if counts.all >= most || (!trusted && of_account >= set.clients_per_user) {
            return None;
        }
        counts.all += 1;
        counts.by_account.entry(account).or_default().0 += 1;
        Some(Place { clients: Arc::clone(this), account })
    }

    fn turns(&self, account: Account) -> Arc<Turns> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let turns = counts.by_account.get(&account).map(|(_, turns)| Arc::clone(turns));
        turns.unwrap_or_default()
    }

    /// Waits for a connected client's turn to be answered; `None` when it does not come.
    pub(super) fn turn(&self, account: Account) -> Option<Turn> {
        if account == Account::Trusted {
            return Some(Turn(None));
        }
        let turns = self.turns(account);
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

    /// Returns leave to make a long answer; `None` while too many are made for this account. No limit
    /// counts accounts together: what one asks keeps no other from its answer.
    pub(super) fn heavy(&self, account: Account) -> Option<Heavy> {
        let turns = self.turns(account);
        let most = if account == Account::Trusted { HOSTS_HEAVY } else { HEAVY };
        let mut heavy = turns.heavy.lock().unwrap_or_else(PoisonError::into_inner);
        if *heavy >= most {
            return None;
        }
        *heavy += 1;
        drop(heavy);
        Some(Heavy(turns))
    }

    /// Returns how many questions are being answered.
    pub(super) fn working(&self) -> usize {
        self.working.load(Ordering::Acquire)
    }

    pub(super) fn work(&self) -> Counted<'_> {
        self.working.fetch_add(1, Ordering::AcqRel);
        Counted(&self.working)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some((count, _)) = counts.by_account.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.by_account.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Account = Account::User(Principal::User(4_000_000));
    const BOB: Account = Account::User(Principal::User(4_000_001));

    #[test]
    fn one_user_leaves_room_for_others_and_all_leave_room_for_root() {
        let clients = Arc::new(Clients::new(100));
        let set = settings::Daemon { clients: 3, clients_per_user: 2, ..Default::default() };
        let admit = |account| Clients::admit(&clients, account, &set);
        let first = admit(ALICE);
        let second = admit(ALICE);
        assert!(first.is_some() && second.is_some() && admit(ALICE).is_none());
        let third = admit(BOB);
        assert!(third.is_some() && admit(BOB).is_none());
        assert!(admit(Account::Trusted).is_some());
        drop(first);
        assert!(admit(ALICE).is_some());
        drop((second, third));
        assert_eq!(clients.counts.lock().expect("not poisoned").by_account.len(), 0);
    }

    #[test]
    fn what_there_are_descriptors_for_is_all_there_is() {
        let clients = Arc::new(Clients::new(8));
        let set = settings::Daemon::default();
        let of = |account| {
            std::iter::from_fn(|| Clients::admit(&clients, account, &set)).collect::<Vec<Place>>()
        };
        let alice = of(ALICE);
        let root = of(Account::Trusted);
        assert_eq!((alice.len(), root.len()), (6, 2));
    }

    #[test]
    fn a_user_is_answered_twice_at_once_and_root_always() {
        let clients = Arc::new(Clients::new(100));
        let set = settings::Daemon::default();
        let places: Vec<_> =
            [ALICE, BOB].iter().map(|&account| Clients::admit(&clients, account, &set)).collect();
        let turn = |account| clients.turn(account);
        let (first, second) = (turn(ALICE), turn(ALICE));
        assert!(first.is_some() && second.is_some() && turn(ALICE).is_none());
        assert!(turn(BOB).is_some() && turn(Account::Trusted).is_some());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| turn(ALICE).is_some());
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            assert!(third.join().expect("no panic"));
        });
        drop(places);
    }

    #[test]
    fn m2_long_answers_of_users_keep_nobody_else_from_one() {
        let clients = Arc::new(Clients::new(100));
        let set = settings::Daemon::default();
        let users = (0..20).map(|n| Account::User(Principal::User(4_000_000 + n)));
        let users: Vec<Account> = users.chain([Account::User(Principal::Container(7))]).collect();
        let places: Vec<_> =
            users.iter().map(|&user| Clients::admit(&clients, user, &set)).collect();
        let _root = Clients::admit(&clients, Account::Trusted, &set);
        let all: Vec<Heavy> = users
            .iter()
            .flat_map(|&user| std::iter::from_fn(|| clients.heavy(user)).collect::<Vec<_>>())
            .collect();
        assert_eq!(all.len(), users.len() * 2);
        let roots: Vec<Heavy> =
            std::iter::from_fn(|| clients.heavy(Account::Trusted)).take(20).collect();
        assert_eq!(roots.len(), 8);
        drop((all, roots));
        assert!(users.iter().all(|&user| clients.heavy(user).is_some()));
        drop(places);
    }
}
