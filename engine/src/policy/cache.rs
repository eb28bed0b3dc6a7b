//! Which last-level caches, and which CPUs, of one node a guest gets.
//!
//! A guest whose threads share one cache exchanges data inside it; a guest across two caches pays
//! for every line that the other half has written. [`roam`] chooses the caches whose CPUs form the
//! mask that a guest's threads roam over; [`pin`] chooses one CPU for each vCPU.
//!
//! Both are pure and exact within a step limit: the same input gives the same answer, and an answer
//! that the limit cut short says so in its [`Proof`].

pub mod pin;
pub mod roam;

/// One hardware thread of a core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thread {
    /// The kernel's CPU id.
    pub cpu: u32,
    /// The share of time it idles, from 0 to 1.
    pub idle: f64,
    /// Whether a claim owns it.
    pub taken: bool,
}

/// One core: the hardware threads that share its execution units.
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    /// Its threads, in any order.
    pub threads: Vec<Thread>,
    /// What its first thread is worth, in CPUs: 1 on most hosts, `cpu_capacity / 1024` of a slow
    /// core on hybrid ones.
    pub capacity: f64,
}

/// How far an answer is known to be the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// No other choice is better by the rule.
    Optimal,
    /// The step limit ended the search. For roaming guests: the cost is above the lowest possible
    /// one by at most this many parts per million. For pinned guests the number of shared cores,
    /// busy cores and caches is the lowest possible, and only later keys may be improved: 0.
    Gap(u64),
}

/// The capacity and the idle part of what is free in a core, in CPUs.
///
/// The first thread counts whole, each further one `smt_percent` percent and is idle last. Beside a
/// taken thread all others are further ones.
#[must_use]
pub fn free_capacity(core: &Core, smt_percent: u32) -> (f64, f64) {
    let further = f64::from(smt_percent.min(100)) / 100.0;
    let free = core.threads.iter().filter(|thread| !thread.taken);
    let (count, busy) =
        free.fold((0.0, 0.0), |(count, busy), thread| (count + 1.0, busy + (1.0 - thread.idle)));
    let none_taken = count > 0.0 && core.threads.iter().all(|thread| !thread.taken);
    let whole = if none_taken { 1.0 } else { 0.0 };
    let capacity = whole + (count - whole) * further;
    let used = f64::min(busy, whole) + (busy - whole).max(0.0) * further;
    (capacity * core.capacity, (capacity - used).max(0.0) * core.capacity)
}

#[cfg(test)]
mod tests;
