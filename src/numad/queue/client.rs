//! A client of a daemon that listens on numad's queue: numad's own of either version, or placer's.
//!
//! It speaks as numad's does, on the queue of the version that runs, with three differences: it leaves
//! others' messages in the queue, it believes only the daemon's own user, and it waits for a limited time.
//! Where the version is not known it tries both queues.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use placer_engine::NodeSet;
use placer_engine::policy::numad::Version;

use super::ipc::{self, Buffer, Id, Key, Whose};
use super::message::Message;
use super::pid_file;
use super::places::Places;
use super::process::{Process, user_of};
use crate::numad::{Advice, Options};

/// So long is an answer waited for: as long as numad takes where there is no daemon.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// When a question is asked again: another client that started may have taken it away.
const AGAIN: [Duration; 2] = [Duration::from_millis(400), Duration::from_secs(1)];
/// A full queue is tried again so often.
const FULL: Duration = Duration::from_millis(5);
/// Messages that are left in the queue for a process that had our pid.
const LEFT_OVER: usize = 64;

/// The order in which numad sends its options.
const ORDER: &[u8] = b"CHiKlmprStux";

/// A daemon that lives.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    /// The version that looked for it.
    looked: Version,
}

/// Why a daemon that lives has not answered.
#[derive(Debug)]
pub enum NoAnswer {
    /// It has no queue with the key of its version.
    NoQueue(Key),
    /// The queue is not this user's to use.
    NotAllowed,
    /// The queue belongs to another user, who could answer in the daemon's place.
    Foreign(u32),
    /// There was no room in the queue.
    Full,
    /// Nothing came.
    Silent,
    /// It answered with an empty line.
    Nothing,
    Io(Errno),
}

/// Returns the daemon that lives on this host, if there is one: root's, or for a user's client of the version
/// of 2025 that user's own.
pub fn find(looked: Version) -> Option<Daemon> {
    let process = pid_file::daemon(Places::of(looked).pid_file)?;
    Some(Daemon { process, looked })
}

impl Daemon {
    /// Returns its pid.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Returns whether it is placer's own, which has a better way to be asked.
    pub fn is_placer(&self) -> bool {
        self.process.is_placer()
    }

    /// Sends the options that were given, as numad would: in its order, and without waiting.
    ///
    /// Errors: the queue cannot be used.
    pub fn tell(&self, options: &Options) -> Result<(), NoAnswer> {
        if !ORDER.iter().any(|letter| options.given.contains(letter)) {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        // To each queue that may be the daemon's: nobody reads the other.
        let mut sent = Err(NoAnswer::Silent);
        for id in self.queues()? {
            let one = self.tell_on(id, options, deadline);
            if sent.is_err() {
                sent = one;
            }
        }
        sent
    }

    fn tell_on(&self, id: Id, options: &Options, deadline: Instant) -> Result<(), NoAnswer> {
        for &letter in ORDER.iter().filter(|letter| options.given.contains(letter)) {
            let (first, second) = arguments(options, letter);
            self.send(id, &Message::new(own_pid(), letter, first, second), deadline)?;
        }
        Ok(())
    }

    /// Asks for nodes. Only the question is sent, without options: a numad would apply those to all
    /// clients.
    ///
    /// Errors: no answer within [`PATIENCE`].
    pub fn ask(&self, advice: Advice) -> Result<NodeSet, NoAnswer> {
        let queues = self.queues()?;
        let patience = PATIENCE / u32::try_from(queues.len()).unwrap_or(1).max(1);
        let mut answer = Err(NoAnswer::Silent);
        for id in queues {
            answer = self.ask_on(id, advice, patience);
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    fn ask_on(&self, id: Id, advice: Advice, patience: Duration) -> Result<NodeSet, NoAnswer> {
        let own = own_pid();
        ipc::discard(id, Whose::Of(own), LEFT_OVER);
        let answers = self.listen(id)?;
        let question =
            Message::new(own, b'w', i64::from(advice.cpus_hundredths), i64::from(advice.megabytes));
        let since = Instant::now();
        let mut again = AGAIN.iter().copied().filter(|&at| at < patience).chain([patience]);
        self.send(id, &question, since + patience)?;
        let answer = loop {
            let Some(next) = again.next() else { break Err(NoAnswer::Silent) };
            match answers.recv_timeout(next.saturating_sub(since.elapsed())) {
                Ok(text) => break nodes(&text),
                Err(RecvTimeoutError::Timeout) if next < patience => {
                    self.send(id, &question, since + patience)?;
                }
                Err(_) => break Err(NoAnswer::Silent),
            }
        };
        ipc::discard(id, Whose::Of(own), LEFT_OVER);
        answer
    }

    /// Returns the versions on whose queue the daemon may answer. placer's serves both; of another user's
    /// process the program cannot be read.
    fn versions(&self) -> Vec<Version> {
        match self.process.version() {
            Ok(version) => vec![version.unwrap_or(self.looked)],
            Err(_) => {
                let others = [Version::V2015, Version::V2025];
                let others = others.into_iter().filter(|&version| version != self.looked);
                [self.looked].into_iter().chain(others).collect()
            }
        }
    }

    /// Returns the queues on which only the daemon can answer.
    ///
    /// Errors: why there is none, of the likeliest version.
    fn queues(&self) -> Result<Vec<Id>, NoAnswer> {
        let mut usable = Vec::new();
        let mut unusable = None;
        for version in self.versions() {
            match self.queue(Key::of(version)) {
                Ok(id) => usable.push(id),
                Err(why) => unusable = unusable.or(Some(why)),
            }
        }
        match unusable {
            Some(why) if usable.is_empty() => Err(why),
            _ => Ok(usable),
        }
    }

    fn queue(&self, key: Key) -> Result<Id, NoAnswer> {
        let denied = |error| match error {
            Errno::EACCES => NoAnswer::NotAllowed,
            other => NoAnswer::Io(other),
        };
        let id = ipc::find(key).map_err(denied)?.ok_or(NoAnswer::NoQueue(key))?;
        let stat = ipc::stat(id).map_err(denied)?;
        let user = user_of(self.process.pid).ok_or(NoAnswer::Silent)?;
        match stat.uids.iter().find(|&&uid| uid != user) {
            Some(&other) => Err(NoAnswer::Foreign(other)),
            None => Ok(id),
        }
    }

    fn send(&self, id: Id, message: &Message, deadline: Instant) -> Result<(), NoAnswer> {
        let bytes = message.encode();
        loop {
            match ipc::send(id, self.process.pid, &bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(FULL),
                Err(Errno::EAGAIN) => return Err(NoAnswer::Full),
                Err(Errno::EACCES) => return Err(NoAnswer::NotAllowed),
                Err(error) => return Err(NoAnswer::Io(error)),
            }
        }
    }

    /// Lets a thread wait in the queue: to one that waits an answer is handed without lying where
    /// others can take it. The thread ends with this process, at the latest.
    fn listen(&self, id: Id) -> Result<mpsc::Receiver<String>, NoAnswer> {
        let (send, answers) = mpsc::channel();
        let daemon = self.process.pid;
        let listen = move || {
            let mut buffer = Buffer::new();
            loop {
                let bytes = match ipc::receive(id, Whose::Of(own_pid()), true, &mut buffer) {
                    Ok((_, bytes)) => bytes,
                    Err(Errno::EINTR) => continue,
                    Err(_) => return,
                };
                match Message::decode(bytes) {
                    Ok(Message { sender, letter: b'w', text, .. }) if sender == daemon => {
                        let _ = send.send(text);
                        return;
                    }
                    _ => {}
                }
            }
        };
        std::thread::Builder::new()
            .name("placer-listen".to_owned())
            .spawn(listen)
            .map_err(|_| NoAnswer::Io(Errno::EAGAIN))?;
        Ok(answers)
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn nodes(text: &str) -> Result<NodeSet, NoAnswer> {
    let nodes: NodeSet = text.parse().map_err(|_| NoAnswer::Nothing)?;
    if nodes.is_empty() { Err(NoAnswer::Nothing) } else { Ok(nodes) }
}

/// Returns what numad sends with a letter.
fn arguments(options: &Options, letter: u8) -> (i64, i64) {
    let first = match letter {
        b'C' => options.count_inactive_file.into(),
        b'H' => options.thp_scan_ms.into(),
        b'i' => return (options.min_interval_s.into(), options.max_interval_s.into()),
        b'K' => options.keep_interleaved.into(),
        b'l' => options.log_level.into(),
        b'm' => options.memory_locality.into(),
        b'p' | b'r' | b'x' => options.last_pid.unwrap_or_default(),
        b'S' => options.scan_all.into(),
        b't' => options.thread_percent.into(),
        b'u' => options.target_utilisation.into(),
        _ => 0,
    };
    (first, 0)
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoQueue(key) => write!(f, "there is no message queue {key} to ask it on"),
            Self::NotAllowed => write!(f, "this user may not use its message queue"),
            Self::Foreign(uid) => {
                write!(f, "its message queue belongs to user {uid}: answers could be forged")
            }
            Self::Full => write!(f, "its message queue is full"),
            Self::Silent => write!(f, "no answer came within {} s", PATIENCE.as_secs()),
            Self::Nothing => write!(f, "it answered with no nodes"),
            Self::Io(error) => write!(f, "its message queue cannot be used: {error}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numad::options_of;

    #[test]
    fn options_are_sent_as_numad_sends_them() {
        let line = "-x 9 -u 90 -t 50 -S 0 -r 8 -p 7 -m 95 -v -K 1 -i 7:9 -H 500 -C 0 -w 4:500 -R 0";
        let options = options_of(line);
        let sent: Vec<(char, i64, i64)> = ORDER
            .iter()
            .filter(|letter| options.given.contains(letter))
            .map(|&letter| {
                let (first, second) = arguments(&options, letter);
                (char::from(letter), first, second)
            })
            .collect();
        // The one pid that numad sends is the last that was given, with each letter.
        assert_eq!(
            sent,
            [
                ('C', 0, 0),
                ('H', 500, 0),
                ('i', 7, 9),
                ('K', 1, 0),
                ('l', 6, 0),
                ('m', 95, 0),
                ('p', 7, 0),
                ('r', 7, 0),
                ('S', 0, 0),
                ('t', 50, 0),
                ('u', 90, 0),
                ('x', 7, 0),
            ]
        );
    }

    #[test]
    fn an_answer_is_a_list_of_nodes() {
        assert_eq!(nodes("0-1,3").map(|nodes| nodes.to_string()).ok().as_deref(), Some("0-1,3"));
        for text in ["", "all", "0-", "3-1", "0-1; rm"] {
            assert!(nodes(text).is_err(), "{text}");
        }
    }
}
