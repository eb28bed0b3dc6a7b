//! What claims take from the nodes of a host, as a value that policies can count with.

use crate::ids::NodeId;
use crate::idset::CpuSet;
use crate::units::{Bytes, CpuShare};

/// What claims take from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Ordinary memory, to be counted as used.
    pub memory: Bytes,
    /// CPUs, to be counted as busy.
    pub cpus: CpuShare,
    /// Memory in huge pages: the size of a page and how much, in ascending order of sizes.
    pub huge: Vec<(Bytes, Bytes)>,
    /// Of `cpus`, those of guests that are bound to some CPUs of the node, by these CPUs: those of a cache, or
    /// of several. May reach into other nodes.
    pub roaming: Vec<(CpuSet, CpuShare)>,
}

impl Charge {
    /// Returns the memory that is claimed in huge pages of one size.
    pub fn huge_of(&self, page: Bytes) -> Bytes {
        let found = self.huge.iter().find(|(size, _)| *size == page);
        found.map_or(Bytes::ZERO, |&(_, memory)| memory)
    }

    /// Adds what a guest takes that is bound to some CPUs: nothing where the set is empty, and so the guest is
    /// anywhere in the node.
    pub fn add_roaming(&mut self, over: &CpuSet, cpus: CpuShare) {
        if over.is_empty() || cpus == CpuShare::ZERO {
            return;
        }
        // Guests of one cache have the same CPUs: a host has about as many sets as caches.
        match self.roaming.iter_mut().find(|(set, _)| set == over) {
            Some((_, all)) => *all = all.saturating_add(cpus),
            None => self.roaming.push((over.clone(), cpus)),
        }
    }

    /// Adds memory, in huge pages of one size or in ordinary ones.
    pub fn add(&mut self, memory: Bytes, page: Option<Bytes>) {
        let Some(page) = page else {
            self.memory = self.memory.saturating_add(memory);
            return;
        };
        match self.huge.binary_search_by_key(&page, |&(size, _)| size) {
            Ok(at) => self.huge[at].1 = self.huge[at].1.saturating_add(memory),
            Err(at) => self.huge.insert(at, (page, memory)),
        }
    }
}

/// What claims take from each node of a host. A host without claims has an empty one, which costs
/// nothing.
///
/// ```
/// use placer_engine::{Bytes, Charges, NodeId};
/// let none = Charges::default();
/// assert_eq!(none.of(NodeId(3)).memory, Bytes::ZERO);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Ascending by id.
    nodes: Vec<(NodeId, Charge)>,
    overcommit: Overcommit,
    pinned: CpuSet,
    shared: CpuSet,
}

/// A node that nothing is claimed of.
const FREE: &Charge =
    &Charge { memory: Bytes::ZERO, cpus: CpuShare::ZERO, huge: Vec::new(), roaming: Vec::new() };

impl Charges {
    /// Returns whether nothing is claimed anywhere.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.pinned.is_empty() && self.shared.is_empty()
    }

    /// Returns the CPUs that single threads of guests have for themselves.
    pub fn pinned(&self) -> &CpuSet {
        &self.pinned
    }

    /// Adds CPUs that single threads of a guest have for themselves.
    pub fn add_pinned(&mut self, cpus: &CpuSet) {
        if !cpus.is_empty() {
            self.pinned = self.pinned.union(cpus);
        }
    }

    /// Returns the CPUs that all threads of some guest share, where those are not all of its nodes.
    pub fn shared(&self) -> &CpuSet {
        &self.shared
    }

    /// Adds CPUs that all threads of a guest share.
    pub fn add_shared(&mut self, cpus: &CpuSet) {
        if !cpus.is_subset(&self.shared) {
            self.shared = self.shared.union(cpus);
        }
    }

    /// Returns what is claimed of one node.
    pub fn of(&self, node: NodeId) -> &Charge {
        match self.nodes.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => &self.nodes[at].1,
            Err(_) => FREE,
        }
    }

    /// Returns what is claimed of one node, to be added to.
    pub fn of_mut(&mut self, node: NodeId) -> &mut Charge {
        let at = match self.nodes.binary_search_by_key(&node, |&(id, _)| id) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, (node, Charge::default()));
                at
            }
        };
        &mut self.nodes[at].1
    }

    /// Sets how many times over memory may be promised.
    pub fn set_overcommit(&mut self, overcommit: Overcommit) {
        self.overcommit = overcommit;
    }

    /// Returns what one more guest can be promised of a node's `free` ordinary memory: never more
    /// than is free, and never more than overcommit allows for all promises together.
    ///
    /// With 100 GiB free and 60 GiB claimed that is 40 GiB; with an overcommit of 1.5 it is 90 GiB,
    /// for 60 + 90 is one and a half times what is there; with one of 2 it is all 100 GiB.
    ///
    /// ```
    /// use placer_engine::claims::Overcommit;
    /// use placer_engine::{Bytes, Charges, NodeId};
    /// let gib = |n: u64| Bytes::new(n << 30);
    /// let mut charges = Charges::default();
    /// charges.of_mut(NodeId(0)).add(gib(60), None);
    /// for (factor, left) in [(1.0, 40), (1.5, 90), (2.0, 100)] {
    ///     charges.set_overcommit(Overcommit::new(factor).ok_or("a factor")?);
    ///     assert_eq!(charges.left(NodeId(0), gib(100)), gib(left));
    /// }
    /// # Ok::<(), &str>(())
    /// ```
    pub fn left(&self, node: NodeId, free: Bytes) -> Bytes {
        free.min(self.overcommit.times(free).saturating_sub(self.of(node).memory))
    }

    /// Returns how much of a node's `free` memory may be promised beyond [`left`](Self::left), once that is used: more
    /// than nothing with overcommit alone.
    pub fn beyond(&self, node: NodeId, free: Bytes) -> Bytes {
        let most = self.overcommit.times(free).saturating_sub(self.of(node).memory);
        most.saturating_sub(self.left(node, free))
    }

    /// Returns the same of the free memory in huge pages of one size. Overcommit is not for them:
    /// each is backed when it is reserved, or the guest is killed.
    pub fn left_huge(&self, node: NodeId, page: Bytes, free: Bytes) -> Bytes {
        free.saturating_sub(self.of(node).huge_of(page))
    }

    /// Returns the nodes that something is claimed of, in ascending order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Charge)> {
        self.nodes.iter().map(|(node, charge)| (*node, charge))
    }
}

/// How many times over memory may be promised, in hundredths: 100 is once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcommit(u32);

impl Overcommit {
    /// Returns the factor; `None` below 1 or above 100 times, which are mistakes.
    ///
    /// ```
    /// use placer_engine::claims::Overcommit;
    /// assert!(Overcommit::new(1.5).is_some());
    /// assert!(Overcommit::new(0.5).is_none() && Overcommit::new(f64::NAN).is_none());
    /// ```
    #[expect(clippy::cast_possible_truncation, reason = "at most 10,000")]
    #[expect(clippy::cast_sign_loss, reason = "at least 100")]
    pub fn new(factor: f64) -> Option<Self> {
        (1.0..=100.0).contains(&factor).then(|| Self((factor * 100.0).round() as u32))
    }

    /// Returns the factor.
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Returns how much of this memory may be promised, rounded down.
    fn times(self, memory: Bytes) -> Bytes {
        let most = u128::from(memory.get()) * u128::from(self.0) / 100;
        Bytes::new(u64::try_from(most).unwrap_or(u64::MAX))
    }
}

impl Default for Overcommit {
    fn default() -> Self {
        Self(100)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is asked for, one guest after the other: none is promised more than is free, and
        /// all together never more than the factor allows. By the last it can be reached.
        #[test]
        fn promises_stay_within_the_factor(
            free in 0u64..1 << 50,
            factor in 100u32..1000,
            asked in proptest::collection::vec(1u64..1 << 49, 0..20),
        ) {
            let (node, free) = (NodeId(3), Bytes::new(free));
            let mut charges = Charges::default();
            charges.set_overcommit(Overcommit(factor));
            let most = Overcommit(factor).times(free);
            for memory in asked.into_iter().map(Bytes::new) {
                let left = charges.left(node, free);
                prop_assert!(left <= free);
                if memory <= left {
                    charges.of_mut(node).add(memory, None);
                }
                prop_assert!(charges.of(node).memory <= most);
            }
            while charges.left(node, free) > Bytes::ZERO {
                let left = charges.left(node, free);
                charges.of_mut(node).add(left, None);
            }
            prop_assert_eq!(charges.of(node).memory, most);
        }
    }

    #[test]
    fn huge_pages_are_promised_once() {
        let (node, page) = (NodeId(0), Bytes::new(2 << 20));
        let mut charges = Charges::default();
        charges.set_overcommit(Overcommit(300));
        charges.of_mut(node).add(Bytes::new(6 << 20), Some(page));
        assert_eq!(charges.left_huge(node, page, Bytes::new(8 << 20)), page);
        assert_eq!(charges.left(node, page), page);
        assert_eq!(Overcommit(10_000).times(Bytes::new(u64::MAX)), Bytes::new(u64::MAX));
    }
}
