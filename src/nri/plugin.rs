//! The connection with the runtime: made again for ever, until a signal ends it.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, SysRoot};
use prost::Message as _;

use super::calls::{Answer, Calls, Created, Memory};
use super::keeper::Keeper;
use super::messages::{RegisterPluginRequest, Request, Response, Status};
use super::wire::{Channel, Incoming, TtrpcKind, TtrpcMessage};
use crate::daemon::Log;
use crate::daemon::signals::{Order, Signals};
use crate::protocol::client::{connected, owner_of};
use crate::settings::variables;
use crate::settings::{Advise, Level, Settings};

/// The service of the runtime that plugins call.
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The first call of a client in ttrpc.
const FIRST_CALL: u32 = 1;
/// How long the runtime has to register the plugin, and to read an answer.
const REGISTRATION: Duration = Duration::from_secs(10);
const SENDING: Duration = Duration::from_secs(2);
/// The pauses between two attempts to connect: twice as long each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most bytes that are read in one go.
const AT_ONCE: usize = 64 << 10;

/// How the plugin is run.
#[derive(Debug)]
pub struct Options {
    pub root: SysRoot,
    /// The runtime's socket; not looked at where the runtime has started this process and given it a connection.
    pub socket: PathBuf,
    /// From 0 to 99: plugins are called in ascending order.
    pub index: u8,
    pub set: Settings,
}

/// Why a connection has ended.
enum End {
    /// A signal: the plugin ends.
    Signal,
    /// The plugin was registered.
    Lost(String),
    Refused(String),
}

/// Serves container runtimes until a signal ends it.
///
/// Errors: the host cannot be read; the runtime gave this process a connection that cannot be used.
pub fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // Before this process opens anything, which could have the number that is given.
    let given = given()?;
    // Before there are threads, so that none takes a signal that is meant for this one.
    let signals = Signals::open()?;
    let Options { root, socket, index, set } = options;
    let memory = memory_of(&root)?;
    let (log, _) = Log::start(set.daemon.log)?;
    let advise = set.advise.clone();
    let keeper = Keeper::start(root, set, log.clone())?;
    let plugin =
        Plugin { keeper: &keeper, log: &log, signals: &signals, memory, set: &advise, index };
    let ended = match given {
        Some(given) => plugin.serve_given(given),
        None => {
            plugin.serve(&socket);
            Ok(())
        }
    };
    // What is being released is released.
    keeper.finish();
    log.tell(Level::Notice, "ending", &[]);
    log.flush();
    ended
}

/// A connection that a runtime gives to a plugin which it starts, with the name and index it has there.
struct Given {
    stream: UnixStream,
    name: String,
    index: String,
}

/// Errors: the variable names no descriptor of a socket that is open.
fn given() -> Result<Option<Given>, Box<dyn Error>> {
    let text = |name| variables::value(name).map(|value| value.to_string_lossy().into_owned());
    let Some(fd) = text("NRI_PLUGIN_SOCKET") else { return Ok(None) };
    let wrong = |why: &str| format!("NRI_PLUGIN_SOCKET={fd}: {why}");
    let number = fd.parse().ok().filter(|fd| *fd > 2);
    let number: i32 = number.ok_or_else(|| wrong("expected the number of a descriptor above 2"))?;
    let open = std::fs::metadata(format!("/proc/self/fd/{number}"));
    if !open.map_err(|error| wrong(&error.to_string()))?.file_type().is_socket() {
        return Err(wrong("expected a socket").into());
    }
    // SAFETY: it is open, by the runtime for this plugin alone, and nothing in this process knows the number.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| wrong(errno.desc()))?;
    let named = |name, otherwise: &str| text(name).unwrap_or_else(|| otherwise.to_owned());
    let (name, index) = (named("NRI_PLUGIN_NAME", "placer"), named("NRI_PLUGIN_IDX", "10"));
    Ok(Some(Given { stream: UnixStream::from(fd), name, index }))
}

/// Errors: the host cannot be read.
fn memory_of(root: &SysRoot) -> Result<Memory, Box<dyn Error>> {
    let snapshot = SnapshotReader::open(root, None)?.take(None, Duration::ZERO)?;
    let all = snapshot.nodes().iter().filter_map(|node| Some((node.id, node.memory_total?)));
    let all = all.filter(|(_, total)| *total > Bytes::ZERO);
    Ok(Memory {
        total: all.clone().map(|(_, total)| total).sum(),
        nodes: all.map(|(id, _)| id).collect(),
    })
}

struct Plugin<'a> {
    keeper: &'a Keeper,
    log: &'a Log,
    signals: &'a Signals,
    memory: Memory,
    set: &'a Advise,
    index: u8,
}

impl Plugin<'_> {
    /// Connects again whenever a connection has ended.
    fn serve(&self, socket: &std::path::Path) {
        let mut created = Created::default();
        let index = format!("{:02}", self.index);
        let (mut pause, mut said) = (SHORTEST_PAUSE, String::new());
        loop {
            let end = match connect(socket) {
                Ok(stream) => self.converse(stream, "placer", &index, &mut created),
                Err(why) => End::Refused(format!("{}: {why}", socket.display())),
            };
            match end {
                End::Signal => return,
                End::Lost(why) => {
                    self.log.tell(Level::Warning, "connection lost", &[("why", &why)]);
                    (pause, said) = (SHORTEST_PAUSE, String::new());
                }
                // Said once: a runtime that is not there is tried every few seconds.
                End::Refused(why) if why == said => {}
                End::Refused(why) => {
                    self.log.tell(Level::Warning, "no connection, trying again", &[("why", &why)]);
                    said = why;
                }
            }
            if self.pause(pause) {
                return;
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// The runtime starts the plugin again when it is started itself.
    fn serve_given(&self, given: Given) -> Result<(), Box<dyn Error>> {
        let Given { stream, name, index } = given;
        match self.converse(stream, &name, &index, &mut Created::default()) {
            End::Signal => Ok(()),
            End::Lost(why) | End::Refused(why) => Err(why.into()),
        }
    }

    /// Returns whether a signal ended the pause, and the plugin with it.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match self.signals.wait(until.saturating_duration_since(Instant::now())) {
                Some(Order::End) => return true,
                Some(Order::Reload) => self.not_reloaded(),
                None if Instant::now() >= until => return false,
                None => {}
            }
        }
    }

    fn not_reloaded(&self) {
        let why = "settings are read at the start: restart it";
        self.log.tell(Level::Notice, "not reloaded", &[("why", &why)]);
    }

    fn converse(&self, stream: UnixStream, name: &str, index: &str, created: &mut Created) -> End {
        let mut wire = Connection { stream, incoming: Incoming::default() };
        let mut calls = Calls::new(self.keeper, self.log, &self.memory, self.set, created);
        let register =
            RegisterPluginRequest { plugin_name: name.to_owned(), plugin_idx: index.to_owned() };
        let request = Request {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: register.encode_to_vec(),
        };
        let message = TtrpcMessage {
            channel: Channel::Runtime,
            call: FIRST_CALL,
            kind: TtrpcKind::Request,
            payload: request.encode_to_vec(),
        };
        if let Err(why) = wire.stream.set_nonblocking(false).and_then(|()| {
            wire.stream.set_write_timeout(Some(SENDING))?;
            wire.send(&message)
        }) {
            return End::Refused(why.to_string());
        }
        // The runtime may call before it answers, and waits for the answers.
        let mut until = Some(Instant::now() + REGISTRATION);
        let mut messages = Vec::new();
        loop {
            let failed = if until.is_some() { End::Refused } else { End::Lost };
            match wire.wait(self.signals, until) {
                Waited::Signal(Order::End) => return End::Signal,
                Waited::Signal(Order::Reload) => {
                    self.not_reloaded();
                    continue;
                }
                Waited::TooLong => return failed("the runtime does not answer".to_owned()),
                Waited::Bytes => {}
            }
            if let Err(why) = wire.receive(&mut messages) {
                return failed(why);
            }
            for message in messages.drain(..) {
                match (message.channel, message.kind) {
                    (Channel::Runtime, TtrpcKind::Response) if message.call == FIRST_CALL => {
                        match Response::decode(&message.payload[..]) {
                            Ok(Response { status: Some(status), .. }) if status.code != 0 => {
                                return failed(format!("the runtime refuses: {}", status.message));
                            }
                            Ok(_) => {
                                until = None;
                                self.log.tell(Level::Notice, "registered", &[("index", &index)]);
                            }
                            Err(error) => return failed(error.to_string()),
                        }
                    }
                    (Channel::Plugin, TtrpcKind::Request) => {
                        if let Err(why) = self.reply(&mut wire, &mut calls, &message) {
                            return failed(format!("an answer cannot be sent: {why}"));
                        }
                    }
                    // Answers to nothing, and what ttrpc may have that is not asked for.
                    _ => {}
                }
            }
        }
    }

    fn reply(
        &self,
        wire: &mut Connection,
        calls: &mut Calls<'_>,
        call: &TtrpcMessage,
    ) -> std::io::Result<()> {
        let (status, Answer { payload, hold }) = match calls.answer(&call.payload) {
            Ok(answer) => (None, answer),
            Err(status) => (Some(status), Answer::default()),
        };
        if let Some(Status { code, message }) = &status {
            self.log.tell(
                Level::Debug,
                "answered with a status",
                &[("code", code), ("text", message)],
            );
        }
        let payload = Response { status, payload }.encode_to_vec();
        let reply = TtrpcMessage { kind: TtrpcKind::Response, payload, ..*call };
        let sent = wire.send(&reply);
        // Too late: the container is created unplaced.
        if let (Err(_), Some(hold)) = (&sent, hold) {
            self.keeper.end(hold);
        }
        sent
    }
}

/// Errors: there is no runtime, or it is not one that may decide about containers.
fn connect(socket: &std::path::Path) -> Result<UnixStream, String> {
    let stream = connected(socket).map_err(|errno| errno.desc().to_owned())?;
    let owner = owner_of(&stream)?;
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!(
            "expected a runtime of root or of this user, found one of user {owner}"
        ));
    }
    Ok(UnixStream::from(stream))
}

struct Connection {
    stream: UnixStream,
    incoming: Incoming,
}

enum Waited {
    Bytes,
    Signal(Order),
    TooLong,
}

impl Connection {
    fn wait(&self, signals: &Signals, until: Option<Instant>) -> Waited {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Waited::TooLong;
            }
            let time = left.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
            let mut fds = [
                PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.fd(), PollFlags::POLLIN),
            ];
            if poll(&mut fds, time.unwrap_or(PollTimeout::MAX)).is_err() {
                continue;
            }
            let ready = fds.map(|fd| fd.any().unwrap_or(false));
            if ready[1]
                && let Some(order) = signals.wait(Duration::ZERO)
            {
                return Waited::Signal(order);
            }
            if ready[0] {
                return Waited::Bytes;
            }
        }
    }

    fn receive(&mut self, messages: &mut Vec<TtrpcMessage>) -> Result<(), String> {
        let mut bytes = vec![0; AT_ONCE];
        let read = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => Err("the runtime has closed it".to_owned()),
            Ok(length) => {
                let bytes = bytes.get(..length).unwrap_or_default();
                self.incoming.take(bytes, messages).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn send(&mut self, message: &TtrpcMessage) -> std::io::Result<()> {
        let frames = message.to_frames();
        let frames = frames.map_err(|error| std::io::Error::new(ErrorKind::InvalidInput, error))?;
        self.stream.write_all(&frames)
    }
}
