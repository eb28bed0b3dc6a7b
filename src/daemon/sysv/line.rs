//! The queue that is served, announced to the threads that wait in it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::numad::queue::ipc::Id;

/// Where the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// Here.
    At(Id),
    /// It was removed; another one is being made.
    Lost,
    /// It cannot be ours for now: it is another user's.
    Away,
    /// There is none any more.
    Off,
}

/// Tells [`Now`], and when it changes.
#[derive(Debug)]
pub(crate) struct Line {
    now: Mutex<Now>,
    changed: Condvar,
}

impl Line {
    pub(crate) fn new(now: Now) -> Self {
        Self { now: Mutex::new(now), changed: Condvar::new() }
    }

    /// Returns the line of a queue that is no more.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn off() -> Self {
        Self::new(Now::Off)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the queue is.
    pub(crate) fn now(&self) -> Now {
        *self.lock()
    }

    /// Waits until there is a queue. `None`: there will be none.
    pub(crate) fn wait(&self) -> Option<Id> {
        let lost = |now: &mut Now| matches!(now, Now::Lost | Now::Away);
        let now = self.changed.wait_while(self.lock(), lost);
        match *now.unwrap_or_else(PoisonError::into_inner) {
            Now::At(id) => Some(id),
            Now::Lost | Now::Away | Now::Off => None,
        }
    }

    /// Says that a queue is gone. Nothing, if there is another one by now.
    /// Returns whether it was lost just now.
    pub(crate) fn lose(&self, id: Id) -> bool {
        let mut now = self.lock();
        let here = *now == Now::At(id);
        if here {
            *now = Now::Lost;
        }
        here
    }

    /// Says where the queue is from now on. Nothing comes after its end.
    pub(crate) fn set(&self, new: Now) {
        let mut now = self.lock();
        if *now != Now::Off {
            *now = new;
        }
        drop(now);
        self.changed.notify_all();
    }
}
