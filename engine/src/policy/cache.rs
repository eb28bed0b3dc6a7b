//! Which last-level caches, and which CPUs, of one node a guest gets.
//!
//! A guest whose threads share one cache exchanges data inside it; a guest across two caches pays
//! for every line that the other half has written. [`roam`] chooses the caches whose CPUs form the
//! mask that a guest's threads roam over; [`pin`] chooses one CPU for each vCPU.
//!
//! Both are pure and exact within a step limit: the same input gives the same answer, and an answer
//! that the limit cut short says so in its [`Proof`].

#[doc(hidden)]
pub mod pin;
#[doc(hidden)]
pub mod roam;

/// What a request may say about caches and kinds of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// How much slower two threads on different caches share data, in percent. Default 20; 0 switches the
    /// choice of caches off.
    pub penalty_percent: u32,
    /// How strictly a guest is kept in one cache.
    pub mode: Mode,
    /// Which kind of cores a guest may have, on hosts with several kinds.
    pub cores: Cores,
}

impl Default for Rules {
    fn default() -> Self {
        Self { penalty_percent: 20, mode: Mode::Prefer, cores: Cores::Any }
    }
}

impl Rules {
    /// Sets the penalty for two threads on different caches, in percent.
    #[must_use]
    pub fn with_penalty(mut self, percent: u32) -> Self {
        self.penalty_percent = percent;
        self
    }

    /// Sets how strictly a guest is kept in one cache.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets which kind of cores a guest may have.
    #[must_use]
    pub fn with_cores(mut self, cores: Cores) -> Self {
        self.cores = cores;
        self
    }
}

/// How strictly a guest is kept in one last-level cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In one cache where that costs at most 2 % of speed.
    #[default]
    Prefer,
    /// In one cache, or not at all.
    Require,
    /// In the caches with most bytes, where they have enough CPUs.
    Largest,
    /// Caches are not looked at: all CPUs of the nodes.
    Ignore,
}

/// Kinds of cores of a hybrid CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cores {
    /// Fast ones first, slow ones where those do not suffice.
    #[default]
    Any,
    /// Fast ones alone.
    Fast,
    /// Slow ones alone.
    Efficient,
}

impl Mode {
    /// The word for it: `prefer`, `require`, `largest`, `ignore`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::Largest => "largest",
            Self::Ignore => "ignore",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Prefer, Self::Require, Self::Largest, Self::Ignore];
        all.into_iter().find(|mode| mode.name() == name)
    }
}

impl Cores {
    /// The word for it: `any`, `fast`, `efficient`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Fast => "fast",
            Self::Efficient => "efficient",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Any, Self::Fast, Self::Efficient].into_iter().find(|cores| cores.name() == name)
    }
}

/// One hardware thread of a core.
#[doc(hidden)]
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
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    /// Its threads, in any order.
    pub threads: Vec<Thread>,
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
/// `threads` of its hardware threads are free and together `busy` CPUs busy; `owned` says whether a claim
/// owns another one. The first thread counts whole, each further one the part `further` and is idle last.
/// Beside an owned thread all others are further ones.
#[doc(hidden)]
#[must_use]
pub fn free_capacity(threads: u32, busy: f64, owned: bool, further: f64) -> (f64, f64) {
    let whole = if threads > 0 && !owned { 1.0 } else { 0.0 };
    let capacity = whole + (f64::from(threads) - whole) * further;
    let used = f64::min(busy, whole) + (busy - whole).max(0.0) * further;
    (capacity, (capacity - used).max(0.0))
}

#[cfg(test)]
mod tests;
