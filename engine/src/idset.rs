//! Sets of ids, of any width.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, Sub};

use crate::ids::{CpuId, Id, NodeId};

/// A set of logical CPUs.
pub type CpuSet = IdSet<CpuId>;
/// A set of NUMA nodes.
pub type NodeSet = IdSet<NodeId>;

/// A set of ids, kept as ascending ranges.
///
/// Ranges, not bits: the ids of a node's CPUs come as a few runs, a set needs no width, and
/// `0-4294967295` costs as much as `0`. Printed as the kernel prints lists: `0-3,8`.
///
/// ```
/// use placer_engine::{CpuId, CpuSet};
/// let mut cpus: CpuSet = [3, 1, 2, 8].into_iter().map(CpuId).collect();
/// assert_eq!(cpus.to_string(), "1-3,8");
/// cpus.insert(CpuId(70_000));
/// assert_eq!(cpus.len(), 5);
///
/// let isolated: CpuSet = "2-3".parse()?;
/// assert_eq!((&cpus - &isolated).to_string(), "1,8,70000");
/// assert_eq!(isolated.to_mask(), [0b1100]);
/// # Ok::<(), placer_engine::ParseError>(())
/// ```
pub struct IdSet<T> {
    /// Inclusive, ascending, neither overlapping nor touching.
    ranges: Vec<(u32, u32)>,
    kind: PhantomData<T>,
}

impl<T: Id> IdSet<T> {
    /// Returns the empty set.
    pub const fn new() -> Self {
        Self { ranges: Vec::new(), kind: PhantomData }
    }

    /// Makes the set of every id in any of these inclusive pairs, in any order and overlapping.
    /// Inserting one after the other takes quadratic time where they descend.
    pub(crate) fn from_ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        // Kernels list ids ascending: then there is nothing to sort or to melt.
        let melted = |pair: &[(u32, u32)]| u64::from(pair[0].1) + 1 < u64::from(pair[1].0);
        if !ranges.windows(2).all(melted) {
            ranges.sort_unstable();
            ranges.dedup_by(|next, last| {
                let joins = next.0 <= last.1.saturating_add(1);
                if joins {
                    last.1 = last.1.max(next.1);
                }
                joins
            });
        }
        Self { ranges, kind: PhantomData }
    }

    /// Adds one id. Returns whether it was new.
    pub fn insert(&mut self, id: T) -> bool {
        let new = !self.contains(id);
        if new {
            self.insert_range(id, id);
        }
        new
    }

    /// Adds every id from `first` to `last`; nothing when `last` lies before `first`.
    pub fn insert_range(&mut self, first: T, last: T) {
        let (mut first, mut last) = (first.number(), last.number());
        if first > last {
            return;
        }
        // What overlaps or touches the new range is melted into it.
        let from = self.ranges.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.ranges.partition_point(|&(start, _)| start <= last.saturating_add(1));
        if from < to {
            first = first.min(self.ranges[from].0);
            last = last.max(self.ranges[to - 1].1);
        }
        self.ranges.splice(from..to.max(from), [(first, last)]);
    }

    /// Returns whether the id is in the set.
    pub fn contains(&self, id: T) -> bool {
        let id = id.number();
        let at = self.ranges.partition_point(|&(_, end)| end < id);
        self.ranges.get(at).is_some_and(|&(start, _)| start <= id)
    }

    /// Returns how many ids are in the set.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|&(a, b)| u64::from(b) - u64::from(a) + 1).sum()
    }

    /// Returns whether no id is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.ranges.iter().flat_map(|&(a, b)| (a..=b).map(T::from_number))
    }

    /// Returns the runs of ids as inclusive pairs, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (T, T)> + '_ {
        self.ranges.iter().map(|&(a, b)| (T::from_number(a), T::from_number(b)))
    }

    /// Returns the lowest id.
    pub fn first(&self) -> Option<T> {
        self.ranges.first().map(|&(a, _)| T::from_number(a))
    }

    /// Returns the highest id.
    pub fn last(&self) -> Option<T> {
        self.ranges.last().map(|&(_, b)| T::from_number(b))
    }

    /// Returns the ids that are in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges([self.ranges.as_slice(), &other.ranges].concat())
    }

    /// Returns the ids that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut i, mut j) = (0, 0);
        while let (Some(&(a, b)), Some(&(c, d))) = (self.ranges.get(i), other.ranges.get(j)) {
            let (start, end) = (a.max(c), b.min(d));
            if start <= end {
                both.push((start, end));
            }
            if b < d { i += 1 } else { j += 1 }
        }
        Self { ranges: both, kind: PhantomData }
    }

    /// Returns the ids of this set that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut j = 0;
        for &(a, b) in &self.ranges {
            let mut start = u64::from(a);
            while let Some(&(c, d)) = other.ranges.get(j) {
                if d < a {
                    j += 1;
                    continue;
                }
                if c > b {
                    break;
                }
                if u64::from(c) > start {
                    rest.push((narrow(start), c - 1));
                }
                start = u64::from(d) + 1;
                if d >= b {
                    break;
                }
                j += 1;
            }
            if start <= u64::from(b) {
                rest.push((narrow(start), b));
            }
        }
        Self { ranges: rest, kind: PhantomData }
    }

    /// Returns the set as a bit mask in 64-bit words, lowest ids first, as mbind(2), set_mempolicy(2) and
    /// sched_setaffinity(2) take it: as many words as the highest id needs, at least one.
    ///
    /// ```
    /// use placer_engine::NodeSet;
    /// assert_eq!("0-1,64".parse::<NodeSet>()?.to_mask(), [0b11, 1]);
    /// assert_eq!(NodeSet::new().to_mask(), [0]);
    /// # Ok::<(), placer_engine::ParseError>(())
    /// ```
    pub fn to_mask(&self) -> Vec<u64> {
        let words = self.ranges.last().map_or(0, |&(_, last)| last / 64) + 1;
        let mut mask = vec![0; usize::try_from(words).unwrap_or(usize::MAX)];
        for id in self.iter() {
            let word = usize::try_from(id.number() / 64).ok().and_then(|word| mask.get_mut(word));
            if let Some(word) = word {
                *word |= 1 << (id.number() % 64);
            }
        }
        mask
    }

    /// Returns whether every id of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.ranges.iter().all(|&(a, b)| {
            let at = other.ranges.partition_point(|&(_, end)| end < a);
            other.ranges.get(at).is_some_and(|&(c, d)| c <= a && b <= d)
        })
    }
}

/// Returns a number that is known to lie inside a range of ids.
fn narrow(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

// Written by hand: deriving would ask the same of `T`.
impl<T> Clone for IdSet<T> {
    fn clone(&self) -> Self {
        Self { ranges: self.ranges.clone(), kind: PhantomData }
    }
}
impl<T> Default for IdSet<T> {
    fn default() -> Self {
        Self { ranges: Vec::new(), kind: PhantomData }
    }
}
impl<T> PartialEq for IdSet<T> {
    fn eq(&self, other: &Self) -> bool {
        self.ranges == other.ranges
    }
}
impl<T> Eq for IdSet<T> {}
impl<T> Hash for IdSet<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ranges.hash(state);
    }
}

/// The union.
impl<T: Id> BitOr for &IdSet<T> {
    type Output = IdSet<T>;

    fn bitor(self, other: Self) -> IdSet<T> {
        self.union(other)
    }
}

/// The intersection.
impl<T: Id> BitAnd for &IdSet<T> {
    type Output = IdSet<T>;

    fn bitand(self, other: Self) -> IdSet<T> {
        self.intersection(other)
    }
}

/// The difference.
impl<T: Id> Sub for &IdSet<T> {
    type Output = IdSet<T>;

    fn sub(self, other: Self) -> IdSet<T> {
        self.difference(other)
    }
}

impl<T: Id> FromIterator<T> for IdSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(ids: I) -> Self {
        let mut set = Self::new();
        set.extend(ids);
        set
    }
}

impl<T: Id> Extend<T> for IdSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl<T> fmt::Display for IdSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for &(a, b) in &self.ranges {
            if a == b {
                write!(f, "{comma}{a}")?;
            } else {
                write!(f, "{comma}{a}-{b}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl<T> fmt::Debug for IdSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ids: &[u32]) -> NodeSet {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn sets_are_equal_and_hash_alike_by_their_ids() {
        let hash = |list: &str| {
            let set: CpuSet = list.parse().expect("a list");
            let mut hasher = std::hash::DefaultHasher::new();
            set.hash(&mut hasher);
            hasher.finish()
        };
        let set = |list: &str| list.parse::<CpuSet>().expect("a list");
        assert_eq!((set("0-3"), hash("0-3")), (set("2-3,0,1"), hash("2-3,0,1")));
        assert_ne!((set("0-3"), hash("0-3")), (set("0-4"), hash("0-4")));
        assert!(set("0-3") != set("0-4") && hash("0-3") != hash("0-4"));
        assert_eq!(format!("{:?}", set("0-3,8")), "{0-3,8}");
    }

    #[test]
    fn ends_of_a_set_are_its_lowest_and_highest_id() {
        let set: CpuSet = "2-5,8,10-11".parse().expect("a list");
        assert_eq!((set.first(), set.last()), (Some(CpuId(2)), Some(CpuId(11))));
        assert!(!set.is_empty() && CpuSet::new().is_empty());
        assert_eq!((CpuSet::new().first(), CpuSet::new().last()), (None, None));
    }

    #[test]
    fn a_mask_has_the_words_that_its_highest_id_needs() {
        for (list, mask) in [
            ("", vec![0]),
            ("0-1,63", vec![1 << 63 | 3]),
            ("64", vec![0, 1]),
            ("65,128", vec![0, 2, 1]),
        ] {
            assert_eq!(list.parse::<NodeSet>().expect("a list").to_mask(), mask, "{list}");
        }
    }

    #[test]
    fn neighbours_melt_and_gaps_stay() {
        let mut s = set(&[1, 3]);
        assert_eq!(s.to_string(), "1,3");
        s.insert(NodeId(2));
        assert_eq!(s.to_string(), "1-3");
        s.insert_range(NodeId(10), NodeId(5));
        assert_eq!(s.to_string(), "1-3");
        s.insert_range(NodeId(0), NodeId(u32::MAX));
        assert_eq!((s.to_string().as_str(), s.len()), ("0-4294967295", 1 << 32));
        assert!(!s.insert(NodeId(u32::MAX)));
    }

    #[test]
    fn a_mask_has_a_bit_for_each_id_and_words_for_the_highest() {
        assert_eq!(set(&[]).to_mask(), [0]);
        assert_eq!(set(&[0, 63]).to_mask(), [1 | 1 << 63]);
        assert_eq!(set(&[64, 130]).to_mask(), [0, 1, 4]);
    }

    #[test]
    fn operators_are_the_methods_and_lists_are_read_as_they_are_printed() {
        let (a, b) = (set(&[0, 1, 2, 9]), set(&[2, 3]));
        assert_eq!(
            (&a | &b, &a & &b, &a - &b),
            (set(&[0, 1, 2, 3, 9]), set(&[2]), set(&[0, 1, 9]))
        );
        assert_eq!(a.to_string().parse(), Ok(a.clone()));
        let error = "0-".parse::<NodeSet>().unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
        let hashed: std::collections::HashSet<NodeSet> = [a.clone(), a, b].into();
        assert_eq!(hashed.len(), 2);
    }

    #[test]
    fn the_last_id_of_all_is_no_special_case() {
        let s = set(&[u32::MAX, 0]);
        assert_eq!(s.to_string(), "0,4294967295");
        assert_eq!(s.difference(&set(&[u32::MAX])).to_string(), "0");
        assert_eq!(s.union(&set(&[u32::MAX - 1])).to_string(), "0,4294967294-4294967295");
    }

    proptest! {
        #[test]
        fn made_at_once_or_one_by_one(pairs in prop::collection::vec((0u32..60, 0u32..9), 0..20)) {
            let pairs: Vec<_> = pairs.into_iter().map(|(a, n)| (a, a + n)).collect();
            let mut one_by_one = NodeSet::new();
            for &(a, b) in &pairs {
                one_by_one.insert_range(NodeId(a), NodeId(b));
            }
            prop_assert_eq!(NodeSet::from_ranges(pairs), one_by_one);
        }

        #[test]
        fn agrees_with_a_plain_set(a in prop::collection::btree_set(0u32..60, 0..40),
                                   b in prop::collection::btree_set(0u32..60, 0..40)) {
            let (x, y): (NodeSet, NodeSet) =
                (a.iter().copied().map(NodeId).collect(), b.iter().copied().map(NodeId).collect());
            let plain = |s: &NodeSet| s.iter().map(|i| i.0).collect::<BTreeSet<_>>();
            prop_assert_eq!(plain(&x), a.clone());
            prop_assert_eq!(x.len(), a.len() as u64);
            prop_assert_eq!(plain(&x.union(&y)), a.union(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(&x.intersection(&y)),
                            a.intersection(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(&x.difference(&y)),
                            a.difference(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            for id in 0..60 {
                prop_assert_eq!(x.contains(NodeId(id)), a.contains(&id));
            }
            // Equal sets are equal values, however they were made.
            prop_assert_eq!(&x.union(&y), &y.union(&x));
            prop_assert_eq!(x.difference(&y).union(&x.intersection(&y)), x);
        }
    }
}
