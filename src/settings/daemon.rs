//! `[daemon]`: the limits and services of `placer daemon`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use placer_engine::{Bytes, CpuShare, Request};
use toml::de::DeValue;

use super::error::Fault;
use super::section::Section;
use super::{name, optional, whole, yes_or_no};
use crate::settings::duration;

/// `[daemon]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The time between two readings of the host.
    pub interval: Duration,
    /// The most connections at once: of all users, and of one user other than root.
    pub clients: u32,
    pub clients_per_user: u32,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// The limits of one user other than root, subordinate users included: number of claims, share of the
    /// free memory, CPUs, and duration of a hold.
    pub user_claims: u32,
    pub user_memory: Part,
    pub user_cpus: CpuPart,
    pub user_hold: Duration,
    /// Whether numad's message queue is served.
    pub queue: bool,
    /// A local port that serves metrics.
    pub metrics: Option<SocketAddr>,
    pub log: Level,
}

/// A part of a host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Percent(u32),
    Amount(Bytes),
}

impl Part {
    /// Returns how much it is of so much.
    pub(crate) fn of(self, all: Bytes) -> Bytes {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => {
                let part = u128::from(all.get()) * u128::from(percent) / 100;
                Bytes::new(u64::try_from(part).unwrap_or(u64::MAX))
            }
        }
    }
}

/// A part of a host's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuPart {
    Percent(u32),
    Amount(CpuShare),
}

impl CpuPart {
    /// Returns how much it is of `all`.
    pub(crate) fn of(self, all: CpuShare) -> CpuShare {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => {
                let part = u128::from(all.hundredths()) * u128::from(percent) / 100;
                CpuShare::from_hundredths(u64::try_from(part).unwrap_or(u64::MAX))
            }
        }
    }
}

/// What is logged, the gravest first; the numbers are syslog's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            clients: 1024,
            clients_per_user: 256,
            idle: Duration::from_secs(300),
            user_claims: 64,
            user_memory: Part::Percent(50),
            user_cpus: CpuPart::Percent(50),
            user_hold: Duration::from_secs(300),
            queue: true,
            metrics: None,
            log: Level::Info,
        }
    }
}

impl Daemon {
    pub(super) fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        let interval = "a duration from 10ms to 10s in quotes, as in \"250ms\"";
        keys.read("interval", interval, &mut new.interval, |value| {
            let time = duration::parse(value.as_str()?).ok()?;
            (Duration::from_millis(10)..=Duration::from_secs(10)).contains(&time).then_some(time)
        })?;
        keys.read("clients", "a whole number from 1 to 4096", &mut new.clients, clients)?;
        let per_user = "a whole number from 1 to 4096";
        keys.read("clients-per-user", per_user, &mut new.clients_per_user, clients)?;
        let time = "a duration of more than 0 and at most a day in quotes, as in \"5m\"";
        keys.read("idle", time, &mut new.idle, |value| duration::parse_hold(value.as_str()?).ok())?;
        let count = "a whole number from 0 to 100000";
        keys.read("user-claims", count, &mut new.user_claims, |value| {
            u32::try_from(whole(value)?).ok().filter(|count| *count <= 100_000)
        })?;
        let part = "a part or an amount of memory in quotes, as in \"50%\" or \"8G\"";
        keys.read("user-memory", part, &mut new.user_memory, memory)?;
        let part = "a part or a number of CPUs in quotes, as in \"50%\" or \"16\"";
        keys.read("user-cpus", part, &mut new.user_cpus, cpus)?;
        keys.read("user-hold", time, &mut new.user_hold, |value| {
            duration::parse_hold(value.as_str()?).ok()
        })?;
        keys.read("queue", super::YES_OR_NO, &mut new.queue, yes_or_no)?;
        let port = "an address of this machine with a port in quotes, as in \"127.0.0.1:9464\", or \"off\"";
        keys.read("metrics", port, &mut new.metrics, |value| {
            optional(value, "off", |text| {
                // What is told is nobody's secret, and nobody's business on a network.
                text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
            })
        })?;
        let levels = "\"error\", \"warning\", \"notice\", \"info\" or \"debug\"";
        keys.read("log", levels, &mut new.log, name)?;
        keys.end()?;
        Ok(new)
    }
}

fn clients(value: &DeValue<'_>) -> Option<u32> {
    u32::try_from(whole(value)?).ok().filter(|count| (1..=4096).contains(count))
}

fn memory(value: &DeValue<'_>) -> Option<Part> {
    let text = value.as_str()?;
    match text.strip_suffix('%') {
        Some(number) => percent(number).map(Part::Percent),
        None => Request::memory_of(text).ok().map(Part::Amount),
    }
}

fn cpus(value: &DeValue<'_>) -> Option<CpuPart> {
    let text = value.as_str()?;
    match text.strip_suffix('%') {
        Some(number) => percent(number).map(CpuPart::Percent),
        None if text.contains(':') => None,
        None => text.parse().ok().map(|request: Request| CpuPart::Amount(request.cpus)),
    }
}

fn percent(number: &str) -> Option<u32> {
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    number.parse().ok().filter(|percent| digits && *percent <= 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_host() {
        for (part, of, found) in [
            (Part::Percent(50), 5, 2),
            (Part::Percent(0), u64::MAX, 0),
            (Part::Percent(10_000), u64::MAX, u64::MAX),
            (Part::Amount(Bytes::new(7)), 5, 7),
        ] {
            assert_eq!(part.of(Bytes::new(of)), Bytes::new(found), "{part:?}");
        }
    }
}
