//! Where a guest's threads run among its nodes.

/// A node that threads may roam over, in CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// What it can do; 0 without CPUs.
    pub cap: f64,
    /// Threads of others that want to run there, which may be more.
    pub busy: f64,
}

impl Room {
    fn idle(self) -> f64 {
        (self.cap - self.busy).max(0.0)
    }

    fn crowded(self) -> f64 {
        self.busy / self.cap
    }
}

/// Returns the part of a guest's threads that runs on each node.
///
/// Where they find enough idle CPUs, in the measure of those; else so that all nodes they run on are
/// as crowded, and none that is more crowded without them. That is policy `best`'s own
/// (idle + (crowding - 1) x capacity) / max(threads, idle), as long as no node is more than busy, and
/// goes on where measured load ends. All are 0 where no node has CPUs.
pub fn shares(rooms: &[Room], threads: f64) -> Vec<f64> {
    let idle: f64 = rooms.iter().map(|room| room.idle()).sum();
    if threads <= idle && idle > 0.0 {
        return rooms.iter().map(|room| room.idle() / idle).collect();
    }
    let mut order: Vec<usize> = (0..rooms.len()).filter(|&at| rooms[at].cap > 0.0).collect();
    order.sort_by(|&a, &b| rooms[a].crowded().total_cmp(&rooms[b].crowded()).then(a.cmp(&b)));
    // The level up to which nodes are filled rises until the next node is above it.
    let (mut wanted, mut cap, mut level) = (threads, 0.0, f64::INFINITY);
    for &at in &order {
        if rooms[at].crowded() >= level {
            break;
        }
        wanted += rooms[at].busy;
        cap += rooms[at].cap;
        level = wanted / cap;
    }
    let mut shares = vec![0.0; rooms.len()];
    for at in order {
        let room = rooms[at];
        shares[at] = (level * room.cap - room.busy).max(0.0) / threads.max(1e-9);
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(cap: f64, busy: f64) -> Room {
        Room { cap, busy }
    }

    #[test]
    fn idle_cpus_first_and_then_evenly() {
        for (rooms, threads, wanted) in [
            (&[room(4.0, 0.0), room(4.0, 2.0)][..], 3.0, &[2.0 / 3.0, 1.0 / 3.0][..]),
            (&[room(4.0, 0.0), room(4.0, 4.0)], 4.0, &[1.0, 0.0]),
            // All 10 threads on 8 CPUs.
            (&[room(4.0, 0.0), room(4.0, 4.0)], 6.0, &[5.0 / 6.0, 1.0 / 6.0]),
            // The second is more crowded than the first becomes.
            (&[room(4.0, 0.0), room(4.0, 9.0)], 6.0, &[1.0, 0.0]),
            (&[room(4.0, 6.0)], 2.0, &[1.0]),
            (&[room(0.0, 0.0), room(4.0, 6.0)], 2.0, &[0.0, 1.0]),
            (&[room(0.0, 0.0)], 2.0, &[0.0]),
        ] {
            let found = shares(rooms, threads);
            let close = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(close && found.len() == wanted.len(), "{rooms:?}: {found:?}");
        }
    }

    proptest! {
        /// What policy `best` says of threads, as far as it can see.
        #[test]
        fn they_are_those_of_policy_best(
            nodes in proptest::collection::vec((1.0f64..64.0, 0.0f64..=1.0), 1..8),
            threads in 0.01f64..200.0,
        ) {
            let rooms: Vec<Room> = nodes.iter().map(|&(cap, part)| room(cap, cap * part)).collect();
            let sum = |figure: fn(&Room) -> f64| rooms.iter().map(figure).sum::<f64>();
            let (idle, cap) = (sum(|room| room.idle()), sum(|room| room.cap));
            let crowding = 1.0 + (threads - idle).max(0.0) / cap;
            for (found, room) in shares(&rooms, threads).iter().zip(&rooms) {
                let wanted = (room.idle() + (crowding - 1.0) * room.cap) / threads.max(idle);
                prop_assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
            }
        }

        #[test]
        fn nobody_runs_where_it_is_more_crowded_than_elsewhere(
            nodes in proptest::collection::vec((0.0f64..64.0, 0.0f64..3.0), 1..8),
            threads in 0.01f64..200.0,
        ) {
            let rooms: Vec<Room> = nodes.iter().map(|&(cap, part)| room(cap, cap * part)).collect();
            let shares = shares(&rooms, threads);
            let with = |at: usize| (rooms[at].busy + shares[at] * threads) / rooms[at].cap;
            let used = (0..rooms.len()).filter(|&at| shares[at] > 0.0);
            let worst = used.map(with).fold(1.0, f64::max);
            for at in (0..rooms.len()).filter(|&at| rooms[at].cap > 0.0) {
                prop_assert!(with(at) >= worst - 1e-6 || worst <= 1.0 + 1e-6);
            }
            let all: f64 = shares.iter().sum();
            prop_assert!((all - 1.0).abs() < 1e-9 || rooms.iter().all(|room| room.cap <= 0.0));
        }
    }
}
