//! Hands answers to clients, and keeps the queue clean.
//!
//! Any client that starts takes all messages out of the queue, also answers that others have not
//! read yet. So an answer is put in again and again until its client has gone; then what is left for
//! that client is taken out. Clients that have stopped are waited for, less and less often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nix::errno::Errno;

use super::Shared;
use super::line::Now;
use super::queue::{self, NoQueue, Shape};
use crate::numad::queue::ipc::{self, Buffer, Id, Whose};
use crate::numad::queue::message::Message;
use crate::numad::queue::process::Process;
use crate::settings::Level;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Mail {
    Answer(Answer),
    /// The queue is gone.
    Lost,
    End,
}

/// An answer and who waits for it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) to: i32,
    pub(crate) process: Option<Process>,
    pub(crate) message: Message,
}

/// So many are waited for at once.
const MOST_WAITING: usize = 1024;
/// Unread messages that one client may have here: one, and what others have put in.
const LEFT_OVER: usize = 64;
/// So many foreign messages are taken out in one go.
const SWEPT: usize = 4096;
/// How often the queue is looked at: while answers are out, else, and while it is being filled.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(500);
const FLOODED: Duration = Duration::from_millis(1);
/// Between two lines about messages for nobody, and two looks at whose the queue is.
const TOLD: Duration = Duration::from_secs(10);
const CHECKED: Duration = Duration::from_secs(1);
/// Between two queues that were removed.
const REMADE: Duration = Duration::from_millis(100);
/// Between two tries to have a queue that was another user's, or a pid file that was another numad's.
const RETRIED: Duration = Duration::from_secs(5);

/// Returns how long to wait before an answer of that age is put in again.
fn pause(age: Duration) -> Duration {
    match age.as_millis() {
        0..200 => Duration::from_millis(4),
        200..2_000 => Duration::from_millis(20),
        2_000..10_000 => Duration::from_millis(100),
        _ => Duration::from_secs(1),
    }
}

/// Returns how long a client is waited for: one that has been stopped may come back, and one that
/// cannot be seen is gone, or in another pid namespace.
fn patience(process: Option<&Process>) -> Duration {
    Duration::from_secs(if process.is_some() { 600 } else { 2 })
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    process: Option<Process>,
    since: Instant,
    next: Instant,
}

/// The thread that does it.
#[derive(Debug)]
pub(crate) struct Post {
    shared: Arc<Shared>,
    waiting: BTreeMap<i32, Waiting>,
    sweep: Instant,
    check: Instant,
    made: Instant,
    retry: Instant,
    told: Option<Instant>,
    foreign: usize,
}

impl Post {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            waiting: BTreeMap::new(),
            sweep: now,
            check: now,
            made: now,
            retry: now + RETRIED,
            told: None,
            foreign: 0,
        }
    }

    /// Works until it is told to end.
    pub(crate) fn run(mut self, mail: &Receiver<Mail>) {
        loop {
            self.shared.beats[1].beat();
            let next = self.waiting.values().map(|waiting| waiting.next).chain([self.sweep]).min();
            let now = Instant::now();
            let pause = next.map_or(IDLE, |next| next.saturating_duration_since(now));
            match mail.recv_timeout(pause) {
                Ok(Mail::Answer(answer)) => self.take(answer),
                Ok(Mail::Lost) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Mail::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Now::At(id) = self.shared.line.now() {
                self.work(id);
            }
            match self.shared.line.now() {
                Now::At(_) => self.settle(),
                Now::Lost => self.reopen(),
                Now::Away | Now::Off => {
                    self.waiting.clear();
                    self.sweep = Instant::now() + IDLE;
                    self.try_again();
                }
            }
        }
    }

    fn take(&mut self, Answer { to, process, message }: Answer) {
        if self.waiting.len() >= MOST_WAITING {
            // One that nobody seems to wait for, else the one that has waited longest.
            let oldest = self.waiting.iter().min_by_key(|(_, w)| (w.process.is_some(), w.since));
            if let Some(to) = oldest.map(|(to, _)| *to) {
                self.waiting.remove(&to);
            }
        }
        let now = Instant::now();
        let bytes = message.encode();
        self.waiting.insert(to, Waiting { bytes, process, since: now, next: now });
        self.sweep = self.sweep.min(now + BUSY);
    }

    fn work(&mut self, id: Id) {
        let now = Instant::now();
        let mut over = Vec::new();
        for (&to, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| waiting.next <= now) {
            let age = now.duration_since(waiting.since);
            let process = waiting.process.as_ref();
            // What nobody has read so far, so that there is never more than one.
            ipc::discard(id, Whose::Of(to), LEFT_OVER);
            if process.is_some_and(Process::has_gone) || age >= patience(process) {
                over.push(to);
                continue;
            }
            waiting.next = now + pause(age);
            match ipc::send(id, to, &waiting.bytes) {
                Ok(()) => {}
                // Full. It is emptied, and then this is tried again.
                Err(Errno::EAGAIN) => self.sweep = now,
                Err(Errno::EINVAL | Errno::EIDRM) => _ = self.shared.line.lose(id),
                // No process has that number as its type.
                Err(_) => over.push(to),
            }
        }
        for to in over {
            ipc::discard(id, Whose::Of(to), LEFT_OVER);
            self.waiting.remove(&to);
        }
        if self.sweep <= now {
            self.clean(id, now);
        }
        if self.check <= now {
            self.check = now + CHECKED;
            self.look(id);
        }
    }

    /// Takes out what is not for us: answers that nobody has read, which are put in again, and what
    /// somebody else has put in. A message that is longer than numad's would hold up all clients.
    fn clean(&mut self, id: Id, now: Instant) {
        let mut buffer = Buffer::new();
        let mut foreign = 0;
        for _ in 0..SWEPT {
            let whose = Whose::NotOf(self.shared.pid);
            let Ok((kind, _)) = ipc::receive(id, whose, false, &mut buffer) else { break };
            let ours = i32::try_from(kind).is_ok_and(|to| self.waiting.contains_key(&to));
            foreign += usize::from(!ours);
        }
        self.foreign += foreign;
        self.sweep = now
            + match (foreign, self.waiting.is_empty()) {
                (0, true) => IDLE,
                (0, false) => BUSY,
                _ => FLOODED,
            };
        if self.foreign > 0 && self.told.is_none_or(|told| now.duration_since(told) >= TOLD) {
            let sender = ipc::stat(id).map_or(0, |stat| stat.last_sender);
            let fields: [(&str, &dyn std::fmt::Display); 3] =
                [("queue", &self.shared.key()), ("count", &self.foreign), ("last_sender", &sender)];
            self.shared.tell(
                Level::Warning,
                "unclaimed messages were removed from numad's queue",
                &fields,
            );
            (self.told, self.foreign) = (Some(now), 0);
        }
    }

    /// Looks whether the queue is still ours.
    fn look(&mut self, id: Id) {
        match queue::check(self.shared.key(), id) {
            Ok(Shape::Right) => {}
            Ok(Shape::Wrong) | Err(NoQueue::Refused(..)) => _ = self.shared.line.lose(id),
            Err(foreign) => self.away(&foreign),
        }
    }

    /// Opens the queue again, or a new one. What clients have sent meanwhile stays in it.
    fn reopen(&mut self) {
        let rest = REMADE.saturating_sub(self.made.elapsed());
        std::thread::sleep(rest);
        self.made = Instant::now();
        match queue::reopen(self.shared.key()) {
            Ok(id) => self.on(id),
            Err(error) => self.away(&error),
        }
    }

    /// Writes the pid file now and then where something kept it from being written: a numad that lived then may
    /// have ended.
    fn settle(&mut self) {
        let now = Instant::now();
        if now >= self.retry {
            self.retry = now + RETRIED;
            self.shared.found.retry();
        }
    }

    /// Tries to have a queue that was another user's, now and then, without a word where it still is.
    fn try_again(&mut self) {
        let now = Instant::now();
        if self.shared.line.now() != Now::Away || now < self.retry {
            return;
        }
        self.retry = now + RETRIED;
        if let Ok(id) = queue::reopen(self.shared.key()) {
            self.on(id);
        }
    }

    fn on(&self, id: Id) {
        self.shared.line.set(Now::At(id));
        let fields: [(&str, &dyn std::fmt::Display); 1] = [("queue", &self.shared.key())];
        self.shared.tell(Level::Notice, "numad's message queue was made anew", &fields);
        self.shared.set_served(true);
    }

    fn away(&mut self, error: &NoQueue) {
        self.shared.line.set(Now::Away);
        self.retry = Instant::now() + RETRIED;
        self.shared.set_served(false);
        let fields: [(&str, &dyn std::fmt::Display); 1] = [("why", error)];
        self.shared.tell(Level::Error, "numad clients are no longer served", &fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_stopped_costs_less_and_less() {
        let mut age = Duration::ZERO;
        let mut times = 0;
        while age < patience(None) * 300 {
            age += pause(age);
            times += 1;
        }
        assert_eq!(age, Duration::from_secs(600));
        // 50 in the first 200 ms, 90 to 2 s, 80 to 10 s, then one a second.
        assert_eq!(times, 50 + 90 + 80 + 590);
    }
}
