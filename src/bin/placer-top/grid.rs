//! Where each box stands: near nodes side by side.

/// Hosts up to this many nodes are laid out by distance; larger ones by id, as firmware counts.
const MOST: usize = 128;
/// Enough for every host that was tried; each round must make it better.
const ROUNDS: usize = 16;

/// Returns an order for `count` boxes in rows of `columns`, so that near ones are neighbours: the sum
/// over all pairs of nearness times steps between them is as small as exchanging two boxes makes it.
/// Where nothing is nearer than anything else they stay in order.
///
/// `distance` is asked for pairs of boxes, in both directions.
pub(crate) fn arrange(
    count: usize,
    columns: usize,
    distance: impl Fn(usize, usize) -> u32,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if !(3..=MOST).contains(&count) || columns == 0 {
        return order;
    }
    let both = |a: usize, b: usize| u64::from(distance(a, b)) + u64::from(distance(b, a));
    let farthest = pairs(count).map(|(a, b)| both(a, b)).max().unwrap_or(0);
    let mut near = vec![0_u64; count * count];
    for (a, b) in pairs(count) {
        near[a * count + b] = (farthest - both(a, b)).saturating_pow(2);
        near[b * count + a] = near[a * count + b];
    }
    let steps = |a: usize, b: usize| -> u64 {
        let apart = (a / columns).abs_diff(b / columns) + (a % columns).abs_diff(b % columns);
        u64::try_from(apart).unwrap_or(u64::MAX)
    };
    for _ in 0..ROUNDS {
        let mut better = false;
        for (at, to) in pairs(count) {
            let (here, there) = (order[at], order[to]);
            let (mut before, mut after) = (0, 0);
            for (place, &other) in order.iter().enumerate() {
                if place != at && place != to {
                    let (a, b) = (near[here * count + other], near[there * count + other]);
                    before += a * steps(at, place) + b * steps(to, place);
                    after += a * steps(to, place) + b * steps(at, place);
                }
            }
            if after < before {
                order.swap(at, to);
                better = true;
            }
        }
        if !better {
            break;
        }
    }
    if count.is_multiple_of(columns) { turned(&order, columns) } else { order }
}

/// Turns a full grid over, which leaves all steps as they are, so that the lowest come first.
fn turned(order: &[usize], columns: usize) -> Vec<usize> {
    let rows = order.len() / columns;
    let turn = |across: bool, down: bool| -> Vec<usize> {
        let place = |at: usize| {
            let (row, column) = (at / columns, at % columns);
            let row = if down { rows - 1 - row } else { row };
            row * columns + if across { columns - 1 - column } else { column }
        };
        (0..order.len()).map(|at| order[place(at)]).collect()
    };
    let turns = [turn(false, false), turn(true, false), turn(false, true), turn(true, true)];
    turns.into_iter().min().unwrap_or_default()
}

/// The pairs of places, the last first: what can stay at the front stays there.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).rev().flat_map(move |a| (a + 1..count).rev().map(move |b| (a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_drawn_round() {
        let ring = |a: usize, b: usize| match a.abs_diff(b) {
            0 => 10,
            1 | 3 => 20,
            _ => 30,
        };
        assert_eq!(arrange(4, 2, ring), [0, 1, 3, 2]);
        assert_eq!(arrange(4, 4, ring), [0, 1, 2, 3]);
    }

    #[test]
    fn a_cube_is_no_worse_than_in_order() {
        let cube = |a: usize, b: usize| 10 + 10 * (a ^ b).count_ones();
        let order = arrange(16, 4, cube);
        let near = |a: usize, b: usize| cube(order[a], order[b]) == 20;
        let side_by_side = (0..16).filter(|at| at % 4 < 3).filter(|&at| near(at, at + 1)).count();
        let above = (0..12).filter(|&at| near(at, at + 4)).count();
        assert!(side_by_side + above >= 16, "{side_by_side} + {above} of 24: {order:?}");
    }

    #[test]
    fn equal_distances_leave_the_order() {
        assert_eq!(arrange(6, 3, |_, _| 20), [0, 1, 2, 3, 4, 5]);
        assert_eq!(arrange(0, 0, |_, _| 20), [0; 0]);
        let pairs = |a: usize, b: usize| if a / 2 == b / 2 { 12 } else { 32 };
        assert_eq!(arrange(8, 2, pairs), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn every_box_stands_once() {
        let mut order = arrange(64, 8, |a, b| u32::try_from((a * 7 + b * 13) % 40).unwrap_or(0));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..64));
    }
}
