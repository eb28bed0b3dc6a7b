//! What is wrong with the state directory: one line, whoever finds it out.
//!
//! The saved CPU counters and the ledger lie in the same place, so what ails one mostly ails the
//! other. Who reads stderr is told once, and what matters most.

use std::cell::RefCell;

use crate::output;

/// What follows from it, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// The answer takes longer, now or the next time.
    Slower,
    /// The answer does not count what others were promised.
    Uncounted,
    /// Others' answers will not count this one.
    Unclaimed,
}

thread_local! {
    /// Of this thread: the daemon answers many at once.
    static WORST: RefCell<Option<(Effect, String)>> = const { RefCell::new(None) };
}

/// Notes what is wrong.
pub(crate) fn note(effect: Effect, text: String) {
    WORST.with_borrow_mut(|worst| {
        if worst.as_ref().is_none_or(|(known, _)| *known < effect) {
            *worst = Some((effect, text));
        }
    });
}

/// Says the worst of what was noted, in one line. To be called when an answer is out.
pub fn tell() {
    if let Some((_, text)) = WORST.take() {
        output::warn(&text);
    }
}
