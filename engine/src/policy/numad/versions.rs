//! The choice of either version.

use super::choose::{Choice, NodeFigures, Step};
use super::{Failure, Query, Version, v2015, v2025};

/// Chooses nodes for a request by the rules of one version. `nodes` and `distances` are in the order
/// that [`Machine::figures`](super::Machine::figures) gives them in for that version; each row of
/// `distances` has a column for each node in ascending order of ids.
///
/// Errors: a distance of zero, or a row that is too short.
///
/// ```
/// use placer_engine::policy::numad::{NodeFigures, Query, Version, choose};
/// use placer_engine::NodeId;
/// let node = |id, idle, free| NodeFigures {
///     id: NodeId(id), cpus_total: 800, cpus_free: idle, mbs_total: 16_000, mbs_free: free,
/// };
/// let nodes = [node(0, 800, 2_000), node(1, 10, 9_000)];
/// let rows: [&[u64]; 2] = [&[10, 21], &[21, 10]];
/// let query = Query { cpus: 400, megabytes: 500 };
/// assert_eq!(choose(Version::V2015, &nodes, &rows, query)?.nodes.to_string(), "0");
/// let query = Query { cpus: 400, megabytes: 5_000 };
/// assert_eq!(choose(Version::V2015, &nodes, &rows, query)?.nodes.to_string(), "0-1");
/// // Node 1 has too little idle CPU to be named, though its memory counts as got.
/// assert_eq!(choose(Version::V2025, &nodes, &rows, query)?.nodes.to_string(), "0");
/// # Ok::<(), placer_engine::policy::numad::Failure>(())
/// ```
pub fn choose<Row: AsRef<[u64]>>(
    version: Version,
    nodes: &[NodeFigures],
    distances: &[Row],
    query: Query,
) -> Result<Choice, Failure> {
    choose_by_steps(version, nodes, distances, query, |_| ())
}

/// The same, with each step reported as it is made.
///
/// Errors: as [`choose`].
pub fn choose_by_steps<Row: AsRef<[u64]>>(
    version: Version,
    nodes: &[NodeFigures],
    distances: &[Row],
    query: Query,
    report: impl FnMut(Step),
) -> Result<Choice, Failure> {
    match version {
        Version::V2015 => v2015::choose(nodes, distances, query),
        Version::V2025 => v2025::choose(nodes, distances, query, report),
    }
}
