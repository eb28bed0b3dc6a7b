//! One at a time decides and claims: those who wait for it sleep, in place of a thousand that ask for the
//! ledger's lock again and again. The lock is then between the daemon and engines alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// So many turns of the host come before one of a user's that waits.
const HOSTS_IN_A_ROW: u32 = 8;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Host,
    User,
}

#[derive(Debug, Default)]
pub(super) struct Committing {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody has the turn, or it is granted and not taken yet.
    busy: bool,
    /// Those who wait, in the order in which they came: of the host, and of users.
    waiting: [VecDeque<Arc<Waiter>>; 2],
    hosts_in_a_row: u32,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    granted: AtomicBool,
}

/// The turn; given on when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Committing);

impl crate::service::host::Turn for Turn<'_> {}

impl Committing {
    /// Waits for the turn.
    pub(super) fn wait(&self, class: Class) -> Turn<'_> {
        let mut state = self.state();
        if !state.busy {
            state.busy = true;
            return Turn(self);
        }
        let waiter =
            Arc::new(Waiter { thread: std::thread::current(), granted: AtomicBool::new(false) });
        state.waiting[class as usize].push_back(Arc::clone(&waiter));
        drop(state);
        while !waiter.granted.load(Ordering::Acquire) {
            std::thread::park();
        }
        Turn(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let [hosts, users] = [0, 1].map(|class: usize| state.waiting[class].len());
        let class = match (hosts, users) {
            (1.., 0) => Class::Host,
            (1.., _) if state.hosts_in_a_row < HOSTS_IN_A_ROW => Class::Host,
            _ => Class::User,
        };
        state.hosts_in_a_row = if class == Class::Host { state.hosts_in_a_row + 1 } else { 0 };
        let next = state.waiting[class as usize].pop_front();
        state.busy = next.is_some();
        drop(state);
        if let Some(next) = next {
            next.granted.store(true, Ordering::Release);
            next.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn_and_all_have_it() {
        let committing = Committing::default();
        let (inside, done) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for n in 0..32 {
                let (committing, inside, done) = (&committing, &inside, &done);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let class = if n % 2 == 0 { Class::Host } else { Class::User };
                        let _turn = committing.wait(class);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::hint::spin_loop();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::SeqCst), 32 * 200);
        let state = committing.state();
        assert!(!state.busy && state.waiting.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn m3_the_host_comes_first_and_users_are_not_forgotten() {
        let committing = Committing::default();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let first = committing.wait(Class::User);
            for n in 0..40 {
                let (committing, order) = (&committing, &order);
                scope.spawn(move || {
                    let class = if n < 20 { Class::User } else { Class::Host };
                    let _turn = committing.wait(class);
                    order.lock().expect("not poisoned").push(class);
                });
            }
            while committing.state().waiting.iter().any(|queue| queue.len() != 20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(first);
        });
        let order = order.into_inner().expect("not poisoned");
        let users = |to: usize| order[..to].iter().filter(|one| **one == Class::User).count();
        assert_eq!((users(8), users(9), users(18), order.len()), (0, 1, 2, 40), "{order:?}");
    }
}
