//! How the daemon chooses nodes for a process: as an advice, but with a margin of CPU, and without asking for CPU
//! at all where there is enough.

use placer_engine::NodeId;
use placer_engine::policy::numad::{NodeFigures, Version};

/// What a process needs. Hundredths of a CPU and MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) cpus: u64,
    pub(super) mib: u64,
    /// CPU that may be missing.
    pub(super) flex: u64,
    pub(super) counts_cpus: bool,
}

/// MiB that are held back on each node.
const MARGIN: i128 = 100;
/// A node with at most so many hundredths of a CPU free is not named by the version of 2025.
const BUSY: u64 = 10;

/// Returns the nodes, in the order in which they are taken; `None` where a distance is missing or zero. None at
/// all stands for every node.
pub(super) fn choose<Row: AsRef<[u64]>>(
    version: Version,
    nodes: &[NodeFigures],
    rows: &[Row],
    want: &Want,
) -> Option<Vec<NodeId>> {
    let count = nodes.len();
    let magnitudes: Vec<u128> = nodes.iter().map(|node| magnitude(version, node, want)).collect();
    let need = match version {
        Version::V2015 => least(nodes, want),
        Version::V2025 => count,
    };
    let mut best: Option<(u128, Vec<usize>)> = None;
    for column in 0..count {
        let far = |at: usize| rows.get(at)?.as_ref().get(column).copied().filter(|&far| far > 0);
        let column: Vec<u64> = (0..count).map(far).collect::<Option<_>>()?;
        let order = ordered(&column, &magnitudes);
        let share =
            |&at: &usize| magnitudes[at] / (u128::from(column[at]) * u128::from(column[at]));
        let total: u128 = order.iter().take(need).map(share).sum();
        if best.as_ref().is_none_or(|(most, _)| total > *most) {
            best = Some((total, order));
        }
    }
    let (_, order) = best?;
    Some(match version {
        Version::V2015 => take_2015(nodes, &order, want, need),
        Version::V2025 => take_2025(nodes, &order, want),
    })
}

fn magnitude(version: Version, node: &NodeFigures, want: &Want) -> u128 {
    let (mib, cpus) = (u128::from(node.mbs_free), u128::from(node.cpus_free.max(1)));
    if version == Version::V2025 {
        return mib * cpus;
    }
    let split = |has: u128, wanted: u64| {
        let used = has.min(u128::from(wanted));
        (used, has - used)
    };
    let ((used_mib, spare_mib), (used_cpus, spare_cpus)) =
        (split(mib, want.mib), split(cpus, want.cpus));
    (10 * used_mib + 4 * spare_mib) * (6 * used_cpus + spare_cpus)
}

/// The least number of nodes, were all as large as the first.
fn least(nodes: &[NodeFigures], want: &Want) -> usize {
    let Some(first) = nodes.first() else { return 0 };
    let quotient = |wanted: u64, total: u64| if total > 0 { wanted.div_ceil(total) } else { 0 };
    let need = quotient(want.mib, first.mbs_total)
        .max(quotient(want.cpus.saturating_sub(want.flex), first.cpus_total));
    usize::try_from(need).unwrap_or(usize::MAX).min(nodes.len())
}

/// Nearest first, then largest magnitude: a selection sort that swaps.
fn ordered(column: &[u64], magnitudes: &[u128]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..column.len()).collect();
    for a in 0..order.len() {
        let mut best = a;
        for b in a + 1..order.len() {
            let (x, y) = (order[b], order[best]);
            if column[x] < column[y] || (column[x] == column[y] && magnitudes[x] > magnitudes[y]) {
                best = b;
            }
        }
        order.swap(a, best);
    }
    order
}

fn take_2015(nodes: &[NodeFigures], order: &[usize], want: &Want, need: usize) -> Vec<NodeId> {
    let (mut mib, mut cpus) = (i128::from(want.mib), i128::from(want.cpus));
    let mut taken = Vec::new();
    for &at in order {
        let lacks_cpus = want.counts_cpus && cpus > i128::from(want.flex);
        if taken.len() >= need && mib <= 0 && !lacks_cpus {
            break;
        }
        taken.push(nodes[at].id);
        let free = i128::from(nodes[at].mbs_free);
        mib = if free >= mib + MARGIN { 0 } else { mib - (free - MARGIN) };
        cpus = (cpus - i128::from(nodes[at].cpus_free.max(1))).max(0);
    }
    taken
}

fn take_2025(nodes: &[NodeFigures], order: &[usize], want: &Want) -> Vec<NodeId> {
    let (mut mib, mut cpus) = (i128::from(want.mib), i128::from(want.cpus));
    let mut taken = Vec::new();
    for &at in order {
        let idle = nodes[at].cpus_free.max(1);
        if idle > BUSY {
            taken.push(nodes[at].id);
        }
        let free = i128::from(nodes[at].mbs_free);
        if free >= mib + MARGIN {
            mib = 0;
        } else if free > MARGIN {
            mib -= free - MARGIN;
        }
        cpus = (cpus - i128::from(idle)).max(0);
        if mib <= 0 && (!want.counts_cpus || cpus <= i128::from(want.flex)) {
            break;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use placer_engine::policy::numad::{Query, choose as advise};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With no margin and CPU asked for, it chooses as the engine's advice does.
        #[test]
        fn without_a_margin_it_is_the_advice(
            figures in proptest::collection::vec((1u64..3_200, 200u64..60_000), 1..9),
            (cpus, mib) in (1u32..4_000, 1u32..80_000),
            distances in proptest::collection::vec(10u64..40, 64),
        ) {
            let node = |(id, &(cpus_free, mbs_free)): (u32, &(u64, u64))| NodeFigures {
                id: NodeId(id), cpus_total: 3_200, cpus_free, mbs_total: 64_000, mbs_free,
            };
            let nodes: Vec<NodeFigures> = (0..).zip(&figures).map(node).collect();
            let rows: Vec<&[u64]> = distances.chunks(8).take(nodes.len()).map(|row| &row[..nodes.len().min(8)]).collect();
            for version in Version::ALL {
                let want = Want { cpus: u64::from(cpus), mib: u64::from(mib), flex: 0, counts_cpus: true };
                let query = Query {
                    cpus: i32::try_from(cpus).expect("small"),
                    megabytes: i32::try_from(mib).expect("small"),
                };
                let wanted = advise(version, &nodes, &rows, query).expect("an answer");
                let mut found = choose(version, &nodes, &rows, &want).expect("an answer");
                found.sort_unstable();
                if found.is_empty() {
                    found = nodes.iter().map(|node| node.id).collect();
                }
                let wanted: Vec<NodeId> = wanted.nodes.iter().collect();
                prop_assert_eq!(found, wanted, "{}", version);
            }
        }
    }
}
