//! An advice in words and figures, in 80 columns.

use std::fmt::Write;

use placer_engine::policy::best::{Proof, Reason};
use placer_engine::{
    Advice, Bytes, CacheShare, Candidate, CpuShare, Distances, Explanation, NodeSet, Request,
    Shortfall,
};

/// Returns why an advice is what it is: sentences first, then figures. With `factors`, the figures
/// include those that each slowdown is made of.
pub fn text(
    request: &Request,
    advice: &Advice,
    why: &Explanation,
    distances: Option<&Distances>,
    factors: bool,
) -> String {
    let mut text = String::new();
    let mut put = |line: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    put(&headline(request, advice));
    put("");
    put(&sentence(&advice.nodes, &proof(advice)));
    for line in caches(request, advice).into_iter().chain(free_caches(why)) {
        put(&sentence(&NodeSet::new(), &line));
    }
    for other in &why.alternatives {
        put(&sentence(&other.nodes, &cause(other, advice, distances)));
    }
    put("");
    put(&numad(advice, why, distances));
    if !why.remedies.is_empty() {
        put(&format!("it would fit with {}", why.remedies.join(", or ")));
    }
    put("");
    put("  node       idle/CPUs       can promise    of the guest");
    for node in &why.nodes {
        let share = advice.split.iter().find(|share| share.node.0 == node.id);
        let part = share.map_or_else(String::new, |share| {
            format!("{:>5.2} CPUs {:>10}", share.cpus, share.memory.to_string())
        });
        let load = format!("{:.2}/{:.2}", node.idle, node.cap);
        put(&format!("{:>6} {load:>15} {:>17}  {part}", node.id, mib(node.mem).to_string()));
    }
    if factors {
        put("");
        put(HEAD);
        put(&row(&chosen(advice), "advised"));
        why.alternatives.iter().for_each(|other| put(&row(other, "")));
        if let Some(numad) = why.numad.as_ref().filter(|numad| numad.nodes != advice.nodes) {
            put(&row(numad, "numad"));
        }
        if advice.crowding.is_some_and(|crowding| crowding > 1.0) {
            put("crowding is measured load, which counts at most one waiting thread per CPU");
        }
    }
    text
}

fn sentence(nodes: &NodeSet, remark: &str) -> String {
    format!("  {:<14} {remark}", nodes.to_string())
}

/// Returns why a set is not the answer, and what makes it slower.
fn cause(other: &Candidate, advice: &Advice, distances: Option<&Distances>) -> String {
    let reason = reason(other);
    if !matches!(other.reason, Reason::Slower(_)) {
        return reason;
    }
    let rises = |theirs: Option<f64>, ours: Option<f64>| {
        theirs.zip(ours).filter(|(theirs, ours)| *theirs > ours * 1.005).map(|(theirs, _)| theirs)
    };
    let far = rises(other.near, advice.near);
    let far = far.map(|mean| remote(&other.nodes, mean, distances));
    let crowded = rises(other.crowding, advice.crowding);
    let crowded = crowded.map(|threads| format!("{threads:.2} threads would share each CPU"));
    let causes: Vec<String> = [far, crowded].into_iter().flatten().collect();
    if causes.is_empty() { reason } else { format!("{reason}: {}", causes.join(", and ")) }
}

/// Says how much of a guest's memory would be how far away, at a mean distance.
fn remote(nodes: &NodeSet, mean: f64, distances: Option<&Distances>) -> String {
    // How much of it is on which of several nodes cannot be told from a mean.
    let fallback = || format!("its memory would be {:.1} times as far", mean / 10.0);
    let Some(distances) = distances.filter(|_| nodes.len() == 2) else { return fallback() };
    let between = |apart: bool| -> Vec<f64> {
        let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| (a != b) == apart);
        pairs.filter_map(|(a, b)| distances.get(a, b)).map(|d| f64::from(d.0)).collect()
    };
    let average = |all: &[f64]| {
        let count = u32::try_from(all.len()).ok().filter(|count| *count > 0)?;
        Some(all.iter().sum::<f64>() / f64::from(count))
    };
    let (local, apart) = (between(false), between(true));
    let Some((near, far)) = average(&local).zip(average(&apart)) else { return fallback() };
    if far <= near {
        return fallback();
    }
    let part = (mean - near) / (far - near);
    let names = [
        (0.08, "a little of"),
        (0.15, "a tenth of"),
        (0.22, "a fifth of"),
        (0.29, "a quarter of"),
        (0.42, "a third of"),
        (0.58, "half"),
        (0.71, "two thirds of"),
        (0.82, "three quarters of"),
    ];
    let name = names.iter().find(|(below, _)| part < *below).map_or("most of", |(_, name)| name);
    let farthest = apart.iter().copied().fold(0.0, f64::max);
    format!("{name} its memory would be {}", hops(farthest, distances))
}

/// Names a distance by its rank among those between different nodes of the host, where there are few.
fn hops(distance: f64, distances: &Distances) -> &'static str {
    let nodes = distances.nodes();
    let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
    let mut all: Vec<u32> =
        pairs.filter(|(a, b)| a != b).filter_map(|(a, b)| Some(distances.get(a, b)?.0)).collect();
    all.sort_unstable();
    all.dedup();
    match all.iter().position(|&known| distance <= f64::from(known)) {
        Some(0) if all.len() <= 3 => "one hop away",
        Some(1) if all.len() <= 3 => "up to two hops away",
        Some(2) if all.len() <= 3 => "up to three hops away",
        _ => "on another node",
    }
}

/// Says in which caches the guest runs and what that is worth, in a line or two.
fn caches(request: &Request, advice: &Advice) -> Vec<String> {
    let Some(cost) = advice.cache_cost else { return Vec::new() };
    // One cache in each of several nodes is what the nodes are.
    if advice.nodes.len() > 1 && advice.caches.len() <= advice.nodes.iter().count() {
        return Vec::new();
    }
    let guest = cpus(request.cpus);
    let cache = |share: &CacheShare| {
        let size = share.size.map_or_else(String::new, |size| format!(" of {size}"));
        format!("L{} cache{size}, CPUs {}", share.level, share.cpus)
    };
    let penalty = request.cache.penalty_percent;
    match advice.caches.as_slice() {
        [] => Vec::new(),
        [one] => {
            let mut lines = vec![format!("{guest} in one {}", cache(one))];
            if cost > 1.005 {
                lines.push(format!("  its CPUs are busy: {:.0} % slower", (cost - 1.0) * 100.0));
            } else {
                lines.push(format!("  threads on different caches share data {penalty} % slower"));
            }
            lines
        }
        many => {
            let slower = (cost - 1.0) * 100.0;
            let mut lines =
                vec![format!("{guest} over {} caches: {slower:.0} % slower", many.len())];
            const SHOWN: usize = 4;
            lines.extend(many.iter().take(SHOWN).map(|share| format!("  {}", cache(share))));
            if many.len() > SHOWN {
                lines.push(format!("  and {} more", many.len() - SHOWN));
            }
            lines
        }
    }
}

/// Says which caches no claim uses, where a node has several.
fn free_caches(why: &Explanation) -> Option<String> {
    const SHOWN: usize = 4;
    let free = why.free_caches.as_ref()?;
    let list: Vec<String> = free.iter().take(SHOWN).map(|c| c.cpus.to_string()).collect();
    Some(match free.len() {
        0 => "claims use every cache".to_owned(),
        n if n > SHOWN => {
            format!(
                "caches that no claim is bound to: CPUs {}; and {} more",
                list.join("; "),
                n - SHOWN
            )
        }
        _ => format!("caches that no claim is bound to: CPUs {}", list.join("; ")),
    })
}

/// What stands above the rows of the sets.
pub const HEAD: &str = "  nodes          slowdown  crowding  distance";

/// Returns the advised set as a row of its own table.
pub fn chosen(advice: &Advice) -> Candidate {
    Candidate {
        nodes: advice.nodes.clone(),
        slowdown: advice.slowdown,
        near: advice.near,
        crowding: advice.crowding,
        reason: Reason::Chosen,
    }
}

/// Returns what was asked and what is answered, on a line.
pub(crate) fn headline(request: &Request, advice: &Advice) -> String {
    format!("{}: {}", request_in_words(request), verdict(advice))
}

/// Returns what is asked for.
pub fn request_in_words(request: &Request) -> String {
    let pages = request.pages.map_or_else(String::new, |size| format!(" in pages of {size}"));
    format!("{} and {}{pages}", cpus(request.cpus), request.memory)
}

/// Returns what is short.
pub(crate) fn short(short: Shortfall) -> String {
    let mut parts = Vec::new();
    if short.cpus.hundredths() > 0 {
        parts.push(cpus(short.cpus));
    }
    if short.memory.get() > 0 {
        parts.push(short.memory.to_string());
    }
    format!("{} short", parts.join(" and "))
}

/// Returns an amount of CPUs.
pub(crate) fn cpus(share: CpuShare) -> String {
    if share == CpuShare::from_hundredths(100) {
        "1 CPU".to_owned()
    } else {
        format!("{share} CPUs")
    }
}

/// Says where, or what is short.
pub fn verdict(advice: &Advice) -> String {
    let noun = if advice.nodes.len() == 1 { "node" } else { "nodes" };
    match advice.shortfall {
        None => format!("{noun} {}", advice.nodes),
        Some(short) => {
            let mut parts = Vec::new();
            if short.cpus > CpuShare::ZERO {
                parts.push(cpus(short.cpus));
            }
            if short.memory > Bytes::ZERO {
                parts.push(short.memory.to_string());
            }
            format!("does not fit; {noun} {} lack least: {}", advice.nodes, parts.join(" and "))
        }
    }
}

/// One line of the table of sets. A long list of nodes pushes its figures to the right.
pub fn row(candidate: &Candidate, remark: &str) -> String {
    let figure = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |f| format!("{f:.3}"));
    format!(
        "  {:<14} {:>8} {:>9} {:>9}  {remark}",
        candidate.nodes.to_string(),
        figure(candidate.slowdown),
        figure(candidate.crowding),
        figure(candidate.near)
    )
}

/// Says how sure it is that nothing is better.
pub fn proof(advice: &Advice) -> String {
    match advice.proof {
        Some(Proof::Optimal) => "advised: nothing is faster by 2 %".to_owned(),
        Some(Proof::Gap(gap)) => format!("advised: nothing is faster by {:.1} %", gap * 100.0),
        None => "advised".to_owned(),
    }
}

/// Says why a set is not the answer.
pub fn reason(candidate: &Candidate) -> String {
    match candidate.reason {
        Reason::Chosen => "the same".to_owned(),
        Reason::NoCpus => "has no CPUs".to_owned(),
        Reason::LacksMemory(short) => format!("lacks {}", mib(short)),
        Reason::LacksCpus(short) => format!("lacks {short} CPUs"),
        Reason::Slower(times) => format!("{:.1} % slower", (times - 1.0) * 100.0),
        Reason::MoreNodes(1) => "as fast, one node more".to_owned(),
        Reason::MoreNodes(more) => format!("as fast, {more} nodes more"),
        Reason::LessRoom(_) => "as fast, less room".to_owned(),
        Reason::HigherIds => "equal, higher ids".to_owned(),
        Reason::Unseen => "farther from the device, or not looked at".to_owned(),
    }
}

/// Returns what numad would choose, and what makes it slower, on one line.
pub fn numad(advice: &Advice, why: &Explanation, distances: Option<&Distances>) -> String {
    let version = why.numad_version;
    match &why.numad {
        None => format!("numad {version} has no answer for this host"),
        Some(numad) if numad.nodes == advice.nodes => {
            format!("numad {version} chooses the same")
        }
        Some(numad) => {
            let cause = cause(numad, advice, distances);
            format!("numad {version} chooses {}: {cause}", numad.nodes)
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no host has 2^64 bytes")]
#[expect(clippy::cast_sign_loss, reason = "amounts are not negative")]
fn mib(amount: f64) -> Bytes {
    Bytes::new((amount * 1_048_576.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use placer_engine::NodeId;

    use super::*;

    #[test]
    fn remote_memory_is_described_by_its_part_and_hops() {
        let ids = vec![NodeId(0), NodeId(1), NodeId(3)];
        let ring = Distances::new(ids, vec![10, 20, 30, 20, 10, 20, 30, 20, 10]).expect("a table");
        let said = |nodes: &[u32], mean| {
            let nodes: NodeSet = nodes.iter().copied().map(NodeId).collect();
            remote(&nodes, mean, Some(&ring))
        };
        assert_eq!(said(&[0, 1], 15.0), "half its memory would be one hop away");
        assert_eq!(said(&[0, 3], 15.0), "a quarter of its memory would be up to two hops away");
        assert_eq!(said(&[0, 1], 19.9), "most of its memory would be one hop away");
        let unknown = "its memory would be 1.5 times as far";
        assert_eq!(said(&[0], 15.0), unknown);
        assert_eq!(said(&[0, 1, 3], 15.0), unknown);
        assert_eq!(remote(&NodeSet::new(), 15.0, None), unknown);
    }
}
