//! Several guests at once, plainly: every plan is tried. And hosts with guests to ask about.

use placer_engine::policy::together::{Guest, Plan, Question};
use placer_engine::{Bytes, CpuShare, split_by_weight};

use crate::best::{Ask, FILL, Rng, SHAPES, plain, random};

/// A host with guests that are to be placed on it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The host; its own request is replaced by each guest's.
    pub host: Ask,
    pub guests: Vec<Guest>,
    pub own_cpus: bool,
    pub budget: Option<Bytes>,
}

/// What plans are compared by: guests refused, slowdowns in parts per million times weights, nodes of all sets.
pub type Cost = (usize, u128, usize);

impl Asked {
    pub fn question(&self) -> Question<'_> {
        Question {
            memory_bound: self.host.bound,
            prefer: self.host.prefer,
            own_cpus: self.own_cpus,
            budget: self.budget,
            ..Question::new(&self.guests)
        }
    }

    /// Returns the cost of a plan by its own figures.
    pub fn cost(&self, plan: &Plan) -> Cost {
        let placed = plan.places.iter().zip(&self.guests);
        let placed = placed.filter_map(|(place, guest)| Some((place.as_ref()?, guest)));
        let mut cost = (plan.refused(), 0, 0);
        for (place, guest) in placed {
            let slowdown = (place.figures.slowdown * 1e6).round() as u128;
            cost.1 += slowdown * u128::from(weight(guest));
            cost.2 += place.nodes.len();
        }
        cost
    }

    /// Follows a plan and returns what is wrong with it: a guest that its nodes do not hold, or another slowdown.
    pub fn follow(&self, plan: &Plan) -> Result<(), String> {
        let mut host = self.host.clone();
        let mut budget = self.budget.map_or(u64::MAX, Bytes::get);
        if plan.order != order(&self.guests) {
            return Err(format!("charged in the order {:?}", plan.order));
        }
        for &at in &plan.order {
            let (guest, Some(place)) = (&self.guests[at], &plan.places[at]) else { continue };
            self.ask_for(&mut host, guest);
            let position = |id: &u32| host.nodes.iter().position(|node| node.id == *id);
            let set: Vec<usize> = place.nodes.iter().filter_map(position).collect();
            let Some(found) = plain(&host, &set).filter(|_| fits(&host)) else {
                return Err(format!("guest {at} does not fit on {:?}", place.nodes));
            };
            let slowdown = found.slowdown_ppm as f64 / 1e6;
            if slowdown != place.figures.slowdown {
                return Err(format!("guest {at}: {slowdown}, not {}", place.figures.slowdown));
            }
            let parts = self.charge(&mut host, guest, &set, &found.split);
            let same = parts.iter().zip(&place.split).all(|((cpus, memory), part)| {
                part.cpus.hundredths() == *cpus && part.memory.get().abs_diff(*memory) <= 1
            });
            if !same {
                return Err(format!("guest {at}: {parts:?}, not {:?}", place.split));
            }
            budget = budget
                .checked_sub(guest.memory.get())
                .ok_or_else(|| format!("guest {at} is beyond the budget"))?;
        }
        Ok(())
    }

    /// Places the guests one by one, in the order given, on the nodes that a rule chooses. Returns the cost.
    pub fn one_by_one(&self, rule: impl Fn(&Ask) -> Vec<usize>) -> Cost {
        let mut host = self.host.clone();
        let mut budget = self.budget.map_or(u64::MAX, Bytes::get);
        let mut cost = (0, 0, 0);
        for guest in &self.guests {
            self.ask_for(&mut host, guest);
            let set =
                if fits(&host) && guest.memory.get() <= budget { rule(&host) } else { vec![] };
            let Some(found) = plain(&host, &set).filter(|_| !set.is_empty()) else {
                cost.0 += 1;
                continue;
            };
            budget -= guest.memory.get();
            cost.1 += u128::from(found.slowdown_ppm) * u128::from(weight(guest));
            cost.2 += set.len();
            self.charge(&mut host, guest, &set, &found.split);
        }
        cost
    }

    fn ask_for(&self, host: &mut Ask, guest: &Guest) {
        host.mem = guest.memory.get() as f64 / MIB;
        host.cpus = if self.own_cpus { own(guest) as f64 } else { guest.cpus.as_cpus() };
    }

    /// Takes a guest's parts from the nodes and returns them.
    fn charge(
        &self,
        host: &mut Ask,
        guest: &Guest,
        set: &[usize],
        split: &[(f64, f64)],
    ) -> Vec<(u64, u64)> {
        let weights: Vec<u64> = split.iter().map(|(cpus, _)| (cpus * 1e6).round() as u64).collect();
        let mut cpus = split_by_weight(guest.cpus.hundredths(), &weights);
        if self.own_cpus {
            cpus = split_by_weight(own(guest), &weights);
            let mut beyond = 0;
            for (cpus, &at) in cpus.iter_mut().zip(set) {
                let free = u64::from(host.nodes[at].cpus);
                beyond += cpus.saturating_sub(free);
                *cpus = (*cpus).min(free);
            }
            for (cpus, &at) in cpus.iter_mut().zip(set) {
                let more = beyond.min(u64::from(host.nodes[at].cpus) - *cpus);
                *cpus += more;
                beyond -= more;
                host.nodes[at].cpus -= *cpus as u32;
                *cpus *= 100;
            }
        }
        let mut parts = Vec::new();
        for ((&at, &cpus), (_, mem)) in set.iter().zip(&cpus).zip(split) {
            let memory = (mem * MIB).round();
            let node = &mut host.nodes[at];
            node.idle = (node.idle - cpus as f64 / 100.0).max(0.0);
            node.mem = (node.mem - memory / MIB).max(0.0);
            parts.push((cpus, memory as u64));
        }
        parts
    }
}

const MIB: f64 = 1_048_576.0;

fn own(guest: &Guest) -> u64 {
    guest.cpus.hundredths().div_ceil(100).max(1)
}

fn weight(guest: &Guest) -> u64 {
    guest.memory.get().div_ceil(1 << 20).max(1)
}

fn fits(host: &Ask) -> bool {
    let cpus: f64 = host.nodes.iter().map(|node| f64::from(node.cpus)).sum();
    let mem: f64 = host.nodes.iter().map(|node| node.mem).sum();
    let cap: f64 = host.nodes.iter().map(|node| node.cap).sum();
    cap > 0.0 && cpus >= host.cpus.max(0.01) && mem >= host.mem.max(1.0)
}

/// Returns nodes in an order until they hold the request of a host: how simple rules fill a host.
pub fn until_it_fits(host: &Ask, mut order: Vec<usize>) -> Vec<usize> {
    let holds = |nodes: &[usize]| {
        let mem: f64 = nodes.iter().map(|&at| host.nodes[at].mem).sum();
        let cpus: f64 = nodes.iter().map(|&at| f64::from(host.nodes[at].cpus)).sum();
        mem >= host.mem.max(1.0) && cpus >= host.cpus
    };
    if let Some(&one) = order.iter().find(|&&at| holds(&[at])) {
        return vec![one];
    }
    let enough = (1..=order.len()).find(|&count| holds(&order[..count]));
    order.truncate(enough.unwrap_or(0));
    order.sort_unstable();
    order
}

/// Returns the order in which guests are charged: most memory first, then most CPUs, then as given.
fn order(guests: &[Guest]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..guests.len()).collect();
    order.sort_by_key(|&at| {
        let guest = &guests[at];
        (u64::MAX - guest.memory.get(), u64::MAX - guest.cpus.hundredths(), at)
    });
    order
}

/// Returns the lowest cost of any plan: every set of nodes is tried for every guest, or the guest is refused.
///
/// Left out is only what costs as much as the best plan so far before all guests are placed, with the least that
/// any guest costs: local memory and a CPU for each thread.
pub fn brute(asked: &Asked) -> Cost {
    let mut best = (usize::MAX, u128::MAX, usize::MAX);
    let budget = asked.budget.map_or(u64::MAX, Bytes::get);
    let local = asked.host.distances.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let bound = asked.host.bound;
    let least = ((1.0 - bound + bound * local / 10.0) * 1e6 - 1.0) as u128;
    let order = order(&asked.guests);
    try_all(asked, &asked.host.clone(), &order, (0, 0, 0), budget, least, &mut best);
    best
}

fn try_all(
    asked: &Asked,
    host: &Ask,
    guests: &[usize],
    cost: Cost,
    budget: u64,
    least: u128,
    best: &mut Cost,
) {
    let rest = guests.iter().map(|&at| u128::from(weight(&asked.guests[at])) * least);
    if (cost.0, cost.1 + rest.sum::<u128>(), cost.2 + guests.len()) >= *best {
        return;
    }
    let Some((&at, others)) = guests.split_first() else {
        *best = cost;
        return;
    };
    let guest = &asked.guests[at];
    let mut host = host.clone();
    asked.ask_for(&mut host, guest);
    if fits(&host) && guest.memory.get() <= budget {
        let mut ways = Vec::new();
        for mask in 1u32..1 << host.nodes.len() {
            let set: Vec<usize> = (0..host.nodes.len()).filter(|at| mask >> at & 1 == 1).collect();
            let useful = |&at: &usize| host.nodes[at].cap > 0.0 || host.nodes[at].mem > 0.0;
            if !set.iter().all(useful) {
                continue;
            }
            if let Some(found) = plain(&host, &set) {
                ways.push((found.slowdown_ppm, set.len(), set, found.split));
            }
        }
        ways.sort_by_key(|way| (way.0, way.1));
        for (slowdown, nodes, set, split) in ways {
            let with = u128::from(slowdown) * u128::from(weight(guest));
            let with = (cost.0, cost.1 + with, cost.2 + nodes);
            let mut after = host.clone();
            asked.charge(&mut after, guest, &set, &split);
            try_all(asked, &after, others, with, budget - guest.memory.get(), least, best);
        }
    }
    try_all(asked, &host, others, (cost.0 + 1, cost.1, cost.2), budget, least, best);
}

/// Returns a host of `nodes` nodes and guests for it. Four in ten have guests that are all alike; some hosts have
/// less than all guests need.
pub fn asked(rng: &mut Rng, nodes: usize, guests: usize) -> Asked {
    let (shape, fill, odd) = (*rng.pick(&SHAPES), *rng.pick(&FILL), rng.chance(0.4));
    let host = random(rng, nodes, shape, fill, odd);
    let all_mem: f64 = host.nodes.iter().map(|node| node.mem).sum();
    let all_cpus: f64 = host.nodes.iter().map(|node| f64::from(node.cpus)).sum();
    // The part of the host that they need together.
    let load = *rng.pick(&[0.3, 0.6, 0.9, 1.0, 1.2]);
    let mean = load / guests as f64;
    let one = |rng: &mut Rng| {
        let mib = (all_mem * mean * rng.real(0.5, 1.5)).max(1.0).floor() as u64;
        let most = all_cpus * *rng.pick(&[0.3, 0.7, 1.3]);
        let cpus = (most * mean * rng.real(0.5, 1.5) * 100.0).max(25.0) as u64;
        Guest { memory: Bytes::new(mib << 20), cpus: CpuShare::from_hundredths(cpus) }
    };
    let first = one(rng);
    let alike = rng.chance(0.4);
    let guests = (0..guests).map(|_| if alike { first } else { one(rng) }).collect();
    let budget = Bytes::new(((all_mem * rng.real(0.2, 1.0)) as u64) << 20);
    Asked { host, guests, own_cpus: rng.chance(0.3), budget: rng.chance(0.1).then_some(budget) }
}
