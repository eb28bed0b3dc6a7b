//! CPU counters saved between runs, so that a single question need not wait to measure the load.

use serde::{Deserialize, Serialize};

use super::{StateDir, StoreError};
use crate::idset::CpuSet;
use crate::parse;
use crate::parse::stat::IdleTicks;
use crate::sample::{CpuTimes, Instant};

const NAME: &str = "load.json";
/// Version 1 had no `iowait`; such a file counts as none, and is replaced.
const VERSION: u32 = 2;
/// 100,000 CPUs.
const LIMIT: usize = 2 << 20;
/// Counters of this age give the present load; younger ones are too coarse at 100 ticks a
/// second, older ones are about another time.
const YOUNGEST_NS: u64 = 200_000_000;
const OLDEST_NS: u64 = 60_000_000_000;
/// A saved reading is replaced only when it is so old. Two are kept: in a burst of questions the
/// newer one is always too young, and the older one serves.
const REPLACED_AFTER_NS: u64 = 1_000_000_000;

/// The one or two readings of the CPU counters that were saved, newest last.
///
/// ```
/// use placer_engine::{CpuId, CpuTimes, Instant, store::SavedLoad};
/// let at = |cs| CpuTimes::new(Instant::from_centiseconds(cs), [(CpuId(0), cs)]);
/// let mut saved = SavedLoad::default();
/// assert!(saved.keep(&at(100)));
/// assert!(!saved.keep(&at(150))); // the last one is half a second old: it stays
/// assert_eq!(saved.usable(Instant::from_centiseconds(150)), Some(&at(100)));
/// assert_eq!(saved.usable(Instant::from_centiseconds(110)), None); // too young
/// assert_eq!(saved.usable(Instant::from_centiseconds(9_000)), None); // too old
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedLoad {
    readings: Vec<CpuTimes>,
}

/// The file's form. `clock` names what the instants count from: the boot and the time namespace.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    clock: String,
    readings: Vec<Reading>,
}

#[derive(Serialize, Deserialize)]
struct Reading {
    at_ns: u64,
    cpus: String,
    idle: Vec<u64>,
    iowait: Vec<u64>,
}

impl SavedLoad {
    /// Reads what was saved. Readings of another boot or time namespace are none.
    ///
    /// Errors: the file cannot be read. One that is damaged is as good as none, and is replaced.
    pub fn read(dir: &StateDir, clock: &str) -> Result<Self, StoreError> {
        let Some(text) = dir.read(NAME, LIMIT)? else { return Ok(Self::default()) };
        Ok(Self::decode(&text, clock).unwrap_or_default())
    }

    /// Saves the readings.
    pub fn write(&self, dir: &StateDir, clock: &str) -> Result<(), StoreError> {
        dir.replace(NAME, &self.encode(clock), 0o644)
    }

    /// Returns the newest reading that gives the load at `now`.
    pub fn usable(&self, now: Instant) -> Option<&CpuTimes> {
        self.readings.iter().rev().find(|reading| {
            let age = now.since(reading.at());
            age.is_some_and(|ns| ns >= YOUNGEST_NS) && Self::is_recent(reading, now)
        })
    }

    /// Returns whether a reading is of the last minute: the load since then is that of now.
    pub(crate) fn is_recent(reading: &CpuTimes, now: Instant) -> bool {
        now.since(reading.at()).is_some_and(|ns| ns <= OLDEST_NS)
    }

    /// Takes a new reading in, if the last one is old enough. Returns whether anything changed and
    /// is worth saving.
    pub fn keep(&mut self, new: &CpuTimes) -> bool {
        let fresh = self.readings.last().is_some_and(|last| {
            new.at().since(last.at()).is_some_and(|ns| ns < REPLACED_AFTER_NS)
                && last.same_cpus(new)
        });
        if fresh || new.is_empty() {
            return false;
        }
        self.readings.push(new.clone());
        let extra = self.readings.len().saturating_sub(2);
        self.readings.drain(..extra);
        true
    }

    fn encode(&self, clock: &str) -> Vec<u8> {
        let readings = self.readings.iter().map(|times| {
            let cpus: CpuSet = times.iter().map(|(cpu, _)| cpu).collect();
            let (idle, iowait) = times.iter_with_iowait().map(|(_, t)| (t.idle, t.iowait)).unzip();
            Reading { at_ns: times.at().nanoseconds(), cpus: cpus.to_string(), idle, iowait }
        });
        let file = File { version: VERSION, clock: clock.to_owned(), readings: readings.collect() };
        // Numbers and strings always have a form; were it otherwise, nothing is saved.
        serde_json::to_vec(&file).unwrap_or_default()
    }

    fn decode(text: &[u8], clock: &str) -> Option<Self> {
        let file: File = serde_json::from_slice(text).ok()?;
        if file.version != VERSION || file.clock != clock || file.readings.len() > 2 {
            return None;
        }
        let readings = file.readings.into_iter().map(|reading| {
            let cpus: CpuSet = parse::list::parse(reading.cpus.as_bytes()).ok()?;
            let len = reading.idle.len();
            if cpus.len() != u64::try_from(len).ok()? || reading.iowait.len() != len {
                return None;
            }
            let at = Instant::from_nanoseconds(reading.at_ns);
            let ticks = reading.idle.into_iter().zip(reading.iowait);
            let ticks = ticks.map(|(idle, iowait)| IdleTicks { idle, iowait });
            Some(CpuTimes::with_iowait(at, cpus.iter().zip(ticks)))
        });
        Some(Self { readings: readings.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::CpuId;

    fn at(cs: u64) -> CpuTimes {
        let idle = [(CpuId(0), cs), (CpuId(5), 2 * cs)];
        CpuTimes::new(Instant::from_centiseconds(cs), idle)
    }

    #[test]
    fn a_burst_of_questions_does_not_starve_itself() {
        let mut saved = SavedLoad::default();
        let mut waited = 0;
        // A question each 50 ms for ten seconds.
        for cs in (1000..2000).step_by(5) {
            let now = at(cs);
            if saved.usable(now.at()).is_none() {
                waited += 1;
            }
            saved.keep(&now);
        }
        // Only the first four, before anything was 200 ms old.
        assert_eq!(waited, 4);
    }

    #[test]
    fn other_cpus_replace_at_once() {
        let mut saved = SavedLoad::default();
        saved.keep(&at(100));
        let other = CpuTimes::new(Instant::from_centiseconds(110), [(CpuId(0), 1)]);
        assert!(saved.keep(&other));
        assert!(!saved.keep(&CpuTimes::default()));
    }

    #[test]
    fn another_boot_or_a_damaged_file_is_nothing_saved() {
        let mut saved = SavedLoad::default();
        saved.keep(&at(100));
        saved.keep(&at(300));
        let text = saved.encode("boot-1");
        assert_eq!(SavedLoad::decode(&text, "boot-1"), Some(saved));
        assert_eq!(SavedLoad::decode(&text, "boot-2"), None);
        for cut in 0..text.len() {
            assert_eq!(SavedLoad::decode(&text[..cut], "boot-1"), None, "{cut}");
        }
        let text = String::from_utf8(text).expect("JSON");
        let lying = text.replace("\"0,5\"", "\"0-1048575\"");
        assert_eq!(SavedLoad::decode(lying.as_bytes(), "boot-1"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = SavedLoad::decode(&bytes, "");
        }
    }
}
