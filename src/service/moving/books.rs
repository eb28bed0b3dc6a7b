//! Claims follow the guests that are moved.

use nix::unistd::getuid;
use placer_engine::claims::{
    Asker, ClaimError, ClaimId, Claims, LOCK_TIMEOUT, Parts, ProcessId, Processes, Promise,
    Relocation,
};
use placer_engine::source::SnapshotReader;
use placer_engine::{Bytes, CpuSet, CpuShare, NodeId, Snapshot, SysRoot, split_by_weight};
use placer_launcher::mover::{Books, Direction, Journal, Progress, Record};

use crate::error_chain::chain;
use crate::service::journal::File;

/// The ledger and the journal.
pub(super) struct Ledger<'a> {
    claims: &'a Claims,
    file: &'a File,
    /// The host as the plan saw it: room is compared with what is there now. `None`: memory is there in part.
    planned: Option<&'a Snapshot>,
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
        planned: Option<&'a Snapshot>,
        progress: &'a mut dyn FnMut(&Progress<'_>),
    ) -> Self {
        Self { claims, file, planned, progress, hold: None }
    }

    fn this_process() -> Result<ProcessId, Refused> {
        let found = Processes::look().ok().and_then(|mut look| look.identify(std::process::id()));
        found.ok_or_else(|| Refused::Text("cannot find this process in /proc".to_owned()))
    }

    /// Changes the ledger in one write, if the nodes have room now.
    fn change(&mut self, parts: Option<Parts>, mut change: Relocation) -> Result<(), Refused> {
        let me = Self::this_process()?;
        let asker = Asker::new(std::process::id(), getuid().as_raw());
        let (planned, wanted) = (self.planned, parts.clone());
        let (mut decision, ()) = self.claims.decide(&asker, LOCK_TIMEOUT, |view| {
            let Some((planned, parts)) = planned.zip(wanted.as_ref()) else {
                return Ok::<(), Refused>(());
            };
            let text = |error: placer_engine::SourceError| Refused::Text(chain(&error));
            let mut host = SnapshotReader::open(&SysRoot::live(), None).map_err(text)?;
            let now = host.again(planned, view.charges).map_err(text)?;
            match parts.fit(&now) {
                true => Ok(()),
                false => Err(Refused::Text("its new nodes have no room any more".to_owned())),
            }
        })?;
        let caller = decision.caller_of(&asker);
        change.hold = parts.map(|parts| (parts, me, caller));
        self.hold = decision.relocate(change)?.or(self.hold.take());
        Ok(())
    }
}

impl Books for Ledger<'_> {
    fn save(&mut self, journal: &Journal) -> Result<(), String> {
        self.file.write(journal).map_err(|error| chain(&error))
    }

    fn claim(&mut self, record: &Record, direction: Direction) -> Result<(), String> {
        let ended = self.hold.take().into_iter().collect();
        let change = Relocation { claims: claims(record, direction, 0), hold: None, ended };
        Ok(self.change(Some(on_its_way(record, direction)), change)?)
    }

    fn settle(&mut self, record: &Record, direction: Direction) -> Result<(), String> {
        let ended = self.hold.take().into_iter().collect();
        let change =
            Relocation { claims: claims(record, direction, record.stayed), hold: None, ended };
        Ok(self.change(None, change)?)
    }

    fn progress(&mut self, progress: &Progress<'_>) {
        (self.progress)(progress);
    }
}

/// Returns what is held while memory is on its way.
fn on_its_way(record: &Record, direction: Direction) -> Parts {
    let shares = match direction {
        Direction::There => &record.target,
        Direction::Back => &record.source,
    };
    let bytes = record.memory;
    let weights: Vec<u64> = shares.iter().map(|share| share.bytes).collect();
    let parts = split_by_weight(bytes, &weights);
    let promised = shares.iter().zip(parts).map(|(share, bytes)| Promise {
        node: NodeId(share.node),
        memory: Bytes::new(bytes),
        cpus: CpuShare::ZERO,
    });
    let mut promised: Vec<Promise> =
        promised.filter(|promise| promise.memory > Bytes::ZERO).collect();
    promised.sort_by_key(|promise| promise.node);
    Parts { memory: Bytes::new(bytes), promised, ..Parts::default() }
}

/// Returns what is promised to the claims of a guest from now on: where its memory is to be, with what cannot be moved
/// and what stayed where it was.
fn claims(
    record: &Record,
    direction: Direction,
    stayed: u64,
) -> Vec<(ClaimId, Vec<Promise>, CpuSet)> {
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
    use placer_engine::NodeSet;
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
            let parts = on_its_way(&record(), direction);
            assert_eq!(parts.memory.get(), 7 * GIB);
            let promised = parts.promised.iter();
            promised.map(|promise| (promise.node.0, promise.memory.get() / GIB)).collect()
        };
        assert_eq!(held(Direction::There), [(1, 3), (3, 4)]);
        assert_eq!(held(Direction::Back), [(0, 7)]);
    }
}
