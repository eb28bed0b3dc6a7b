//! The settings of a host: `/etc/placer.toml`, or the file that `--config` names.
//!
//! Weakest first: what is built in, this file, variables, flags. A key that is not known is an
//! error, since a slip would else be a setting that silently does nothing.

mod choice;
mod daemon;
pub mod duration;
mod error;
mod file;
mod manage;
pub(crate) mod numad_version;
mod runtime;
mod section;
mod suggest;
pub mod variables;

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use placer_engine::claims::Overcommit;
use placer_engine::policy::best::Rules;
use placer_engine::policy::cache;
use placer_engine::policy::numad::Version;
use placer_engine::{Bytes, NodeSet};
use toml::de::{DeTable, DeValue};

#[cfg(test)]
use daemon::Part;
pub use daemon::{Daemon, Level};
use error::Fault;
pub use error::SettingsError;
use file::Trust;
pub use manage::{Manage, Selector};
use section::Section;

pub use choice::{CacheName, CoresName, PolicyName, PreferName, nodes, pages};
pub use numad_version::NumadVersion;
pub use runtime::{PlaceName, Runtime};

/// The file that counts when none is named.
const PLACE: &str = "/etc/placer.toml";

/// All that can be set for a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub advise: Advise,
    pub claims: Claims,
    pub numad: Numad,
    pub runtime: Runtime,
    pub manage: Manage,
    pub daemon: Daemon,
}

/// `[advise]`: what `placer advise` takes where no variable and no flag says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Advise {
    pub policy: PolicyName,
    pub window: Duration,
    pub within: Option<NodeSet>,
    pub memory_bound: f64,
    pub smt_percent: u32,
    pub prefer: PreferName,
    pub cache: CacheName,
    pub cache_penalty: u32,
    pub cores: CoresName,
    pub effort: Option<u64>,
    pub machine_wide: bool,
    pub hold: Option<Duration>,
    pub strict: bool,
}

/// `[claims]`: how claims count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claims {
    pub overcommit: Overcommit,
    /// How long what is advised by numad's name is held for the guest to appear.
    pub hold: Duration,
}

/// `[numad]`: what is done by numad's name beyond what numad does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numad {
    /// The version of numad that is replaced, and compared with.
    pub version: NumadVersion,
    pub policy: PolicyName,
    pub hold: Hold,
    pub pages: Option<Bytes>,
    /// `None`: saved counters if they serve, else the built-in time.
    pub window: Option<Duration>,
}

/// Whether advice by numad's name is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hold {
    /// It is forgotten at once, as numad does.
    None,
    /// It is held until the guest appears that it was asked for, or the time is over.
    Adopt,
}

impl Default for Advise {
    fn default() -> Self {
        let Rules { memory_bound, effort, smt_percent, .. } = Rules::default();
        Self {
            policy: PolicyName::Best,
            window: Duration::from_millis(100),
            within: None,
            memory_bound,
            smt_percent,
            prefer: PreferName::Room,
            cache: CacheName::Prefer,
            cache_penalty: cache::Rules::default().penalty_percent,
            cores: CoresName::Any,
            effort,
            machine_wide: false,
            hold: None,
            strict: false,
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self { overcommit: Overcommit::default(), hold: Duration::from_secs(30) }
    }
}

impl Default for Numad {
    fn default() -> Self {
        Self {
            version: NumadVersion::Auto,
            policy: PolicyName::Numad,
            hold: Hold::None,
            pages: None,
            window: None,
        }
    }
}

impl Settings {
    /// Reads the named file, or the host's if there is one.
    ///
    /// Errors: the named file is not there; a file cannot be trusted, read or understood.
    pub fn read(named: Option<&Path>) -> Result<Self, SettingsError> {
        let (path, trust) = place(named);
        let read = || match file::read(path, trust)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        };
        read().map_err(|fault: Fault| fault.in_file(path))
    }

    /// Returns `[runtime] real` as [`read`](Self::read) finds it, whatever is wrong with the rest of the file; `None`
    /// where it is not set, or the file cannot be trusted or read.
    pub fn read_real(named: Option<&Path>) -> Option<String> {
        let (path, trust) = place(named);
        let text = file::read(path, trust).ok()??;
        let (table, _) = DeTable::parse_recoverable(&text);
        Runtime::real_of(Section::all(&text, table.get_ref()).section("runtime").ok()?)
    }

    /// Returns the version of numad in force. A variable that is no version is passed over.
    pub fn numad_version(&self) -> Version {
        let set = self.numad.version;
        set.or_variable().unwrap_or(set).in_force()
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Fault::at(text, at, error.message().trim_end().replace('\n', ", "))
        })?;
        let mut file = Section::all(text, table.get_ref());
        let settings = Self {
            advise: Advise::of(file.section("advise")?)?,
            claims: Claims::of(file.section("claims")?)?,
            numad: Numad::of(file.section("numad")?)?,
            runtime: Runtime::of(file.section("runtime")?)?,
            manage: Manage::of(file.section("manage")?)?,
            daemon: Daemon::of(file.section("daemon")?)?,
        };
        file.end()?;
        Ok(settings)
    }
}

fn place(named: Option<&Path>) -> (&Path, Trust) {
    match named {
        Some(path) => (path, Trust::Named),
        None => (Path::new(PLACE), Trust::Found),
    }
}

const WINDOW: &str = "a duration in quotes, as in \"100ms\"";
const YES_OR_NO: &str = "true or false";

impl Advise {
    fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        let policies = "\"best\", \"numad\", \"numad-2015\" or \"numad-2025\"";
        keys.read("policy", policies, &mut new.policy, name)?;
        keys.read("window", WINDOW, &mut new.window, |value| {
            duration::parse(value.as_str()?).ok()
        })?;
        let nodes = "a list of nodes in quotes, as in \"0-1,3\", or \"all\"";
        keys.read("within", nodes, &mut new.within, |value| {
            optional(value, "all", |list| choice::nodes(list).ok())
        })?;
        keys.read("memory-bound", "a number from 0 to 1", &mut new.memory_bound, |value| {
            number(value).filter(|part| (0.0..=1.0).contains(part))
        })?;
        let percent = "a whole number from 0 to 100";
        keys.read("smt-percent", percent, &mut new.smt_percent, |value| {
            u32::try_from(whole(value)?).ok().filter(|percent| *percent <= 100)
        })?;
        keys.read("prefer", "\"room\" or \"pack\"", &mut new.prefer, name)?;
        let modes = "\"prefer\", \"require\", \"largest\" or \"ignore\"";
        keys.read("cache", modes, &mut new.cache, name)?;
        let percent = "a whole number from 0 to 1000";
        keys.read("cache-penalty", percent, &mut new.cache_penalty, |value| {
            u32::try_from(whole(value)?).ok().filter(|percent| *percent <= 1000)
        })?;
        keys.read("cores", "\"any\", \"fast\" or \"efficient\"", &mut new.cores, name)?;
        keys.read("effort", "a number of steps, or \"auto\"", &mut new.effort, |value| {
            whole(value).map(Some).or_else(|| optional(value, "auto", |_| None))
        })?;
        keys.read("machine-wide", YES_OR_NO, &mut new.machine_wide, yes_or_no)?;
        let hold = "a duration of at most a day in quotes, as in \"30s\", or \"0\"";
        keys.read("hold", hold, &mut new.hold, |value| {
            optional(value, "0", |time| duration::parse_hold(time).ok())
        })?;
        keys.read("strict", YES_OR_NO, &mut new.strict, yes_or_no)?;
        keys.end()?;
        Ok(new)
    }

    /// What is set about policy `best`.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            memory_bound: self.memory_bound,
            prefer: self.prefer.into(),
            effort: self.effort,
            smt_percent: self.smt_percent,
        }
    }
}

impl Claims {
    fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        keys.read("overcommit", "a number from 1 to 100", &mut new.overcommit, |value| {
            Overcommit::new(number(value)?)
        })?;
        let time = "a duration of more than 0 and at most a day in quotes, as in \"30s\"";
        keys.read("hold", time, &mut new.hold, |value| duration::parse_hold(value.as_str()?).ok())?;
        keys.end()?;
        Ok(new)
    }
}

impl Numad {
    fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        keys.read("version", "\"auto\", \"2015\" or \"2025\"", &mut new.version, name)?;
        // Which numad is a key of its own.
        keys.read("policy", "\"numad\" or \"best\"", &mut new.policy, |value| {
            name(value).filter(|policy| matches!(policy, PolicyName::Best | PolicyName::Numad))
        })?;
        keys.read("hold", "\"none\" or \"adopt\"", &mut new.hold, name)?;
        let pages = "a size of huge pages in quotes, as in \"2M\", or \"none\"";
        keys.read("pages", pages, &mut new.pages, |value| {
            optional(value, "none", |size| choice::pages(size).ok())
        })?;
        let window = format!("{WINDOW}, or \"auto\"");
        keys.read("window", &window, &mut new.window, |value| {
            optional(value, "auto", |time| duration::parse(time).ok())
        })?;
        if new.pages.is_some() && new.policy == PolicyName::Numad {
            let why =
                "expected policy = \"best\" beside it: numad's rules do not support huge pages";
            if let Some(fault) = keys.refuse("pages", why) {
                return Err(fault);
            }
        }
        keys.end()?;
        Ok(new)
    }
}

/// Reads one of the names that a flag takes.
fn name<T: ValueEnum>(value: &DeValue<'_>) -> Option<T> {
    T::from_str(value.as_str()?, false).ok()
}

/// Reads a text, of which one says that there is nothing.
fn optional<T>(
    value: &DeValue<'_>,
    nothing: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<Option<T>> {
    match value.as_str()? {
        text if text == nothing => Some(None),
        text => read(text).map(Some),
    }
}

fn yes_or_no(value: &DeValue<'_>) -> Option<bool> {
    value.as_bool()
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Reads a number, with a decimal point or without.
fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        value => u32::try_from(whole(value)?).ok().map(f64::from),
    }
}

#[cfg(test)]
mod tests;
