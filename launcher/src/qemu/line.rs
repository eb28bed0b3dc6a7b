//! A user's own command line of QEMU: where its memory and its vCPUs go, and what is added to it.
//!
//! Words are only added: properties behind those of a memory backend, and options behind the last one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use placer_engine::{Advice, Bytes, NodeId, NodeSet, Snapshot};

use super::memory::policy;
use super::shape::{self, Shape};
use crate::cells::{Cell, Homes, Loads, Shares, has_room, homes};
use crate::error::LaunchError;
use crate::guest::line::{Backend, Line, Ram};
use crate::guest::{Guest, MemoryMode, NodeChoice, Pages, Program};

/// Where a guest goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) shape: Shape,
    /// The advice with what the guest is expected to carry on each node: that is what is claimed.
    pub(super) advice: Advice,
    pub(super) added: Added,
}

/// What is added to a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Behind which words, and what.
    properties: Vec<(usize, String)>,
    /// Behind the last word.
    options: Vec<String>,
}

impl Placed {
    /// Decides where the memory and the vCPUs of a guest go.
    ///
    /// Each NUMA node of the guest goes to one node of the host. A guest without NUMA nodes stays as it is on
    /// several nodes too: its pages go round them where each has room for its part.
    ///
    /// Errors: host nodes in the line that this host does not have; a policy in it that contradicts a mode
    /// that was asked for.
    pub(super) fn of(
        guest: &Guest,
        line: &Line,
        advice: &Advice,
        snapshot: &Snapshot,
    ) -> Result<Self, LaunchError> {
        check(guest, line, snapshot)?;
        let fixed = match &guest.nodes {
            NodeChoice::Fixed(nodes) => nodes,
            NodeChoice::Advised => &advice.memory_nodes,
        };
        let homes = cell_homes(guest, line, advice, snapshot);
        let all = homes.values().fold(NodeSet::new(), |all, home| all.union(home));
        let memory = if all.is_empty() { fixed.clone() } else { all.clone() };
        let memory: NodeSet = memory.iter().filter(|&id| shape::has_memory(snapshot, id)).collect();
        // On a host of one node all memory is there, and a policy may be forbidden.
        let one_node = snapshot.topology().nodes().len() == 1 && !guest.mode_given;
        let unbound = memory.is_empty() || one_node;
        let mut mode = if unbound { MemoryMode::None } else { guest.mode };
        let mut notes = Vec::new();
        let mut wide = false;
        if homes.is_empty() && memory.len() > 1 && mode == MemoryMode::Strict && !guest.mode_given {
            wide = room_for_equal_parts(line, &memory, advice, snapshot);
            if wide {
                mode = MemoryMode::Interleave;
            }
            let how = if wide { "interleaved over" } else { "bound to all of" };
            let remedy = match guest.program {
                Program::Qemu(_) => "cells in [qemu] of its definition",
                _ => "-numa in its command line",
            };
            notes.push(format!(
                "the guest is wider than a node and has no NUMA nodes of its own: its memory is {how} \
                 nodes {memory}; {remedy} would keep each part on one node"
            ));
        }
        if line.paused {
            notes.push("-S is in the command line: the guest stays paused".to_owned());
        }
        let mut charged = advice.clone();
        let beyond = all.difference(&advice.nodes);
        let beyond_cpus = snapshot.topology().cpus_of(&beyond);
        charged.cpus = charged.cpus.union(&beyond_cpus.difference(snapshot.topology().isolated()));
        charged.usable_cpus = charged.usable_cpus.union(&beyond_cpus);
        let most = advice.split.iter().filter(|share| memory.contains(share.node));
        let most = most.reduce(|most, share| if share.memory > most.memory { share } else { most });
        let preferred = most.map(|share| share.node).or_else(|| memory.first());
        let one = |nodes: &NodeSet| match mode {
            MemoryMode::Preferred => {
                let node = preferred.filter(|node| nodes.contains(*node)).or_else(|| nodes.first());
                node.into_iter().collect()
            }
            _ => nodes.clone(),
        };
        let cells = cells(guest, line, &homes, &memory, one);
        // A cpuset around the guest has to allow what its devices are bound to.
        let named = line.backends.iter().map(|backend| &backend.host_nodes);
        let named = named.filter(|_| line.ram != Ram::Other);
        let memory = named.fold(memory, |all, nodes| all.union(nodes));
        let shape = Shape {
            cells,
            mode,
            preferred: preferred.into_iter().collect(),
            die: line.die,
            pages: None,
            notes,
            memory,
        };
        if !homes.is_empty() || wide || line.backends.iter().any(|b| !b.host_nodes.is_empty()) {
            charged.split = split(guest, line, &shape, advice, &homes);
            charged.nodes = charged.split.iter().map(|share| share.node).collect();
        }
        let added = Added::of(line, &shape, &homes);
        Ok(Self { shape, advice: charged, added })
    }
}

/// Refuses what the host does not have, and a policy that was not asked for.
fn check(guest: &Guest, line: &Line, snapshot: &Snapshot) -> Result<(), LaunchError> {
    let host = snapshot.topology().node_set();
    for backend in &line.backends {
        let what = || format!("bind the memory of -object {}", backend.id);
        let missing = backend.host_nodes.difference(&host);
        if !missing.is_empty() {
            let seen = format!("host-nodes names node {missing}; this host has nodes {host}");
            return Err(LaunchError::seen(what(), Errno::EINVAL, seen));
        }
        let asked = policy(guest.mode).filter(|_| guest.mode_given);
        if let (Some(said), Some(asked)) = (&backend.policy, asked)
            && said != asked
        {
            let mode = guest.mode;
            let seen =
                format!("the command line says policy={said}, which --mode {mode} contradicts");
            return Err(LaunchError::seen(what(), Errno::EINVAL, seen));
        }
    }
    Ok(())
}

/// Returns the host nodes of each NUMA node of the guest; of none where its memory goes round all of them.
fn cell_homes(guest: &Guest, line: &Line, advice: &Advice, snapshot: &Snapshot) -> Homes {
    if matches!(guest.mode, MemoryMode::Interleave | MemoryMode::WeightedInterleave) {
        return Homes::new();
    }
    let backend = |id: Option<&String>| line.backends.iter().find(|known| Some(&known.id) == id);
    let all = line.cells.iter().map(|cell| Cell {
        id: cell.id,
        vcpus: cell.vcpus.clone(),
        memory: cell.memory,
        pages: backend(cell.backend.as_ref()).map_or(Pages::Ordinary, |backend| backend.pages),
    });
    let all: Vec<Cell> = all.collect();
    let fixed = |cell: &Cell| {
        let said = line.cells.iter().find(|said| said.id == cell.id)?;
        let nodes = &backend(said.backend.as_ref())?.host_nodes;
        (!nodes.is_empty()).then(|| nodes.clone())
    };
    let only = match &guest.nodes {
        NodeChoice::Fixed(nodes) => Some(nodes),
        NodeChoice::Advised => None,
    };
    homes(&all, fixed, only, snapshot, advice)
}

/// Returns whether each node has room for an equal part of a guest's memory.
fn room_for_equal_parts(
    line: &Line,
    nodes: &NodeSet,
    advice: &Advice,
    snapshot: &Snapshot,
) -> bool {
    let memory = Bytes::new(line.memory.get().div_ceil(nodes.len().max(1)));
    let part = Cell { id: 0, vcpus: Default::default(), memory, pages: line.pages() };
    nodes.iter().all(|node| has_room(&part, node, &Loads::new(), snapshot, advice))
}

fn cells(
    guest: &Guest,
    line: &Line,
    homes: &Homes,
    memory: &NodeSet,
    one: impl Fn(&NodeSet) -> NodeSet,
) -> Vec<shape::Cell> {
    let ranges = |vcpus: &placer_engine::CpuSet| {
        vcpus.ranges().map(|(first, last)| (first.0, last.0)).collect()
    };
    if line.cells.is_empty() {
        return vec![shape::Cell {
            memory_nodes: one(memory),
            memory: line.memory,
            cpu_nodes: NodeSet::new(),
            vcpus: vec![(0, guest.cpus.maximum.saturating_sub(1))],
        }];
    }
    let cell = |cell: &crate::guest::line::LineCell| {
        let home = homes.get(&cell.id).cloned();
        let nodes = home.as_ref().map_or_else(|| memory.clone(), |home| home.intersection(memory));
        shape::Cell {
            memory_nodes: one(&nodes),
            memory: cell.memory,
            cpu_nodes: home.unwrap_or_default(),
            vcpus: ranges(&cell.vcpus),
        }
    };
    line.cells.iter().map(cell).collect()
}

/// Returns what each node is expected to carry.
fn split(
    guest: &Guest,
    line: &Line,
    shape: &Shape,
    advice: &Advice,
    homes: &Homes,
) -> Vec<placer_engine::Share> {
    let mut shares = Shares::default();
    let mut rest = line.memory;
    let of_devices = line.of_devices().fold(Bytes::ZERO, |sum, one| sum.saturating_add(one.size));
    for cell in &shape.cells {
        let cpus = if cell.cpu_nodes.is_empty() { &advice.nodes } else { &cell.cpu_nodes };
        let there = cell.vcpus.iter().map(|&(first, last)| {
            let end = last.saturating_add(1).min(guest.cpus.current);
            u64::from(end.saturating_sub(first))
        });
        shares.add_vcpus(cpus, there.sum());
        // The only cell of a line without NUMA nodes stands for all of its memory.
        let beside = if line.cells.is_empty() { of_devices } else { Bytes::ZERO };
        let own = cell.memory.saturating_sub(beside);
        shares.add_memory(&cell.memory_nodes, own);
        rest = rest.saturating_sub(own);
    }
    for backend in line.of_devices() {
        let size = backend.size.min(rest);
        shares.add_memory(&nodes_of(line, shape, homes, backend), size);
        rest = rest.saturating_sub(size);
    }
    shares.split()
}

/// Returns the host nodes of a memory backend.
fn nodes_of(line: &Line, shape: &Shape, homes: &Homes, backend: &Backend) -> NodeSet {
    if !backend.host_nodes.is_empty() {
        return backend.host_nodes.clone();
    }
    let own = line.cells.iter().position(|cell| cell.backend.as_ref() == Some(&backend.id));
    let of = backend.cell.filter(|id| homes.contains_key(id));
    let device = of.and_then(|id| line.cells.iter().position(|cell| cell.id == id));
    let cell = own.or(device).or_else(|| line.cells.is_empty().then_some(0));
    let nodes = cell.and_then(|at| shape.cells.get(at)).map(|cell| cell.memory_nodes.clone());
    nodes.filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| match shape.mode {
        MemoryMode::Preferred => shape.preferred.clone(),
        _ => shape.memory.clone(),
    })
}

impl Added {
    fn of(line: &Line, shape: &Shape, homes: &Homes) -> Self {
        let mut added = Self::default();
        // Without a word for it the memory takes the policy of the process.
        if let Some(policy) = policy(shape.mode) {
            for backend in &line.backends {
                let nodes = nodes_of(line, shape, homes, backend);
                let nodes = Some(nodes).filter(|_| backend.host_nodes.is_empty());
                let text = match &backend.policy {
                    Some(said) if said == "default" => None,
                    Some(_) => nodes.map(|nodes| properties(backend.json, &nodes, None)),
                    None => {
                        let nodes = nodes.unwrap_or_default();
                        Some(properties(backend.json, &nodes, Some(policy)))
                    }
                };
                added.properties.extend(text.map(|text| (backend.at, text)));
            }
            if let (Ram::Plain(size, id), [cell]) = (&line.ram, shape.cells.as_slice()) {
                let bound = properties(false, &cell.memory_nodes, Some(policy));
                let object = format!("memory-backend-ram,id={id},size={}{bound}", short(*size));
                let words = ["-object", &object, "-machine", &format!("memory-backend={id}")];
                added.options.extend(words.map(str::to_owned));
            }
        }
        added.options.extend(line.monitor.iter().map(|&word| word.to_owned()));
        if !line.paused {
            added.options.push("-S".to_owned());
        }
        added
    }

    /// Returns the words of the line with what is added; `channel` is the descriptor of the control channel.
    pub(super) fn argv(&self, line: &Line, channel: i32) -> Vec<OsString> {
        let mut argv = line.argv.clone();
        for (at, text) in &self.properties {
            let Some(word) = argv.get_mut(*at) else { continue };
            let mut bytes = std::mem::take(word).into_vec();
            // In JSON before the brace that ends it.
            let json =
                text.starts_with(",\"").then(|| bytes.iter().rposition(|&byte| byte == b'}'));
            let end = json.flatten().unwrap_or(bytes.len());
            // A comma at the end is a separator already, two are one in a value.
            let commas = bytes[..end].iter().rev().take_while(|&&byte| byte == b',').count();
            let text = if commas % 2 == 1 { &text[1..] } else { text };
            bytes.splice(end..end, text.as_bytes().iter().copied());
            *word = OsString::from_vec(bytes);
        }
        argv.extend(self.options.iter().map(OsString::from));
        argv.extend(super::args::control(channel).map(OsString::from));
        argv
    }
}

/// Returns the properties that bind a backend.
fn properties(json: bool, nodes: &NodeSet, policy: Option<&str>) -> String {
    let mut text = String::new();
    if json {
        if !nodes.is_empty() {
            let ids: Vec<String> = nodes.iter().map(|node: NodeId| node.0.to_string()).collect();
            text.push_str(&format!(",\"host-nodes\":[{}]", ids.join(",")));
        }
        text.extend(policy.map(|policy| format!(",\"policy\":\"{policy}\"")));
        return text;
    }
    text.push_str(&super::memory::host_nodes(nodes));
    text.extend(policy.map(|policy| format!(",policy={policy}")));
    text
}

/// Returns a size as short as it can be said.
fn short(size: Bytes) -> String {
    match size.get() % (1 << 20) {
        0 => format!("{}M", size.whole_mib()),
        _ => size.get().to_string(),
    }
}

#[cfg(test)]
mod tests;
