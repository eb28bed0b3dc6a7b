//! What is read for the screen: snapshots by the engine, the rest in a thread beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use placer_engine::claims::{Claim, ClaimDirs, ClaimId, Claims, Overcommit, Processes, owners};
use placer_engine::policy::Policy;
use placer_engine::source::HostReader;
use placer_engine::{Bytes, Charges, HostParts, NodeId, Request, SysRoot, Topology};

use crate::model::Around;
use placer::protocol::top::Options;
use placer::report::balance::StepForm;
use placer::service::running::worth_moving;
use placer::settings::Settings;

/// Where a guest's memory is is read for one guest at a time and not more often than this: the kernel
/// holds the guest up meanwhile, for ms where it is large.
const REST: Duration = Duration::from_secs(10);
/// Packages, huge pages and guests are looked at at most that often.
const SHORTEST: Duration = Duration::from_secs(1);
/// What is worth moving is looked for no more often: that takes up to 2 s on a host with many guests.
const MOVES: Duration = Duration::from_secs(60);
const FIRST_MOVES: Duration = Duration::from_secs(3);
/// Root's claims, which every user's advice counts.
const ROOTS: &str = "/run/placer";

/// What was found, with what it takes from the nodes.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) around: Around,
    pub(crate) charges: Charges,
}

/// Looks around once, to begin with.
pub(crate) fn first(options: &Options, root: &SysRoot) -> (Watcher, Found) {
    let mut watcher = Watcher::new(options, root.clone());
    let found = watcher.look();
    (watcher, found)
}

/// Keeps looking, in a thread of its own, until the receiver is dropped.
///
/// Errors: no thread can be had.
pub(crate) fn start(
    mut watcher: Watcher,
    interval: Duration,
) -> std::io::Result<(Receiver<Found>, Sender<()>)> {
    let (sender, found) = bounded(1);
    let (stop, stopped) = bounded::<()>(0);
    let ticks = tick(interval.max(SHORTEST));
    let run = move || {
        loop {
            select! {
                recv(stopped) -> _ => return,
                recv(ticks) -> _ => {
                    let found = watcher.look();
                    select! {
                        recv(stopped) -> _ => return,
                        send(sender, found) -> sent => if sent.is_err() { return },
                    }
                }
            }
        }
    };
    std::thread::Builder::new().name("placer-watch".to_owned()).spawn(run)?;
    Ok((found, stop))
}

/// When it was looked where a guest's memory is, and where it was.
type Placed = (Instant, Option<Vec<(NodeId, Bytes)>>);

/// Looks around, and remembers what is not to be looked at each time.
pub(crate) struct Watcher {
    root: SysRoot,
    place: ClaimDirs,
    /// Where guests' memory was, and when that was looked at.
    placed: BTreeMap<ClaimId, Placed>,
    /// How what is worth moving is found.
    settings: Settings,
    /// What was worth moving, and when that is looked for next.
    moves: (Vec<String>, Instant),
}

impl Watcher {
    fn new(options: &Options, root: SysRoot) -> Self {
        let place = ClaimDirs {
            own: options.claims.clone(),
            below: options.below.then(|| (PathBuf::from(ROOTS), 0)),
            overcommit: Overcommit::new(options.overcommit).unwrap_or_default(),
            ..ClaimDirs::default()
        };
        let overcommit = place.overcommit;
        let mut settings = Settings::default();
        settings.claims.overcommit = overcommit;
        if let Ok(Request { policy: Policy::Best(rules), .. }) = options.choice.request() {
            settings.advise.memory_bound = rules.memory_bound;
            settings.advise.smt_percent = rules.smt_percent;
        }
        // Not at the first look: the screen waits for that.
        let moves = (Vec::new(), Instant::now() + FIRST_MOVES);
        Self { root, place, placed: BTreeMap::new(), settings, moves }
    }

    /// Looks around. What cannot be read is said in a note.
    fn look(&mut self) -> Found {
        let mut found = Found::default();
        let topology =
            HostReader::open(&self.root).and_then(|reader| Topology::from_files(reader.files()));
        if let Ok(topology) = topology {
            found.around.parts = HostParts::read(&self.root, &topology.value);
        }
        match Claims::open(&self.place, &self.root).and_then(|claims| claims.view()) {
            Ok(view) => {
                self.look_at_guests(&view.claims, &mut found.around);
                found.around.notes = view.notes;
                found.around.notes.extend(self.look_for_moves());
                found.charges = view.charges;
                found.around.claims = Some(view.claims);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let cause = cause.unwrap_or_default();
                found.around.notes.push(format!("claims are not counted: {error}{cause}"));
            }
        }
        found
    }

    /// Returns a note for each guest of this host that is worth moving.
    fn look_for_moves(&mut self) -> Vec<String> {
        let (notes, next) = &mut self.moves;
        if self.root.is_live() && Instant::now() >= *next {
            // Where it cannot be found, placer balance says why.
            let steps = worth_moving(&self.root, &self.settings).unwrap_or_default();
            let note = |step: &StepForm| format!("worth moving (placer balance): {}", step.line());
            (*notes, *next) = (steps.iter().map(note).collect(), Instant::now() + MOVES);
        }
        notes.clone()
    }

    /// Looks what guests run, and where the memory of one of them is.
    fn look_at_guests(&mut self, claims: &[Arc<Claim>], around: &mut Around) {
        let Ok(mut processes) = Processes::look() else { return };
        self.placed.retain(|id, _| claims.iter().any(|claim| claim.id == *id));
        let now = Instant::now();
        let due = claims.iter().filter(|claim| claim.owner.process().is_some());
        let due = due.filter_map(|claim| match self.placed.get(&claim.id) {
            None => Some((None, claim)),
            Some((at, _)) if now.duration_since(*at) >= REST => Some((Some(*at), claim)),
            Some(_) => None,
        });
        if let Some((_, claim)) = due.min_by_key(|(at, claim)| (*at, claim.id)) {
            let placed = processes.placement(claim);
            self.placed.insert(claim.id, (now, placed));
        }
        around.owners = owners(&self.root, claims);
        let placed = self.placed.iter();
        around.placed = placed.filter_map(|(id, (_, at))| Some((*id, at.clone()?))).collect();
    }
}
