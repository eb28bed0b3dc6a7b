//! What is being moved, and what was there before: written before the first change.

use placer_engine::claims::ProcessId;
use placer_engine::{CpuSet, NodeSet};
use serde::{Deserialize, Serialize};

/// The version of the file.
const VERSION: u32 = 1;

/// The last plan that was carried out, or is being carried out, what is still judged of the plans before, and the
/// guests that are left alone since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// The boot it is of: no process outlives that.
    boot: String,
    /// The moves, in order.
    pub moves: Vec<Record>,
    /// Guests that are left alone for a while.
    pub kept: Vec<Kept>,
    /// Guests of earlier plans, and when they were moved.
    #[serde(default)]
    pub rested: Vec<Rested>,
}

/// A guest of an earlier plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rested {
    /// Its process.
    pub guest: ProcessId,
    /// When its move was finished, in seconds since boot.
    pub finished_s: f64,
    /// The nodes that it left; if it was put back, those where it could not stay.
    #[serde(default, with = "list")]
    pub left: NodeSet,
}

/// How long guests of earlier plans are known, in seconds: what placer manages does not go back meanwhile.
const KNOWN_S: f64 = 7.0 * 86_400.0;
/// The newest of them that are known.
const MOST_KNOWN: usize = 2_048;

/// One guest's move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The guest's process, as it is seen from here.
    pub guest: ProcessId,
    /// Its program.
    pub program: String,
    /// Its claims before.
    pub claims: Vec<ClaimBefore>,
    /// Moves of one group are made together or not at all.
    pub group: usize,
    /// Whether it is of a plan before the last one.
    #[serde(default)]
    pub is_earlier: bool,
    /// The nodes of its threads and memory before.
    #[serde(with = "list")]
    pub from: NodeSet,
    /// The nodes after.
    #[serde(with = "list")]
    pub to: NodeSet,
    /// The CPUs of its threads after.
    #[serde(with = "list")]
    pub cpus: CpuSet,
    /// The CPUs of its threads before.
    pub threads: Vec<Threads>,
    /// Its own control group, where placer or libvirt made one that holds it to CPUs or nodes.
    pub cage: Option<Cage>,
    /// Where its memory was.
    pub source: Vec<Share>,
    /// Where its memory is to be.
    pub target: Vec<Share>,
    /// Memory that cannot be moved.
    pub pinned: Vec<Share>,
    /// Bytes to move; 0: only its threads move, to memory that cannot.
    pub memory: u64,
    /// Its slowdown before.
    pub slowdown: f64,
    /// How far it is.
    pub phase: Phase,
    /// Bytes that were moved, and that stayed elsewhere although they should not.
    pub moved: u64,
    /// See `moved`.
    pub stayed: u64,
    /// Seconds since boot at which it was finished.
    pub finished_s: Option<f64>,
    /// Why it was put back or left out.
    pub why: Option<String>,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was changed yet.
    Planned,
    /// It is being moved.
    Moving,
    /// It was moved.
    Moved,
    /// It is being put back.
    Returning,
    /// It is where it was.
    Returned,
    /// Nothing was changed, or the guest has ended.
    Dropped,
}

/// Threads that had the same CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threads {
    /// Their CPUs.
    #[serde(with = "list")]
    pub cpus: CpuSet,
    /// The threads.
    pub ids: Vec<u32>,
}

/// The control group of a guest, as placer wrote it, or as libvirt did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cage {
    /// Its directory.
    pub dir: String,
    /// `cpuset.cpus` before; empty where it holds nothing.
    pub cpus: String,
    /// `cpuset.mems` before; empty where it holds nothing.
    pub mems: String,
    /// Whose it is, where libvirt runs the guest: its lists are those of virsh then, and changed by virsh alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<LibvirtGuest>,
}

/// A guest of `qemu:///system`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibvirtGuest {
    /// Its name.
    pub name: String,
    /// Its uuid.
    pub uuid: String,
}

/// A claim of a guest before its move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimBefore {
    /// The claim.
    pub id: u32,
    /// What was promised: node, bytes, hundredths of CPUs.
    pub promised: Vec<(u32, u64, u64)>,
    /// The CPUs that its threads share.
    #[serde(with = "list")]
    pub roaming: CpuSet,
}

/// Memory on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The node.
    pub node: u32,
    /// Bytes.
    pub bytes: u64,
}

/// A guest that is not moved for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its process.
    pub guest: ProcessId,
    /// Until when, in seconds since boot.
    pub until_s: f64,
    /// Why, as half a sentence.
    pub why: String,
}

impl Journal {
    /// Returns one without moves, of this boot.
    pub fn new(boot: &str) -> Self {
        Self { version: VERSION, boot: boot.to_owned(), ..Self::default() }
    }

    /// Reads the file; one of an earlier boot says nothing about the processes of now.
    ///
    /// Errors: it is damaged, or of another version.
    pub fn parse(text: &[u8], boot: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if read.version != VERSION {
            return Err(format!("expected version {VERSION}, found {}", read.version));
        }
        Ok(if read.boot == boot { read } else { Self::new(boot) })
    }

    /// Returns the text of the file.
    pub fn to_text(&self) -> Vec<u8> {
        // Numbers, strings and lists always have a form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Returns whether a run ended in the middle of its moves.
    pub fn is_unfinished(&self) -> bool {
        let open = |record: &Record| {
            matches!(record.phase, Phase::Planned | Phase::Moving | Phase::Returning)
        };
        self.moves.iter().any(open)
    }

    /// Puts the moves of a new plan in place of those of the last one. Moved guests that are still judged keep their
    /// records, with those of their groups, so that they can be put back; unless one of them is moved again.
    pub fn begin(&mut self, moves: Vec<Record>, judged: &[ProcessId], now_s: f64) {
        let groups = |those: &dyn Fn(&Record) -> bool| -> Vec<usize> {
            let those = self.moves.iter().filter(|record| those(record));
            those.map(|record| record.group).collect()
        };
        let is_moved_again = |old: &Record| moves.iter().any(|new| new.guest == old.guest);
        let again = groups(&is_moved_again);
        let judged = groups(&|old| old.phase == Phase::Moved && judged.contains(&old.guest));
        let is_kept = |old: &Record| {
            let group = &old.group;
            old.phase == Phase::Moved && judged.contains(group) && !again.contains(group)
        };
        let old = std::mem::take(&mut self.moves).into_iter();
        let (mut kept, over): (Vec<_>, Vec<_>) = old.partition(is_kept);
        self.rested.extend(over.iter().filter_map(Record::rested));
        self.rested.retain(|rested| now_s - rested.finished_s < KNOWN_S);
        self.rested.drain(..self.rested.len().saturating_sub(MOST_KNOWN));
        // Numbers of groups are of one plan.
        let free = kept.iter().map(|record| record.group + 1).max().unwrap_or(0);
        kept.iter_mut().for_each(|record| record.is_earlier = true);
        let moves = moves.into_iter().map(|new| Record { group: free + new.group, ..new });
        kept.extend(moves);
        self.moves = kept;
    }

    /// Counts what of earlier plans is being put back, with the groups of it, to the last plan: what finishes or takes
    /// back that one has to finish these too.
    pub fn adopt_returning(&mut self) {
        let open = self.moves.iter().filter(|record| record.phase == Phase::Returning);
        let groups: Vec<usize> = open.map(|record| record.group).collect();
        let those = self.moves.iter_mut().filter(|record| groups.contains(&record.group));
        those.for_each(|record| record.is_earlier = false);
    }

    /// Returns the sets of nodes that a guest has left in the last week.
    pub fn left(&self, guest: &ProcessId, now_s: f64) -> Vec<NodeSet> {
        let last = self.moves.iter().filter_map(Record::rested);
        let all = self.rested.iter().cloned().chain(last).filter(|rested| rested.guest == *guest);
        let known = all.filter(|rested| now_s - rested.finished_s < KNOWN_S);
        known.map(|rested| rested.left).filter(|left| !left.is_empty()).collect()
    }

    /// Returns the seconds since a guest was moved last.
    pub fn rested_s(&self, guest: &ProcessId, now_s: f64) -> Option<f64> {
        let last = self.moves.iter().filter(|record| record.guest == *guest);
        let last = last.filter_map(|record| record.finished_s);
        let earlier = self.rested.iter().filter(|rested| rested.guest == *guest);
        let all = last.chain(earlier.map(|rested| rested.finished_s));
        all.map(|at| (now_s - at).max(0.0)).reduce(f64::min)
    }

    /// Leaves a guest alone until a time.
    pub fn keep(&mut self, guest: ProcessId, until_s: f64, why: &str) {
        self.kept.retain(|kept| kept.guest != guest);
        self.kept.push(Kept { guest, until_s, why: why.to_owned() });
    }

    /// Forgets guests whose time is over.
    pub fn forget(&mut self, now_s: f64) {
        self.kept.retain(|kept| kept.until_s > now_s);
    }
}

impl Record {
    /// Returns what is known of it once its time is over.
    fn rested(&self) -> Option<Rested> {
        let left = match self.phase {
            Phase::Moved => self.from.clone(),
            Phase::Returned => self.to.clone(),
            _ => NodeSet::new(),
        };
        Some(Rested { guest: self.guest, finished_s: self.finished_s?, left })
    }

    /// Returns the part of its memory that is to be moved, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a part is not exact")]
    pub(super) fn part_to_move(&self) -> f64 {
        let all: u64 = self.source.iter().chain(&self.pinned).map(|share| share.bytes).sum();
        (self.memory as f64 / all.max(1) as f64).min(1.0)
    }

    /// Returns whether a thread was there before.
    pub(super) fn is_listed(&self, thread: u32) -> bool {
        self.threads.iter().any(|threads| threads.ids.contains(&thread))
    }

    /// Returns the CPUs of a thread before; one that was born since gets those of all.
    pub fn cpus_before(&self, thread: u32) -> CpuSet {
        let found = self.threads.iter().find(|threads| threads.ids.contains(&thread));
        found.map_or_else(
            || {
                let all = self.threads.iter();
                all.fold(CpuSet::new(), |all, threads| all.union(&threads.cpus))
            },
            |threads| threads.cpus.clone(),
        )
    }
}

/// Sets as the kernel writes them: `0-3,8`.
mod list {
    use std::fmt::Display;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(set: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(set)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<placer_engine::IdSet<T>, D::Error>
    where
        T: placer_engine::Id,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            return Ok(placer_engine::IdSet::new());
        }
        crate::definition::parse_list(&text).map_err(D::Error::custom)
    }
}
