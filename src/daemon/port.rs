//! Metrics on a port of this machine, for those who cannot reach the socket. Off by default.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::core::Core;
use super::socket;
use crate::protocol::wire::{Patience, Wire};
use crate::settings::Level;

/// No scraper is waited for longer; so many are answered at once.
const SCRAPE: Duration = Duration::from_secs(2);
const SCRAPERS: usize = 8;
/// Connections that have not sent their request yet. The oldest is closed for one more: whoever says nothing
/// keeps nobody out who asks.
const MOST_SILENT: usize = 128;
/// A request is looked for in so many bytes.
const HEAD: usize = 8 << 10;
/// The kernel keeps an answer for a scraper that does not read.
const SEND_BUFFER: usize = 128 << 10;
/// How often it is looked whether somebody has come.
const GLANCE: u16 = 50;

/// The port while it is served.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Brings the port in line with the settings.
    pub(super) fn follow(old: Option<Self>, core: &Arc<Core>) -> Option<Self> {
        let wanted = core.settings().daemon.metrics;
        if old.as_ref().map(|port| port.address) == wanted {
            return old;
        }
        drop(old);
        let address = wanted?;
        match Self::start(address, core) {
            Ok(port) => Some(port),
            Err(error) => {
                let fields: [(&str, &dyn std::fmt::Display); 2] =
                    [("address", &address), ("why", &error)];
                core.log().tell(Level::Error, "the metrics port is not served", &fields);
                None
            }
        }
    }

    fn start(address: SocketAddr, core: &Arc<Core>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        let (core, told) = (Arc::clone(core), Arc::clone(&ends));
        let thread = spawn(move || serve(&listener, &core, &told))?;
        Ok(Self { address, ends, thread: Some(thread) })
    }
}

/// A connection that has not sent its request.
struct Silent {
    stream: TcpStream,
    since: Instant,
    /// A part of it is there.
    begun: bool,
}

fn serve(listener: &TcpListener, core: &Arc<Core>, ends: &AtomicBool) {
    let scrapers = Arc::new(());
    let mut silent: VecDeque<Silent> = VecDeque::new();
    while !ends.load(Ordering::Acquire) {
        wait(listener, &silent);
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                silent.push_back(Silent { stream, since: Instant::now(), begun: false });
            }
            if silent.len() > MOST_SILENT {
                silent.pop_front();
            }
        }
        let mut left = VecDeque::with_capacity(silent.len());
        for mut one in silent.drain(..) {
            if one.since.elapsed() > SCRAPE {
                continue;
            }
            let asked = has_asked(&one.stream, &mut one.begun);
            if !asked || Arc::strong_count(&scrapers) > SCRAPERS {
                left.push_back(one);
                continue;
            }
            let (core, guard) = (Arc::clone(core), Arc::clone(&scrapers));
            // Without a thread it is closed, and its scraper comes again.
            let _ = spawn(move || {
                answer(one.stream, &core);
                drop(guard);
            });
        }
        silent = left;
    }
}

/// Waits until somebody comes or says something, and not long.
fn wait(listener: &TcpListener, silent: &VecDeque<Silent>) {
    let quiet = silent.iter().filter(|one| !one.begun).map(|one| one.stream.as_fd());
    let fds = std::iter::once(listener.as_fd()).chain(quiet);
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let _ = poll(&mut fds, PollTimeout::from(GLANCE));
}

/// Returns whether a whole request is there, or one that will never be whole.
fn has_asked(stream: &TcpStream, begun: &mut bool) -> bool {
    let mut head = [0; HEAD];
    match stream.peek(&mut head) {
        Ok(read) => {
            *begun = true;
            let head = &head[..read];
            read == 0 || read == HEAD || head.windows(4).any(|end| end == b"\r\n\r\n")
        }
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("placer-metrics".to_owned());
    thread.stack_size(super::STACK).spawn(work)
}

fn answer(stream: TcpStream, core: &Core) {
    let _ = setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER);
    let patience = Patience { idle: SCRAPE, message: SCRAPE };
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let _ =
        socket::http(&mut Wire::new(stream), core, patience, |host| is_of(host, own.trim_end()));
}

/// Returns whether a name is one of this host: a page of another name that resolves to this host (DNS
/// rebinding) is not answered.
fn is_of(host: &str, own: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || ["localhost", own].iter().any(|name| host.eq_ignore_ascii_case(name))
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        // The same address may be asked for again.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
