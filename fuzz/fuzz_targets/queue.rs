//! Messages of numad's queue, several in one go: none panics, what is understood is what was sent,
//! and each answer is one that a real client can read.
//!
//! The input is a list of messages: a byte for how long each is, a byte for who sent it, its bytes.

#![no_main]

mod machine;

use libfuzzer_sys::fuzz_target;
use placer::daemon::fuzzing::{Daemon, Queue};
use std::sync::{Mutex, OnceLock};

static QUEUE: OnceLock<(Daemon, Mutex<Queue>)> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let (_, queue) = QUEUE.get_or_init(|| {
        let daemon = machine::daemon();
        let queue = Mutex::new(daemon.queue());
        (daemon, queue)
    });
    let mut rest = input;
    let mut messages = Vec::new();
    while let [length, who, more @ ..] = rest {
        let (bytes, more) = more.split_at(usize::from(*length).min(more.len()));
        // Whom it names, or another one; root, somebody, nobody that can be asked.
        let named = bytes.first_chunk().map_or(0, |pid| i32::from_ne_bytes(*pid));
        let last_sender = if who & 1 == 0 { named } else { i32::from(*who) };
        let user = [None, Some(0), Some(1000)][usize::from(*who / 2 % 3)];
        messages.push((bytes, last_sender, user));
        rest = more;
    }
    let answers = queue.lock().expect("no panic before").take(&messages);
    assert!(answers.iter().all(|(client, answer)| *client > 0 && answer.len() <= 128));
});
