//! What makes guests slow on a host, what it costs, and which commands change it.

mod caches;

use std::fmt::Write;

use placer_engine::{Bytes, NodeSet};
use serde::Serialize;

use super::escape;
use super::view::{Guest, Node, View};

pub use caches::{across, recorded};

/// Something that makes guests slower, or may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, for programs.
    pub kind: &'static str,
    /// What was found: a sentence without a full stop.
    pub text: String,
    /// What it costs.
    pub cost: String,
    /// The command that changes it; `None` where no command does.
    pub mend: Option<String>,
    /// The command that takes the change back.
    pub undo: Option<String>,
}

/// Returns what was found about a host and its guests, from what is shown of it. What [`across`] finds is not in it.
pub fn of_host(view: &View) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        view.odd.iter().filter_map(|odd| of_odd(odd.kind, &odd.text, view)).collect();
    findings.extend(view.guests.iter().flatten().filter_map(|guest| spread(guest, view)));
    findings
}

/// Adds cost and commands to an oddity. `None` for those that are no fault: memory without CPUs,
/// isolated CPUs, empty nodes; and for misplaced guests, which are found one by one.
fn of_odd(kind: &'static str, text: &str, view: &View) -> Option<Finding> {
    let firmware = (Some("fwupdmgr update".to_owned()), Some("fwupdmgr downgrade".to_owned()));
    let sysctl = |name: &str, value: Option<u64>| {
        let undo = value.map(|value| format!("sysctl {name}={value}"));
        (Some(format!("sysctl {name}=0")), undo)
    };
    let (cost, (mend, undo)) = match kind {
        "asymmetric-distances" => (
            "if the firmware's table is wrong, guests are placed on the slower side of it",
            firmware,
        ),
        "strange-distances" => {
            ("guests are placed by distances that the hardware does not have", firmware)
        }
        "shared-cpus" => ("CPUs are counted for a node that they may not be near to", firmware),
        "no-memory" => {
            let with = view.nodes.iter().filter(|node| node.memory.total != Some(Bytes::ZERO));
            let with: NodeSet = with.map(|node| node.id).collect();
            let mend = format!("export PLACER_WITHIN={with}");
            (
                "every memory access of a guest on these CPUs is remote",
                (Some(mend), Some("unset PLACER_WITHIN".to_owned())),
            )
        }
        "offline-cpus" => {
            let (mend, undo) =
                (format!("chcpu -e {}", view.offline), format!("chcpu -d {}", view.offline));
            ("guests cannot use these CPUs", (Some(mend), Some(undo)))
        }
        "overpromised" => (
            "when guests touch all their memory, it is remote, swapped, or they are killed",
            (Some("placer ps".to_owned()), None),
        ),
        "numa-balancing" => (
            "the kernel takes page faults to sample accesses, and moves memory of these guests",
            sysctl("kernel.numa_balancing", view.kernel.numa_balancing),
        ),
        "zone-reclaim" => (
            "file cache is dropped and read again although other nodes have free memory",
            sysctl("vm.zone_reclaim_mode", view.kernel.zone_reclaim_mode),
        ),
        "swap" => (
            "a swapped page costs a disk access, about 1,000 times a remote memory access",
            (Some("swapoff -a".to_owned()), Some("swapon -a".to_owned())),
        ),
        _ => return None,
    };
    Some(Finding { kind, text: text.to_owned(), cost: cost.to_owned(), mend, undo })
}

/// Finds a guest on several nodes that would fit on one.
fn spread(guest: &Guest, view: &View) -> Option<Finding> {
    let nodes = guest.nodes();
    let holds = |node: &Node| {
        let cpus = node.cpus.len().saturating_mul(100);
        node.memory.total.is_some_and(|total| total >= guest.memory)
            && cpus >= guest.cpus.hundredths()
    };
    if guest.is_hold() || nodes.len() < 2 || !view.nodes.iter().any(holds) {
        return None;
    }
    let distances = view.distances.as_ref();
    let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
    let far = pairs.filter_map(|(a, b)| Some(distances?.get(a, b)?.0)).max();
    let cost = far.map_or_else(
        || "part of its memory accesses are remote".to_owned(),
        |far| format!("part of its memory accesses are remote, at distance {far} (10 is local)"),
    );
    let (pid, memory) = (guest.pid?, guest.memory.whole_mib());
    Some(Finding {
        kind: "spread-guest",
        text: format!("guest {pid} is on nodes {nodes}, and a single node is large enough for it"),
        cost,
        mend: Some(format!("placer advise {}:{memory}M --explain", guest.cpus)),
        undo: None,
    })
}

/// Prints findings for people.
pub fn text(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing was found\n".to_owned();
    }
    let mut text = String::new();
    for (number, finding) in (1..).zip(findings) {
        let lines = [
            Some(("cost", finding.cost.as_str())),
            finding.mend.as_deref().map(|mend| ("mend", mend)),
            finding.undo.as_deref().map(|undo| ("undo", undo)),
        ];
        // Writing to a string does not fail.
        let _ = writeln!(text, "{number}. {}", escape::terminal(&finding.text));
        for (name, line) in lines.into_iter().flatten() {
            let _ = writeln!(text, "   {name}  {}", escape::terminal(line));
        }
    }
    text
}
