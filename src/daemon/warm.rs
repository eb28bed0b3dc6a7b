//! The host, kept warm: its load from the sampler, its memory read for the answer, what was promised
//! counted before that.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use placer_engine::claims::{self, Claim, ClaimFile};
use placer_engine::source::{HostReader, SnapshotReader};
use placer_engine::{
    Bytes, Charges, Engine, EngineError, Host, HostParts, Snapshot, SourceError, SysRoot,
};

use crate::report::view::{Sources, View};
use crate::service::notes::Notes;
use crate::service::{counted, look};
use crate::settings;

/// What was read so short a time ago serves another answer, as long as nobody has claimed anything:
/// a flood of questions does not become a flood of readings.
const FRESH: Duration = Duration::from_millis(20);
/// How old packages and huge pages may be when a host is shown.
const PARTS: Duration = Duration::from_secs(1);
/// How long the load of a host is waited for at the start, twice.
const SEEN: Duration = Duration::from_secs(1);
/// The time over which CPU load is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// A host that is kept warm.
pub(super) struct Warm {
    root: SysRoot,
    engine: ArcSwap<Engine>,
    /// Reads the memory alone.
    reader: Mutex<HostReader>,
    all: Cell,
    asked: Cell,
    shown: Mutex<Option<Shown>>,
    ledgers: Vec<PathBuf>,
}

/// A host as it was shown last.
struct Shown {
    parts: Arc<HostParts>,
    /// When the parts were read, and of which host.
    read: Instant,
    host: Arc<Host>,
    /// What the view was made of.
    counted: Arc<Counted>,
    view: Arc<View>,
}

/// The newest figures of one kind. The mutex makes one reader read for all who ask meanwhile.
#[derive(Default)]
struct Cell {
    newest: ArcSwapOption<Counted>,
    turn: Mutex<()>,
}

/// Which guests count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guests {
    All,
    /// Those that placer was asked about: numad's own answers know of no others.
    Asked,
}

/// The host at one moment, with what was promised.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) snapshot: Arc<Snapshot>,
    /// What was promised without the claims of users; `None` where they have none.
    pub(super) host_charges: Option<Charges>,
    /// `None` when they cannot be told.
    pub(super) claims: Option<Vec<Arc<Claim>>>,
    /// Lines of the ledgers that are not understood.
    pub(super) unread: usize,
    /// What is to be said beside an answer, as lines for stderr.
    pub(super) lines: Vec<String>,
    begun: Instant,
    set: settings::Claims,
    stamps: Vec<Option<Stamp>>,
}

/// By which a file that was replaced is told from the one before.
type Stamp = (u64, u64, i64, i64);

impl Warm {
    /// Starts sampling, and waits until the load is known.
    ///
    /// Errors: the host cannot be read.
    pub(super) fn start(root: &SysRoot, set: &settings::Settings) -> Result<Self, EngineError> {
        let engine = start(root, set.daemon.interval)?;
        let place = counted::place(set.claims);
        let own = place.own.as_deref().map(|dir| ClaimFile::open(dir, root));
        let below = place.below.as_ref().map(|(dir, owner)| ClaimFile::open_of(dir, *owner, root));
        let own = own.and_then(Result::ok).map(|file| file.path());
        let below = below.and_then(Result::ok).flatten().map(|file| file.path());
        Ok(Self {
            root: root.clone(),
            engine: ArcSwap::from_pointee(engine),
            reader: Mutex::new(HostReader::open(root)?),
            all: Cell::default(),
            asked: Cell::default(),
            shown: Mutex::default(),
            ledgers: own.into_iter().chain(below).collect(),
        })
    }

    pub(super) fn root(&self) -> &SysRoot {
        &self.root
    }

    /// Samples at another pace from now on.
    ///
    /// Errors: the host cannot be read; then all stays as it was.
    pub(super) fn set_interval(&self, interval: Duration) -> Result<(), EngineError> {
        self.engine.store(Arc::new(start(&self.root, interval)?));
        Ok(())
    }

    /// Returns the sampler.
    pub(super) fn engine(&self) -> Arc<Engine> {
        self.engine.load_full()
    }

    /// Returns the host as the sampler saw it last, read anew where that has failed.
    pub(super) fn measured(&self, pages: Option<Bytes>) -> Result<Snapshot, SourceError> {
        let engine = self.engine.load();
        let newest = engine.snapshot();
        if engine.last_error().is_none() && pages.is_none() {
            return Ok(Snapshot::clone(&newest));
        }
        SnapshotReader::open(&self.root, pages)?.take(newest.before().cloned(), Duration::ZERO)
    }

    /// Reads the memory now.
    pub(super) fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError> {
        if !self.root.is_live() && pages.is_none() {
            // What was recorded stays as it was.
            return Ok(earlier.clone().with_charges(charges));
        }
        if pages.is_some() {
            let mut host = SnapshotReader::open(&self.root, pages)?;
            return host.again(earlier, charges);
        }
        let mut memory = Vec::new();
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.memory(&mut memory)?;
        if reader.has_changed()? {
            // Plugged since: the sampler will see it too, and this answer does not wait for it.
            *reader = HostReader::open(&self.root)?;
            drop(reader);
            let mut host = SnapshotReader::open(&self.root, None)?;
            return host.again(earlier, charges);
        }
        drop(reader);
        Ok(earlier.with_memory(memory).with_charges(charges))
    }

    /// Returns the host now, with what was promised counted before its memory was read.
    pub(super) fn counted(
        &self,
        guests: Guests,
        set: settings::Claims,
    ) -> Result<Arc<Counted>, SourceError> {
        let cell = match guests {
            Guests::All => &self.all,
            Guests::Asked => &self.asked,
        };
        let asked = Instant::now();
        if let Some(counted) = self.good(cell, set, asked) {
            return Ok(counted);
        }
        let _turn = cell.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Who had the turn meanwhile may have read for this question as well.
        if let Some(counted) = self.good(cell, set, asked) {
            return Ok(counted);
        }
        let counted = Arc::new(self.count(guests, set)?);
        cell.newest.store(Some(Arc::clone(&counted)));
        Ok(counted)
    }

    /// Returns what `placer show` would show. Whoever asks for the same figures is shown the same; how
    /// the host is built is read once a second at most.
    pub(super) fn view(&self, counted: &Arc<Counted>) -> Arc<View> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let host = counted.snapshot.host();
        let parts = match &*shown {
            Some(last) if Arc::ptr_eq(&last.counted, counted) => return Arc::clone(&last.view),
            Some(last) if last.read.elapsed() < PARTS && Arc::ptr_eq(&last.host, host) => {
                Some((Arc::clone(&last.parts), last.read))
            }
            _ => None,
        };
        let (parts, read) = parts.unwrap_or_else(|| {
            let parts = HostParts::read(&self.root, counted.snapshot.topology());
            (Arc::new(parts), Instant::now())
        });
        let claims = counted.claims.as_deref();
        let view = Arc::new(View::of(Sources {
            name: &look::name(&self.root),
            snapshot: &counted.snapshot,
            parts: &parts,
            claims,
            owners: &claims::owners(&self.root, claims.unwrap_or_default()),
        }));
        let (host, counted) = (Arc::clone(host), Arc::clone(counted));
        *shown = Some(Shown { parts, read, host, counted, view: Arc::clone(&view) });
        view
    }

    /// Returns what serves a question that was asked at a moment.
    fn good(&self, cell: &Cell, set: settings::Claims, asked: Instant) -> Option<Arc<Counted>> {
        let counted = cell.newest.load_full()?;
        let young = asked.saturating_duration_since(counted.begun) < FRESH;
        (young && counted.set == set && counted.stamps == self.stamps()).then_some(counted)
    }

    fn count(&self, guests: Guests, set: settings::Claims) -> Result<Counted, SourceError> {
        let begun = Instant::now();
        let stamps = self.stamps();
        let mut notes = Notes::default();
        let view = match guests {
            Guests::All => counted::view(&self.root, set, &mut notes),
            Guests::Asked => counted::view_of_asked(&self.root, set, &mut notes),
        };
        let (claims, charges, host_charges, unread) = match view {
            Some(view) => (Some(view.claims), view.charges, view.host_charges, view.unread),
            None => (None, Charges::default(), None, 0),
        };
        let snapshot = Arc::new(self.again(&self.measured(None)?, charges, None)?);
        let lines = notes.take_all();
        Ok(Counted { snapshot, host_charges, claims, unread, lines, begun, set, stamps })
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let stamp = |meta: &Metadata| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
        let of = |path: &PathBuf| std::fs::symlink_metadata(path).ok().as_ref().map(stamp);
        self.ledgers.iter().map(of).collect()
    }
}

impl fmt::Debug for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Starts a sampler, and waits until it has seen the load.
fn start(root: &SysRoot, interval: Duration) -> Result<Engine, EngineError> {
    let engine = Engine::builder(root.clone()).interval(interval).window(WINDOW).start()?;
    if root.is_live() {
        let newer = engine.subscribe();
        for _ in 0..2 {
            if engine.snapshot().before().is_some() {
                break;
            }
            // The second reading comes in a quarter of that; orders of who runs this wait meanwhile.
            let _ = newer.next_within(SEEN);
        }
    }
    Ok(engine)
}
