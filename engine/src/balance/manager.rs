//! The rules of a manager that plans again and again, on top of those of plans. Pure.
//!
//! A look notes what guests want; the highest of the last hour is their peak. Guests that were moved are judged at the
//! next looks, beside new plans: one that is slower than before at three of them is put back, if that gains what any move
//! must. No plan is made at that look, and none moves a guest back to nodes that it has left in the last week.

use std::collections::{BTreeMap, VecDeque};

use super::{BalanceError, Guest, GuestMemory, Host, Plan, Rules, plan};
use crate::idset::NodeSet;
use crate::units::Bytes;

/// Averages of the last hour make the peak of a guest.
const PEAK_S: f64 = 3_600.0;
/// More looks than that in an hour are one a second.
const MOST_AVERAGES: usize = 3_600;
/// Looks at a guest after its move. It takes all of them to find one worse.
pub const LOOKS: u32 = 3;
/// A guest is worse off if it is slower than before by this factor.
pub const WORSE: f64 = 1.02;
/// Plans that are made one after the other until none moves a guest back.
const PLANS: usize = 4;

/// What is known of guests from one look to the next. `K` is what a guest is known by.
#[derive(Clone, Debug)]
pub struct Manager<K> {
    /// What guests wanted at the looks of the last hour, and when.
    averages: BTreeMap<K, VecDeque<(f64, f64)>>,
    /// Guests that were moved and are not judged yet.
    checks: Vec<Check<K>>,
    /// Guests that are to be put back and could not be yet.
    put_off: Vec<Worse<K>>,
}

/// What one look has found.
#[derive(Debug)]
pub struct Look<'a, K> {
    /// The nodes.
    pub host: &'a Host,
    /// The guests, what they want on the average since the last look.
    pub guests: Vec<Guest>,
    /// What they are known by.
    pub ids: &'a [K],
    /// The sets of nodes that each has left in the last week.
    pub left: &'a [Vec<NodeSet>],
    /// The limits of plans.
    pub rules: Rules,
    /// The time.
    pub now_s: f64,
    /// Whether a plan may be begun.
    pub may_plan: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<K> {
    /// Guests that are to be put back. No plan is made then.
    pub worse: Vec<Worse<K>>,
    /// What is to be moved.
    pub plan: Plan,
    /// CPU seconds that the moves which were judged now have saved.
    pub seen_gain: f64,
}

impl<K> Default for Decision<K> {
    fn default() -> Self {
        Self { worse: Vec::new(), plan: Plan::default(), seen_gain: 0.0 }
    }
}

/// A guest that is worse off after its move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worse<K> {
    /// The guest.
    pub guest: K,
    /// Its slowdown before and after.
    pub slowdown: (f64, f64),
}

/// A guest that was moved, until it is known what came of it.
#[derive(Clone, Debug)]
struct Check<K> {
    guest: K,
    threads: NodeSet,
    memory: Vec<GuestMemory>,
    before: f64,
    looks: u32,
}

impl<K> Default for Manager<K> {
    fn default() -> Self {
        Self { averages: BTreeMap::new(), checks: Vec::new(), put_off: Vec::new() }
    }
}

impl<K: Ord + Copy> Manager<K> {
    /// Takes a look, and says what is to be done.
    ///
    /// Errors: a guest has a figure that is negative or absurd.
    pub fn look(&mut self, mut look: Look<'_, K>) -> Result<Decision<K>, BalanceError> {
        self.remember(&mut look);
        let (mut worse, seen_gain) = self.judge(&look)?;
        let put_off = std::mem::take(&mut self.put_off);
        worse.extend(put_off.into_iter().filter(|worse| look.ids.contains(&worse.guest)));
        let may_plan = look.may_plan && worse.is_empty();
        let plan = if may_plan { plan_onward(look)? } else { Plan::default() };
        Ok(Decision { worse, plan, seen_gain })
    }

    /// Returns the guests that were moved and are still judged.
    pub fn judged(&self) -> Vec<K> {
        self.checks.iter().map(|check| check.guest).collect()
    }

    /// Notes that a guest has been moved: as it was, and how much it was slowed.
    pub fn moved(&mut self, guest: K, before: &Guest, slowdown: f64) {
        self.checks.retain(|check| check.guest != guest);
        let (threads, memory) = (before.threads.clone(), before.memory.clone());
        self.checks.push(Check { guest, threads, memory, before: slowdown, looks: 0 });
    }

    /// Notes that guests which are to be put back could not be: the next look names them again.
    pub fn put_off(&mut self, worse: Vec<Worse<K>>) {
        self.put_off = worse;
    }

    /// Notes what guests want, and makes the highest of the last hour their peak.
    fn remember(&mut self, look: &mut Look<'_, K>) {
        self.averages.retain(|id, _| look.ids.contains(id));
        for (id, guest) in look.ids.iter().zip(&mut look.guests) {
            let averages = self.averages.entry(*id).or_default();
            averages.push_back((look.now_s, guest.demand));
            while averages.len() > MOST_AVERAGES
                || averages.front().is_some_and(|(at, _)| at + PEAK_S < look.now_s)
            {
                averages.pop_front();
            }
            guest.peak = averages.iter().fold(guest.peak, |peak, (_, wanted)| peak.max(*wanted));
        }
    }

    /// Looks at the guests that were moved: one that is not worse than before is judged, and one that is each time is
    /// put back if that pays. Returns those, and what the judged ones have saved.
    fn judge(&mut self, look: &Look<'_, K>) -> Result<(Vec<Worse<K>>, f64), BalanceError> {
        let (mut worse, mut gain, mut open) = (Vec::new(), 0.0, Vec::new());
        if self.checks.is_empty() {
            return Ok((worse, gain));
        }
        let slowdowns = slowdowns(look, &look.guests)?;
        for mut check in std::mem::take(&mut self.checks) {
            let at = look.ids.iter().position(|id| *id == check.guest);
            let Some((at, guest)) = at.and_then(|at| Some((at, look.guests.get(at)?))) else {
                continue;
            };
            let now = slowdowns.get(at).copied().unwrap_or(f64::NAN);
            let is_worse = now > check.before * WORSE;
            check.looks += 1;
            if is_worse && check.looks < LOOKS {
                open.push(check);
                continue;
            }
            gain += look.rules.horizon_s.min(guest.age_s) * guest.demand * (check.before - now);
            if is_worse && check.is_worth_undoing(look, at, now)? {
                worse.push(Worse { guest: check.guest, slowdown: (check.before, now) });
            }
        }
        self.checks = open;
        Ok((worse, gain))
    }
}

impl<K> Check<K> {
    /// Says whether going back gains what any move must.
    fn is_worth_undoing(
        &self,
        look: &Look<'_, K>,
        at: usize,
        now: f64,
    ) -> Result<bool, BalanceError> {
        let mut guests = look.guests.clone();
        let Some(guest) = guests.get_mut(at) else { return Ok(false) };
        let on = |node| {
            let there = guest.memory.iter().find(|memory| memory.node == node);
            there.map_or(Bytes::ZERO, |memory| memory.resident)
        };
        let back = self.memory.iter().map(|memory| memory.resident.saturating_sub(on(memory.node)));
        let back: Bytes = back.sum();
        let (demand, horizon) = (guest.demand, look.rules.horizon_s.min(guest.age_s));
        guest.threads.clone_from(&self.threads);
        guest.memory.clone_from(&self.memory);
        let there = slowdowns(look, &guests)?.get(at).copied().unwrap_or(f64::NAN);
        #[expect(clippy::cast_precision_loss, reason = "a cost is not exact")]
        let cost = back.get() as f64 / f64::from(1 << 30) * look.rules.cost_per_gib;
        Ok((now - there) * demand * horizon > look.rules.gain_per_cost * cost
            && now - there > look.rules.least_gain * now)
    }
}

/// Returns how much each guest is slowed where it is.
fn slowdowns<K>(look: &Look<'_, K>, guests: &[Guest]) -> Result<Vec<f64>, BalanceError> {
    // No guest may be moved, so nothing is searched.
    let rules = Rules { most_guests: 0, effort: 0, ..look.rules };
    Ok(plan(look.host, guests, &rules)?.slowdowns.iter().map(|&(now, _)| now).collect())
}

/// Makes a plan that moves no guest back to nodes which it has left.
fn plan_onward<K>(look: Look<'_, K>) -> Result<Plan, BalanceError> {
    let Look { host, mut guests, left, rules, .. } = look;
    for (guest, left) in guests.iter_mut().zip(left) {
        let single = left.iter().filter(|nodes| nodes.len() == 1);
        let away = single.fold(NodeSet::new(), |all, nodes| all.union(nodes));
        guest.allowed = guest.allowed.difference(&away.difference(&guest.threads));
    }
    for _ in 0..PLANS {
        let made = plan(host, &guests, &rules)?;
        let has_left = |guest: usize, to| left.get(guest).is_some_and(|left| left.contains(to));
        let back = made.steps.iter().filter(|step| has_left(step.guest, &step.to));
        let back: Vec<usize> = back.map(|step| step.guest).collect();
        if back.is_empty() {
            return Ok(made);
        }
        for at in back {
            if let Some(guest) = guests.get_mut(at) {
                guest.allowed.clone_from(&guest.threads);
            }
        }
    }
    Ok(Plan::default())
}

#[cfg(test)]
mod tests;
