//! Metrics on a port of this machine, for those who cannot reach the socket. Off by default.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::core::Core;
use super::socket;
use crate::protocol::wire::{Patience, Wire};
use crate::settings::Level;

/// One scraper at a time, and none of them for long.
const SCRAPE: Duration = Duration::from_secs(2);

/// The port while it is served.
#[derive(Debug)]
pub(super) struct Port {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
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
                core.log().tell(Level::Error, "metrics are not told on a port", &fields);
                None
            }
        }
    }

    fn start(address: SocketAddr, core: &Arc<Core>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        let (core, told) = (Arc::clone(core), Arc::clone(&ends));
        std::thread::Builder::new()
            .name("placer-metrics".to_owned())
            .stack_size(super::STACK)
            .spawn(move || {
                while !told.load(Ordering::Acquire) {
                    match listener.accept() {
                        Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                            let patience = Patience { idle: SCRAPE, message: SCRAPE };
                            let _ = socket::http(&mut Wire::new(stream), &core, patience);
                        }
                        _ => std::thread::sleep(Duration::from_millis(50)),
                    }
                }
            })?;
        Ok(Self { address, ends })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
    }
}
