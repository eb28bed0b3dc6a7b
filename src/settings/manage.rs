//! `[manage]`: which running guests `placer daemon` moves, and when.

use std::fmt;
use std::time::Duration;

use placer_engine::balance::Rules;
use placer_engine::{Bytes, Request};
use toml::de::DeValue;

use super::error::Fault;
use super::section::Section;
use super::{YES_OR_NO, duration, number, whole, yes_or_no};

/// `[manage]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manage {
    /// Whether guests are moved.
    pub enabled: bool,
    /// The guests that may be moved; `None`: all.
    pub guests: Option<Vec<Selector>>,
    /// Those of them that may not.
    pub except: Vec<Selector>,
    /// The time between two looks, over which is measured what guests want.
    pub interval: Duration,
    /// A plan gains at least this many times its cost.
    pub gain: f64,
    /// And at least this part of what the moved guests take, in percent.
    pub least_gain: u32,
    /// How long a guest stays where it was moved to.
    pub rest: Duration,
    /// The limits of one plan.
    pub guests_per_plan: u32,
    pub memory_per_plan: Bytes,
    /// Bytes moved in a second.
    pub rate: Bytes,
    /// The part of the time that tasks wait for memory, in percent, above which no plan is begun.
    pub pressure: u32,
}

/// Guests that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The user of their process.
    Uid(u32),
    /// The control group that they are in, or one above it.
    Cgroup(String),
    /// The systemd unit that they are in.
    Unit(String),
    /// The name under which placer launch started them.
    Guest(String),
    /// The program of their process.
    Program(String),
}

impl Default for Manage {
    fn default() -> Self {
        let rules = Rules::default();
        Self {
            enabled: false,
            guests: None,
            except: Vec::new(),
            interval: Duration::from_secs(60),
            gain: rules.gain_per_cost,
            least_gain: 2,
            rest: Duration::from_secs(600),
            guests_per_plan: 8,
            memory_per_plan: Bytes::new(128 << 30),
            rate: Bytes::new(512 << 20),
            pressure: 10,
        }
    }
}

const SELECTORS: &str = "a list of guests, as in [\"uid:1000\", \"cgroup:/machine.slice\", \
                         \"unit:db.service\", \"guest:db1\", \"program:qemu-system-x86_64\"]";

impl Manage {
    pub(super) fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        keys.read("enabled", YES_OR_NO, &mut new.enabled, yes_or_no)?;
        keys.read(
            "guests",
            &format!("\"all\" or {SELECTORS}"),
            &mut new.guests,
            |value| match value.as_str() {
                Some(text) => (text == "all").then_some(None),
                None => selectors(value).map(Some),
            },
        )?;
        keys.read("except", SELECTORS, &mut new.except, selectors)?;
        let interval = "a duration from 1s to 1h in quotes, as in \"1m\"";
        keys.read("interval", interval, &mut new.interval, |value| {
            let time = duration::parse(value.as_str()?).ok()?;
            (Duration::from_secs(1)..=Duration::from_secs(3_600)).contains(&time).then_some(time)
        })?;
        keys.read("gain", "a number from 1 to 1000", &mut new.gain, |value| {
            number(value).filter(|times| (1.0..=1_000.0).contains(times))
        })?;
        keys.read("least-gain", "a whole number from 1 to 100", &mut new.least_gain, |value| {
            up_to(value, 1, 100)
        })?;
        let rest = "a duration of more than 0 and at most a day in quotes, as in \"10m\"";
        keys.read("rest", rest, &mut new.rest, |value| duration::parse_hold(value.as_str()?).ok())?;
        let count = "a whole number from 1 to 16";
        keys.read("guests-per-plan", count, &mut new.guests_per_plan, |value| up_to(value, 1, 16))?;
        let amount = "an amount of memory in quotes, as in \"128G\"";
        keys.read("memory-per-plan", amount, &mut new.memory_per_plan, memory)?;
        let rate = "at least 1 MiB a second in quotes, as in \"512M\"";
        keys.read("rate", rate, &mut new.rate, |value| {
            memory(value).filter(|rate| *rate >= Bytes::new(1 << 20))
        })?;
        keys.read("pressure", "a whole number from 1 to 100", &mut new.pressure, |value| {
            up_to(value, 1, 100)
        })?;
        keys.end()?;
        Ok(new)
    }

    /// Returns the limits of plans; `other` has those that are not set here.
    pub(crate) fn rules(&self, other: &Rules) -> Rules {
        #[expect(clippy::cast_precision_loss, reason = "whole MiB are exact up to 2^73 bytes")]
        let most_mib = self.memory_per_plan.get() as f64 / f64::from(1 << 20);
        Rules {
            gain_per_cost: self.gain,
            least_gain: f64::from(self.least_gain) / 100.0,
            rest_s: self.rest.as_secs_f64(),
            most_guests: usize::try_from(self.guests_per_plan).unwrap_or(1),
            most_mib,
            ..*other
        }
    }
}

fn up_to(value: &DeValue<'_>, least: u32, most: u32) -> Option<u32> {
    u32::try_from(whole(value)?).ok().filter(|number| (least..=most).contains(number))
}

fn memory(value: &DeValue<'_>) -> Option<Bytes> {
    Request::memory_of(value.as_str()?).ok()
}

fn selectors(value: &DeValue<'_>) -> Option<Vec<Selector>> {
    value.as_array()?.iter().map(|one| Selector::parse(one.get_ref().as_str()?)).collect()
}

impl Selector {
    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        let own = || Some(name.to_owned()).filter(|name| !name.contains('/'));
        match kind {
            "uid" => name.parse().ok().map(Self::Uid),
            "cgroup" => {
                let path = name.trim_end_matches('/');
                path.starts_with('/').then(|| Self::Cgroup(path.to_owned()))
            }
            "unit" => own().filter(|name| name.contains('.')).map(Self::Unit),
            "guest" => own().map(Self::Guest),
            "program" => own().map(Self::Program),
            _ => None,
        }
    }

    /// Returns whether a guest is one of these.
    pub(crate) fn takes(&self, uid: Option<u32>, cgroup: &str, program: &str) -> bool {
        let has = |test: &dyn Fn(&str) -> bool| cgroup.split('/').any(test);
        match self {
            Self::Uid(wanted) => uid == Some(*wanted),
            Self::Cgroup(path) => {
                let below = cgroup.strip_prefix(path.as_str());
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Unit(unit) => has(&|part| part == unit),
            // The group that placer makes for a guest is called placer-db1.4711.
            Self::Guest(name) => has(&|part| {
                let rest = part.strip_prefix("placer-").and_then(|rest| rest.strip_prefix(name));
                let pid = rest.and_then(|rest| rest.strip_prefix('.'));
                pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
            }),
            // The kernel cuts names to 15 bytes.
            Self::Program(name) => {
                program == name || program.len() == 15 && name.starts_with(program)
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Cgroup(path) => write!(f, "cgroup:{path}"),
            Self::Unit(name) => write!(f, "unit:{name}"),
            Self::Guest(name) => write!(f, "guest:{name}"),
            Self::Program(name) => write!(f, "program:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_named_by_what_they_have_in_common() {
        let cgroup = "/system.slice/placer@db1.service/placer-db1.4711";
        let takes = |text: &str| {
            let selector = Selector::parse(text).expect("a selector");
            selector.takes(Some(1000), cgroup, "qemu-system-x86")
        };
        for text in [
            "uid:1000",
            "cgroup:/system.slice",
            "cgroup:/system.slice/",
            "cgroup:/system.slice/placer@db1.service/placer-db1.4711",
            "unit:placer@db1.service",
            "guest:db1",
            "program:qemu-system-x86_64",
            "program:qemu-system-x86",
        ] {
            assert!(takes(text), "{text}");
        }
        for text in [
            "uid:0",
            "cgroup:/system",
            "cgroup:/machine.slice",
            "unit:db1.service",
            "guest:db",
            "guest:db1.4711",
            "program:qemu",
        ] {
            assert!(!takes(text), "{text}");
        }
        for text in ["", "uid:", "uid:x", "uid:-1", "cgroup:a", "unit:db", "guest:a/b", "pid:7"] {
            assert_eq!(Selector::parse(text), None, "{text}");
        }
        // A user that is not known is none.
        assert!(!Selector::Uid(0).takes(None, "", ""));
    }
}
