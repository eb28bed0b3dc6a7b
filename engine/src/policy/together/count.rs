//! How many guests of one kind a host holds: counted, not searched.

use super::model::{Guest, Question};
use super::state::State;
use crate::policy::best::{Host, Node};

/// Returns how many guests of one kind fit beside each other on a host; of these, how many fit with each on one
/// node; and of these, how many with idle CPUs for each. `question` names no guests, and what they have in common.
///
/// A guest may be spread over all nodes, and CPUs are not used up, so all memory counts; with CPUs of their own, all
/// of those as well. On one node its own memory and CPUs count.
pub fn count(host: &Host, question: &Question<'_>, guest: Guest) -> [u64; 3] {
    let request = State::request(question, guest);
    let (cpus, memory) = (request.cpus.max(0.01), request.memory.max(1.0));
    let total = &host.total;
    let beyond = |at: usize| question.beyond.get(at).copied().unwrap_or(0.0);
    if total.cap <= 0.0 || total.cpus < cpus || total.mem < memory {
        return [0; 3];
    }
    let budget = question.budget.map_or(u64::MAX, |budget| {
        budget.get().checked_div(guest.memory.get()).unwrap_or(u64::MAX)
    });
    let nodes = || host.nodes().iter().enumerate();
    let all_memory = nodes().map(|(at, node)| node.mem + beyond(at)).sum::<f64>();
    let own = |there: f64| if question.own_cpus { times(there, cpus) } else { u64::MAX };
    let all = times(all_memory, memory).min(own(total.cpus)).min(budget);
    let on_one = |(at, node): (usize, &Node)| {
        let holds = node.cap > 0.0 && f64::from(node.cpus) >= cpus && node.mem >= memory;
        let count = times(node.mem + beyond(at), memory).min(own(f64::from(node.cpus)));
        if holds { count } else { 0 }
    };
    let sum =
        |counts: &mut dyn Iterator<Item = u64>| counts.fold(0u64, u64::saturating_add).min(all);
    let on_one_node = sum(&mut nodes().map(on_one));
    let with_idle =
        sum(&mut nodes().map(|(at, node)| on_one((at, node)).min(times(node.idle, cpus))));
    [all, on_one_node, with_idle]
}

/// Returns how many times a part is in what is there.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
fn times(there: f64, part: f64) -> u64 {
    (there / part + 1e-9).floor() as u64
}
