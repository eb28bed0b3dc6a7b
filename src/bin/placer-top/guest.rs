//! Guests as they are listed: what they were promised, and where their memory is.

use placer_engine::claims::{Claim, Origin};
use placer_engine::{Bytes, NodeId, NodeSet};

/// Of a guest's memory, so many percent have to be on the advised nodes for it to count as placed as
/// advised: the rest may be the program's own. As `placer ps` counts.
pub(crate) const THERE: u64 = 90;

/// One guest, or a hold that waits for one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guest {
    /// Its name, without anything that moves a cursor.
    pub(crate) name: String,
    /// Who asked, the same way; nobody did for guests that were found.
    pub(crate) by: String,
    pub(crate) cpus: f64,
    pub(crate) memory: Bytes,
    pub(crate) nodes: NodeSet,
    /// The part of its memory that it has by now, in percent.
    pub(crate) used: Option<u64>,
    /// Where its memory is; `None` while that is not known.
    pub(crate) now: Option<Vec<(NodeId, Bytes)>>,
    /// What was promised of each node.
    pub(crate) promised: Vec<(NodeId, Bytes)>,
}

impl Guest {
    /// Returns the guest of a claim. `program` and `now` are what was seen of it.
    pub(crate) fn of(
        claim: &Claim,
        program: Option<&str>,
        now: Option<Vec<(NodeId, Bytes)>>,
    ) -> Self {
        let name = match (claim.owner.process(), program) {
            (Some(process), Some(program)) => format!("{} {}", process.pid, printable(program)),
            (Some(process), None) => process.pid.to_string(),
            (None, _) => format!("hold {}", claim.id),
        };
        let by = match claim.origin {
            Origin::Asked => printable(&claim.caller.program),
            Origin::Observed => "nobody asked".to_owned(),
        };
        let resident = claim.seen.as_ref().map(|seen| match claim.page {
            None => seen.resident.saturating_add(seen.huge),
            Some(_) => seen.huge,
        });
        Self {
            name,
            by,
            cpus: claim.cpus.as_cpus(),
            memory: claim.memory,
            nodes: claim.promised.iter().map(|promise| promise.node).collect(),
            used: resident.map(|resident| percent(resident, claim.memory)),
            now,
            promised: claim.promised.iter().map(|p| (p.node, p.memory)).collect(),
        }
    }

    /// Returns how much of its memory is on the advised nodes, in percent.
    pub(crate) fn there(&self) -> Option<u64> {
        let now = self.now.as_ref()?;
        let all: Bytes = now.iter().map(|&(_, memory)| memory).sum();
        let there = now.iter().filter(|(node, _)| self.nodes.contains(*node));
        // A guest without memory is nowhere, and so where it should be.
        Some(if all == Bytes::ZERO { 100 } else { percent(there.map(|&(_, m)| m).sum(), all) })
    }

    /// Returns the guest's part on some nodes, in percent: of the memory it has, or of what it was
    /// promised where that is not known. `None` when it has nothing to do with them.
    pub(crate) fn share(&self, nodes: &NodeSet) -> Option<u64> {
        let parts = self.now.as_ref().unwrap_or(&self.promised);
        let here: Bytes =
            parts.iter().filter(|(node, _)| nodes.contains(*node)).map(|&(_, m)| m).sum();
        let all: Bytes = parts.iter().map(|&(_, memory)| memory).sum();
        (here > Bytes::ZERO).then(|| percent(here, all))
    }
}

fn percent(part: Bytes, whole: Bytes) -> u64 {
    let whole = u128::from(whole.get().max(1));
    u64::try_from(u128::from(part.get()) * 100 / whole).unwrap_or(u64::MAX)
}

/// A program's name may hold anything, also what moves the cursor or turns the writing round.
pub(crate) fn printable(name: &str) -> String {
    name.escape_debug().collect()
}
