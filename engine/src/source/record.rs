//! Saves a host as a recorded machine: a directory that `--root` reads.
//!
//! ```text
//! View (the host at one moment) -> Tree (texts and links, reduced) -> Target (below DIR only)
//! ```
//!
//! Everything is read before anything is written, so that writing cannot disturb the readings.

mod gather;
mod origin;
mod reduce;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::live_clock;
use super::root::{self, Moment, Overlay};
use super::{HostReader, SysRoot};
use crate::error::SourceError;
use crate::sample::Instant;
use target::Target;
use tree::{Entry, MAX_BYTES, MAX_ENTRIES, Tree};
use view::View;

/// Longer windows than this are a mistake, not a measurement.
const LONGEST: Duration = Duration::from_secs(60);

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The number of files and links that were written.
    pub files: usize,
    /// The bytes of all files.
    pub bytes: u64,
    /// Whether both readings are there. Without the second one CPU load is unknown.
    pub second_moment: bool,
    /// What a person should know: files that could not be read and were left out, a host that
    /// changed meanwhile.
    pub notes: Vec<String>,
}

/// Why a host could not be recorded. Nothing of the recording is left then.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// The host could not be read.
    Source {
        /// The root that was read.
        root: PathBuf,
        /// On which file, and why.
        source: SourceError,
    },
    /// A path of a recorded machine is a link that leads out of it: not followed, since what is
    /// recorded is handed on.
    Outside {
        /// The path.
        path: PathBuf,
    },
    /// More than any machine has to tell.
    TooMuch {
        /// The root that was read.
        root: PathBuf,
        /// How many files were accepted.
        files: usize,
        /// How many bytes were accepted.
        bytes: usize,
    },
    /// The directory to record into has something in it.
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// What should be the directory to record into is a link or no directory.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The recording could not be written.
    Write {
        /// What was done: "make the directory", "write", ...
        attempted: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { root, .. } => write!(f, "cannot record the machine {}", root.display()),
            Self::Outside { path } => write!(
                f,
                "{}: expected a file of the recorded machine, found a link that leads out of it",
                path.display()
            ),
            Self::TooMuch { root, files, bytes } => write!(
                f,
                "cannot record the machine {}: expected at most {files} files and {bytes} bytes, \
                 found more",
                root.display()
            ),
            Self::NotEmpty { path } => write!(
                f,
                "cannot record into {}: expected a directory that is empty or does not exist, \
                 found something in it",
                path.display()
            ),
            Self::NotADirectory { path } => write!(
                f,
                "cannot record into {}: expected a directory, found a link or something else",
                path.display()
            ),
            Self::Write { attempted, path, .. } => {
                write!(f, "cannot {attempted} {}", path.display())
            }
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source { source, .. } => Some(source),
            Self::Write { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Saves a host as a recorded machine in `dir`, which must be empty or not exist.
///
/// Written as plain text, sorted, the same bytes for the same host: `sys/` and `proc/` with the
/// files placer reads or hwloc needs, the changes of the second reading under `next/` (and in
/// `next/.removed`), `clock`, `node-order`, and an `ORIGIN.md` to be completed by hand. The long
/// lines of `/proc/stat` are cut to their sums; of `/proc/cpuinfo` and `/proc/self/status` only
/// what names the model and the limits is kept; of control groups their limits, each group under
/// the name `x`. No names of hosts, users or control groups, no
/// serial numbers, no hardware addresses, no kernel command line.
///
/// The live host is read twice, `window` apart (at most a minute); with a window of zero once, and
/// its CPU load stays unknown. A recorded machine has both readings in it: they are copied, and
/// the copy answers as the original does.
/// Errors: the host has no nodes or a file of its topology cannot be read; `dir` is in use or
/// cannot be written; more than 400,000 files or 256 MiB. What was written is removed again.
///
/// ```
/// use std::{fs, time::Duration};
/// use placer_engine::{Snapshot, SysRoot, source::record::record};
/// let tmp = tempfile::tempdir()?;
/// let machine = tmp.path().join("machine");
/// let node = machine.join("sys/devices/system/node/node0");
/// fs::create_dir_all(&node)?;
/// fs::create_dir(machine.join("proc"))?;
/// fs::write(node.join("cpulist"), "0-3\n")?;
/// fs::write(node.join("distance"), "10\n")?;
/// fs::write(node.join("meminfo"), "Node 0 MemTotal: 1024 kB\nNode 0 MemFree: 512 kB\n")?;
/// fs::write(machine.join("proc/stat"), "cpu0 0 0 0 100\n")?;
///
/// let copy = tmp.path().join("copy");
/// let recorded = record(&SysRoot::at(&machine), &copy, Duration::ZERO)?;
/// assert_eq!((recorded.files, recorded.second_moment), (7, false));
/// let snapshot = Snapshot::take(&SysRoot::at(&copy), Duration::ZERO)?;
/// assert_eq!(snapshot.nodes()[0].memory_free.map(|m| m.whole_kib()), Some(512));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn record(root: &SysRoot, dir: &Path, window: Duration) -> Result<Recorded, RecordError> {
    let broken = |source| RecordError::Source { root: root.dir().to_owned(), source };
    let mut target = Target::open(dir)?;
    let mut reader = HostReader::open(root).map_err(broken)?;
    let readings = Readings::take(root, window)?;
    let has_changed = reader.has_changed().map_err(broken)?;

    let Readings { first, second, clock, has_load } = readings;
    let mut beside = second.map(|second| next(&first, &second, has_load)).unwrap_or_default();
    let gap = clock.map(|(from, to)| to.saturating_sub(from));
    if let (Some((from, _)), Some(gap)) = (clock, gap) {
        beside.insert("clock".to_owned(), format!("{from} {gap}\n").into_bytes());
    }
    let order: Vec<String> = reader.files().nodes.iter().map(|n| n.id.to_string()).collect();
    beside.insert("node-order".to_owned(), format!("{}\n", order.join(" ")).into_bytes());
    let gap = gap.filter(|_| has_load);
    let origin = origin::text(&first, reader.files(), root.is_live(), gap);
    beside.insert("ORIGIN.md".to_owned(), origin.into_bytes());

    let mut recorded = Recorded { files: 0, bytes: 0, second_moment: has_load, notes: Vec::new() };
    for (path, entry) in first.entries() {
        match entry {
            Entry::Dir => target.make_dir(path)?,
            Entry::Text(text) => recorded.count(target.write(path, text)?),
            Entry::Link(to) => {
                target.link(path, to)?;
                recorded.count(0);
            }
        }
    }
    for (path, text) in &beside {
        recorded.count(target.write(path, text)?);
    }
    target.keep();
    recorded.notes = first.into_notes();
    if has_changed {
        recorded.notes.push("CPUs or nodes came or went while the machine was recorded".to_owned());
    }
    Ok(recorded)
}

impl Recorded {
    fn count(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Returns what lies under `next/`: the texts that differ at the second moment, by their path.
fn next(first: &Tree, second: &Tree, has_load: bool) -> BTreeMap<String, Vec<u8>> {
    let mut next = BTreeMap::new();
    for (path, text) in first.changed(second) {
        next.insert(format!("next/{path}"), text.to_vec());
    }
    if has_load {
        // Even where nothing changed: without it there is no second reading.
        let stat = second.text("proc/stat").unwrap_or_default();
        next.insert("next/proc/stat".to_owned(), stat.to_vec());
    }
    let removed = first.removed(second);
    if !removed.is_empty() {
        let lines: String = removed.iter().map(|path| format!("{path}\n")).collect();
        next.insert("next/.removed".to_owned(), lines.into_bytes());
    }
    next
}

/// A host at both moments.
struct Readings {
    first: Tree,
    /// `None` when there is only one reading.
    second: Option<Tree>,
    /// When the CPU counters were read, in hundredths of a second.
    clock: Option<(u64, u64)>,
    has_load: bool,
}

impl Readings {
    /// Reads what changes last at the first moment and first at the second one, so that the window
    /// is between the counters and not between everything else.
    fn take(root: &SysRoot, window: Duration) -> Result<Self, RecordError> {
        let live = root.is_live();
        let broken = |source| RecordError::Source { root: root.dir().to_owned(), source };
        let overlay =
            if live { Overlay::default() } else { Overlay::read(root).map_err(broken)? };

        let view = View::new(root, None)?;
        let mut first = Tree::default();
        gather::structure(&view, &mut first)?;
        let from = now(root, Moment::First).map_err(broken)?.centiseconds();
        gather::counters(&view, &mut first)?;
        first.drop_dangling_links();
        if live && window.is_zero() {
            return Ok(Self { first, second: None, clock: None, has_load: false });
        }
        if live {
            std::thread::sleep(window.min(LONGEST));
        }

        let view = View::new(root, (!live).then_some(&overlay))?;
        let mut second = Tree::default();
        let to = now(root, Moment::Second).map_err(broken)?.centiseconds();
        gather::counters(&view, &mut second)?;
        gather::structure(&view, &mut second)?;
        second.drop_dangling_links();
        let has_load = live || overlay.has_stat;
        Ok(Self { first, second: Some(second), clock: Some((from, to)), has_load })
    }
}

fn now(root: &SysRoot, moment: Moment) -> Result<Instant, SourceError> {
    if root.is_live() { live_clock() } else { root::recorded_clock(root, moment) }
}

fn too_much(root: &SysRoot) -> RecordError {
    let root = root.dir().to_owned();
    RecordError::TooMuch { root, files: MAX_ENTRIES, bytes: MAX_BYTES }
}
