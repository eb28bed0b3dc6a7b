//! The daemon's socket: its connections, their limits and their life.
//!
//! A thread for each connection, bounded in number and in what it holds: a message of 64 KiB, an
//! answer, a small stack. A client that is slow, silent or damaged costs its own thread some
//! seconds, and other clients nothing.

mod claims;
mod clients;
mod connection;
mod http;
mod methods;

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde::Serialize;

use super::core::Core;
use super::{descriptors, prometheus};
use crate::protocol::wire::{Patience, Wire};
use crate::protocol::{SERVICE, SOCKET, forms::Calling};
use crate::settings::Level;
use clients::{Account, Clients};

/// How long nobody is accepted after the kernel had no descriptor, thread or memory for one more.
const BACKOFF: Duration = Duration::from_millis(100);
/// How often the accepting thread looks whether it is to end.
const GLANCE: u16 = 100;
/// How long an answer to oneself may take before the daemon counts as stuck.
const OWN_ANSWER: Duration = Duration::from_secs(5);

/// The socket while it is served.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    core: Arc<Core>,
    clients: Arc<Clients>,
    ends: Arc<AtomicBool>,
}

/// What the threads of connections share.
#[derive(Debug)]
struct Served {
    core: Arc<Core>,
    clients: Arc<Clients>,
    ends: Arc<AtomicBool>,
}

impl Socket {
    /// Puts the socket in its place, and begins to answer.
    ///
    /// Errors: it cannot be made there.
    pub(super) fn start(core: &Arc<Core>, dir: &Path) -> Result<Self, Box<dyn Error>> {
        let path = dir.join(SOCKET);
        let listener =
            listen(&path).map_err(|e| format!("cannot make the socket {}: {e}", path.display()))?;
        let (room, wanted) = (descriptors::room().connections, core.settings().daemon.clients);
        if room < wanted {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("wanted", &wanted), ("room", &room)];
            core.log().tell(Level::Warning, "RLIMIT_NOFILE is too low for max-clients", &fields);
        }
        let (clients, ends) = (Arc::new(Clients::new(room)), Arc::new(AtomicBool::new(false)));
        let served = Arc::new(Served {
            core: Arc::clone(core),
            clients: Arc::clone(&clients),
            ends: Arc::clone(&ends),
        });
        std::thread::Builder::new()
            .name("placer-socket".to_owned())
            .stack_size(super::STACK)
            .spawn(move || accept(&listener, &served))?;
        Ok(Self { path, core: Arc::clone(core), clients, ends })
    }

    /// Asks itself a question as any client would. Returns whether an answer came.
    pub(super) fn alive(&self) -> bool {
        self.ask().unwrap_or(false)
    }

    fn ask(&self) -> Option<bool> {
        let stream = match UnixStream::connect(&self.path) {
            Ok(stream) => stream,
            // What is short will be there again; a restart would end a thousand good connections.
            Err(e) if is_short(&e) => return Some(true),
            Err(_) => return Some(false),
        };
        stream.set_nonblocking(true).ok()?;
        let mut wire = Wire::new(stream);
        let method = format!("{SERVICE}.GetInfo");
        let call = message(&Calling { method: &method, parameters: serde_json::json!({}) });
        wire.send(&call, OWN_ANSWER).ok()?;
        let patience = Patience { idle: OWN_ANSWER, message: OWN_ANSWER };
        Some(wire.message(1 << 20, patience).is_ok())
    }

    /// Answers a stream as if another user had connected.
    #[cfg(fuzzing)]
    pub(super) fn serve_as(&self, stream: UnixStream, uid: u32) {
        let (core, clients) = (Arc::clone(&self.core), Arc::clone(&self.clients));
        let served = Served { core, clients, ends: Arc::clone(&self.ends) };
        connection::serve(stream, &connection::peer(uid, 0, &served), &served);
    }

    /// Takes no more questions, and lets those that are being answered come to their end: at most
    /// for so long.
    pub(super) fn stop(self, time: Duration) {
        self.ends.store(true, Ordering::Release);
        // Whoever comes now finds nobody, and answers by himself.
        let _ = fs::remove_file(&self.path);
        let deadline = Instant::now() + time;
        while self.clients.working() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let left = self.clients.working();
        if left > 0 {
            self.core.log().tell(Level::Warning, "answers cut off", &[("count", &left)]);
        }
    }
}

/// Makes a socket that anybody may connect to. It takes the place of what a killed daemon left, in
/// one step, so that nobody finds it half made.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    // std's backlog is 128: a thousand clients may well start at once.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN)?;
    fs::rename(&new, path)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, served: &Arc<Served>) {
    let mut told: Option<Instant> = None;
    while !served.ends.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(GLANCE));
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(e) = admit(stream, served) {
                        tell(served, &mut told, &e);
                        std::thread::sleep(BACKOFF);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if is_short(&e) => {
                    tell(served, &mut told, &e);
                    std::thread::sleep(BACKOFF);
                    break;
                }
                // Who connected has gone already.
                Err(_) => break,
            }
            if served.ends.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

/// Gives a connection its thread, if it may have one. A refused one is closed, and its client
/// answers by itself.
fn admit(stream: UnixStream, served: &Arc<Served>) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials)?;
    let set = served.core.settings().daemon;
    let peer = connection::peer(credentials.uid(), credentials.pid(), served);
    let Some(place) = Clients::admit(&served.clients, Account::of(&peer), &set) else {
        served.core.metrics().refused.add(1);
        return Ok(());
    };
    let served = Arc::clone(served);
    std::thread::Builder::new().name("placer-client".to_owned()).stack_size(super::STACK).spawn(
        move || {
            let _place = place;
            connection::serve(stream, &peer, &served);
        },
    )?;
    Ok(())
}

fn tell(served: &Served, told: &mut Option<Instant>, error: &std::io::Error) {
    const SELDOM: Duration = Duration::from_secs(10);
    if told.is_none_or(|at| at.elapsed() > SELDOM) {
        *told = Some(Instant::now());
        served.core.log().tell(Level::Warning, "cannot accept a connection", &[("why", error)]);
    }
}

/// Whether the kernel lacks descriptors, threads or memory at the moment.
fn is_short(error: &std::io::Error) -> bool {
    let raw = error.raw_os_error().map(nix::Error::from_raw);
    use nix::errno::Errno::{EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(raw, Some(EMFILE | ENFILE | ENOMEM | ENOBUFS | EAGAIN))
}

/// Returns a form as a message.
pub(super) fn message(form: &impl Serialize) -> Vec<u8> {
    // Forms of ours always have a text; were it otherwise, the other end sees an empty message.
    let mut text = serde_json::to_vec(form).unwrap_or_default();
    text.push(0);
    text
}

pub(super) use http::serve as http;

/// Returns the metrics, for the socket and for the port.
pub(super) fn metrics_text(core: &Core) -> Result<String, String> {
    prometheus::text(core)
}
