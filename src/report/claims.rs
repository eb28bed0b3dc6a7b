//! `placer ps`: guests and their claims, and where their memory is now.

use std::collections::BTreeMap;

use placer_engine::claims::{Claim, Origin, Owner, Processes};
use placer_engine::{Bytes, CpuShare, NodeId, NodeSet};
use serde::Serialize;

use crate::report::balance::StepForm;
use crate::report::escape;
use crate::report::text::wrapped;
use crate::report::view::MATCHES_AT;

/// `placer ps --json`.
#[derive(Serialize)]
pub struct Form<'a> {
    pub version: u32,
    pub claims: &'a [Row],
}

/// One claim, as a line or a JSON object. Memory in bytes, times in seconds.
#[derive(Serialize)]
pub struct Row {
    id: String,
    /// "process", "cgroup" or "hold".
    kind: &'static str,
    origin: Origin,
    pid: Option<u32>,
    pub program: Option<String>,
    /// The control group (v2) of a claim of this kind.
    cgroup: Option<String>,
    /// Seconds until a hold ends.
    ends_in: Option<f64>,
    age: f64,
    caller: CallerForm,
    cpus: f64,
    memory: u64,
    page: Option<u64>,
    nodes: String,
    /// What was promised on each node.
    promised: Vec<OnNode>,
    /// The CPUs that single threads of it have for themselves; "" for none.
    pinned: String,
    /// The CPUs that its threads share, where those are not all of its nodes; "" where they are.
    roaming: String,
    /// What is resident, as far as it was looked at.
    resident: Option<u64>,
    /// Where the guest's memory is now; not there when this user may not know.
    now: Option<Vec<OnNode>>,
    /// The part of it that is on the advised nodes, in percent.
    on_advised: Option<u64>,
    /// Whether it is where it was advised to be.
    matches: Option<bool>,
    /// The move that `placer balance` would list for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worth_moving: Option<StepForm>,
}

#[derive(Serialize)]
struct CallerForm {
    uid: u32,
    pid: u32,
    program: String,
}

#[derive(Clone, Copy, Serialize)]
struct OnNode {
    node: u32,
    memory: u64,
}

/// What claims of others take from a node, for those who may not see each of them.
#[derive(Serialize)]
pub(crate) struct OthersRow {
    node: u32,
    claims: u64,
    cpus: f64,
    memory: u64,
}

impl OthersRow {
    /// Adds claims up, node by node: memory in pages of all sizes.
    pub(crate) fn sums<'c>(claims: impl IntoIterator<Item = &'c Claim>) -> Vec<Self> {
        let mut sums: BTreeMap<NodeId, (u64, CpuShare, Bytes)> = BTreeMap::new();
        for promise in claims.into_iter().flat_map(|claim| &claim.promised) {
            let sum = sums.entry(promise.node).or_default();
            sum.0 += 1;
            sum.1 = sum.1.saturating_add(promise.cpus);
            sum.2 = sum.2.saturating_add(promise.memory);
        }
        let row = |(node, (claims, cpus, memory)): (NodeId, (u64, CpuShare, Bytes))| Self {
            node: node.0,
            claims,
            cpus: cpus.as_cpus(),
            memory: memory.get(),
        };
        sums.into_iter().map(row).collect()
    }
}

impl Row {
    /// Looks where the memory of a claim's guest is.
    pub fn of(claim: &Claim, look: &mut Processes) -> Self {
        let now = look.placement(claim);
        Self::with(claim, look, now)
    }

    /// The same without looking, which takes long.
    pub(crate) fn without_memory(claim: &Claim, look: &mut Processes) -> Self {
        Self::with(claim, look, None)
    }

    /// Returns the nodes that were chosen for the guest.
    pub fn nodes(&self) -> &str {
        &self.nodes
    }

    /// Returns the process of a guest.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Returns the process of a guest with memory on other nodes than its own, the percentage of
    /// memory on its own, and the other nodes.
    pub fn misplaced(&self) -> Option<(u32, u64, NodeSet)> {
        let (pid, percent) = (self.pid?, self.on_advised?);
        let own = |node: u32| self.promised.iter().any(|promise| promise.node == node);
        let away = self.now.iter().flatten().filter(|part| part.memory > 0 && !own(part.node));
        let away = away.map(|part| NodeId(part.node)).collect();
        self.is_astray().then_some((pid, percent, away))
    }

    /// Returns whether its memory is known not to be where it was advised.
    pub(crate) fn is_astray(&self) -> bool {
        self.matches == Some(false)
    }

    fn with(claim: &Claim, look: &mut Processes, now: Option<Vec<(NodeId, Bytes)>>) -> Self {
        let nodes: NodeSet = claim.promised.iter().map(|promise| promise.node).collect();
        let all: u64 = now.iter().flatten().map(|(_, memory)| memory.get()).sum();
        let there = now.iter().flatten().filter(|(node, _)| nodes.contains(*node));
        let there: u64 = there.map(|(_, memory)| memory.get()).sum();
        // A guest without memory is nowhere, and so where it should be.
        let on_advised = now.as_ref().map(|_| match all {
            0 => 100,
            all => u64::try_from(u128::from(there) * 100 / u128::from(all)).unwrap_or(100),
        });
        let seconds =
            |ns: Option<u64>| std::time::Duration::from_nanos(ns.unwrap_or(0)).as_secs_f64();
        let (kind, cgroup, ends_in) = match &claim.owner {
            Owner::Process(_) => ("process", None, None),
            Owner::Cgroup(_, cgroup) => ("cgroup", Some(cgroup.path.clone()), None),
            Owner::Hold { until } => ("hold", None, Some(seconds(until.since(look.now())))),
        };
        let on = |node: placer_engine::NodeId, memory: Bytes| OnNode {
            node: node.0,
            memory: memory.get(),
        };
        Self {
            id: claim.id.to_string(),
            kind,
            origin: claim.origin,
            pid: claim.owner.process().map(|process| process.pid),
            program: look.program(claim),
            cgroup,
            ends_in,
            age: seconds(look.now().since(claim.made)),
            caller: CallerForm {
                uid: claim.caller.uid,
                pid: claim.caller.pid,
                program: claim.caller.program.clone(),
            },
            cpus: claim.cpus.as_cpus(),
            memory: claim.memory.get(),
            page: claim.page.map(Bytes::get),
            nodes: nodes.to_string(),
            promised: claim.promised.iter().map(|p| on(p.node, p.memory)).collect(),
            pinned: claim.pinned.to_string(),
            roaming: claim.roaming.to_string(),
            resident: claim.seen.as_ref().map(|seen| match claim.page {
                None => seen.resident.saturating_add(seen.huge).get(),
                Some(_) => seen.huge.get(),
            }),
            now: now.map(|now| now.into_iter().map(|(node, memory)| on(node, memory)).collect()),
            on_advised,
            matches: on_advised.map(|percent| percent >= MATCHES_AT),
            worth_moving: None,
        }
    }
}

/// Draws the claims in 80 columns.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "claim    owner              age by            cpus     memory used there  nodes\n",
    );
    for row in rows {
        let owner = match (row.pid, &row.program, row.ends_in) {
            (Some(pid), Some(program), _) => format!("{pid} {}", escape::terminal(program)),
            (Some(pid), None, _) => format!("{pid}"),
            (None, _, ends) => format!("hold, {} left", time(ends.unwrap_or(0.0))),
        };
        let by = match row.origin {
            Origin::Asked => {
                format!("{} {}", row.caller.uid, escape::terminal(&row.caller.program))
            }
            Origin::Observed => "detected".to_owned(),
        };
        let used = row.resident.map_or_else(
            || "-".to_owned(),
            |resident| format!("{}%", u128::from(resident) * 100 / u128::from(row.memory.max(1))),
        );
        let there = match (row.on_advised, row.matches) {
            (Some(percent), Some(false)) => format!("{percent}%!"),
            (Some(percent), _) => format!("{percent}%"),
            (None, _) => "-".to_owned(),
        };
        let (id, age, cpus) = (&row.id, time(row.age), row.cpus);
        let memory = Bytes::new(row.memory).to_string();
        let lead = format!(
            "{id} {owner:<17.17} {age:>4} {by:<12.12} {cpus:>5} {memory:>10} {used:>4} {there:>5}  "
        );
        let nodes = if row.nodes.is_empty() { "-" } else { &row.nodes };
        text.push_str(&wrapped(&lead, nodes));
        for (what, cpus) in [("owns CPUs ", &row.pinned), ("on CPUs ", &row.roaming)] {
            if !cpus.is_empty() {
                text.push_str(&wrapped(&format!("{:9}{what}", ""), cpus));
            }
        }
        if let Some(step) = &row.worth_moving {
            text.push_str(&format!("{:9}worth moving: {}\n", "", step.in_words()));
        }
    }
    text
}

/// A time in the largest unit that says something: `12s`, `5m`, `3h`, `2d`.
fn time(seconds: f64) -> String {
    let steps = [("d", 86_400.0), ("h", 3_600.0), ("m", 60.0)];
    let unit = steps.iter().find(|(_, length)| seconds >= 2.0 * length);
    unit.map_or_else(
        || format!("{seconds:.0}s"),
        |(unit, length)| format!("{:.0}{unit}", seconds / length),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in
            [(0.0, "0s"), (119.0, "119s"), (120.0, "2m"), (7200.0, "2h"), (172_800.0, "2d")]
        {
            assert_eq!(time(seconds), text);
        }
    }
}
