//! Metrics on a port of this machine, for those who cannot reach the socket. Off by default.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::core::Core;
use super::socket;
use crate::protocol::wire::{Patience, Wire};
use crate::settings::Level;

/// No scraper is waited for longer; so many are answered at once, and those that come then are closed.
const SCRAPE: Duration = Duration::from_secs(2);
const SCRAPERS: usize = 8;
/// How often it is looked whether somebody has come.
const GLANCE: Duration = Duration::from_millis(50);

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
        let thread = spawn(move || {
            let scrapers = Arc::new(());
            while !told.load(Ordering::Acquire) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(GLANCE);
                    continue;
                };
                if Arc::strong_count(&scrapers) > SCRAPERS {
                    continue;
                }
                let (core, one) = (Arc::clone(&core), Arc::clone(&scrapers));
                // Without a thread it is closed, and its scraper comes again.
                let _ = spawn(move || {
                    answer(stream, &core);
                    drop(one);
                });
            }
        })?;
        Ok(Self { address, ends, thread: Some(thread) })
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name("placer-metrics".to_owned());
    thread.stack_size(super::STACK).spawn(work)
}

fn answer(stream: TcpStream, core: &Core) {
    if stream.set_nonblocking(true).is_ok() {
        let patience = Patience { idle: SCRAPE, message: SCRAPE };
        let _ = socket::http(&mut Wire::new(stream), core, patience);
    }
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
