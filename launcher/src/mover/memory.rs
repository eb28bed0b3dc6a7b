//! Moves a guest's memory in chunks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::NodeId;
use placer_engine::claims::ProcessId;

use super::error::MoveError;
use super::host::Host;
use super::journal::Share;
use super::maps::Mapping;
use super::pace::Pace;
use super::quota::Quota;

/// Pages looked at in one call.
const CHUNK: u64 = 2_048;
/// How often a page that is busy is tried.
const TRIES: u32 = 3;
/// Pages that are tried first. Each may be in a huge page, which moves as a whole.
const PROBED: u64 = 64;
/// Sparse mappings beyond that are left alone: looking through a TiB takes half a minute.
const LARGEST: u64 = 1 << 40;
/// A guest with mappings of more than that together is not moved: any user can map what is not there.
const LARGEST_OF_ALL: u64 = 4 << 40;
/// The longest pause between two looks whether the guest still runs.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes that are on the nodes of the target, and bytes that should be and stayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) there: u64,
    pub(super) stayed: u64,
    /// Moved now.
    pub(super) moved: u64,
}

fn refused(pid: u32, errno: Errno) -> MoveError {
    MoveError::Refused(format!("move memory of process {pid}"), errno)
}

/// Calls of the kernel name a process by its pid, which may be another's by now.
pub(super) fn check(host: &mut dyn Host, guest: &ProcessId) -> Result<(), MoveError> {
    match host.is_running(guest) {
        Ok(true) => Ok(()),
        Ok(false) => Err(MoveError::Gone),
        Err(errno) => Err(MoveError::Refused(format!("look at process {}", guest.pid), errno)),
    }
}

fn mappings(host: &mut dyn Host, guest: &ProcessId) -> Result<Vec<Mapping>, MoveError> {
    check(host, guest)?;
    let mappings = host.mappings(guest.pid).map_err(|errno| refused(guest.pid, errno))?;
    let mappings = mappings.into_iter().filter(|mapping| mapping.bytes <= LARGEST);
    let mappings: Vec<Mapping> = mappings.collect();
    let all = mappings.iter().fold(0, |all: u64, mapping| all.saturating_add(mapping.bytes));
    if all > LARGEST_OF_ALL { Err(MoveError::TooLarge) } else { Ok(mappings) }
}

fn pause(host: &mut dyn Host, guest: &ProcessId, time: Duration) -> Result<(), MoveError> {
    let mut left = time;
    while left > PAUSE {
        host.pause(PAUSE);
        left -= PAUSE;
        check(host, guest)?;
    }
    host.pause(left);
    Ok(())
}

/// Returns the nodes of ascending pages, and how many are there whose nodes cannot be known.
fn nodes_of(
    host: &mut dyn Host,
    pid: u32,
    pages: &[u64],
) -> Result<(Vec<Option<NodeId>>, usize), MoveError> {
    let asked = |nodes: Result<_, Errno>| nodes.map_err(|errno| refused(pid, errno));
    let mut nodes: Vec<Option<NodeId>> = asked(host.nodes_of(pid, pages))?;
    let unseen = pages.iter().zip(&nodes).filter(|(_, node)| node.is_none());
    let unseen: Vec<u64> = unseen.map(|(&page, _)| page).collect();
    if unseen.is_empty() {
        return Ok((nodes, 0));
    }
    let (there, hidden) = host.uncover(pid, &unseen).map_err(|errno| refused(pid, errno))?;
    if !there.is_empty() {
        // One that was read and is on no node has no memory of the guest's: the kernel's page of zeros.
        for (page, node) in there.iter().zip(asked(host.nodes_of(pid, &there))?) {
            if let Some(known) = pages.binary_search(page).ok().and_then(|at| nodes.get_mut(at)) {
                *known = node;
            }
        }
    }
    Ok((nodes, hidden))
}

/// Tries a few pages, from everywhere: whether at least half of those that are to be moved let themselves be moved. They
/// are not moved back, since all that is there goes the same way. `outside` is the part of its memory that is to be
/// moved, 0 to 1, as it was before anything was: some of it may have been moved by a run that was killed.
pub(super) fn probe(
    host: &mut dyn Host,
    guest: &ProcessId,
    target: &[Share],
    outside: f64,
) -> Result<bool, MoveError> {
    let largest = target.iter().max_by_key(|share| share.bytes);
    let Some(to) = largest.map(|share| NodeId(share.node)) else { return Ok(true) };
    let inside = |node: NodeId| target.iter().any(|share| share.bytes > 0 && share.node == node.0);
    let pid = guest.pid;
    let mappings = mappings(host, guest)?;
    let size = host.page_size();
    let all: u64 = mappings.iter().map(|mapping| mapping.bytes / size).sum();
    let every = (all / PROBED).max(1);
    let (mut next, mut present, mut stuck) = (0, 0_u32, 0_u32);
    for mapping in &mappings {
        let pages = mapping.bytes / size;
        let mut sampled = Vec::new();
        while next < pages {
            sampled.push(mapping.start + next * size);
            next += every;
        }
        next -= pages;
        check(host, guest)?;
        let nodes = host.nodes_of(pid, &sampled).map_err(|errno| refused(pid, errno))?;
        let there = sampled.iter().zip(nodes).filter_map(|(&page, node)| Some((page, node?)));
        let there: Vec<(u64, NodeId)> = there.collect();
        let goes = there.iter().filter(|&&(_, node)| !inside(node)).map(|&(page, _)| (page, to));
        let goes: Vec<(u64, NodeId)> = goes.collect();
        let stayed = send(host, pid, mapping, &goes)?;
        let count = |pages: usize| u32::try_from(pages).unwrap_or(u32::MAX);
        present = present.saturating_add(count(there.len()));
        stuck = stuck.saturating_add(count(stayed));
    }
    let expected = f64::from(present) * outside.clamp(0.0, 1.0);
    Ok(f64::from(stuck) * 2.0 <= expected)
}

/// Moves memory so that each node has its part.
pub(super) fn relocate(
    host: &mut dyn Host,
    guest: &ProcessId,
    wanted: &[Share],
    pace: Pace,
    group: Option<&str>,
    progress: &mut dyn FnMut(u64),
) -> Result<Counted, MoveError> {
    let pid = guest.pid;
    let mappings = mappings(host, guest)?;
    let size = host.page_size();
    let mut quota = Quota::new(wanted, &there(host, guest, &mappings, wanted)?);
    let mut counted = Counted::default();
    for mapping in &mappings {
        let pages = mapping.bytes / size;
        for first in (0..pages).step_by(usize::try_from(CHUNK).unwrap_or(1)) {
            check(host, guest)?;
            let start = host.now();
            let chunk: Vec<u64> =
                (first..pages.min(first + CHUNK)).map(|page| mapping.start + page * size).collect();
            let bytes =
                |pages: usize| u64::try_from(pages).unwrap_or(u64::MAX).saturating_mul(size);
            let (nodes, hidden) = nodes_of(host, pid, &chunk)?;
            counted.there += bytes(nodes.iter().flatten().count());
            counted.stayed += bytes(hidden);
            let goes = chunk
                .iter()
                .zip(nodes)
                .filter_map(|(&page, node)| quota.target_of(node?, size).map(|to| (page, to)));
            let goes: Vec<(u64, NodeId)> = goes.collect();
            if goes.is_empty() {
                continue;
            }
            let stayed = send(host, pid, mapping, &goes)?;
            counted.there -= bytes(stayed);
            counted.stayed += bytes(stayed);
            counted.moved += bytes(goes.len() - stayed);
            progress(counted.moved);
            let time = pace.time_for(bytes(goes.len()), host.pressure(group.map(Path::new)));
            let spent = host.now().saturating_sub(start);
            pause(host, guest, time.saturating_sub(spent))?;
        }
    }
    Ok(counted)
}

/// Returns where memory is, if it goes to several nodes: with one all goes there, wherever it is.
fn there(
    host: &mut dyn Host,
    guest: &ProcessId,
    mappings: &[Mapping],
    wanted: &[Share],
) -> Result<BTreeMap<NodeId, u64>, MoveError> {
    let mut there = BTreeMap::new();
    if wanted.iter().filter(|share| share.bytes > 0).count() < 2 {
        return Ok(there);
    }
    let size = host.page_size();
    for mapping in mappings {
        let pages = mapping.bytes / size;
        for first in (0..pages).step_by(usize::try_from(CHUNK).unwrap_or(1)) {
            let chunk: Vec<u64> =
                (first..pages.min(first + CHUNK)).map(|page| mapping.start + page * size).collect();
            check(host, guest)?;
            for node in nodes_of(host, guest.pid, &chunk)?.0.into_iter().flatten() {
                *there.entry(node).or_insert(0) += size;
            }
        }
    }
    Ok(there)
}

/// Moves pages, and looks where they are. Returns how many stayed elsewhere.
fn send(
    host: &mut dyn Host,
    pid: u32,
    mapping: &Mapping,
    pages: &[(u64, NodeId)],
) -> Result<usize, MoveError> {
    let mut left = pages.to_vec();
    for _ in 0..TRIES {
        if left.is_empty() {
            break;
        }
        let full = host.move_pages(pid, &left, mapping.shared);
        let full = full.map_err(|errno| refused(pid, errno))?;
        let addresses: Vec<u64> = left.iter().map(|&(page, _)| page).collect();
        let (nodes, _) = nodes_of(host, pid, &addresses)?;
        // One that is not there any more was given back meanwhile.
        let elsewhere = left.iter().zip(nodes);
        left = elsewhere
            .filter(|&(&(_, to), node)| node.is_some_and(|node| node != to))
            .map(|(&page, _)| page)
            .collect();
        if full && !left.is_empty() {
            return Err(MoveError::NoRoom);
        }
    }
    Ok(left.len())
}
