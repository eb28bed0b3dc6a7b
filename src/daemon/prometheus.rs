//! The text of the metrics for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::TryLockError;
use std::time::{Duration, Instant};

use placer_engine::claims::{Claim, ClaimId, Processes};

use super::core::Core;
use super::metrics::{Astray, BUCKETS, Count};
use crate::error_chain::chain;
use crate::report::claims::Row;

/// To look where a guest's memory is takes up to 10 ms, and holds that guest's lock: so seldom.
const LOOKED_FOR: Duration = Duration::from_secs(30);
/// And at no more guests for one answer. The others have their turn with the next ones.
const MOST_LOOKS: usize = 32;

/// Returns the metrics as text.
///
/// Errors: the host cannot be read.
pub(super) fn text(core: &Core) -> Result<String, String> {
    let counted = core.host().map_err(|error| chain(&error))?;
    let metrics = core.metrics();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, String)]| {
        let _ = writeln!(text, "# HELP placer_{name} {help}\n# TYPE placer_{name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "placer_{name}{labels} {value}");
        }
    };
    let snapshot = &counted.snapshot;
    let per_node = |value: &dyn Fn(&placer_engine::NodeState) -> Option<String>| {
        let rows = snapshot.nodes().iter();
        rows.filter_map(|node| Some((format!("{{node=\"{}\"}}", node.id), value(node)?)))
            .collect::<Vec<_>>()
    };
    let free = per_node(&|node| Some(node.memory_free?.get().to_string()));
    family("node_memory_free_bytes", "gauge", "Memory that can be promised, before claims.", &free);
    let claimed = per_node(&|node| Some(snapshot.charges().of(node.id).memory.get().to_string()));
    let help = "Memory promised and not yet used.";
    family("node_memory_claimed_bytes", "gauge", help, &claimed);
    #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 CPUs")]
    let busy = per_node(&|node| Some(format!("{:.6}", node.cpus.len() as f64 - node.cpus_idle?)));
    family("node_cpus_busy", "gauge", "CPUs that were busy, on the average.", &busy);
    let cpus = per_node(&|node| Some(node.cpus.len().to_string()));
    family("node_cpus", "gauge", "CPUs that count for placement.", &cpus);

    let row = |key: &str, value: &str, count: &Count| {
        (format!("{{{key}=\"{value}\"}}"), count.get().to_string())
    };
    let kinds = [
        row("kind", "advice", &metrics.advised),
        row("kind", "claim", &metrics.claimed),
        row("kind", "numad", &metrics.numad),
        row("kind", "release", &metrics.released),
    ];
    family("decisions_total", "counter", "Answers that were given.", &kinds);
    let one = |count: &Count| vec![(String::new(), count.get().to_string())];
    family("errors_total", "counter", "Questions that had no answer.", &one(&metrics.failed));
    family("clients", "gauge", "Connections.", &one(&metrics.clients));
    let bad = [
        row("why", "refused", &metrics.refused),
        row("why", "late", &metrics.late),
        row("why", "cut", &metrics.cut),
        row("why", "damaged", &metrics.damaged),
    ];
    family("connections_failed_total", "counter", "Connections that ended badly.", &bad);
    let guests = counted.claims.as_ref().map(|claims| claims.len().to_string());
    let guests: Vec<_> = guests.map(|count| (String::new(), count)).into_iter().collect();
    family("claims", "gauge", "Claims and holds that count.", &guests);
    let unread = vec![(String::new(), counted.unread.to_string())];
    let help = "Lines of the ledger that are not understood, and count as far as they can be read.";
    family("ledger_lines_unread", "gauge", help, &unread);
    let astray = vec![(String::new(), astray(core, &counted).to_string())];
    let help = "Guests of which a tenth or more of the memory is not where it was advised.";
    family("guests_astray", "gauge", help, &astray);
    let managed = &metrics.managed;
    let fates = [
        row("result", "moved", &managed.moved),
        row("result", "not_moved", &managed.kept),
        row("result", "put_back", &managed.undone),
    ];
    family("manage_moves_total", "counter", "Running guests that were to be moved.", &fates);
    let help = "Memory of running guests that was moved.";
    family("manage_moved_bytes_total", "counter", help, &one(&managed.bytes));
    let gain = |kind: &str, count: &Count| {
        let seconds = Duration::from_millis(count.get().unsigned_abs()).as_secs_f64();
        let sign = if count.get() < 0 { "-" } else { "" };
        (format!("{{kind=\"{kind}\"}}"), format!("{sign}{seconds}"))
    };
    let gains = [gain("predicted", &managed.predicted_gain), gain("seen", &managed.seen_gain)];
    // It falls where moved guests are found to be slower.
    let help =
        "CPU time that moves save over half an hour each, as predicted and as seen after them.";
    family("manage_gain_seconds", "gauge", help, &gains);

    let name = "placer_decision_seconds";
    let _ = writeln!(text, "# HELP {name} How long answers took.\n# TYPE {name} histogram");
    let mut sum = 0;
    for (most, count) in BUCKETS.iter().zip(&metrics.times) {
        sum += count.get();
        let seconds = Duration::from_micros(*most).as_secs_f64();
        let _ = writeln!(text, "{name}_bucket{{le=\"{seconds}\"}} {sum}");
    }
    // Read last, and never less than what is in the buckets.
    let all = metrics.all.get().max(sum);
    let us = u64::try_from(metrics.all_us.get()).unwrap_or(0);
    let seconds = Duration::from_micros(us).as_secs_f64();
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {all}");
    let _ = writeln!(text, "{name}_sum {seconds}\n{name}_count {all}");
    Ok(text)
}

fn astray(core: &Core, counted: &super::warm::Counted) -> i64 {
    let Astray { count, looked } = &core.metrics().astray;
    // One looks. The others do not wait: the kernel lets nobody read of a process that is stuck.
    let mut looked = match looked.try_lock() {
        Ok(looked) => looked,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return count.get(),
    };
    // A look takes as long as the guest makes it take: those of users have a time for all of them together.
    let guests = counted.claims.iter().flatten().filter(|claim| claim.owner.process().is_some());
    let guests: BTreeMap<ClaimId, &Claim> =
        guests.map(|claim| (claim.id, claim.as_ref())).collect();
    looked.retain(|id, _| guests.contains_key(id));
    let last = |id: &ClaimId| looked.get(id).map(|(at, _)| *at);
    let mut due: Vec<_> = guests
        .into_iter()
        .map(|(id, claim)| (last(&id), claim))
        .filter(|(at, _)| at.is_none_or(|at| at.elapsed() >= LOOKED_FOR))
        .collect();
    due.sort_by_key(|(at, _)| *at);
    if !due.is_empty() {
        let Ok(mut look) = Processes::look() else { return count.get() };
        for (_, claim) in due.into_iter().take(MOST_LOOKS) {
            let astray = Row::of(claim, &mut look).is_astray();
            looked.insert(claim.id, (Instant::now(), astray));
        }
    }
    let astray = looked.values().filter(|(_, astray)| *astray).count();
    count.set(i64::try_from(astray).unwrap_or(i64::MAX));
    count.get()
}
