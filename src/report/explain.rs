//! An advice in words, in 80 columns.

use std::fmt::Write;

use placer_engine::policy::best::{Proof, Reason};
use placer_engine::{Advice, Bytes, Candidate, CpuShare, Explanation, Request};

/// Returns why an advice is what it is.
pub fn text(request: &Request, advice: &Advice, why: &Explanation) -> String {
    let mut text = String::new();
    let mut put = |line: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    put(&headline(request, advice));
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
    put("");
    put(HEAD);
    put(&row(&chosen(advice), &proof(advice)));
    for other in &why.alternatives {
        put(&row(other, &reason(other)));
    }
    put("");
    put(&numad(advice, why));
    if advice.crowding.is_some_and(|crowding| crowding > 1.0) {
        put("crowding rests on measured load, which cannot tell one waiting thread from ten");
    }
    if !why.remedies.is_empty() {
        put(&format!("it would fit with {}", why.remedies.join(", or ")));
    }
    text
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

/// Says what numad would say, and in which figure that is worse, on a line of its own.
pub fn numad(advice: &Advice, why: &Explanation) -> String {
    match &why.numad {
        None => "numad has no answer for this host".to_owned(),
        Some(numad) if numad.nodes == advice.nodes => "numad would say the same".to_owned(),
        Some(numad) => {
            let times = |figure: Option<f64>| {
                figure.map_or_else(String::new, |f| format!(", slowdown {f:.3}"))
            };
            let (nodes, slow) = (&numad.nodes, times(numad.slowdown));
            format!("numad would say {nodes}: {}{slow}{}", reason(numad), worse(advice, numad))
        }
    }
}

/// Says in which figure a slower set is worse, on a line of its own.
fn worse(advice: &Advice, other: &Candidate) -> String {
    if !matches!(other.reason, Reason::Slower(_)) {
        return String::new();
    }
    let figures = [
        ("crowding", other.crowding.zip(advice.crowding)),
        ("distance", other.near.zip(advice.near)),
    ];
    let worse = figures.iter().filter_map(|(name, both)| {
        let (theirs, ours) = both.filter(|(theirs, ours)| *theirs > ours * 1.005)?;
        Some(format!("{name} {theirs:.3} instead of {ours:.3}"))
    });
    let worse: Vec<String> = worse.collect();
    if worse.is_empty() { String::new() } else { format!("\n  {}", worse.join(", ")) }
}

#[expect(clippy::cast_possible_truncation, reason = "no host has 2^64 bytes")]
#[expect(clippy::cast_sign_loss, reason = "amounts are not negative")]
fn mib(amount: f64) -> Bytes {
    Bytes::new((amount * 1_048_576.0).round() as u64)
}
