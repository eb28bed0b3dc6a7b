//! The plan of a step, in the state directory: a file for each step, which is its lock too.
//!
//! The first rank makes it and writes the places of all; each takes its own, and the last one removes the file. A rank
//! that was killed while it wrote leaves what cannot be read: the next one decides anew. Plans of steps that have
//! ended are removed by those who make one.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use placer_engine::claims::{ClaimId, ProcessId, Processes};
use placer_engine::store::StateDir;
use placer_engine::{CpuSet, NodeSet};
use placer_launcher::MemoryMode;
use serde::{Deserialize, Serialize};

use super::step::Rank;

const PREFIX: &str = "ranks-";
/// 4,096 places of a thousand CPUs take less.
const LARGEST: u64 = 16 << 20;
/// How long the first rank may take to decide.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);
/// Of files that are looked at when a plan is made.
const MOST_FILES: usize = 1024;

/// What the first rank has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedPlan {
    /// The process that started the ranks; `None` where that is not known.
    starter: Option<(ProcessId, u32)>,
    /// A place for each rank; `None` for one that was taken.
    places: Vec<Option<Place>>,
}

/// The place of one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    #[serde(with = "text")]
    pub cpus: CpuSet,
    /// The nodes of its memory.
    #[serde(with = "text")]
    pub memory: NodeSet,
    /// The node of most of it.
    #[serde(with = "text")]
    pub preferred: NodeSet,
    #[serde(with = "text")]
    pub mode: MemoryMode,
    pub threads: u64,
    pub claim: Option<RankClaim>,
}

/// The claim that the first rank has made for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankClaim {
    #[serde(with = "text")]
    pub id: ClaimId,
    /// Whether the host's daemon has it.
    pub by_daemon: bool,
}

/// The plan's file, while this rank has its lock.
pub struct Shared {
    path: PathBuf,
    file: Flock<File>,
}

impl Shared {
    /// Waits for the lock of a step. Ranks of other steps are not waited for.
    ///
    /// Errors: the file cannot be had; another rank has kept it for half a minute.
    pub fn open(dir: &StateDir, rank: &Rank) -> Result<Self, String> {
        let path = dir.path().join(format!("{PREFIX}{}.json", rank.step));
        let until = Instant::now() + PATIENCE;
        loop {
            match lock(&path, true)? {
                Some(file) => return Ok(Self { path, file }),
                None if Instant::now() >= until => {
                    return Err(format!("another rank has kept {} locked", path.display()));
                }
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Returns the plan, if there is one for these ranks: another step of the same name may have left its own.
    pub fn read(&mut self, rank: &Rank, look: &mut Processes) -> Option<SharedPlan> {
        let plan = read(&mut self.file)?;
        let is_ended = plan.has_ended(look);
        (!is_ended && plan.places.len() == rank.count).then_some(plan)
    }

    /// Writes what the first rank has decided, and removes plans of steps that have ended.
    ///
    /// Errors: the file cannot be written.
    pub fn write(&mut self, plan: &SharedPlan) -> Result<(), String> {
        let error =
            |error: std::io::Error| format!("cannot write {}: {error}", self.path.display());
        let text = serde_json::to_vec(plan).map_err(|e| error(e.into()))?;
        // What is behind the new text is not read: a rank that is killed here leaves one of the two plans.
        self.file.write_all_at(&text, 0).map_err(error)?;
        self.file.set_len(text.len() as u64).map_err(error)
    }

    /// Removes the file: all have taken their places, or nothing could be decided.
    pub fn remove(self) {
        // Before the lock is let go of: the next step makes a file of its own.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Removes the plans of steps that have ended.
    pub fn sweep(&self, look: &mut Processes) {
        let Some(entries) = self.path.parent().and_then(|dir| std::fs::read_dir(dir).ok()) else {
            return;
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let is_plan = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(PREFIX) && *path != self.path
        };
        for path in paths.filter(is_plan).take(MOST_FILES) {
            // What is locked is in use.
            let Ok(Some(mut file)) = lock(&path, false) else { continue };
            if read(&mut file).is_none_or(|plan| plan.has_ended(look)) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

impl SharedPlan {
    pub fn new(rank: &Rank, places: Vec<Place>) -> Self {
        let starter = rank.starter.map(|starter| (starter.process, starter.pid));
        Self { starter, places: places.into_iter().map(Some).collect() }
    }

    /// Takes the place of a rank, or the one of another that is nearer to its device: places are alike. `None` where
    /// its place was taken: it has been started before.
    pub fn take(&mut self, rank: usize, is_near: impl Fn(&Place) -> bool) -> Option<Place> {
        let own = self.places.get(rank)?.as_ref()?;
        if !is_near(own) {
            let nearer = |place: &Option<Place>| place.as_ref().is_some_and(&is_near);
            if let Some(other) = self.places.iter().position(nearer) {
                self.places.swap(rank, other);
            }
        }
        self.places[rank].take()
    }

    pub fn is_all_taken(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    fn has_ended(&self, look: &mut Processes) -> bool {
        self.starter.is_some_and(|(process, pid)| look.identify(pid) != Some(process))
    }
}

/// Locks the file, and finds out that the name still leads to it. `None` where another has the lock.
fn lock(path: &Path, create: bool) -> Result<Option<Flock<File>>, String> {
    let error = |error: std::io::Error| format!("cannot use {}: {error}", path.display());
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut options = File::options();
    options.read(true).write(true).create(create).mode(0o600).custom_flags(flags);
    let file = options.open(path).map_err(error)?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(error(errno.into())),
    };
    let about = file.metadata().map_err(error)?;
    if !about.is_file() {
        return Err(format!("{}: expected an ordinary file", path.display()));
    }
    // Another rank may have removed it meanwhile.
    let is_named = std::fs::symlink_metadata(path).is_ok_and(|named| named.ino() == about.ino());
    Ok(is_named.then_some(file))
}

/// Reads a plan; `None` where there is none, or a damaged one.
fn read(file: &mut File) -> Option<SharedPlan> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    serde_json::Deserializer::from_slice(&text).into_iter().next()?.ok()
}

/// Values as people write them.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'a, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'a>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ranks::Starter;

    fn rank(count: usize, starter: Option<Starter>) -> Rank {
        Rank { local: 0, count, by: "a test", step: "5e7".to_owned(), starter }
    }

    fn places(count: u32) -> Vec<Place> {
        let place = |at: u32| Place {
            cpus: format!("{at}").parse().expect("CPUs"),
            memory: format!("{at}").parse().expect("nodes"),
            preferred: NodeSet::new(),
            mode: MemoryMode::Strict,
            threads: 1,
            claim: None,
        };
        (0..count).map(place).collect()
    }

    fn any(_: &Place) -> bool {
        true
    }

    #[test]
    fn a_plan_is_found_by_the_others_and_ends_with_the_last() {
        let made = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(made.path()).expect("a directory");
        let mut look = Processes::look().expect("/proc");
        let me = std::process::id();
        let starter = look.identify(me).map(|process| Starter { process, pid: me });
        let rank = rank(2, starter);

        let mut shared = Shared::open(&dir, &rank).expect("locked");
        assert_eq!(shared.read(&rank, &mut look), None);
        let mut plan = SharedPlan::new(&rank, places(2));
        assert!(plan.take(0, any).is_some());
        shared.write(&plan).expect("written");
        drop(shared);

        let mut shared = Shared::open(&dir, &rank).expect("locked");
        let mut plan = shared.read(&rank, &mut look).expect("a plan");
        // It has been started before.
        assert_eq!(plan.take(0, any), None);
        assert_eq!(plan.take(1, any), places(2).pop());
        assert!(plan.is_all_taken());
        shared.remove();
        assert_eq!(std::fs::read_dir(made.path()).expect("read").count(), 0);
    }

    #[test]
    fn what_was_left_behind_is_no_plan() {
        let made = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(made.path()).expect("a directory");
        let mut look = Processes::look().expect("/proc");
        let me = look.identify(std::process::id()).expect("a process");
        let gone = Starter { process: ProcessId { start: me.start - 1, ..me }, pid: me.pid };
        let ended = rank(1, Some(gone));
        let mut shared = Shared::open(&dir, &ended).expect("locked");
        shared.write(&SharedPlan::new(&ended, places(1))).expect("written");
        assert_eq!(shared.read(&ended, &mut look), None, "its starter has ended");
        // Another number of ranks.
        let more = rank(2, None);
        shared.write(&SharedPlan::new(&rank(1, None), places(1))).expect("written");
        assert_eq!(shared.read(&more, &mut look), None);
        // Killed while it wrote.
        let text = serde_json::to_vec(&SharedPlan::new(&more, places(2))).expect("text");
        for length in 0..text.len() {
            shared.file.set_len(0).expect("emptied");
            shared.file.write_all_at(&text[..length], 0).expect("written");
            assert_eq!(shared.read(&more, &mut look), None, "{length} bytes");
        }
        // Killed before it cut off the rest of a longer plan.
        shared.file.write_all_at(&[&text[..], b"1,2,3]}"].concat(), 0).expect("written");
        assert_eq!(shared.read(&more, &mut look), Some(SharedPlan::new(&more, places(2))));
    }

    #[test]
    fn plans_of_ended_steps_are_swept_up_and_others_stay() {
        let made = tempfile::tempdir().expect("a directory");
        let dir = StateDir::open(made.path()).expect("a directory");
        let mut look = Processes::look().expect("/proc");
        let me = look.identify(std::process::id()).expect("a process");
        let file = |name: &str, starter: ProcessId| {
            let rank = Rank {
                step: name.to_owned(),
                ..rank(1, Some(Starter { process: starter, pid: me.pid }))
            };
            let mut shared = Shared::open(&dir, &rank).expect("locked");
            shared.write(&SharedPlan::new(&rank, places(1))).expect("written");
            shared
        };
        let gone = ProcessId { start: me.start - 1, ..me };
        drop(file("ended", gone));
        let used = file("used", gone);
        drop(file("runs", me));
        file("own", me).sweep(&mut look);
        let mut left: Vec<String> = std::fs::read_dir(made.path())
            .expect("read")
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        left.sort();
        assert_eq!(left, ["ranks-own.json", "ranks-runs.json", "ranks-used.json"]);
        drop(used);
    }

    #[test]
    fn a_rank_takes_the_place_that_is_near_its_device() {
        let mut plan = SharedPlan::new(&rank(3, None), places(3));
        let near = |node: &'static str| move |place: &Place| place.memory.to_string() == node;
        assert_eq!(
            plan.take(1, near("2")).map(|place| place.cpus.to_string()),
            Some("2".to_owned())
        );
        // Rank 2 has what rank 1 left; no place is near node 7.
        assert_eq!(
            plan.take(2, near("7")).map(|place| place.cpus.to_string()),
            Some("1".to_owned())
        );
        assert_eq!(plan.take(0, any).map(|place| place.cpus.to_string()), Some("0".to_owned()));
    }
}
