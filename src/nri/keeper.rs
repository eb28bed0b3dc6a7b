//! Places containers on this host, and keeps their claims, in a thread of its own: a decision that takes too long, or a
//! ledger that cannot be had, holds up no call of the runtime's.
//!
//! Claims are found by the names of their containers, so nothing is remembered between two calls, nor lost when this
//! process is killed.

use std::fmt::Display;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use nix::unistd::getuid;
use placer_engine::claims::{Claim, ClaimOwner, Nonce, Owner, Parts, Principal, Promise};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, Charges, CpuSet, CpuShare, NodeId, Snapshot, SysRoot, split_by_weight};

use super::wanted::Placed;
use crate::container::{HOLD, NotHeld, Placement, Wanted, adopt, hold, release};
use crate::daemon::{Log, STACK};
use crate::error_chain::chain;
use crate::service::claim_session::{Claimed, Desk, claim_as_asked, process};
use crate::service::counted;
use crate::service::host::{CountedHost, Figures as _};
use crate::service::local::Local;
use crate::service::notes::Notes;
use crate::service::sampling::{self, Window};
use crate::settings::{Level, Settings};

/// The most tasks that wait. What finds no room is left to the end of the hold, and to the next Synchronize.
const WAITING: usize = 4096;

/// How often CPU counters are saved where nothing else is done: they serve for a minute.
const FRESH: Duration = Duration::from_secs(20);

/// Why something is not claimed.
const FULL: &str = "there is no room for it on its nodes";
const UNKNOWN: &str = "claims are not known";

/// A container that runs where placer has placed it.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) name: String,
    /// The name of its claim.
    pub(super) claim: Nonce,
    pub(super) pid: u32,
    pub(super) placed: Placed,
    pub(super) wanted: Wanted,
}

enum Task {
    Place { claim: Nonce, wanted: Wanted, until: Instant, to: Sender<Result<Placement, NotHeld>> },
    Resize { running: Running, until: Instant, to: Sender<Result<(), String>> },
    Settle(Vec<Running>),
    Adopt(Running),
    End(Nonce),
}

/// The thread that decides and claims. It ends with this value.
#[derive(Debug)]
pub(super) struct Keeper {
    tasks: Sender<Task>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Errors: there can be no thread.
    pub(super) fn start(root: SysRoot, set: Settings, log: Log) -> std::io::Result<Self> {
        let (tasks, taken) = bounded(WAITING);
        let books = Books { root, set, log };
        let thread = std::thread::Builder::new()
            .name("placer-nri".to_owned())
            .stack_size(4 * STACK)
            .spawn(move || books.work(&taken))?;
        Ok(Self { tasks, thread })
    }

    /// Decides where a container goes, and holds it. A decision that comes later than `time` is given up, and its hold
    /// ends.
    pub(super) fn place(
        &self,
        claim: Nonce,
        wanted: Wanted,
        time: Duration,
    ) -> Result<Placement, NotHeld> {
        let late = || Err(NotHeld::Failed(too_late(time)));
        self.ask(time, |until, to| Task::Place { claim, wanted, until, to }).unwrap_or_else(late)
    }

    /// Claims another size for a container that runs, where it is.
    ///
    /// Errors: why it is not claimed, as where it has no claim.
    pub(super) fn resize(&self, running: Running, time: Duration) -> Result<(), String> {
        let late = || Err(too_late(time));
        self.ask(time, |until, to| Task::Resize { running, until, to }).unwrap_or_else(late)
    }

    fn ask<T>(&self, time: Duration, task: impl FnOnce(Instant, Sender<T>) -> Task) -> Option<T> {
        // Without room: what was decided is either taken in time, or its sender learns that it was not.
        let (to, decided) = bounded(0);
        let until = Instant::now() + time;
        self.tasks.try_send(task(until, to)).ok()?;
        decided.recv_deadline(until).ok()
    }

    /// Ensures that each container has a claim: its hold becomes its own, or what is missing is claimed where the
    /// container is, if there is room. Nothing is moved. Returns whether there was room for the task.
    pub(super) fn settle(&self, running: Vec<Running>) -> bool {
        running.is_empty() || self.tell(Task::Settle(running))
    }

    /// Makes the hold of a container its own, if there is one. Returns whether there was room for the task.
    pub(super) fn adopt(&self, running: Running) -> bool {
        self.tell(Task::Adopt(running))
    }

    /// Ends the claim of a container that has ended, or was not created. Returns whether there was room for the task.
    pub(super) fn end(&self, claim: Nonce) -> bool {
        self.tell(Task::End(claim))
    }

    fn tell(&self, task: Task) -> bool {
        !matches!(self.tasks.try_send(task), Err(TrySendError::Full(_)))
    }

    /// Waits until all that was asked for is done.
    pub(super) fn finish(self) {
        let Self { tasks, thread } = self;
        drop(tasks);
        let _ = thread.join();
    }
}

fn too_late(time: Duration) -> String {
    format!("no decision within {} ms", time.as_millis())
}

/// The host and its ledger.
struct Books {
    root: SysRoot,
    set: Settings,
    log: Log,
}

impl Books {
    /// Saves CPU counters, so that a decision need not measure the load first, which takes 100 ms.
    fn refresh(&self) {
        let mut notes = Notes::default();
        let window = Window::Recent(self.set.advise.window);
        // What is wrong with the host is said where it is decided on.
        let _ = SnapshotReader::open(&self.root, None)
            .and_then(|mut host| sampling::snapshot(&mut host, window, &mut notes));
    }

    fn work(&self, tasks: &Receiver<Task>) {
        self.refresh();
        loop {
            let task = match tasks.recv_timeout(FRESH) {
                Ok(task) => task,
                Err(RecvTimeoutError::Timeout) => {
                    self.refresh();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match task {
                // The call was answered without.
                Task::Place { until, .. } | Task::Resize { until, .. }
                    if until <= Instant::now() => {}
                Task::Place { claim, wanted, to, .. } => {
                    let mut notes = Notes::default();
                    let held = hold(&wanted, claim, &self.root, &self.set, &mut notes);
                    self.pass_on(&mut notes);
                    let made = held.is_ok();
                    if to.send(held).is_err() && made {
                        self.end(claim);
                    }
                }
                Task::Resize { running, to, .. } => {
                    let earlier = self.find(running.claim);
                    let resized = earlier.and_then(|one| self.claim_here(&running, Some(&one)));
                    let _ = to.send(resized);
                }
                Task::Settle(running) => self.settle(&running, true),
                Task::Adopt(running) => self.settle(&[running], false),
                Task::End(claim) => self.end(claim),
            }
        }
    }

    fn pass_on(&self, notes: &mut Notes) {
        for line in notes.take_all() {
            self.log.tell(Level::Info, "note", &[("text", &line)]);
        }
    }

    fn end(&self, claim: Nonce) {
        if let Err(why) = release(claim, &self.root, self.set.claims) {
            self.log.tell(Level::Warning, "a claim is not released", &[("why", &why)]);
        }
    }

    /// Returns the claims that count.
    ///
    /// Errors: that is not known; a note says why.
    fn claims(&self) -> Result<Vec<Arc<Claim>>, String> {
        let mut notes = Notes::default();
        let view = counted::view(&self.root, self.set.claims, &mut notes);
        self.pass_on(&mut notes);
        view.map(|view| view.claims).ok_or_else(|| UNKNOWN.to_owned())
    }

    /// Errors: there is none, or claims are not known.
    fn find(&self, claim: Nonce) -> Result<Arc<Claim>, String> {
        let found = self.claims()?.into_iter().find(|one| is_of(one, claim));
        found.ok_or_else(|| "it has no claim".to_owned())
    }

    /// `anew`: what is missing is claimed.
    fn settle(&self, running: &[Running], anew: bool) {
        let claims = match self.claims() {
            Ok(claims) => claims,
            Err(why) => {
                let fields: [(&str, &dyn Display); 2] =
                    [("containers", &running.len()), ("why", &why)];
                self.log.tell(Level::Warning, "claims of containers are not kept", &fields);
                return;
            }
        };
        let (mut kept, mut made) = (0_u32, 0_u32);
        for one in running {
            let claim = claims.iter().find(|claim| is_of(claim, one.claim));
            let settled = match claim.map(|claim| &claim.owner) {
                Some(Owner::Process(_) | Owner::Cgroup(..)) => {
                    kept += 1;
                    continue;
                }
                Some(Owner::Hold { .. }) => {
                    let adopted = adopt(one.claim, one.pid, &self.root, self.set.claims);
                    let adopted = adopted.map(drop);
                    if anew { adopted.or_else(|_| self.claim_anew(one)) } else { adopted }
                }
                // The author of a container names its variables, but not its CPUs.
                None if !anew || one.placed.cpus.is_empty() => continue,
                None => self.claim_anew(one),
            };
            match settled {
                Ok(()) => made += 1,
                Err(why) => {
                    let fields: [(&str, &dyn Display); 2] =
                        [("container", &one.name), ("why", &why)];
                    self.log.tell(Level::Warning, "a container runs without a claim", &fields);
                }
            }
        }
        let fields: [(&str, &dyn Display); 2] = [("kept", &kept), ("new", &made)];
        self.log.tell(Level::Info, "claims of containers", &fields);
    }

    /// Claims for a container what it was placed with, where it is, for its own process, and then for its control group.
    fn claim_anew(&self, running: &Running) -> Result<(), String> {
        self.claim_here(running, None)?;
        adopt(running.claim, running.pid, &self.root, self.set.claims).map(drop)
    }

    /// Claims for a container that runs, on its nodes, instead of an earlier claim of it. Where it has one, there must
    /// be room for what it grows by; else for all of it beside what is claimed.
    ///
    /// Errors: why nothing is claimed; an earlier claim stays.
    fn claim_here(&self, running: &Running, earlier: Option<&Claim>) -> Result<(), String> {
        let mut notes = Notes::default();
        let claimed = self.try_here(running, earlier, &mut notes);
        self.pass_on(&mut notes);
        claimed
    }

    fn try_here(
        &self,
        running: &Running,
        earlier: Option<&Claim>,
        notes: &mut Notes,
    ) -> Result<(), String> {
        let Wanted { request, .. } = &running.wanted;
        let window = Window::Recent(self.set.advise.window);
        let figures = Local::new(&self.root, self.set.claims, window).named(Some(running.claim));
        let desk = Desk::open(&self.root, self.set.claims, notes);
        let owner = match earlier.map(|earlier| &earlier.owner) {
            Some(Owner::Cgroup(process, group)) => ClaimOwner::Cgroup(process.pid, group.clone()),
            Some(Owner::Process(process)) => ClaimOwner::Process(*process),
            Some(Owner::Hold { .. }) => ClaimOwner::Hold(HOLD),
            None => ClaimOwner::Process(process(running.pid).map_err(|error| chain(&error))?),
        };
        loop {
            let (session, host) = desk.begin_to_claim(&figures, None, notes)?;
            let parts = parts(running, &host.snapshot);
            match earlier {
                Some(earlier) => self.room(&grown(&parts, earlier), &figures, &host, notes)?,
                None => self.room_at_all(&parts, &host.snapshot)?,
            }
            match claim_as_asked(session, request, parts, owner.clone(), &figures, notes) {
                Claimed::Made(_) => return Ok(()),
                Claimed::Refused => return Err(notes.take_all().join("; ")),
                Claimed::Outrun => {}
            }
        }
    }

    /// Errors: there is no room for so much beside all claims, those of the container itself included; that is not known.
    fn room(
        &self,
        grown: &Parts,
        figures: &Local<'_>,
        host: &CountedHost,
        notes: &mut Notes,
    ) -> Result<(), String> {
        if grown.promised.iter().all(|promise| promise.memory == Bytes::ZERO) {
            return Ok(());
        }
        let view = counted::view(&self.root, self.set.claims, notes);
        let charges = view.ok_or(UNKNOWN)?.charges;
        let snapshot =
            figures.again(&host.snapshot, charges, None).map_err(|error| chain(&error))?;
        grown.fit(&snapshot).then_some(()).ok_or_else(|| FULL.to_owned())
    }

    /// Errors: its nodes have not so much memory beside all that is claimed of them, or that is not known. What is free is not
    /// looked at: the container may use its memory already.
    fn room_at_all(&self, parts: &Parts, snapshot: &Snapshot) -> Result<(), String> {
        let mut charges = Charges::default();
        charges.set_overcommit(self.set.claims.overcommit);
        for promise in self.claims()?.iter().flat_map(|claim| &claim.promised) {
            charges.of_mut(promise.node).add(promise.memory, None);
        }
        let room = |promise: &Promise| {
            let total = snapshot.node(promise.node).and_then(|node| node.memory_total);
            promise.memory <= charges.left(promise.node, total.unwrap_or_default())
        };
        parts.promised.iter().all(room).then_some(()).ok_or_else(|| FULL.to_owned())
    }
}

/// Returns whether a claim is that of a container. Other users name their claims as they like.
fn is_of(claim: &Claim, name: Nonce) -> bool {
    claim.nonce == Some(name) && claim.principal == Principal::of_uid(getuid().as_raw())
}

/// Returns what a container that runs is promised: CPUs where it has some, memory as its nodes have it.
fn parts(running: &Running, snapshot: &Snapshot) -> Parts {
    let Running { placed: Placed { cpus, nodes, .. }, wanted, .. } = running;
    let topology = snapshot.topology();
    let everywhere = |id: NodeId| nodes.is_empty() || nodes.contains(id);
    let cpus_on = |id: NodeId| {
        let all = topology.node(id).map(|node| &node.cpus);
        match all {
            Some(all) if cpus.is_empty() && everywhere(id) => all.len(),
            Some(all) => all.intersection(cpus).len(),
            None => 0,
        }
    };
    let memory_on = |id: NodeId, total: Option<Bytes>| {
        if everywhere(id) { total.map_or(0, Bytes::get) } else { 0 }
    };
    let weighed = snapshot.nodes().iter();
    let weighed = weighed.map(|n| (n.id, cpus_on(n.id), memory_on(n.id, n.memory_total)));
    let weighed: Vec<_> = weighed.filter(|(_, cpus, memory)| cpus + memory > 0).collect();
    let weights = |of: fn(&(NodeId, u64, u64)) -> u64| weighed.iter().map(of).collect::<Vec<_>>();
    let memory = split_by_weight(wanted.request.memory.get(), &weights(|w| w.2));
    let shares = split_by_weight(wanted.request.cpus.hundredths(), &weights(|w| w.1));
    let promised = weighed.iter().zip(memory.into_iter().zip(shares));
    let promised = promised.map(|((node, ..), (memory, cpus))| Promise {
        node: *node,
        memory: Bytes::new(memory),
        cpus: CpuShare::from_hundredths(cpus),
    });
    let whole = topology.cpus_of(&weighed.iter().map(|(node, ..)| *node).collect());
    let roaming = if whole.is_subset(cpus) { CpuSet::new() } else { cpus.clone() };
    Parts {
        cpus: wanted.request.cpus,
        memory: wanted.request.memory,
        promised: promised.collect(),
        roaming,
        ..Parts::default()
    }
}

/// Returns what is promised beyond an earlier claim.
fn grown(parts: &Parts, earlier: &Claim) -> Parts {
    let had = |node| earlier.promised.iter().find(|promise| promise.node == node);
    let promised = parts.promised.iter().map(|promise| {
        let before = had(promise.node).map_or(0, |before| before.memory.get());
        let memory = Bytes::new(promise.memory.get().saturating_sub(before));
        Promise { memory, ..*promise }
    });
    Parts { promised: promised.collect(), ..parts.clone() }
}
