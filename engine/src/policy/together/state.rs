//! What a host still has when some of the guests are charged.

use super::model::{Guest, Part, Question};
use crate::policy::best::{self, Host, Node, Problem, Shares};
use crate::units::{Bytes, CpuShare, split_by_weight};

const MIB: f64 = 1_048_576.0;

/// A host with guests charged as claims charge it: whole bytes, hundredths of a CPU.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) host: Host,
    /// MiB that may be promised beyond each node's memory.
    beyond: Vec<f64>,
    /// Bytes that all further guests may take together.
    pub(super) budget: u64,
    /// Takes the figures of the nodes while they change.
    nodes: Vec<Node>,
}

impl State {
    pub(super) fn new(host: &Host, question: &Question<'_>) -> Self {
        let count = host.nodes().len();
        let beyond = question.beyond.iter().copied().chain(std::iter::repeat(0.0)).take(count);
        Self {
            host: host.clone(),
            beyond: beyond.collect(),
            budget: question.budget.map_or(u64::MAX, Bytes::get),
            nodes: Vec::with_capacity(count),
        }
    }

    /// Returns the guest as policy `best` is asked about it here.
    pub(super) fn request(question: &Question<'_>, guest: Guest) -> best::Request<'static> {
        let cpus = if question.own_cpus { whole_cpus(guest) as f64 } else { guest.cpus.as_cpus() };
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 bytes")]
        let memory = guest.memory.get() as f64 / MIB;
        best::Request {
            memory_bound: question.memory_bound,
            prefer: question.prefer,
            ..best::Request::new(cpus, memory)
        }
    }

    /// Returns whether a guest fits: all nodes together can give it its CPUs and memory.
    pub(super) fn fits(&self, problem: &Problem<'_>, guest: Guest) -> bool {
        problem.fits && self.host.total.cap > 0.0 && guest.memory.get() <= self.budget
    }

    /// Returns the bytes that all further guests may take together.
    pub(super) fn most_bytes(&self) -> u128 {
        let mib = self.host.total.mem + self.beyond.iter().sum::<f64>();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let memory = (mib * MIB).ceil() as u128;
        memory.min(u128::from(self.budget))
    }

    /// Charges a guest on some nodes (ascending positions) to `next`, which has this state then less that.
    /// `shares` are its shares there. Returns what it takes from each node.
    pub(super) fn charge(
        &self,
        question: &Question<'_>,
        guest: Guest,
        set: &[usize],
        shares: &Shares,
        next: &mut Self,
    ) -> Vec<Part> {
        next.copy(self);
        let parts = self.parts(question, guest, set, shares);
        next.nodes.clear();
        next.nodes.extend_from_slice(self.host.nodes());
        for (part, &at) in parts.iter().zip(set) {
            let node = &mut next.nodes[at];
            node.idle = (node.idle - part.cpus.as_cpus()).max(0.0);
            if question.own_cpus {
                let own = u32::try_from(part.cpus.hundredths() / 100).unwrap_or(u32::MAX);
                node.cpus = node.cpus.saturating_sub(own);
            }
            #[expect(clippy::cast_precision_loss, reason = "no host has 2^53 bytes")]
            let memory = part.memory.get() as f64 / MIB;
            let spare = next.beyond[at];
            next.beyond[at] = (spare - memory).max(0.0);
            node.mem = (node.mem - (memory - spare).max(0.0)).max(0.0);
        }
        next.budget = self.budget.saturating_sub(guest.memory.get());
        let nodes = std::mem::take(&mut next.nodes);
        let renewed = next.host.renew(&nodes);
        debug_assert!(renewed.is_ok(), "figures only become smaller");
        next.nodes = nodes;
        parts
    }

    fn copy(&mut self, from: &Self) {
        self.beyond.clone_from(&from.beyond);
        self.budget = from.budget;
    }

    fn parts(
        &self,
        question: &Question<'_>,
        guest: Guest,
        set: &[usize],
        shares: &Shares,
    ) -> Vec<Part> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of 1")]
        let millionths = |part: f64| (part * 1e6).round() as u64;
        let all = Self::request(question, guest).cpus.max(0.01);
        let weights: Vec<u64> = shares.cpu.iter().map(|part| millionths(part * all)).collect();
        let cpus = if question.own_cpus {
            let free: Vec<u64> =
                set.iter().map(|&at| u64::from(self.host.nodes()[at].cpus)).collect();
            let mut own = split_within(whole_cpus(guest), &weights, &free);
            own.iter_mut().for_each(|cpus| *cpus *= 100);
            own
        } else {
            split_by_weight(guest.cpus.hundredths(), &weights)
        };
        let part = |((&at, cpus), y): ((&usize, u64), &f64)| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
            let memory = (y * shares.placed * MIB).round() as u64;
            Part {
                node: self.host.nodes()[at].id,
                cpus: CpuShare::from_hundredths(cpus),
                memory: Bytes::new(memory),
            }
        };
        set.iter().zip(cpus).zip(&shares.mem).map(part).collect()
    }
}

/// Returns how many CPUs of its own a guest gets.
fn whole_cpus(guest: Guest) -> u64 {
    guest.cpus.hundredths().div_ceil(100).max(1)
}

/// Divides a number in the measure of weights, no part larger than its limit: what is too much of one goes to the
/// first that can take it.
fn split_within(total: u64, weights: &[u64], limits: &[u64]) -> Vec<u64> {
    let mut parts = split_by_weight(total, weights);
    let mut left = 0;
    for (part, &limit) in parts.iter_mut().zip(limits) {
        left += part.saturating_sub(limit);
        *part = (*part).min(limit);
    }
    for (part, &limit) in parts.iter_mut().zip(limits) {
        let more = left.min(limit - *part);
        *part += more;
        left -= more;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_is_larger_than_its_limit() {
        assert_eq!(split_within(4, &[1, 1], &[8, 8]), [2, 2]);
        assert_eq!(split_within(4, &[3, 1], &[1, 8]), [1, 3]);
        assert_eq!(split_within(4, &[0, 0, 0], &[1, 2, 1]), [1, 2, 1]);
    }
}
