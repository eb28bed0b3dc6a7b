//! The threads that wait in the queue.
//!
//! A real client empties the queue when it starts, also of what others have sent. But the kernel
//! hands a message straight to a thread that waits for it, and then it never lies in the queue. So
//! many wait that some are left however many clients come at once.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::gettid;

use super::line::Now;
use super::{MOST_ARRIVED, Shared};
use crate::numad::queue::ipc::{self, Buffer, Whose};
use crate::numad::queue::letters::{Order, order};
use crate::numad::queue::message::{Malformed, Message};
use crate::numad::queue::process::{Process, user_of};

/// How many there are; never more.
const RECEIVERS: usize = 64;
/// They do little.
const STACK: usize = 64 << 10;
/// How long a message that was handed over is waited for: on a busy host a thread may be late. In a
/// flood there are always some.
const SETTLED: Duration = Duration::from_secs(1);
const SETTLED_IN_A_FLOOD: Duration = Duration::from_millis(20);
/// How long a message waits for room at the desk, if it is known to be somebody's.
const CROWDED: Duration = Duration::from_secs(1);

/// A message, or what came in its place.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) what: Result<Message, Malformed>,
    /// Who was the last to send when it was taken, as the kernel says.
    pub(crate) last_sender: i32,
    /// Whose rights the process has that it names, asked for where that matters.
    pub(crate) user: Option<u32>,
}

/// Where a receiver is.
#[derive(Debug, Default)]
pub(crate) struct Place {
    thread: AtomicI32,
    /// It has a message that it has not passed on yet.
    holds: AtomicBool,
}

/// Returns a place for each receiver.
pub(crate) fn places() -> Vec<Place> {
    (0..RECEIVERS).map(|_| Place::default()).collect()
}

/// Starts the receivers.
///
/// Errors: there can be no more threads.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let each = 0..shared.places.len();
    each.map(|at| {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name("placer-numad".to_owned())
            .stack_size(STACK)
            .spawn(move || receive(&shared, at))
    })
    .collect()
}

fn receive(shared: &Shared, at: usize) {
    let Some(place) = shared.places.get(at) else { return };
    let _ = ipc::allow_waking();
    place.thread.store(gettid().as_raw(), Ordering::Relaxed);
    let mut buffer = Buffer::new();
    while let Some(id) = shared.line.wait() {
        match ipc::receive(id, Whose::Of(shared.pid), true, &mut buffer) {
            // Of a queue that is not ours any more nothing is believed.
            Ok(_) if shared.line.now() != Now::At(id) => {}
            Ok((_, bytes)) => {
                place.holds.store(true, Ordering::SeqCst);
                let last_sender = ipc::stat(id).map_or(0, |stat| stat.last_sender);
                pass_on(shared, taken(bytes, last_sender));
                place.holds.store(false, Ordering::SeqCst);
            }
            Err(Errno::EINTR) => {}
            Err(_) => shared.lose(id),
        }
    }
}

fn taken(bytes: &[u8], last_sender: i32) -> Arrived {
    let what = Message::decode(bytes);
    // A question changes nothing but what is held, and whose that is is looked at when it is answered.
    let changes = what.as_ref().ok().filter(|message| message.letter != b'w');
    let user = changes.and_then(|message| user_of(message.sender));
    Arrived { what, last_sender, user }
}

/// Passes a message on to the desk. In a flood those come first of whom it is known that they are
/// there, and once each: a real client asks once and waits for ever, so its question is not lost. It
/// had better find the queue full, which it is told, than be forgotten.
pub(super) fn pass_on(shared: &Shared, arrived: Arrived) {
    let (sender, asks) = match &arrived.what {
        Ok(message) => (message.sender, matches!(order(message), Some(Order::Advise(_)))),
        Err(_) => (0, false),
    };
    // Our own answer to a process of another pid namespace that has our number there.
    if sender == shared.pid {
        return;
    }
    if asks && !shared.waiting(|waiting| waiting.insert(sender)) {
        // It is being answered.
        return;
    }
    let sent = if shared.arrivals.len() < MOST_ARRIVED / 2 {
        shared.arrivals.try_send(Some(arrived)).is_ok()
    } else if sender > 0 && Process::look(sender).is_some() {
        shared.arrivals.send_timeout(Some(arrived), CROWDED).is_ok()
    } else {
        false
    };
    if !sent {
        if asks {
            shared.waiting(|waiting| waiting.remove(&sender));
        }
        shared.refused.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sees messages that were handed over and not passed on yet.
///
/// What a client sends one after the other is handed to several threads, and the later message may
/// be passed on first. Whoever has to know what came before it waits until each receiver waits
/// again: the kernel makes a thread runnable before the client can send more.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    states: Vec<Option<File>>,
}

impl Watch {
    /// Waits until whatever was sent before now is passed on; not longer than a second.
    pub(crate) fn settle(&mut self, places: &[Place], flood: bool) {
        let most = if flood { SETTLED_IN_A_FLOOD } else { SETTLED };
        if self.states.len() != places.len() {
            self.states = places.iter().map(state_of).collect();
        }
        let since = Instant::now();
        for (place, state) in places.iter().zip(&self.states) {
            while !waits(place, state.as_ref()) && since.elapsed() < most {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
}

fn state_of(place: &Place) -> Option<File> {
    let thread = place.thread.load(Ordering::Relaxed);
    File::open(format!("/proc/self/task/{thread}/stat")).ok()
}

/// First the state and then the flag: one that has just been woken is not asleep, and one that
/// sleeps on its way has the flag set.
fn waits(place: &Place, state: Option<&File>) -> bool {
    let mut text = [0; 64];
    let Some(Ok(read)) = state.map(|state| state.read_at(&mut text, 0)) else { return true };
    let text = text.get(..read).unwrap_or_default();
    let close = text.iter().rposition(|&byte| byte == b')').unwrap_or(0);
    text.get(close + 2) == Some(&b'S') && !place.holds.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use placer_engine::policy::numad::Version;

    use super::super::Common;
    use super::super::line::Line;
    use super::*;

    #[test]
    fn in_a_flood_a_living_client_is_heard_once() {
        let (arrivals, arrived) = bounded(MOST_ARRIVED);
        let core = crate::daemon::core::Core::of_fixture("ring-4");
        let common = Common::of_no_process(&core);
        let shared = Shared::new(&common, Version::V2015, Line::off(), arrivals, bounded(1).0);
        let own = i32::try_from(std::process::id()).expect("a pid");
        let pass = |sender, letter, first| {
            let what = Ok(Message::new(sender, letter, first, 1));
            pass_on(&shared, Arrived { what, last_sender: sender, user: None });
        };
        // No process has these numbers.
        let nobody = 1 << 30;
        (0..10_000).for_each(|n| pass(nobody + n, b'w', 100));
        assert_eq!(arrived.len(), MOST_ARRIVED / 2);
        (0..3).for_each(|_| pass(own, b'w', 100));
        pass(i32::MAX, b'w', 100);
        // Not numad's, and so no question that is waited for.
        pass(own, b'w', 1 << 40);
        pass(own, b'C', 0);
        assert_eq!(arrived.len(), MOST_ARRIVED / 2 + 3);
        let waiting = shared.waiting(|waiting| waiting.clone());
        assert_eq!((waiting.len(), waiting.contains(&own)), (MOST_ARRIVED / 2 + 1, true));
        assert_eq!(shared.refused.count.load(Ordering::Relaxed), 10_000 - 2048);
    }
}
