//! Several guests at once, in words and figures.

use std::fmt::Write;

use placer_engine::policy::best::Proof;
use placer_engine::{Advice, Fit, JointAdvice, Request};

use crate::report::explain;

/// What stands in place of a guest's nodes when it does not fit.
const REFUSED: &str = "-";

/// Returns a line for each guest.
pub fn lines(joint: &JointAdvice, line: impl Fn(&Advice) -> String) -> String {
    let guests = joint.guests.iter().map(|guest| guest.advice.as_ref());
    guests.map(|advice| advice.map_or_else(|| REFUSED.to_owned(), &line) + "\n").collect()
}

/// Returns the plan as a table, with how sure it is.
pub fn text(joint: &JointAdvice) -> String {
    let mut text = String::new();
    let mut put = |line: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    put("  guest  needs                     nodes       CPUs             slowdown");
    for (guest, number) in joint.guests.iter().zip(1..) {
        let needs = explain::request_in_words(&guest.request);
        let row = match &guest.advice {
            Some(advice) => {
                let slowdown = advice.slowdown.map(|slowdown| format!("{slowdown:.3}"));
                let (nodes, cpus) = (advice.nodes.to_string(), advice.cpus.to_string());
                format!("{nodes:<11} {cpus:<16} {}", slowdown.unwrap_or_default())
            }
            None => "does not fit".to_owned(),
        };
        put(&format!("  {number:>5}  {needs:<25} {row}"));
    }
    put("");
    let (count, refused) = (joint.guests.len(), joint.refused());
    if refused < count {
        let slowdown = joint.slowdown;
        put(&format!("slowdown, weighted by memory: {slowdown:.3}"));
    }
    put(&proof(joint));
    text
}

/// Says how sure it is that no plan is better.
fn proof(joint: &JointAdvice) -> String {
    let refused = joint.refused();
    let least = joint.least_refused;
    match joint.proof {
        Proof::Optimal if refused == 0 => "no plan is faster".to_owned(),
        Proof::Optimal => format!("{refused} do not fit: no plan refuses fewer"),
        Proof::Gap(gap) if gap.is_finite() => {
            format!("no plan is faster by more than {:.1} %", gap * 100.0)
        }
        Proof::Gap(_) => format!("{refused} do not fit; at least {least} have to be refused"),
    }
}

/// Returns how many more guests fit, in words.
pub fn fit(request: &Request, fit: &Fit) -> String {
    let Fit { guests, on_one_node, with_idle_cpus, .. } = fit;
    let what = explain::request_in_words(request);
    format!(
        "{what}: {guests} more guests fit\n\
         {on_one_node:>8} with each on one node\n\
         {with_idle_cpus:>8} of these with idle CPUs for each\n"
    )
}
