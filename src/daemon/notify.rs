//! Notifications to systemd: ready, alive, reloading, stopping.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::settings::variables;

/// The socket that the service manager listens on; none when this is no service.
#[derive(Debug)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads the address to notify and the watchdog interval.
    pub(super) fn open() -> Self {
        let to = variables::value("NOTIFY_SOCKET").and_then(|name| {
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read is no reason to hang.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address(&name)?))
        });
        let watchdog = variables::value("WATCHDOG_USEC")
            .filter(|_| match variables::value("WATCHDOG_PID") {
                Some(pid) => pid.to_str() == Some(std::process::id().to_string().as_str()),
                None => true,
            })
            .and_then(|usec| usec.to_str()?.parse().ok())
            .filter(|usec| *usec > 0)
            .map(Duration::from_micros);
        Self { to, watchdog }
    }

    /// Returns how often a sign of life is to be given: twice in the time after which it is missed.
    pub(super) fn beat(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }

    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(super) fn reloading(&self) {
        let now = placer_engine::source::live_clock().map_or(0, |now| now.nanoseconds() / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A name that begins with `@` is an abstract one.
fn address(name: &OsString) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}
