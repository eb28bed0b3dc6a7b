//! Policy `numad`, from the readings it takes to the nodes it names, all by the engine.

use std::borrow::Cow;

use placer_engine::parse::meminfo::{NodeMeminfo, NumadFields};
use placer_engine::policy::numad::{
    Failure, NodeFigures, Query, Rules, Version, charge, choose as by_numad,
};
use placer_engine::{Bytes, Charges, CpuId, CpuShare, CpuTimes, Instant, NodeMemory, Sample};

use super::super::machine::{Machine, WINDOW};
use super::{Seen, View, Want};

/// Nodes in numad's order, and a row of distances for each.
pub(in crate::replay) type Figures<'a> = (Vec<NodeFigures>, Vec<Cow<'a, [u64]>>);

/// Names the nodes of a version of numad, ascending; none where it has no answer.
pub(super) fn choose(version: Version, view: View<'_>, want: Want, named: &mut Vec<usize>) {
    named.clear();
    let rules = Rules::lenient(version);
    let machine = &view.machine.host.numad;
    let (before, now) = readings(view);
    let Ok(mut figures) = machine.figures(Some(&before), &now, &rules) else { return };
    charge(&mut figures, &charges(view));
    let query = Query {
        cpus: i32::try_from(want.cpus).unwrap_or(i32::MAX),
        megabytes: i32::try_from(want.mib).unwrap_or(i32::MAX),
    };
    let Ok(rows) = machine.distance_rows(&rules) else { return };
    let Ok(choice) = by_numad(rules.version, &figures, &rows, query) else { return };
    let at = |id| view.machine.nodes.binary_search_by_key(&id, |node| node.id).ok();
    named.extend(choice.nodes.iter().filter_map(at));
}

/// Returns what a version of numad makes of the nodes, and the distances from each of them.
///
/// Errors: what makes numad end, also by lenient rules.
pub(in crate::replay) fn figures<'a>(
    version: Version,
    machine: &'a Machine,
    nodes: &[Seen],
) -> Result<Figures<'a>, Failure> {
    let rules = Rules::lenient(version);
    let (before, now) = readings(View { machine, nodes });
    let machine = &machine.host.numad;
    let figures = machine.figures(Some(&before), &now, &rules)?;
    if figures.is_empty() {
        return Err(Failure::NoNodes);
    }
    Ok((figures, machine.distance_rows(&rules)?))
}

/// Returns what the kernel would show at two moments.
pub(super) fn readings(view: View<'_>) -> (CpuTimes, Sample) {
    let mut counters: Vec<(CpuId, u64)> = Vec::new();
    let mut memory = Vec::with_capacity(view.nodes.len());
    for (built, seen) in view.machine.nodes.iter().zip(view.nodes) {
        let mut busy = seen.busy;
        for &cpu in &built.order {
            let here = busy.min(WINDOW);
            busy -= here;
            counters.push((cpu, WINDOW - here));
        }
        counters.extend(built.isolated.iter().map(|&cpu| (cpu, WINDOW)));
        let kib = |mib: u64| mib.saturating_mul(1024);
        let free = Bytes::from_mib(seen.free).unwrap_or_default();
        let meminfo = NodeMeminfo {
            total: Some(built.total),
            free: Some(free),
            inactive_file: Some(Bytes::ZERO),
            numad: NumadFields {
                total_kib: Some(built.total.whole_kib()),
                free_kib: Some(kib(seen.free)),
                inactive_file_kib: Some(0),
            },
            ..NodeMeminfo::default()
        };
        memory.push(NodeMemory { node: built.id, meminfo: Some(meminfo) });
    }
    counters.sort_unstable_by_key(|&(cpu, _)| cpu);
    let before = counters.iter().map(|&(cpu, _)| (cpu, 0));
    let before = CpuTimes::new(Instant::from_centiseconds(0), before);
    let cpu = CpuTimes::new(Instant::from_centiseconds(WINDOW), counters);
    (before, Sample { cpu, memory, whole: None })
}

/// Returns what is claimed, as claims charge it.
pub(super) fn charges(view: View<'_>) -> Charges {
    let mut charges = Charges::default();
    for (built, seen) in view.machine.nodes.iter().zip(view.nodes) {
        if seen.claimed == 0 && seen.claimed_cpus == 0 {
            continue;
        }
        let charge = charges.of_mut(built.id);
        charge.memory = Bytes::from_mib(seen.claimed).unwrap_or_default();
        charge.cpus = CpuShare::from_hundredths(seen.claimed_cpus);
    }
    charges
}
