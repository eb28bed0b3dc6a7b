//! Whole things divided in the measure of shares.

/// Divides `total` by weights: each part is the whole number below or above its share, and they
/// add up exactly. All to the first where no weight is above zero.
pub(super) fn by_weight(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    let mut parts = vec![0; weights.len()];
    if sum == 0 {
        if let Some(first) = parts.first_mut() {
            *first = total;
        }
        return parts;
    }
    let mut rests = Vec::with_capacity(weights.len());
    for (at, &weight) in weights.iter().enumerate() {
        let product = u128::from(total) * u128::from(weight);
        // At most `total`, so it always fits.
        parts[at] = u64::try_from(product / sum).unwrap_or(total);
        rests.push((product % sum, at));
    }
    let left = total - parts.iter().sum::<u64>();
    // The largest rests get what is left, one each; of equal ones the first.
    rests.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, (_, at)) in (0..left).zip(rests) {
        parts[at] += 1;
    }
    parts
}

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
pub(super) fn one_by_one(total: u32, places: &[Place]) -> Vec<u32> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(share: f64, room: u64) -> Place {
        Place { share, room }
    }

    #[test]
    fn parts_are_the_shares_in_whole_numbers() {
        for (total, weights, parts) in [
            (1000, vec![600, 400], vec![600, 400]),
            (10, vec![1, 1, 1], vec![4, 3, 3]),
            (3, vec![0, 5], vec![0, 3]),
            (3, vec![0, 0], vec![3, 0]),
            (3, vec![], vec![]),
        ] {
            assert_eq!(by_weight(total, &weights), parts, "{total} {weights:?}");
        }
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
            assert_eq!(one_by_one(total, &places), counts, "{total} {places:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(total in 0_u64..1 << 40, weights in prop::collection::vec(0_u64..1 << 50, 1..9)) {
            let parts = by_weight(total, &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), total);
            let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let product = u128::from(total) * u128::from(*weight);
                if let Some(floor) = product.checked_div(sum) {
                    prop_assert!((floor..=floor + 1).contains(&u128::from(*part)));
                }
            }
        }

        #[test]
        fn counts_add_up_and_no_node_is_overfull_while_another_has_room(
            total in 0_u32..200,
            places in prop::collection::vec((0.0..9.0_f64, 0_u64..40), 1..6),
        ) {
            let places: Vec<Place> = places.into_iter().map(|(s, r)| place(s, r)).collect();
            let counts = one_by_one(total, &places);
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
