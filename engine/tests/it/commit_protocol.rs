//! The protocol by which claims are made once, checked in all its interleavings.
//!
//! Two clients ask a daemon, and where that does not answer in time, or is killed, their own engines. Each of
//! them can be killed at each step, and the daemon starts again. All states that can be reached are visited;
//! in each the ledger has at most one claim of a client, and never more than there is room for. A client that
//! has printed a claim has that one, at the end of every run. Each decides without the lock, and claims under it
//! if nobody has changed the ledger meanwhile: what is written then is the ledger that was decided on, and the claim. After a
//! lost race it decides under the lock. The daemon keeps the ledger that it has read or written last, and takes it for
//! the file's if the file is still that one.
//!
//! The steps are those of `desk.rs`, `decision.rs`, `store.rs` and the daemon's `methods.rs`. What is done to the ledger is
//! done by the ledger itself.

use std::collections::{BTreeSet, HashSet};

use placer_engine::claims::{Caller, Claim, ClaimId, Ledger, Nonce, Origin, Owner, Principal};
use placer_engine::{Bytes, CpuSet, CpuShare, Instant};

const CLIENTS: usize = 2;
const KILLS: u8 = 2;
/// So many lost races are followed by another decision without the lock.
const LOST: u8 = 1;

/// A rule of the protocol that can be left out, to see that it is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rules {
    /// A request that is repeated finds its claim by its name.
    nonces: bool,
    /// The daemon claims nothing for a client that has gone.
    asks_whether_gone: bool,
    /// A claim that replaces another has an id of its own.
    new_ids: bool,
    /// What was decided without the lock is not claimed on another ledger.
    compares: bool,
    /// The daemon asks whether the file is still the one whose ledger it keeps.
    checks_kept: bool,
    /// For how many claims there is room.
    room: usize,
}

const RULES: Rules = Rules {
    nonces: true,
    asks_whether_gone: true,
    new_ids: true,
    compares: true,
    checks_kept: true,
    room: CLIENTS,
};

/// Ids and the client that gave the name.
type Entries = Vec<(u32, usize)>;
/// The same where there are few.
type Few = [Option<(u32, usize)>; 2 * CLIENTS];

fn few(entries: &Entries) -> Few {
    let mut few = Few::default();
    for (to, entry) in few.iter_mut().zip(entries) {
        *to = Some(*entry);
    }
    assert!(entries.len() <= few.len());
    few
}

/// A decision that is being made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Making {
    /// How many races it has lost.
    lost: u8,
    /// What was decided without the lock: whether there is room.
    fits: Option<bool>,
    /// The ledger that this was decided on.
    on: Few,
    /// Whether the ledger was changed since.
    stale: bool,
}

/// Who can hold the lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Holder {
    Client(usize),
    Daemon(usize),
}

/// What a client does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    Asks,
    /// Its request is sent, and the connection is open.
    Waits,
    /// The answer is there.
    Answered(Option<u32>),
    /// It has closed the connection, and decides itself.
    Decides(Making),
    Locked(Making),
    /// The new ledger is in place, and the lock held.
    Committed(Option<u32>),
    Printed(Option<u32>),
    Killed,
}

impl Client {
    fn is_connected(self) -> bool {
        matches!(self, Self::Waits | Self::Answered(_))
    }
}

/// What the daemon does for one client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Slot {
    Idle,
    Received(Making),
    Locked(Making),
    Committed(Option<u32>),
    /// The lock is free; whether the client is still there is asked next.
    Made(Option<u32>),
    /// It was, and the answer goes out.
    Replies(Option<u32>),
    Withdraws(u32),
    WithdrawsLocked(u32),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    ledger: Entries,
    /// What the daemon keeps of it, where it asks nothing about the file.
    kept: Option<Few>,
    lock: Option<Holder>,
    clients: [Client; CLIENTS],
    daemon: Option<[Slot; CLIENTS]>,
    next: u32,
    kills: u8,
}

impl Making {
    fn is_to_be_decided(self) -> bool {
        self.fits.is_none() && self.lost <= LOST
    }

    /// Under the lock: whether others were faster.
    fn is_outrun(self, rules: Rules) -> bool {
        self.stale && rules.compares
    }

    fn again(self) -> Self {
        Self { lost: self.lost + 1, ..Self::default() }
    }
}

impl State {
    fn first() -> Self {
        Self {
            ledger: Vec::new(),
            kept: None,
            lock: None,
            clients: [Client::Asks; CLIENTS],
            daemon: Some([Slot::Idle; CLIENTS]),
            next: 1,
            kills: 0,
        }
    }

    /// All states that follow.
    fn next(&self, rules: Rules) -> Vec<Self> {
        let mut all = Vec::new();
        for at in 0..CLIENTS {
            self.step_client(at, rules, &mut all);
            self.step_daemon(at, rules, &mut all);
        }
        if self.kills < KILLS && self.daemon.is_some() {
            let mut killed = self.clone();
            (killed.daemon, killed.kept, killed.kills) = (None, None, self.kills + 1);
            if let Some(Holder::Daemon(_)) = self.lock {
                killed.lock = None;
            }
            all.push(killed);
        }
        if self.daemon.is_none() {
            all.push(Self { daemon: Some([Slot::Idle; CLIENTS]), ..self.clone() });
        }
        all
    }

    fn step_client(&self, at: usize, rules: Rules, all: &mut Vec<Self>) {
        let mut go = |change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            all.push(state);
        };
        let now = self.clients[at];
        match now {
            Client::Asks => match self.daemon {
                Some(_) => go(&|s| {
                    s.clients[at] = Client::Waits;
                    if let Some(slots) = &mut s.daemon {
                        slots[at] = Slot::Received(Making::default());
                    }
                }),
                None => go(&|s| s.clients[at] = Client::Decides(Making::default())),
            },
            // The time is over, or the daemon has gone.
            Client::Waits => go(&|s| s.clients[at] = Client::Decides(Making::default())),
            Client::Answered(id) => go(&|s| s.clients[at] = Client::Printed(id)),
            Client::Decides(making) if making.is_to_be_decided() => go(&|s| {
                s.clients[at] = Client::Decides(decided(&s.ledger, at, making, rules));
            }),
            Client::Decides(making) if self.lock.is_none() => go(&|s| {
                s.lock = Some(Holder::Client(at));
                s.clients[at] = Client::Locked(making);
            }),
            Client::Locked(making) if making.is_outrun(rules) => go(&|s| {
                s.lock = None;
                s.clients[at] = Client::Decides(making.again());
            }),
            Client::Locked(making) => go(&|s| {
                let ledger = s.ledger.clone();
                let id = s.commit(&ledger, at, making, rules);
                s.clients[at] = Client::Committed(id);
            }),
            Client::Committed(id) => go(&|s| {
                s.lock = None;
                s.clients[at] = Client::Printed(id);
            }),
            Client::Decides(_) | Client::Printed(_) | Client::Killed => {}
        }
        if self.kills < KILLS && !matches!(now, Client::Printed(_) | Client::Killed) {
            go(&|s| {
                s.kills += 1;
                s.clients[at] = Client::Killed;
                if s.lock == Some(Holder::Client(at)) {
                    s.lock = None;
                }
            });
        }
    }

    fn step_daemon(&self, at: usize, rules: Rules, all: &mut Vec<Self>) {
        let Some(slots) = self.daemon else { return };
        let mut go = |slot: Slot, change: &dyn Fn(&mut Self)| {
            let mut state = self.clone();
            change(&mut state);
            if let Some(slots) = &mut state.daemon {
                slots[at] = slot;
            }
            all.push(state);
        };
        let gone = !self.clients[at].is_connected();
        match slots[at] {
            Slot::Received(making) if making.is_to_be_decided() => {
                let ledger = self.daemons();
                let mut making = decided(&ledger, at, making, rules);
                // The version that goes with what is kept.
                making.stale = ledger != self.ledger;
                go(Slot::Received(making), &|s| s.keep(&ledger, rules));
            }
            Slot::Received(making) if self.lock.is_none() => {
                go(Slot::Locked(making), &|s| s.lock = Some(Holder::Daemon(at)));
            }
            Slot::Locked(making) if making.is_outrun(rules) => {
                go(Slot::Received(making.again()), &|s| s.lock = None);
            }
            Slot::Locked(_) if gone && rules.asks_whether_gone => {
                go(Slot::Idle, &|s| s.lock = None);
            }
            Slot::Locked(making) => {
                let ledger = self.daemons();
                let id = self.clone().commit(&ledger, at, making, rules);
                go(Slot::Committed(id), &|s| {
                    s.commit(&ledger, at, making, rules);
                    s.keep(&s.ledger.clone(), rules);
                });
            }
            Slot::Committed(id) => go(Slot::Made(id), &|s| s.lock = None),
            Slot::Made(Some(id)) if gone && rules.asks_whether_gone => {
                go(Slot::Withdraws(id), &|_| ());
            }
            Slot::Made(id) => go(Slot::Replies(id), &|_| ()),
            Slot::Replies(id) => go(Slot::Idle, &|s| {
                // One that has closed meanwhile hears nothing.
                if s.clients[at] == Client::Waits {
                    s.clients[at] = Client::Answered(id);
                }
            }),
            Slot::Withdraws(id) if self.lock.is_none() => {
                go(Slot::WithdrawsLocked(id), &|s| s.lock = Some(Holder::Daemon(at)));
            }
            Slot::WithdrawsLocked(id) => go(Slot::Idle, &|s| {
                s.ledger.retain(|&(other, _)| other != id);
                s.written();
                s.lock = None;
            }),
            Slot::Idle | Slot::Received(_) | Slot::Withdraws(_) => {}
        }
    }

    /// The ledger as the daemon takes it to be.
    fn daemons(&self) -> Entries {
        let kept = self.kept.map(|kept| kept.into_iter().flatten().collect());
        kept.unwrap_or_else(|| self.ledger.clone())
    }

    /// The daemon keeps a ledger. Where it asks about the file it is as if it kept none.
    fn keep(&mut self, ledger: &Entries, rules: Rules) {
        self.kept = (!rules.checks_kept).then(|| few(ledger));
    }

    /// The ledger is another one from now on.
    fn written(&mut self) {
        for client in &mut self.clients {
            if let Client::Decides(making) | Client::Locked(making) = client {
                making.stale = making.fits.is_some();
            }
        }
        for slot in self.daemon.iter_mut().flatten() {
            if let Slot::Received(making) | Slot::Locked(making) = slot {
                making.stale = making.fits.is_some();
            }
        }
    }

    /// Claims for a client under the lock, in one rename. `found` is the ledger that is decided on under the lock; what was
    /// decided without it is written as it was prepared. `None` where there is no room.
    fn commit(&mut self, found: &Entries, at: usize, making: Making, rules: Rules) -> Option<u32> {
        let on: Entries = match making.fits {
            Some(_) => making.on.into_iter().flatten().collect(),
            None => found.clone(),
        };
        let fits = making.fits.unwrap_or_else(|| has_room(&on, at, rules));
        let mut ledger = Ledger::default();
        for (id, client) in on {
            ledger.add(claim(id, client)).expect("room");
        }
        let repeated = ledger.named(name(at), Principal::Host).map(|claim| claim.id);
        let mut id = self.next;
        if let Some(repeated) = repeated.filter(|_| rules.nonces) {
            ledger.release(repeated);
            if !rules.new_ids {
                id = repeated.0;
            }
        }
        if fits {
            ledger.add(claim(id, at)).expect("room");
            self.next = self.next.max(id + 1);
        }
        let client = |claim: &Claim| usize::try_from(claim.caller.pid).unwrap_or(usize::MAX);
        self.ledger = ledger.claims().iter().map(|claim| (claim.id.0, client(claim))).collect();
        self.written();
        fits.then_some(id)
    }

    /// What is wrong with a state.
    fn fault(&self, rules: Rules) -> Option<String> {
        let of = |at: usize| self.ledger.iter().filter(|&&(_, client)| client == at).count();
        if (0..CLIENTS).any(|at| of(at) > 1) {
            return Some(format!("doubled: {self:?}"));
        }
        if self.ledger.len() > rules.room {
            return Some(format!("more than there is room for: {self:?}"));
        }
        // While the daemon works for a client its claim may yet be replaced, and never withdrawn.
        let lost = |at: usize| match self.clients[at] {
            Client::Printed(Some(id)) => !self.ledger.contains(&(id, at)),
            _ => false,
        };
        (0..CLIENTS).any(lost).then(|| format!("lost: {self:?}"))
    }
}

/// Decides for a client without the lock.
fn decided(ledger: &Entries, at: usize, making: Making, rules: Rules) -> Making {
    let fits = Some(has_room(ledger, at, rules));
    Making { fits, on: few(ledger), stale: false, ..making }
}

/// Whether there is room beside what others have claimed.
fn has_room(ledger: &Entries, at: usize, rules: Rules) -> bool {
    let is_other = |&&(_, client): &&(u32, usize)| client != at || !rules.nonces;
    ledger.iter().filter(is_other).count() < rules.room
}

fn name(client: usize) -> Nonce {
    Nonce::of_process(u32::try_from(client).expect("few"), 0)
}

fn claim(id: u32, client: usize) -> Claim {
    let pid = u32::try_from(client).expect("few");
    Claim {
        id: ClaimId(id),
        boot: "boot".to_owned(),
        owner: Owner::Hold { until: Instant::from_nanoseconds(u64::MAX) },
        caller: Caller { uid: 0, pid, program: String::new() },
        principal: Principal::Host,
        nonce: Some(name(client)),
        origin: Origin::Asked,
        made: Instant::default(),
        cpus: CpuShare::ZERO,
        memory: Bytes::ZERO,
        page: None,
        promised: Vec::new(),
        pinned: CpuSet::new(),
        roaming: CpuSet::new(),
        within: Default::default(),
        seen: None,
        checked: None,
    }
}

/// Visits all states. Returns how many there are, or the first fault.
fn visit(rules: Rules) -> Result<usize, String> {
    let mut seen = HashSet::from([State::first()]);
    let mut open = vec![State::first()];
    while let Some(state) = open.pop() {
        if let Some(fault) = state.fault(rules) {
            return Err(fault);
        }
        for next in state.next(rules) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let ended = |state: &&State| state.clients.iter().all(|c| matches!(c, Client::Printed(_)));
    let printed: BTreeSet<usize> = seen.iter().filter(ended).map(|s| s.ledger.len()).collect();
    assert!(printed.contains(&rules.room.min(CLIENTS)), "runs end with all claimed: {printed:?}");
    Ok(seen.len())
}

#[test]
fn whoever_is_killed_when_each_client_has_the_claim_that_it_printed_and_no_other() {
    for room in 1..=CLIENTS {
        let states = visit(Rules { room, ..RULES }).expect("no fault");
        println!("room for {room}: {states} states");
        assert!(states > 1_000, "{states}");
    }
}

#[test]
fn without_any_one_of_its_rules_the_protocol_has_a_fault() {
    for (rules, fault) in [
        (Rules { nonces: false, ..RULES }, "doubled"),
        (Rules { asks_whether_gone: false, ..RULES }, "lost"),
        (Rules { new_ids: false, ..RULES }, "lost"),
        (Rules { compares: false, ..RULES }, "lost"),
        (Rules { checks_kept: false, ..RULES }, "lost"),
    ] {
        let found = visit(rules).expect_err("a fault");
        assert!(found.starts_with(fault), "{found}");
    }
}
