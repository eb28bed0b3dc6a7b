//! vCPUs divided among nodes.

/// Where things are put one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// In what measure.
    pub(super) share: f64,
    /// How many there is room for. More come only when no place has room.
    pub(super) room: u64,
}

/// Divides `total` among places: one for each that has room and a share, while there are enough;
/// the others where most is missing from the share. Of equal places the first.
///
/// Takes time by the number of places alone, never by `total`.
pub(super) fn among_places(total: u32, places: &[Place]) -> Vec<u32> {
    let share = |at: usize| if places[at].room > 0 { places[at].share.max(0.0) } else { 0.0 };
    let sum: f64 = (0..places.len()).map(share).sum();
    let target = |at: usize| if sum > 0.0 { share(at) * f64::from(total) / sum } else { 0.0 };
    let mut filling = Filling {
        targets: (0..places.len()).map(target).collect(),
        counts: vec![0; places.len()],
        left: total,
    };
    let room = |at: usize| u32::try_from(places[at].room).unwrap_or(u32::MAX);
    let wants = |at: usize| share(at) > 0.0;
    filling.fill(|at| u32::from(wants(at)));
    filling.fill(|at| if wants(at) { room(at) } else { 0 });
    filling.fill(room);
    // More than there is room for.
    filling.fill(|at| if room(at) > 0 { u32::MAX } else { 0 });
    filling.fill(|_| u32::MAX);
    filling.counts
}

struct Filling {
    /// How many each place would have by its share.
    targets: Vec<f64>,
    counts: Vec<u32>,
    left: u32,
}

impl Filling {
    /// Fills places up to a limit for each, one by one, always where most is missing.
    ///
    /// The one that comes next is where `target - count` is largest, so what is given first is all
    /// that lies above some level. Below the lowest whole level that uses up no more than is left,
    /// each place gets at most one more.
    fn fill(&mut self, limit: impl Fn(usize) -> u32) {
        let places = 0..self.counts.len();
        let room = |count: u32, at: usize| limit(at).saturating_sub(count);
        let needed: u64 = places.clone().map(|at| u64::from(room(self.counts[at], at))).sum();
        if needed <= u64::from(self.left) {
            for at in places {
                let more = room(self.counts[at], at);
                self.counts[at] += more;
                self.left -= more;
            }
            return;
        }
        let above = |level: f64, at: usize, count: u32| -> u32 {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float is cut to the largest u32"
            )]
            #[expect(clippy::cast_sign_loss, reason = "cut to zero")]
            let more = (self.targets[at] - f64::from(count) - level).ceil() as u32;
            more.min(room(count, at))
        };
        let given = |level: f64| -> u64 {
            places.clone().map(|at| u64::from(above(level, at, self.counts[at]))).sum()
        };
        // At the highest level nothing is given, at the lowest all that there is room for.
        let (mut none, mut all) = (f64::from(u32::MAX), -2.0 * f64::from(u32::MAX));
        while none - all > 1.0 {
            let middle = ((none + all) / 2.0).floor();
            if given(middle) <= u64::from(self.left) { none = middle } else { all = middle }
        }
        let more: Vec<u32> = places.clone().map(|at| above(none, at, self.counts[at])).collect();
        for (count, more) in self.counts.iter_mut().zip(more) {
            *count += more;
            self.left -= more;
        }
        while self.left > 0 {
            let missing = |at: usize| self.targets[at] - f64::from(self.counts[at]);
            let open = places.clone().filter(|&at| room(self.counts[at], at) > 0);
            let best =
                open.reduce(
                    |best, at| {
                        if missing(at).total_cmp(&missing(best)).is_gt() { at } else { best }
                    },
                );
            let Some(best) = best else { return };
            self.counts[best] += 1;
            self.left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(share: f64, room: u64) -> Place {
        Place { share, room }
    }

    /// What [`among_places`] is, step by step.
    fn one_by_one(total: u32, places: &[Place]) -> Vec<u32> {
        let mut counts = vec![0_u32; places.len()];
        let share = |at: usize| if places[at].room > 0 { places[at].share.max(0.0) } else { 0.0 };
        let sum: f64 = (0..places.len()).map(share).sum();
        let missing = |at: usize, count: u32| match sum > 0.0 {
            true => share(at) * f64::from(total) / sum - f64::from(count),
            false => -f64::from(count),
        };
        for _ in 0..total {
            let rank = |at: usize| {
                let usable = places[at].room > 0;
                let wants = usable && share(at) > 0.0;
                let has_room = u64::from(counts[at]) < places[at].room;
                (wants && counts[at] == 0, has_room && wants, has_room, usable)
            };
            let best = (0..places.len()).reduce(|best, at| {
                let missing = missing(at, counts[at]).total_cmp(&missing(best, counts[best]));
                if rank(at).cmp(&rank(best)).then(missing).is_gt() { at } else { best }
            });
            if let Some(best) = best {
                counts[best] += 1;
            }
        }
        counts
    }

    #[test]
    fn the_largest_number_of_vcpus_costs_no_more_than_a_few() {
        // A step for each would take minutes.
        let places: Vec<Place> = (1..=64).map(|n| place(f64::from(n), 16)).collect();
        for _ in 0..1000 {
            let counts = among_places(u32::MAX, &places);
            assert_eq!(
                counts.iter().map(|&count| u64::from(count)).sum::<u64>(),
                u64::from(u32::MAX)
            );
        }
        assert!(among_places(u32::MAX, &[]).is_empty());
        assert_eq!(among_places(u32::MAX, &[place(0.0, 0)]), [u32::MAX]);
    }

    #[test]
    fn vcpus_go_where_the_advice_has_cpus() {
        for (total, places, counts) in [
            (8, vec![place(5.0, 8), place(3.0, 8)], vec![5, 3]),
            // Busy as a node may be, it has so many CPUs and no more.
            (8, vec![place(5.0, 4), place(3.0, 4)], vec![4, 4]),
            // Each node has one, where that is possible.
            (4, vec![place(3.9, 8), place(0.1, 8)], vec![3, 1]),
            (1, vec![place(0.3, 8), place(0.7, 8)], vec![0, 1]),
            // Memory alone gets none, also when the others are full.
            (5, vec![place(1.0, 2), place(0.0, 0)], vec![5, 0]),
            (3, vec![place(0.0, 2), place(0.0, 2)], vec![2, 1]),
        ] {
            assert_eq!(among_places(total, &places), counts, "{total} {places:?}");
        }
    }

    proptest! {
        #[test]
        fn all_at_once_is_as_one_by_one(
            total in 0_u32..300,
            // Eighths: no rounding parts what is equal.
            places in prop::collection::vec((0_u8..72, 0_u64..60), 0..7),
        ) {
            let places: Vec<Place> =
                places.into_iter().map(|(s, r)| place(f64::from(s) / 8.0, r)).collect();
            prop_assert_eq!(among_places(total, &places), one_by_one(total, &places));
        }

        #[test]
        fn counts_add_up_and_no_node_is_overfull_while_another_has_room(
            total in 0_u32..200,
            places in prop::collection::vec((0.0..9.0_f64, 0_u64..40), 1..6),
        ) {
            let places: Vec<Place> = places.into_iter().map(|(s, r)| place(s, r)).collect();
            let counts = among_places(total, &places);
            prop_assert_eq!(counts.iter().sum::<u32>(), total);
            let room: u64 = places.iter().map(|place| place.room).sum();
            if u64::from(total) <= room {
                for (count, place) in counts.iter().zip(&places) {
                    prop_assert!(u64::from(*count) <= place.room);
                }
            }
        }
    }
}
