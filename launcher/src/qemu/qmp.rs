//! A small strict client of QEMU's control protocol, QMP.
//!
//! It asks one question at a time and waits for its answer up to a time limit. Events
//! are skipped. A line has a limit: what a peer sends costs bounded memory and time.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::plugged::{CpuThread, Plugged};
use crate::error::words;
use crate::gate::Control;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use placer_engine::CpuSet;
use placer_engine::parse::excerpt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest line that is read. The answer about 4,096 vCPUs has 1 MiB.
pub(super) const MAX_LINE: usize = 8 << 20;

/// What is done while an answer is awaited.
pub(super) trait Meanwhile {
    /// Returns what to wait for beside the answer.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// Is called when that can be read.
    fn act(&self);
}

impl Meanwhile for () {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn act(&self) {}
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QmpError {
    /// The peer has closed the channel.
    Closed,
    /// There was none within this time.
    Late(Duration),
    /// A line with no end.
    TooLong,
    /// Something else than the protocol; how it begins.
    Strange(String),
    /// QEMU does not want to; its words.
    Refused(String),
    /// The kernel.
    Failed(Errno),
}

impl QmpError {
    /// Returns whether the channel may still be used.
    pub(super) fn leaves_channel(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Returns it in the kernel's terms.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::Closed => Errno::ECONNRESET,
            Self::Late(_) => Errno::ETIMEDOUT,
            Self::TooLong | Self::Strange(_) => Errno::EPROTO,
            Self::Refused(_) => Errno::EINVAL,
            Self::Failed(errno) => *errno,
        }
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed its control channel"),
            Self::Late(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::TooLong => write!(f, "expected an answer, found a line past {MAX_LINE} bytes"),
            Self::Strange(found) => write!(f, "expected an answer of QMP, found {found}"),
            Self::Refused(words) => write!(f, "QEMU says {words}"),
            Self::Failed(errno) => f.write_str(errno.desc()),
        }
    }
}

impl From<Errno> for QmpError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed,
            other => Self::Failed(other),
        }
    }
}

/// One end of a control channel.
pub(super) struct Client<'a> {
    stream: UnixStream,
    meanwhile: &'a dyn Meanwhile,
    /// What was read and not yet understood.
    buffer: Vec<u8>,
    /// The number of the next question.
    next: u64,
}

#[derive(Serialize)]
struct Question<'a, A> {
    execute: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<A>,
    id: u64,
}

/// Every line that QEMU sends is one of these.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "QMP", borrow)]
    greeting: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(rename = "return", borrow)]
    answer: Option<&'a RawValue>,
    error: Option<Refusal>,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

impl<'a> Client<'a> {
    /// Takes a channel over.
    pub(super) fn new(stream: UnixStream, meanwhile: &'a dyn Meanwhile) -> Result<Self, QmpError> {
        stream.set_nonblocking(true).map_err(|error| errno(&error))?;
        Ok(Self { stream, meanwhile, buffer: Vec::new(), next: 1 })
    }

    /// Waits for the greeting, and leaves the mode in which nothing else may be asked.
    pub(super) fn greet(&mut self, limit: Duration) -> Result<(), QmpError> {
        let end = End::after(limit);
        let line = self.line(end)?;
        if understood(&line)?.greeting.is_none() {
            return Err(strange(&line));
        }
        self.ask_until::<serde::de::IgnoredAny, ()>("qmp_capabilities", None, end).map(drop)
    }

    /// Asks, and returns the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        command: &str,
        limit: Duration,
    ) -> Result<T, QmpError> {
        self.ask_until::<T, ()>(command, None, End::after(limit))
    }

    /// Tells it to do something.
    pub(super) fn tell<A: Serialize>(
        &mut self,
        command: &str,
        arguments: Option<A>,
        limit: Duration,
    ) -> Result<(), QmpError> {
        let answer =
            self.ask_until::<serde::de::IgnoredAny, A>(command, arguments, End::after(limit));
        answer.map(drop)
    }

    /// Keeps the channel of a machine that runs. `vcpus`: the CPUs of each vCPU, if more can be plugged in.
    pub(super) fn into_control(self, pid: u32, vcpus: Option<Vec<CpuSet>>) -> Channel {
        let plugged = vcpus.map(|vcpus| Plugged::new(pid, vcpus));
        Channel { stream: self.stream, next: self.next, buffer: self.buffer, plugged }
    }

    fn ask_until<T: DeserializeOwned, A: Serialize>(
        &mut self,
        command: &str,
        arguments: Option<A>,
        end: End,
    ) -> Result<T, QmpError> {
        let id = self.next;
        self.next += 1;
        let question = Question { execute: command, arguments, id };
        let mut text = serde_json::to_vec(&question).map_err(|_| Errno::EINVAL)?;
        text.push(b'\n');
        self.send(&text, end)?;
        loop {
            let line = self.line(end)?;
            let read = understood(&line)?;
            if read.event.is_some() {
                continue;
            }
            return match (read.answer, read.error, read.id) {
                (Some(answer), None, Some(to)) if to == id => {
                    serde_json::from_str(answer.get()).map_err(|_| strange(&line))
                }
                (None, Some(Refusal { class, desc }), Some(to)) if to == id => {
                    let words = words(&format!("{class}: {desc}"));
                    Err(QmpError::Refused(words))
                }
                _ => Err(strange(&line)),
            };
        }
    }

    fn send(&mut self, mut text: &[u8], end: End) -> Result<(), QmpError> {
        while !text.is_empty() {
            match self.stream.write(text) {
                Ok(sent) => text = &text[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLOUT, end)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(&error).into()),
            }
        }
        Ok(())
    }

    /// Returns the next line, without its end.
    fn line(&mut self, end: End) -> Result<Vec<u8>, QmpError> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(seen + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(line);
            }
            seen = self.buffer.len();
            if seen > MAX_LINE {
                return Err(QmpError::TooLong);
            }
            // Also a peer that never stops talking is given up in time.
            end.left()?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(QmpError::Closed),
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::POLLIN, end)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(&error).into()),
            }
        }
    }

    /// Returns when the channel is ready, or something was done meanwhile.
    fn wait(&self, flags: PollFlags, end: End) -> Result<(), QmpError> {
        let mut fds = vec![PollFd::new(self.stream.as_fd(), flags)];
        fds.extend(self.meanwhile.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Rounded up: a wait of less than a millisecond is one.
        let left = end.left()?.as_millis().saturating_add(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let readable = fds.get(1).and_then(PollFd::any) == Some(true);
        drop(fds);
        if readable {
            self.meanwhile.act();
        }
        Ok(())
    }
}

/// The channel to a machine that runs. What QEMU says over it is read, so that it does not pile up there.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    next: u64,
    buffer: Vec<u8>,
    /// Where vCPUs can be plugged in.
    plugged: Option<Plugged>,
}

impl Channel {
    fn say(&mut self, command: &str) -> bool {
        let question: Question<'_, ()> =
            Question { execute: command, arguments: None, id: self.next };
        self.next += 1;
        let Ok(mut text) = serde_json::to_vec(&question) else { return false };
        text.push(b'\n');
        self.stream.write_all(&text).is_ok()
    }

    /// Acts on what was read. Lines that are no answer about vCPUs are dropped.
    fn understand(&mut self) {
        let Some(end) = self.buffer.iter().rposition(|&byte| byte == b'\n') else { return };
        let rest = self.buffer.split_off(end + 1);
        let lines = std::mem::replace(&mut self.buffer, rest);
        let Some(plugged) = &mut self.plugged else { return };
        for line in lines.split(|&byte| byte == b'\n') {
            let answer = serde_json::from_slice::<Line<'_>>(line).ok().and_then(|line| line.answer);
            let threads = answer.and_then(|answer| serde_json::from_str(answer.get()).ok());
            threads.into_iter().for_each(|threads: Vec<CpuThread>| plugged.answered(&threads));
        }
    }
}

impl Control for Channel {
    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    fn hear(&mut self) -> bool {
        let mut chunk = [0; 4 << 10];
        // So much at a time that a peer that never stops talking delays no signal.
        for _ in 0..16 {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.understand();
        self.buffer.len() <= MAX_LINE
    }

    fn power_down(&mut self) -> bool {
        self.say("system_powerdown")
    }

    fn look_in(&self) -> Option<Duration> {
        self.plugged.as_ref().map(Plugged::look_in)
    }

    fn look(&mut self) -> bool {
        self.plugged.as_mut().is_none_or(|plugged| !plugged.ask()) || self.say("query-cpus-fast")
    }
}

/// When the waiting ends.
#[derive(Clone, Copy)]
struct End {
    at: Instant,
    limit: Duration,
}

impl End {
    fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    fn left(self) -> Result<Duration, QmpError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(QmpError::Late(self.limit)) } else { Ok(left) }
    }
}

fn understood(line: &[u8]) -> Result<Line<'_>, QmpError> {
    serde_json::from_slice(line).map_err(|_| strange(line))
}

fn strange(line: &[u8]) -> QmpError {
    QmpError::Strange(excerpt(line))
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
