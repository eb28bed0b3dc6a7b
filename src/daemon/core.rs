//! The one place where the daemon answers: socket and message queue lead here.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use placer_engine::claims::{
    Asker, Claim, ClaimId, ClaimOwner, Decision, Parts, Principal, Principals, ProcessId, Processes,
};
use placer_engine::policy::numad::Version;
use placer_engine::{
    Bytes, Charges, CpuSet, CpuShare, EngineError, NodeSet, Request, Snapshot, SourceError, SysRoot,
};

use super::committing::{Class, Committing, Turn};
use super::descriptors;
use super::limits::Limits;
use super::log::{About, Log};
use super::metrics::Metrics;
use super::peer::Peer;
use super::wanted::Wanted;
use super::warm::{Counted, Guests, Warm};
use crate::error_chain::chain;
use crate::numad;
use crate::service::advise::{Answer, Question, answer};
use crate::service::claim_session::Desk;
use crate::service::counted;
use crate::service::host::{Begin, CountedHost, Figures, MachineOf, Taken, Turn as HostTurn};
use crate::service::notes::Notes;
use crate::settings::variables;
use crate::settings::{self, Level, Settings};

/// The host kept warm, the settings, the log: all that answers share.
#[derive(Debug)]
pub(crate) struct Core {
    settings: ArcSwap<Settings>,
    config: Option<PathBuf>,
    warm: Warm,
    log: Log,
    decisions: AtomicU64,
    metrics: Metrics,
    wanted: Wanted,
    committing: Committing,
    /// The accounts of this host, as they were when the settings were read.
    accounts: ArcSwap<Principals>,
    /// What was logged last about the ledger.
    ledger_notes: Mutex<Vec<String>>,
}

/// An answer, and the lines for stderr beside it.
#[derive(Debug)]
pub(crate) struct Told<T> {
    pub(crate) result: Result<T, String>,
    pub(crate) lines: Vec<String>,
}

/// Whether who asks is still there to hear the answer.
pub(crate) type Gone<'a> = &'a dyn Fn() -> bool;

impl Core {
    /// Begins to keep a host warm.
    ///
    /// Errors: the host cannot be read.
    pub(super) fn start(
        root: &SysRoot,
        settings: Settings,
        config: Option<PathBuf>,
        log: Log,
    ) -> Result<Self, EngineError> {
        counted::keep_descriptors(descriptors::room().owners);
        let warm = Warm::start(root, &settings)?;
        let settings = ArcSwap::from_pointee(settings);
        Ok(Self {
            settings,
            config,
            warm,
            log,
            decisions: AtomicU64::new(0),
            metrics: Metrics::default(),
            wanted: Wanted::default(),
            committing: Committing::default(),
            accounts: ArcSwap::from_pointee(Principals::read(root)),
            ledger_notes: Mutex::default(),
        })
    }

    /// Keeps one of our own recorded machines warm, and says nothing.
    #[cfg(test)]
    pub(super) fn of_fixture(name: &str) -> Arc<Self> {
        let dir =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sysfs-fixtures").join(name);
        let core = Self::start(&SysRoot::at(dir), Settings::default(), None, Log::silent());
        Arc::new(core.expect("a machine"))
    }

    /// Returns the newest settings.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Returns where events are told to.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Returns which host this is about.
    pub(crate) fn root(&self) -> &SysRoot {
        self.warm.root()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns what is wanted of the manager beside the settings.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Returns whether running guests are moved: it is wanted, and nothing is in the way.
    pub(super) fn moves(&self) -> bool {
        self.manages() && self.wanted.runs()
    }

    /// Returns whether running guests are to be moved. Those of a recording never are.
    pub(super) fn manages(&self) -> bool {
        let wanted = self.wanted.is_by_flag() || self.settings.load().manage.enabled;
        wanted && self.root().is_live()
    }

    /// Returns the account of one who asks. Where the uid alone would make it the host or this user, its
    /// process must not be in a container.
    pub(super) fn principal(&self, uid: u32, pid: Option<u32>) -> Principal {
        let principal = self.accounts.load().of_asker(uid);
        if !principal.is_host() && uid != nix::unistd::geteuid().as_raw() {
            return principal;
        }
        let container = match (pid, Processes::look()) {
            (Some(pid), Ok(mut look)) => look.container_of(pid),
            _ => Some(0),
        };
        container.map_or(principal, Principal::Container)
    }

    /// Waits until it is this one's turn to decide and claim. `None` where who asks has gone meanwhile.
    pub(super) fn turn(&self, peer: &Peer, gone: Gone<'_>) -> Option<Turn<'_>> {
        let class = if peer.is_trusted() { Class::Host } else { Class::User };
        let turn = self.committing.wait(class);
        (!gone()).then_some(turn)
    }

    /// Logs and counts that a claim was ended.
    pub(super) fn released(&self, claim: &Claim, peer: &Peer) {
        self.metrics.released.add(1);
        let (way, uid, pid) = (peer.way.name(), peer.uid, peer.caller);
        let fields: [(&str, &dyn std::fmt::Display); 4] =
            [("claim", &claim.id), ("way", &way), ("uid", &uid), ("pid", &pid)];
        self.log.tell_about(About::Claim, Level::Info, "released", &fields);
    }

    /// Logs that a claim is another process's from now on.
    pub(super) fn adopted(&self, claim: &Claim, peer: &Peer) {
        let (way, uid, pid) = (peer.way.name(), peer.uid, peer.caller);
        let owner = claim.owner.process().map_or(0, |process| process.pid);
        let fields: [(&str, &dyn std::fmt::Display); 5] =
            [("claim", &claim.id), ("for", &owner), ("way", &way), ("uid", &uid), ("pid", &pid)];
        self.log.tell_about(About::Claim, Level::Info, "adopted", &fields);
    }

    /// Claims what a client has decided on, for one of its processes. `None` where it does not fit any more: what
    /// was decided is compared with the host as it is now, under the lock of the ledger. What is `forced` need not
    /// fit, but takes no CPU that another owns.
    ///
    /// Errors: why nothing is claimed.
    pub(super) fn claim_parts(
        &self,
        parts: Parts,
        forced: bool,
        process: ProcessId,
        peer: &Peer,
        gone: Gone<'_>,
    ) -> Result<Option<ClaimId>, String> {
        let started = Instant::now();
        let set = self.settings();
        let figures = Asked { core: self, set: &set, peer, gone, owner: Some(process) };
        let memory: Bytes = parts.promised.iter().map(|promise| promise.memory).sum();
        let cpus: CpuShare = parts.promised.iter().map(|promise| promise.cpus).sum();
        let owned = CpuShare::from_cpus(parts.pinned.len()).unwrap_or_default();
        let cpus = parts.cpus.max(cpus).max(owned);
        let request = Request::new(cpus, parts.memory.max(memory));
        let who = ClaimOwner::Process(process);
        let nodes: NodeSet = parts.promised.iter().map(|promise| promise.node).collect();
        let mut notes = Notes::default();
        let desk = Desk::open(self.root(), set.claims, &mut notes);
        let claim = loop {
            let (session, host) = desk.begin_to_claim(&figures, parts.page, &mut notes)?;
            let snapshot = match host.host_charges {
                Some(charges) if peer.principal.is_host() => {
                    Arc::new(Snapshot::clone(&host.snapshot).with_charges(charges))
                }
                _ => host.snapshot,
            };
            let Some(mut commit) = session.commit()? else { continue };
            if let Some(why) = figures.refuses(&commit.decision, &request, &parts.pinned, &who) {
                return Err(why);
            }
            let fits = commit.decision.may_own(&parts, &snapshot)
                && (forced || commit.decision.room_for(&parts, &snapshot));
            if !fits {
                return Ok(None);
            }
            let caller = commit.decision.caller_of(&figures.asker());
            break commit.claim(parts, who, caller)?;
        };
        let request = format!("{}:{}", request.cpus, request.memory.get());
        let (nodes, id) = (Some(nodes.to_string()), claim.to_string());
        self.told("claimed", &request, None, nodes, None, &id, peer, started);
        Ok(Some(claim))
    }

    /// Logs what is wrong with the ledger, once.
    pub(super) fn ledger_has(&self, notes: Vec<String>) {
        let mut last = self.ledger_notes.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != notes {
            for why in &notes {
                self.log.tell(Level::Warning, "the ledger is damaged", &[("why", why)]);
            }
            *last = notes;
        }
    }

    pub(super) fn warm(&self) -> &Warm {
        &self.warm
    }

    /// Reads the settings anew. Damaged ones change nothing, and cost a line.
    pub(super) fn reload(&self) {
        let named = self.config.clone();
        let named = named.or_else(|| variables::value("PLACER_CONFIG").map(PathBuf::from));
        let new = match Settings::read(named.as_deref()) {
            Ok(new) => new,
            Err(error) => {
                let why = chain(&error);
                self.log.tell(Level::Error, "the settings stay as they were", &[("why", &why)]);
                return;
            }
        };
        let old = self.settings.swap(Arc::new(new.clone()));
        self.log.set_level(new.daemon.log);
        if old.daemon.interval != new.daemon.interval
            && let Err(error) = self.warm.set_interval(new.daemon.interval)
        {
            let why = chain(&error);
            self.log.tell(Level::Error, "the interval stays as it was", &[("why", &why)]);
        }
        self.accounts.store(Arc::new(Principals::read(self.root())));
        self.log.tell(Level::Notice, "settings read", &[]);
    }

    /// Answers a question as `placer advise` does. `gone` is asked under the lock of the ledger,
    /// before anything is claimed.
    pub(crate) fn advise(&self, question: &Question, peer: &Peer, gone: Gone<'_>) -> Told<Answer> {
        let started = Instant::now();
        let settings = self.settings();
        let owner = match question.claim {
            Some(ClaimOwner::Process(process)) => Some(process),
            _ => None,
        };
        let figures = Asked { core: self, set: &settings, peer, gone, owner };
        let mut notes = Notes::default();
        let result = answer(question, &figures, &mut notes);
        let result = result.map_err(|error| chain(error.as_ref()));
        let what = if question.claim.is_some() { "claimed" } else { "advised" };
        let nodes = match &result {
            Ok(answer) => answer.advice.as_ref().map(|advice| advice.nodes.to_string()),
            Err(_) => None,
        };
        let request = format!("{}:{}", question.request.cpus, question.request.memory.get());
        let claim = result.as_ref().ok().and_then(|answer| answer.claim);
        let claim = claim.map_or_else(|| "-".to_owned(), |id| id.to_string());
        self.told(what, &request, None, nodes, result.as_ref().err(), &claim, peer, started);
        Told { result, lines: notes.take_all() }
    }

    /// Answers `numad -w` by some settings' `[numad]`, with the lines that numad would log, and their levels.
    pub(crate) fn numad_with(
        &self,
        options: &numad::Options,
        advice: numad::Advice,
        settings: &Settings,
        peer: &Peer,
        gone: Gone<'_>,
    ) -> (Told<String>, Vec<(i32, String)>) {
        let started = Instant::now();
        let figures = Asked { core: self, set: settings, peer, gone, owner: None };
        let mut log = numad::Log::kept(options.log_level);
        let mut notes = Notes::default();
        let result = numad::choose_nodes(options, advice, settings, &figures, &mut log, &mut notes);
        let (result, claim) = match result {
            Ok(chosen) => (Ok(chosen.nodes.to_string()), chosen.claim),
            Err(error) => (Err(chain(error.as_ref())), None),
        };
        let request = format!("{}c:{}M", advice.cpus_hundredths, advice.megabytes);
        let nodes = result.as_ref().ok().cloned();
        let claim = claim.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let rules = Some(options.version);
        self.told("numad", &request, rules, nodes, result.as_ref().err(), &claim, peer, started);
        (Told { result, lines: notes.take_all() }, log.into_kept())
    }

    /// Returns the host as it is now, with what was promised.
    ///
    /// Errors: it cannot be read.
    pub(super) fn host(&self) -> Result<Arc<Counted>, SourceError> {
        self.warm.counted(Guests::All, self.settings().claims)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one line")]
    fn told(
        &self,
        what: &str,
        request: &str,
        rules: Option<Version>,
        nodes: Option<String>,
        error: Option<&String>,
        claim: &str,
        peer: &Peer,
        started: Instant,
    ) {
        let id = self.decisions.fetch_add(1, Ordering::Relaxed) + 1;
        let us = started.elapsed().as_micros();
        self.metrics.took(started.elapsed());
        match (error, what) {
            (Some(_), _) => self.metrics.failed.add(1),
            (None, "numad") => self.metrics.numad.add(1),
            (None, _) if claim != "-" => self.metrics.claimed.add(1),
            (None, _) => self.metrics.advised.add(1),
        }
        let nodes = nodes.unwrap_or_else(|| "-".to_owned());
        let (way, uid, pid) = (peer.way.name(), peer.uid, peer.caller);
        let mut fields: Vec<(&str, &dyn std::fmt::Display)> = vec![
            ("id", &id),
            ("way", &way),
            ("uid", &uid),
            ("pid", &pid),
            ("request", &request),
            ("nodes", &nodes),
            ("claim", &claim),
            ("us", &us),
        ];
        if let Some(version) = &rules {
            fields.push(("version", version));
        }
        if let Some(error) = &error {
            fields.push(("error", error));
        }
        // A request without a claim is one line of a flood; a claim is always told.
        let about = if claim == "-" { About::Other } else { About::Claim };
        self.log.tell_about(about, Level::Info, what, &fields);
    }
}

/// The warm host, for one who asks.
struct Asked<'a> {
    core: &'a Core,
    set: &'a Settings,
    peer: &'a Peer,
    gone: Gone<'a>,
    /// The process that a claim is to be made for.
    owner: Option<ProcessId>,
}

/// Returns whether a process has ended.
fn has_ended(process: ProcessId) -> bool {
    let found = Processes::look().ok().and_then(|mut look| look.identify(process.pid));
    found != Some(process)
}

/// Returns whether there is no process of a pid any more: one system call, for use under the lock of the ledger. One
/// that has ended and was not waited for counts as there.
fn is_absent(process: ProcessId) -> bool {
    let pid = i32::try_from(process.pid).map(Pid::from_raw);
    pid.is_ok_and(|pid| kill(pid, None) == Err(Errno::ESRCH))
}

impl Figures for Asked<'_> {
    fn root(&self) -> &SysRoot {
        self.core.warm.root()
    }

    fn claims(&self) -> settings::Claims {
        self.set.claims
    }

    fn measured(&self, pages: Option<Bytes>, _: &mut Notes) -> Result<Snapshot, SourceError> {
        self.core.warm.measured(pages)
    }

    fn again(
        &self,
        earlier: &Snapshot,
        charges: Charges,
        pages: Option<Bytes>,
    ) -> Result<Snapshot, SourceError> {
        self.core.warm.again(earlier, charges, pages)
    }

    fn counted(&self, pages: Option<Bytes>, notes: &mut Notes) -> Result<CountedHost, SourceError> {
        let counted = self.core.warm.counted(Guests::All, self.set.claims)?;
        counted.lines.iter().for_each(|line| notes.line(line));
        let mut snapshot = Arc::clone(&counted.snapshot);
        if pages.is_some() {
            let charges = snapshot.charges().clone();
            snapshot = self.core.warm.again(&snapshot, charges, pages).map(Arc::new)?;
        }
        Ok(CountedHost { snapshot, host_charges: counted.host_charges.clone() })
    }

    fn numads(&self, begin: &mut Begin<'_>, notes: &mut Notes) -> Result<Taken, Box<dyn Error>> {
        begin(&self.core.warm.measured(None)?.host().numad)?;
        let counted = self.core.warm.counted(Guests::Asked, self.set.claims)?;
        counted.lines.iter().for_each(|line| notes.line(line));
        let snapshot = &counted.snapshot;
        Ok(Taken {
            machine: MachineOf::Host(Arc::clone(snapshot.host())),
            before: snapshot.before().cloned(),
            now: snapshot.sample().clone(),
            charges: snapshot.charges().clone(),
        })
    }

    fn turn(&self) -> Option<Box<dyn HostTurn + '_>> {
        let gone = || (self.gone)() || self.owner.is_some_and(has_ended);
        Some(Box::new(self.core.turn(self.peer, &gone)?))
    }

    fn asker(&self) -> Asker {
        let Peer { caller, uid, principal, nonce, .. } = *self.peer;
        Asker::new(caller, uid).of_principal(principal).named(nonce)
    }

    fn refuses(
        &self,
        decision: &Decision<'_>,
        request: &Request,
        pinned: &CpuSet,
        who: &ClaimOwner,
    ) -> Option<String> {
        if (self.gone)() || self.owner.is_some_and(is_absent) {
            // Under the lock: nobody hears of a claim that is made now.
            return Some("the requesting or target process has exited".to_owned());
        }
        if let Some(why) = self.peer.in_doubt {
            return Some(why.to_owned());
        }
        if self.peer.is_trusted() {
            return None;
        }
        if self.peer.principal == Principal::Container(0) {
            // One that has no name: others without one would share its claims and limits.
            let why = "the requesting process has exited, or is in a pid namespace that is not \
                       visible from here";
            return Some(why.to_owned());
        }
        if decision.is_for_the_host() {
            return Some(
                "the ledger is three quarters full, and the rest is the host's".to_owned(),
            );
        }
        let snapshot = self.core.warm.engine().snapshot();
        let nodes = snapshot.nodes();
        let cpus = nodes.iter().map(|node| node.cpus.len()).sum();
        let limits = Limits {
            set: &self.set.daemon,
            ledger: decision.ledger(),
            repeated: decision.repeated(),
            free: nodes.iter().filter_map(|node| node.memory_free).sum(),
            cpus: CpuShare::from_cpus(cpus).unwrap_or_default(),
        };
        limits.refuse(self.peer.principal, request, pinned, who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_absent_once_it_was_waited_for() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let mut look = Processes::look().expect("/proc");
        let own = look.identify(std::process::id()).expect("this process");
        let process = ProcessId { pid: child.id(), ..own };
        child.wait().expect("ended");
        assert!(is_absent(process) && has_ended(process));
        assert!(!is_absent(own) && !has_ended(own));
        // Another process has its pid by now.
        let reused = ProcessId { start: own.start + 1, ..own };
        assert!(!is_absent(reused) && has_ended(reused));
    }
}
