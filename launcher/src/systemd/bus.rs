//! A connection to a message bus with a time limit for each answer.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::wire::{self, Call, Kind, Message, Strange};
use crate::error::words;

/// Signals that came before the answer they belong to, at most. The bus sends those asked for alone,
/// but anybody on it may send one of his own.
const KEPT: usize = 1024;
/// The longest that is kept. Those asked for tell of a job and a unit, some hundred bytes each.
const LONGEST_KEPT: usize = 4096;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BusError {
    /// No bus listens there.
    NoBus(Errno),
    /// The bus does not let this user in; its words.
    Rejected(String),
    /// The bus has closed the connection.
    Closed,
    /// There was no answer within this time.
    Late(Duration),
    /// Something else than D-Bus: what was wanted.
    Strange(&'static str),
    /// The bus or systemd does not want to: the name of its error, and its words.
    Refused(String, String),
    /// The kernel.
    Failed(Errno),
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus(errno) => write!(f, "no process answers there: {}", errno.desc()),
            Self::Rejected(words) => write!(f, "the bus refuses this user: {words}"),
            Self::Closed => f.write_str("the bus closed the connection"),
            Self::Late(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Strange(wanted) => write!(f, "expected {wanted}, found something else"),
            Self::Refused(name, words) if words.is_empty() => f.write_str(name),
            Self::Refused(_, words) => write!(f, "systemd says {words}"),
            Self::Failed(errno) => f.write_str(errno.desc()),
        }
    }
}

impl From<Strange> for BusError {
    fn from(strange: Strange) -> Self {
        Self::Strange(strange.0)
    }
}

impl From<Errno> for BusError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed,
            other => Self::Failed(other),
        }
    }
}

/// A connection that has a name on the bus.
pub(super) struct Bus {
    stream: UnixStream,
    /// What was read and not yet understood.
    buffer: Vec<u8>,
    signals: Vec<Message>,
    serial: u32,
    end: Instant,
    limit: Duration,
}

impl Bus {
    /// Connects to the bus whose socket is here, as the user of this process. All that is done over
    /// the connection has to be done within `limit`.
    pub(super) fn connect(path: &Path, limit: Duration) -> Result<Self, BusError> {
        let end = Instant::now() + limit;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let address = UnixAddr::new(path).map_err(BusError::NoBus)?;
        loop {
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => break,
                // As many wait as the socket takes: there is nothing to poll for.
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Errno::EAGAIN) => return Err(BusError::Late(limit)),
                Err(errno) => return Err(BusError::NoBus(errno)),
            }
        }
        let (stream, buffer, signals) = (UnixStream::from(fd), Vec::new(), Vec::new());
        let mut bus = Self { stream, buffer, signals, serial: 0, end, limit };
        bus.greet()?;
        Ok(bus)
    }

    /// Says who this is; the kernel has told the bus already.
    fn greet(&mut self) -> Result<(), BusError> {
        let uid = nix::unistd::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        const LONGEST: usize = 4096;
        let line = loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.buffer.split_off(at + 2);
                break std::mem::replace(&mut self.buffer, rest);
            }
            if self.buffer.len() > LONGEST {
                return Err(BusError::Strange("a line of greeting"));
            }
            self.receive()?;
        };
        if !line.starts_with(b"OK ") {
            return Err(BusError::Rejected(words(&String::from_utf8_lossy(&line))));
        }
        self.send(b"BEGIN\r\n")?;
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            signature: "",
            body: Vec::new(),
        };
        self.call(&hello).map(drop)
    }

    /// Calls a method, and returns the answer. Signals that come meanwhile are kept.
    pub(super) fn call(&mut self, call: &Call<'_>) -> Result<Message, BusError> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.to_bytes(serial))?;
        loop {
            let message = self.next()?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return Ok(message),
                Kind::Error if message.reply_to == Some(serial) => {
                    let words = message.texts().first().map(|text| words(text));
                    return Err(BusError::Refused(message.error, words.unwrap_or_default()));
                }
                Kind::Signal if self.signals.len() < KEPT && message.len() <= LONGEST_KEPT => {
                    self.signals.push(message);
                }
                _ => {}
            }
        }
    }

    /// Returns the next signal for which `wanted` has something.
    pub(super) fn signal<T>(
        &mut self,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, BusError> {
        if let Some(found) = self.signals.drain(..).find_map(|message| wanted(&message)) {
            return Ok(found);
        }
        loop {
            let message = self.next()?;
            if message.kind == Kind::Signal
                && let Some(found) = wanted(&message)
            {
                return Ok(found);
            }
        }
    }

    fn next(&mut self) -> Result<Message, BusError> {
        let mut whole = wire::PROLOGUE;
        loop {
            if self.buffer.len() >= wire::PROLOGUE {
                whole = wire::size(&self.buffer[..wire::PROLOGUE])?;
            }
            if self.buffer.len() >= whole {
                let rest = self.buffer.split_off(whole);
                let bytes = std::mem::replace(&mut self.buffer, rest);
                return Ok(Message::parse(&bytes)?);
            }
            self.receive()?;
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), BusError> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) => self.wait_after(&error, PollFlags::POLLOUT)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), BusError> {
        let mut chunk = [0; 4096];
        loop {
            // Also a peer that never stops talking is given up in time.
            self.left()?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(BusError::Closed),
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    return Ok(());
                }
                Err(error) => self.wait_after(&error, PollFlags::POLLIN)?,
            }
        }
    }

    fn left(&self) -> Result<Duration, BusError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(BusError::Late(self.limit)) } else { Ok(left) }
    }

    /// Waits, where that is what an error is about.
    fn wait_after(&self, error: &std::io::Error, flags: PollFlags) -> Result<(), BusError> {
        match error.kind() {
            ErrorKind::Interrupted => return Ok(()),
            ErrorKind::WouldBlock => {}
            _ => return Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw).into()),
        }
        // Rounded up: a wait of less than a millisecond is one.
        let left = self.left()?.as_millis().saturating_add(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.stream.as_fd(), flags)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::bus::{Bus as MadeUp, OK, message, say};

    #[test]
    fn what_others_send_fills_no_memory() {
        let bus = MadeUp::answering(OK, 1, |stream| {
            for _ in 0..64 {
                say(stream, &message(4, &[(3, "JobRemoved")], 0, vec![0; 1 << 19]));
            }
            say(stream, &message(4, &[(3, "JobRemoved")], 0, vec![0; 300]));
            say(stream, &message(2, &[], 2, Vec::new()));
        });
        let mut client = Bus::connect(&bus.path(), Duration::from_secs(60)).unwrap();
        let call = Call {
            destination: "a.b",
            path: "/",
            interface: "a.b",
            member: "C",
            signature: "",
            body: Vec::new(),
        };
        client.call(&call).unwrap();
        let kept: usize = client.signals.iter().map(Message::len).sum();
        assert!((300..1 << 19).contains(&kept), "{kept} bytes are kept");
        drop(client);
        bus.heard();
    }
}
