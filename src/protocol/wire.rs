//! Messages over a stream: each ends with a NUL byte, is not longer than allowed, and is there in
//! time or not at all. Both ends use it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a buffer may keep between two messages.
const KEPT: usize = 16 << 10;
const CHUNK: usize = 4 << 10;

/// A stream that does not block, and what of it was read and not yet taken.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Taken: what is before it was given out.
    taken: usize,
    /// No end of a message is before it.
    scanned: usize,
}

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The other end has closed, between two messages.
    End,
    /// It has closed within one.
    Cut,
    /// Nothing was received, or could be sent, within the time limit.
    Late,
    /// Longer than a message may be.
    Long,
    /// The kernel refused.
    Broken,
}

/// How long a reader is willing to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the first byte.
    pub(crate) idle: Duration,
    /// From the first byte to the last.
    pub(crate) message: Duration,
}

impl<S: Read + Write + AsFd> Wire<S> {
    /// Takes a stream that was set not to block.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), taken: 0, scanned: 0 }
    }

    /// Returns the next message, without its end.
    ///
    /// Errors: there is none; the stream is of no more use then.
    pub(crate) fn message(&mut self, longest: usize, patience: Patience) -> Result<&[u8], Lost> {
        self.until(b"\0", longest, patience)
    }

    /// Returns what comes before the next `end`.
    ///
    /// Errors: as [`message`](Self::message).
    pub(crate) fn until(
        &mut self,
        end: &[u8],
        longest: usize,
        patience: Patience,
    ) -> Result<&[u8], Lost> {
        self.forget();
        let mut deadline = None;
        if !self.buffer.is_empty() {
            deadline = Some(Instant::now() + patience.message);
        }
        loop {
            if let Some(at) = find(&self.buffer[self.scanned..], end) {
                let stop = self.scanned + at;
                if stop > longest {
                    return Err(Lost::Long);
                }
                self.taken = stop + end.len();
                return Ok(&self.buffer[..stop]);
            }
            // An end of several bytes may be half there.
            self.scanned = self.buffer.len().saturating_sub(end.len() - 1);
            if self.buffer.len() > longest {
                return Err(Lost::Long);
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Err(Lost::End),
                Ok(0) => return Err(Lost::Cut),
                Ok(_) => {
                    deadline.get_or_insert_with(|| Instant::now() + patience.message);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let until = *deadline.get_or_insert_with(|| Instant::now() + patience.idle);
                    if !self.wait(PollFlags::POLLIN, until)? {
                        return Err(Lost::Late);
                    }
                    if self.buffer.is_empty() {
                        // Now it begins.
                        deadline = None;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Broken),
            }
        }
    }

    /// Returns whether the next bytes, once so many are there, are these; nothing is taken.
    ///
    /// Errors: as [`message`](Self::message).
    pub(crate) fn begins(&mut self, with: &[u8], patience: Patience) -> Result<bool, Lost> {
        self.forget();
        let idle = Instant::now() + patience.idle;
        let mut deadline = None;
        loop {
            let have = self.buffer.len().min(with.len());
            if self.buffer[..have] != with[..have] {
                return Ok(false);
            }
            if have == with.len() {
                return Ok(true);
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Err(Lost::End),
                Ok(0) => return Err(Lost::Cut),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    let until = match self.buffer.is_empty() {
                        true => idle,
                        false => *deadline.get_or_insert_with(|| Instant::now() + patience.message),
                    };
                    if !self.wait(PollFlags::POLLIN, until)? {
                        return Err(Lost::Late);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Broken),
            }
        }
    }

    /// Sends all of a text.
    ///
    /// Errors: the other end does not read it in time, or has gone.
    pub(crate) fn send(&mut self, mut text: &[u8], time: Duration) -> Result<(), Lost> {
        let deadline = Instant::now() + time;
        while !text.is_empty() {
            match self.stream.write(text) {
                Ok(0) => return Err(Lost::End),
                Ok(sent) => text = text.get(sent..).unwrap_or_default(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::POLLOUT, deadline)? {
                        return Err(Lost::Late);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Lost::Broken),
            }
        }
        Ok(())
    }

    /// Returns whether the other end is closed.
    pub(crate) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        polled.is_ok() && fds[0].revents().is_some_and(|events| events.intersects(gone))
    }

    /// Drops what was given out, and memory that only a long message needed.
    fn forget(&mut self) {
        self.buffer.drain(..self.taken);
        (self.taken, self.scanned) = (0, 0);
        if self.buffer.capacity() > KEPT && self.buffer.len() <= KEPT {
            self.buffer.shrink_to(KEPT);
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// Waits until the stream is ready; `false` when it is not in time.
    fn wait(&self, events: PollFlags, until: Instant) -> Result<bool, Lost> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up: a part of a millisecond is no reason to spin.
            let left = left + Duration::from_millis(1);
            let mut fds = [PollFd::new(self.stream.as_fd(), events)];
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(_) => return Err(Lost::Broken),
            }
        }
    }
}

fn find(text: &[u8], end: &[u8]) -> Option<usize> {
    match end {
        [byte] => text.iter().position(|b| b == byte),
        _ => text.windows(end.len()).position(|window| window == end),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    const SOON: Patience =
        Patience { idle: Duration::from_millis(30), message: Duration::from_millis(30) };

    fn pair() -> (Wire<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        (Wire::new(ours), theirs)
    }

    #[test]
    fn messages_come_one_by_one_however_they_were_cut() {
        let (mut wire, mut other) = pair();
        other.write_all(b"one\0two\0thr").expect("sent");
        assert_eq!(wire.message(9, SOON).expect("there"), b"one");
        assert_eq!(wire.message(9, SOON).expect("there"), b"two");
        other.write_all(b"ee\0\0").expect("sent");
        assert_eq!(wire.message(9, SOON).expect("there"), b"three");
        assert_eq!(wire.message(9, SOON).expect("there"), b"");
        drop(other);
        assert!(matches!(wire.message(9, SOON), Err(Lost::End)));
    }

    #[test]
    fn what_is_late_long_or_cut_is_lost() {
        let (mut wire, mut other) = pair();
        assert!(matches!(wire.message(9, SOON), Err(Lost::Late)));
        other.write_all(b"half").expect("sent");
        assert!(matches!(wire.message(9, SOON), Err(Lost::Late)));
        other.write_all(b"0123456789").expect("sent");
        assert!(matches!(wire.message(9, SOON), Err(Lost::Long)));

        let (mut wire, mut other) = pair();
        other.write_all(b"half").expect("sent");
        drop(other);
        assert!(matches!(wire.message(9, SOON), Err(Lost::Cut)));
        let (mut wire, mut other) = pair();
        other.write_all(b"0123456789\0").expect("sent");
        assert!(matches!(wire.message(9, SOON), Err(Lost::Long)));
    }

    #[test]
    fn a_trickle_is_late_however_it_drips() {
        let (mut wire, mut other) = pair();
        let drip = std::thread::spawn(move || while other.write_all(b"x").is_ok() {});
        let patience = Patience { idle: Duration::from_secs(9), message: Duration::from_millis(9) };
        let lost = wire.message(usize::MAX - 1, patience);
        // Nobody reads any more.
        assert!(matches!(lost, Err(Lost::Late | Lost::Long)) || wire.buffer.len() > CHUNK);
        drop(wire);
        drip.join().expect("ended");
    }

    #[test]
    fn a_reader_that_does_not_read_is_given_up() {
        let (mut wire, other) = pair();
        let sent = wire.send(&vec![0; 8 << 20], Duration::from_millis(30));
        assert!(matches!(sent, Err(Lost::Late)));
        assert!(!wire.is_gone());
        drop(other);
        assert!(wire.is_gone());
    }

    proptest! {
        /// However a text is cut into pieces, the same messages come out.
        #[test]
        fn pieces_do_not_matter(
            messages in prop::collection::vec(prop::collection::vec(1u8.., 0..40), 1..8),
            cuts in prop::collection::vec(1usize..30, 1..8),
        ) {
            let (mut wire, mut other) = pair();
            let text: Vec<u8> = messages.iter().flat_map(|m| m.iter().copied().chain([0])).collect();
            let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
            for message in &messages {
                let mut end = 0;
                let found = loop {
                    let patience = Patience { idle: Duration::from_millis(1), ..SOON };
                    if at >= text.len() || end > 0 {
                        break wire.message(99, patience).map(<[u8]>::to_vec);
                    }
                    let cut = (at + cuts.next().unwrap_or(1)).min(text.len());
                    other.write_all(&text[at..cut]).expect("sent");
                    end = usize::from(text[at..cut].contains(&0));
                    at = cut;
                };
                prop_assert_eq!(found.expect("there"), &message[..]);
                // What is left of it may hold the end of the next.
                while at < text.len() && wire.buffer.len() < 64 {
                    other.write_all(&text[at..]).expect("sent");
                    at = text.len();
                }
            }
        }
    }
}
