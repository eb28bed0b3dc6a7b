//! Which processes were looked at already. Pure.
//!
//! The kernel gives pids in ascending order, so what is new lies between two readings of the last
//! one. A look at each process of a host would cost more than all the rest of a decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All processes are looked through so often, in nanoseconds: pids start over one day, and a guest
/// may be started in an old process. Saved CPU counters serve as long, so the two fall together:
/// who waits for a new measurement does not notice.
const ALL_EVERY_NS: u64 = 60_000_000_000;
/// A process that is so young may yet turn into a guest: libvirt prepares a process first, and
/// starts QEMU in it then.
const YOUNG_NS: u64 = 5_000_000_000;
/// Of more new pids than this, or more young processes, all are looked through at once.
const MOST_NEW: u32 = 2048;
const MOST_YOUNG: usize = 512;
/// A pid is given a moment before its process can be seen.
const AGAIN: u32 = 8;
/// The processes that were looked at, and are no guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tried {
    /// When all were looked through last; 0 is never.
    all_at_ns: u64,
    /// The last pid that was tried.
    last: Option<u32>,
    /// Processes that may yet turn into guests: when they were first seen, and are tried again.
    young: BTreeMap<u32, (u64, u64)>,
}

impl Tried {
    /// Returns the pids to try; `None` when all processes are to be looked through. `last` is the
    /// last pid that was given, where it is told.
    pub(super) fn plan(&self, now_ns: u64, last: Option<u32>) -> Option<Vec<u32>> {
        let (from, last) = (self.last?, last?);
        let new = last.checked_sub(from).filter(|&new| new <= MOST_NEW)?;
        let due = self.all_at_ns == 0 || now_ns.saturating_sub(self.all_at_ns) >= ALL_EVERY_NS;
        if due || self.young.len() > MOST_YOUNG {
            return None;
        }
        let first = (last - new + 1).saturating_sub(AGAIN).max(1);
        let due = self
            .young
            .iter()
            .filter(|(pid, (_, next))| *next <= now_ns && !(first..=last).contains(*pid));
        Some(due.map(|(pid, _)| *pid).chain(first..=last).collect())
    }

    /// Notes that the pids of a plan, or all processes, were tried. `alive` are those that run and
    /// are no guests.
    pub(super) fn note(
        &mut self,
        now_ns: u64,
        last: Option<u32>,
        tried: Option<&[u32]>,
        alive: &[u32],
    ) {
        let Some(last) = last else { return };
        let before = self.last;
        let new = |pid: u32| before.is_some_and(|before| pid > before && pid <= last);
        let mut young = std::mem::take(&mut self.young);
        // Those that were tried and do not run any more.
        young.retain(|pid, _| {
            tried.is_some_and(|tried| !tried.contains(pid)) || alive.contains(pid)
        });
        for &pid in alive {
            let since = young.get(&pid).map(|(since, _)| *since);
            if let Some(since) = since.or_else(|| new(pid).then_some(now_ns)) {
                // Less and less often.
                young.insert(pid, (since, now_ns + now_ns.saturating_sub(since)));
            }
        }
        young.retain(|_, (since, _)| now_ns.saturating_sub(*since) < YOUNG_NS);
        self.young = young;
        self.last = Some(last);
        if tried.is_none() {
            // At first nothing is known of those that are young: all again when they are not.
            let early = if before.is_none() { ALL_EVERY_NS - YOUNG_NS } else { 0 };
            self.all_at_ns = now_ns.saturating_sub(early).max(1);
        }
    }

    /// Has all processes looked through the next time.
    pub(super) fn forget(&mut self) {
        self.all_at_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// A first look at 100 s, when pid 500 was the last.
    fn first() -> Tried {
        let mut tried = Tried::default();
        assert_eq!(tried.plan(100 * S, Some(500)), None);
        tried.note(100 * S, Some(500), None, &[1, 2, 400]);
        tried
    }

    /// Tries what is planned at so many ms, and returns what that was. `alive` run.
    fn go(tried: &mut Tried, ms: u64, last: u32, alive: &[u32]) -> Vec<u32> {
        let now = ms * 1_000_000;
        let pids = tried.plan(now, Some(last)).expect("a few");
        let alive: Vec<u32> = alive.iter().copied().filter(|pid| pids.contains(pid)).collect();
        tried.note(now, Some(last), Some(&pids), &alive);
        pids
    }

    #[test]
    fn what_is_new_is_tried_and_the_young_again_less_and_less_often() {
        let mut tried = first();
        tried.note(100 * S, Some(500), None, &[]);
        // 502 runs, and is no guest yet; 501 and 503 have ended.
        let pids = go(&mut tried, 101_000, 503, &[400, 502]);
        assert_eq!(pids, (493..=503).collect::<Vec<_>>());
        assert_eq!(go(&mut tried, 101_500, 600, &[502]), (496..=600).collect::<Vec<_>>());
        let mut again = Vec::new();
        for ms in (101_600..109_000).step_by(100) {
            again.extend((go(&mut tried, ms, 600, &[502])[0] == 502).then_some(ms));
        }
        assert_eq!(again, [102_000, 103_000, 105_000], "and not when it is old");
        // One that ends is forgotten.
        go(&mut tried, 109_000, 610, &[605]);
        go(&mut tried, 109_100, 700, &[]);
        assert_eq!(go(&mut tried, 109_200, 800, &[]).len(), 108);
        assert!(tried.young.is_empty());
    }

    #[test]
    fn all_are_looked_through_now_and_then() {
        let mut tried = first();
        // Once more soon after the first, then each minute.
        assert!(tried.plan(104 * S, Some(500)).is_some());
        assert_eq!(tried.plan(105 * S, Some(500)), None);
        tried.note(105 * S, Some(500), None, &[1]);
        assert!(tried.plan(164 * S, Some(500)).is_some());
        assert_eq!(tried.plan(165 * S, Some(500)), None);
        assert_eq!(tried.plan(106 * S, Some(499)), None, "pids have started over");
        assert_eq!(tried.plan(106 * S, Some(500 + MOST_NEW + 1)), None);
        assert_eq!(tried.plan(106 * S, None), None);
        tried.forget();
        assert_eq!(tried.plan(106 * S, Some(500)), None);
    }
}
