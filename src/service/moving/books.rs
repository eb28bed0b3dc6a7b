//! Claims follow the guests that are moved.

use std::time::{Duration, Instant};

use nix::unistd::getuid;
use placer_engine::claims::{
    Asker, ClaimError, ClaimId, Claims, LOCK_TIMEOUT, Parts, ProcessId, Processes, Promise,
    Relocation,
};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, CpuSet, CpuShare, NodeId, NodeSet, SysRoot, split_by_weight};
use placer_launcher::mover::{Books, Direction, Journal, Progress, Record};

use crate::error_chain::chain;
use crate::service::journal::File;

/// The ledger's lock is asked for again and again for so long once a guest has arrived.
const SETTLES: Duration = Duration::from_secs(30);

/// The ledger and the journal.
pub(super) struct Ledger<'a> {
    claims: &'a Claims,
    file: &'a File,
    progress: &'a mut dyn FnMut(&Progress<'_>),
    /// The hold for memory on its way.
    hold: Option<ClaimId>,
}

/// Why nothing can be claimed.
enum Refused {
    Claims(ClaimError),
    Text(String),
}

impl From<ClaimError> for Refused {
    fn from(error: ClaimError) -> Self {
        Self::Claims(error)
    }
}

impl From<Refused> for String {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Claims(error) => chain(&error),
            Refused::Text(text) => text,
        }
    }
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        claims: &'a Claims,
        file: &'a File,
        progress: &'a mut dyn FnMut(&Progress<'_>),
    ) -> Self {
        Self { claims, file, progress, hold: None }
    }

    fn this_process() -> Result<ProcessId, Refused> {
        let found = Processes::look().ok().and_then(|mut look| look.identify(std::process::id()));
        found.ok_or_else(|| Refused::Text("cannot find this process in /proc".to_owned()))
    }

    /// Changes the ledger in one write. `whole`: only if what is held fits now beside all other claims.
    fn change(&mut self, hold: Option<Parts>, whole: bool, change: Changed) -> Result<(), Refused> {
        let me = Self::this_process()?;
        let asker = Asker::new(std::process::id(), getuid().as_raw());
        let (mut decision, ()) = self.claims.decide(&asker, LOCK_TIMEOUT, |view| {
            let Some(parts) = hold.as_ref().filter(|_| whole) else {
                return Ok::<(), Refused>(());
            };
            let text = |error: placer_engine::SourceError| Refused::Text(chain(&error));
            let mut host = SnapshotReader::open(&SysRoot::live(), None).map_err(text)?;
            let now = host.take(None, Duration::ZERO).map_err(text)?;
            match parts.fit(&now.with_charges(view.charges)) {
                true => Ok(()),
                false => Err(Refused::Text(no_room(parts))),
            }
        })?;
        let caller = decision.caller_of(&asker);
        let hold = hold.map(|parts| (parts, me, caller));
        let ended = self.hold.into_iter().collect();
        self.hold = decision.relocate(Relocation { claims: change, hold, ended })?;
        Ok(())
    }
}

/// Claims with what is promised to each from now on, and the CPUs that its threads share.
type Changed = Vec<(ClaimId, Vec<Promise>, CpuSet)>;

fn no_room(parts: &Parts) -> String {
    let nodes: NodeSet = parts.promised.iter().map(|promise| promise.node).collect();
    format!("nodes {nodes} have no room for {} of it any more", parts.memory)
}

impl Books for Ledger<'_> {
    fn save(&mut self, journal: &Journal) -> Result<(), String> {
        self.file.write(journal).map_err(|error| chain(&error))
    }

    fn claim(&mut self, record: &Record, direction: Direction, whole: bool) -> Result<(), String> {
        Ok(self.change(Some(needed(record, direction)), whole, Vec::new())?)
    }

    fn settle(&mut self, record: &Record, direction: Direction) -> Result<(), String> {
        let deadline = Instant::now() + SETTLES;
        loop {
            let changed = claims(record, direction, record.stayed);
            match self.change(None, false, changed) {
                // The guest is there: it is not moved again since others hold the ledger's lock.
                Err(Refused::Claims(ClaimError::Locked { .. })) if Instant::now() < deadline => {}
                done => return Ok(done?),
            }
        }
    }

    fn progress(&mut self, progress: &Progress<'_>) {
        (self.progress)(progress);
    }
}

/// Returns what a guest needs where it goes: what it has and what was promised to it, without what is there already.
fn needed(record: &Record, direction: Direction) -> Parts {
    let (wanted, there) = match direction {
        Direction::There => (&record.target, &record.source),
        Direction::Back => (&record.source, &record.target),
    };
    let on = |node: u32| {
        let there = there.iter().filter(|share| share.node == node);
        there.map(|share| share.bytes).sum::<u64>()
    };
    let promised = wanted.iter().map(|share| Promise {
        node: NodeId(share.node),
        memory: Bytes::new(share.bytes.saturating_sub(on(share.node))),
        cpus: CpuShare::ZERO,
    });
    let mut promised: Vec<Promise> =
        promised.filter(|promise| promise.memory > Bytes::ZERO).collect();
    promised.sort_by_key(|promise| promise.node);
    let memory = promised.iter().map(|promise| promise.memory).sum();
    Parts { memory, promised, ..Parts::default() }
}

/// Returns what is promised to the claims of a guest from now on: where its memory is to be, with what cannot be moved
/// and what stayed where it was.
fn claims(record: &Record, direction: Direction, stayed: u64) -> Changed {
    let before = record.claims.iter();
    let promise = |&(node, memory, cpus): &(u32, u64, u64)| Promise {
        node: NodeId(node),
        memory: Bytes::new(memory),
        cpus: CpuShare::from_hundredths(cpus),
    };
    if direction == Direction::Back {
        let same = before.map(|claim| {
            let promised = claim.promised.iter().map(promise).collect();
            (ClaimId(claim.id), promised, claim.roaming.clone())
        });
        return same.collect();
    }
    let mut memory: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
    let outside = record.source.iter().filter(|share| !record.to.contains(NodeId(share.node)));
    let outside: Vec<_> = outside.collect();
    let left =
        split_by_weight(stayed, &outside.iter().map(|share| share.bytes).collect::<Vec<_>>());
    let stays = outside.iter().zip(left).map(|(share, bytes)| (share.node, bytes));
    let stays: Vec<(u32, u64)> = stays.collect();
    let moves = record.target.iter().chain(&record.pinned).map(|share| (share.node, share.bytes));
    for (node, bytes) in moves.chain(stays) {
        *memory.entry(node).or_insert(0) += bytes;
    }
    for node in record.to.iter() {
        memory.entry(node.0).or_insert(0);
    }
    let nodes: Vec<u32> = memory.keys().copied().collect();
    let weights: Vec<u64> = memory.values().copied().collect();
    let runs_on: Vec<u64> =
        nodes.iter().map(|&node| u64::from(record.to.contains(NodeId(node)))).collect();
    let claims = before.map(|claim| {
        let bytes = claim.promised.iter().map(|&(_, bytes, _)| bytes).sum();
        let cpus = claim.promised.iter().map(|&(_, _, cpus)| cpus).sum();
        let parts = split_by_weight(bytes, &weights).into_iter();
        let parts = parts.zip(split_by_weight(cpus, &runs_on));
        let promised =
            nodes.iter().zip(parts).map(|(&node, (bytes, cpus))| promise(&(node, bytes, cpus)));
        let promised = promised
            .filter(|promise| promise.memory > Bytes::ZERO || promise.cpus > CpuShare::ZERO);
        (ClaimId(claim.id), promised.collect(), CpuSet::new())
    });
    claims.collect()
}

#[cfg(test)]
mod tests {
    use placer_engine::claims::ProcessId;
    use placer_launcher::mover::{ClaimBefore, Phase, Share};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A guest with 8 GiB promised on node 0 that goes to nodes 1 and 3; 1 GiB of it is pinned.
    fn record() -> Record {
        let share = |node, gib: u64| Share { node, bytes: gib * GIB };
        let nodes = |ids: &[u32]| ids.iter().map(|&id| NodeId(id)).collect::<NodeSet>();
        Record {
            guest: ProcessId { pid_namespace: 1, pid: 2, start: 3 },
            program: "qemu".to_owned(),
            claims: vec![ClaimBefore {
                id: 7,
                promised: vec![(0, 8 * GIB, 400)],
                roaming: CpuSet::from_iter([placer_engine::CpuId(1)]),
            }],
            group: 0,
            is_earlier: false,
            from: nodes(&[0]),
            to: nodes(&[1, 3]),
            cpus: CpuSet::new(),
            threads: vec![],
            cage: None,
            source: vec![share(0, 7)],
            target: vec![share(1, 3), share(3, 4)],
            pinned: vec![share(0, 1)],
            memory: 7 * GIB,
            slowdown: 1.0,
            phase: Phase::Moving,
            moved: 0,
            stayed: 0,
            finished_s: None,
            why: None,
        }
    }

    /// Node, GiB and hundredths of CPUs of the one claim.
    fn promised(record: &Record, direction: Direction, stayed: u64) -> Vec<(u32, u64, u64)> {
        let changed = claims(record, direction, stayed);
        assert_eq!((changed.len(), changed[0].0), (1, ClaimId(7)));
        let form = |promise: &Promise| {
            (promise.node.0, promise.memory.get() / GIB, promise.cpus.hundredths())
        };
        changed[0].1.iter().map(form).collect()
    }

    #[test]
    fn claims_go_where_memory_goes_and_stay_where_it_stays() {
        let there = Direction::There;
        assert_eq!(promised(&record(), there, 0), [(0, 1, 0), (1, 3, 200), (3, 4, 200)]);
        let free = Record { pinned: vec![], ..record() };
        assert_eq!(promised(&free, there, 0), [(1, 3, 200), (3, 4, 200)]);
        // Half of it did not let itself be moved.
        assert_eq!(promised(&free, there, 7 * GIB), [(0, 4, 0), (1, 1, 200), (3, 2, 200)]);
        // Only threads go to another node: they are promised CPUs there.
        let threads = Record { target: vec![], memory: 0, ..record() };
        assert_eq!(promised(&threads, there, 0), [(0, 8, 0), (1, 0, 200), (3, 0, 200)]);
        assert_eq!(promised(&record(), Direction::Back, 0), [(0, 8, 400)]);
        assert!(claims(&record(), there, 0)[0].2.is_empty());
        assert_eq!(claims(&record(), Direction::Back, 0)[0].2, record().claims[0].roaming);
    }

    #[test]
    fn room_is_held_for_what_is_on_its_way() {
        let held = |direction| -> Vec<(u32, u64)> {
            let parts = needed(&record(), direction);
            assert_eq!(parts.memory.get(), 7 * GIB);
            let promised = parts.promised.iter();
            promised.map(|promise| (promise.node.0, promise.memory.get() / GIB)).collect()
        };
        assert_eq!(held(Direction::There), [(1, 3), (3, 4)]);
        assert_eq!(held(Direction::Back), [(0, 7)]);
    }
}
