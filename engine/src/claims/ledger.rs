//! The claims of a host, and which of them still count. Pure: the time, the boot, which owners are
//! alive and what is resident come in as values.

use std::io::BufRead as _;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::charge;
use super::claim::{Caller, Claim, ClaimId, Owner, ProcessId, Promise, Seen};
use super::lines::Lines;
use super::nonce::Nonce;
use super::principal::Principal;
use super::unread::Unread;
use crate::charges::{Charge, Charges, Overcommit};
use crate::idset::CpuSet;
use crate::read::Read;
use crate::sample::Instant;
use crate::units::{Bytes, CpuShare};

/// The most claims of a ledger: more than any host has guests, and it bounds the work for each
/// decision.
pub const MOST_CLAIMS: usize = 4096;

/// Lines that are not understood are kept up to this many bytes.
const MAX_UNREAD: usize = 1 << 20;

/// Whether an owner still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives.
    Alive,
    /// It has ended: the claim counts no more.
    Dead,
    /// It cannot be known from here: the claim counts, and is left to processes that can see its owner.
    Unknown,
}

/// A request and its caller, to find its earlier hold.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The process that asks.
    pub caller: &'a Caller,
    /// CPUs.
    pub cpus: CpuShare,
    /// Memory.
    pub memory: Bytes,
    /// The size of the huge pages it is in.
    pub page: Option<Bytes>,
}

/// The claims of one host.
///
/// ```
/// use placer_engine::claims::Ledger;
/// let read = Ledger::parse(b"no claim at all\n");
/// assert!(read.value.claims().is_empty());
/// assert_eq!(read.notes.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In the order in which they were made; ids differ.
    claims: Vec<Arc<Claim>>,
    /// Lines that are not understood.
    unread: Vec<Unread>,
}

impl Ledger {
    /// Reads a ledger's text, a line a claim. A line that is damaged, of another version, or one claim
    /// too many is kept as it is, counts as far as it can be read, and a note says so. Of two lines
    /// with one id the first counts.
    pub fn parse(text: &[u8]) -> Read<Self> {
        Self::parse_by(text, |line| Claim::from_line(line).map(Arc::new))
    }

    /// The same, where some of the lines were read before.
    pub(super) fn parse_again(text: &[u8], known: &mut Lines) -> Read<Self> {
        let mut reading = known.again();
        Self::parse_by(text, |line| reading.claim(line))
    }

    fn parse_by(
        text: &[u8],
        mut read: impl FnMut(&[u8]) -> Result<Arc<Claim>, String>,
    ) -> Read<Self> {
        let mut claims: Vec<Arc<Claim>> = Vec::new();
        let mut ids = std::collections::BTreeSet::new();
        let mut unread: Vec<Unread> = Vec::new();
        let mut size = 0;
        let mut notes = Notes::default();
        let mut keep = |notes: &mut Notes, at: usize, line: &[u8], why: &str| {
            size += line.len() + 1;
            if size <= MAX_UNREAD {
                unread.push(Unread::new(line));
            }
            notes.add(at, why);
        };
        for (at, line) in lines(text).enumerate() {
            if line.is_empty() {
                continue;
            }
            match read(line) {
                Ok(_) if claims.len() == MOST_CLAIMS => {
                    let why = format!("expected at most {MOST_CLAIMS} claims, found more");
                    keep(&mut notes, at, line, &why);
                }
                Ok(claim) if ids.insert(claim.id) => claims.push(claim),
                Ok(claim) => notes.add(at, &format!("claim {} is there twice", claim.id)),
                Err(why) => keep(&mut notes, at, line, &why),
            }
        }
        Read { value: Self { claims, unread }, notes: notes.end() }
    }

    /// Returns the ledger as text: what [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(512 * self.claims.len());
        for claim in &self.claims {
            text.extend_from_slice(claim.to_line().as_bytes());
            text.push(b'\n');
        }
        self.add_unread(&mut text);
        text
    }

    fn add_unread(&self, text: &mut Vec<u8>) {
        for unread in &self.unread {
            text.extend_from_slice(unread.line());
            text.push(b'\n');
        }
    }

    /// The text of the claims, with the lines of an earlier state, one for each claim of it, for those that have
    /// not changed since: of a thousand claims a decision changes some thirty.
    pub(super) fn claims_after(&self, before: &Self, lines: &[&[u8]]) -> Vec<u8> {
        let size: usize = lines.iter().map(|line| line.len() + 1).sum();
        let mut text = Vec::with_capacity(size + 4096);
        // Claims keep their order: what is left out has ended.
        let mut earlier = before.claims.iter().zip(lines);
        for claim in &self.claims {
            match earlier.by_ref().find(|(known, _)| known.id == claim.id) {
                Some((known, line)) if known == claim => text.extend_from_slice(line),
                _ => text.extend_from_slice(claim.to_line().as_bytes()),
            }
            text.push(b'\n');
        }
        text
    }

    /// Ends a text of the first claims, as they are, with the others and the lines that are not understood.
    pub(super) fn end_text(&self, text: &mut Vec<u8>, first: usize) {
        for claim in self.claims.iter().skip(first) {
            text.extend_from_slice(claim.to_line().as_bytes());
            text.push(b'\n');
        }
        self.add_unread(text);
    }

    /// Returns how many lines are not understood, and kept.
    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Forgets what was seen of guests, which makes the ledger smaller and claims no smaller.
    pub(super) fn forget_seen(&mut self) {
        self.claims.iter_mut().for_each(|claim| Arc::make_mut(claim).seen = None);
    }

    /// Returns the claims, in the order in which they were made.
    pub fn claims(&self) -> &[Arc<Claim>] {
        &self.claims
    }

    /// Returns one claim.
    pub fn get(&self, id: ClaimId) -> Option<&Claim> {
        self.claims.iter().map(Arc::as_ref).find(|claim| claim.id == id)
    }

    /// Returns the claim that a principal has given a name.
    pub fn named(&self, nonce: Nonce, principal: Principal) -> Option<&Claim> {
        let is_it = |claim: &&Claim| claim.nonce == Some(nonce) && claim.principal == principal;
        self.claims.iter().map(Arc::as_ref).find(is_it)
    }

    fn claim_mut(&mut self, id: ClaimId) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.id == id).map(Arc::make_mut)
    }

    /// Drops some of the claims.
    pub(super) fn leave_out(&mut self, which: impl Fn(&Claim) -> bool) {
        self.claims.retain(|claim| !which(claim));
    }

    /// Returns what lines take that are not understood, as far as they can be read.
    pub(super) fn takes(&self) -> impl Iterator<Item = &Claim> {
        self.unread.iter().filter_map(Unread::takes)
    }

    /// Drops the claims that count no more: of another boot, of a dead owner, holds that have
    /// ended. Returns them.
    ///
    /// `fate` is asked for each claim that has a process and is of this boot.
    pub fn settle(
        &mut self,
        boot: &str,
        now: Instant,
        mut fate: impl FnMut(&Claim) -> Fate,
    ) -> Vec<Arc<Claim>> {
        let ended = |claim: &mut Arc<Claim>| {
            claim.boot != boot
                || match claim.owner {
                    Owner::Hold { until } => until <= now,
                    Owner::Process(_) | Owner::Cgroup(..) => fate(claim) == Fate::Dead,
                }
        };
        self.unread.retain(|line| !line.is_of_another_boot(boot));
        self.claims.extract_if(.., ended).collect()
    }

    /// Returns the claims whose guests are to be looked at: at most `most`, those that were not
    /// looked at for longest, and where there are more, none that was looked at in the time `recent`. An old
    /// figure only overstates what is claimed.
    pub fn due(&self, most: usize, recent: RangeInclusive<Instant>) -> Vec<ClaimId> {
        let guests = self.claims.iter().filter(|claim| claim.owner.process().is_some());
        let looked = |claim: &Claim| claim.seen.as_ref().map(|seen| seen.at);
        let mut due: Vec<_> = guests.map(|claim| (looked(claim), claim.id)).collect();
        if due.len() > most {
            due.retain(|(looked, _)| looked.is_none_or(|at| !recent.contains(&at)));
        }
        if due.len() > most {
            due.select_nth_unstable(most);
            due.truncate(most);
        }
        due.sort_unstable();
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Notes what was seen of a guest.
    pub fn see(&mut self, id: ClaimId, seen: Seen) {
        if let Some(claim) = self.claim_mut(id) {
            claim.seen = Some(seen);
        }
    }

    /// Notes what was seen of the guests of all claims for which there is something.
    pub(super) fn see_all<'s>(&mut self, seen: impl Fn(&Claim) -> Option<&'s Seen>) {
        for claim in &mut self.claims {
            if let Some(seen) = seen(claim) {
                Arc::make_mut(claim).seen = Some(seen.clone());
            }
        }
    }

    /// Notes that the owners of some claims were found to be those the claims are for, at a moment.
    pub(super) fn check(&mut self, at: Option<u64>, alive: impl Fn(&Claim) -> bool) {
        for claim in self.claims.iter_mut().filter(|claim| alive(claim)) {
            Arc::make_mut(claim).checked = at;
        }
    }

    /// Adds a claim under an id of its own, made from the one it brings. Returns the id; `None`
    /// when the ledger is full.
    pub fn add(&mut self, mut claim: Claim) -> Option<ClaimId> {
        if self.claims.len() >= MOST_CLAIMS {
            return None;
        }
        while self.get(claim.id).is_some() {
            // Odd, so that every id is come by before any is tried again.
            claim.id = ClaimId(claim.id.0.wrapping_add(0x9e37_79b9));
        }
        let id = claim.id;
        self.claims.push(Arc::new(claim));
        Some(id)
    }

    /// Ends a claim. Returns it; `None` when there is none of this id.
    pub fn release(&mut self, id: ClaimId) -> Option<Claim> {
        let at = self.claims.iter().position(|claim| claim.id == id)?;
        Some(Arc::unwrap_or_clone(self.claims.remove(at)))
    }

    /// Makes a claim that of a process, or of a process and its cgroup: what was promised stays promised,
    /// and from now on ends with that. Returns the claim as it is now; `None` when there is none of this id.
    pub fn transfer(&mut self, id: ClaimId, owner: Owner) -> Option<&Claim> {
        let claim = self.claim_mut(id)?;
        (claim.owner, claim.checked, claim.seen) = (owner, None, None);
        Some(claim)
    }

    /// Puts a claim on other nodes. Returns whether there is one of this id.
    pub(super) fn relocate(
        &mut self,
        id: ClaimId,
        promised: Vec<Promise>,
        roaming: CpuSet,
    ) -> bool {
        let Some(claim) = self.claim_mut(id) else { return false };
        (claim.promised, claim.roaming) = (promised, roaming);
        // Where its memory was seen it is not for long.
        if let Some(seen) = &mut claim.seen {
            seen.per_node.clear();
        }
        true
    }

    /// Hands a hold over to the guest that has appeared for it. What was promised stays promised,
    /// and from now on ends with the guest. Returns whether there was such a hold, and the guest
    /// had no claim yet: else it would be charged twice.
    pub fn adopt(&mut self, hold: ClaimId, guest: ProcessId) -> bool {
        if self.is_owner(&guest) {
            return false;
        }
        let is_hold = |claim: &&mut Claim| matches!(claim.owner, Owner::Hold { .. });
        let Some(claim) = self.claim_mut(hold).filter(is_hold) else { return false };
        (claim.owner, claim.checked) = (Owner::Process(guest), None);
        true
    }

    /// Returns the newest hold that one process has asked for with the same request before. `since` is
    /// when that process started: what was asked earlier was asked by another of its pid.
    pub fn held_before(&self, asked: &Held<'_>, since: Instant) -> Option<&Claim> {
        self.claims.iter().rev().map(Arc::as_ref).find(|claim| {
            matches!(claim.owner, Owner::Hold { .. })
                && claim.made >= since
                && !claim.promised.is_empty()
                && claim.caller == *asked.caller
                && (claim.cpus, claim.memory, claim.page) == (asked.cpus, asked.memory, asked.page)
        })
    }

    /// Returns whether a process has a claim.
    pub fn is_owner(&self, process: &ProcessId) -> bool {
        self.claims.iter().any(|claim| claim.owner.process() == Some(process))
    }

    /// Returns what some of the claims take from all nodes together: memory of all kinds, and CPUs.
    pub fn outstanding(&self, which: impl Fn(&Claim) -> bool) -> (Bytes, CpuShare) {
        let mut charges = Charges::default();
        for claim in self.claims.iter().filter(|claim| which(claim)) {
            charge::add(&mut charges, claim, Overcommit::default());
        }
        let huge = |charge: &Charge| charge.huge.iter().map(|&(_, memory)| memory).sum::<Bytes>();
        let memory = charges.iter().map(|(_, charge)| charge.memory.saturating_add(huge(charge)));
        (memory.sum(), charges.iter().map(|(_, charge)| charge.cpus).sum())
    }

    /// Returns what the claims take from each node.
    pub fn charges(&self, overcommit: Overcommit) -> Charges {
        let mut charges = Charges::default();
        self.charge(&mut charges, overcommit);
        charges
    }

    /// Adds what the claims take to what others take.
    pub fn charge(&self, charges: &mut Charges, overcommit: Overcommit) {
        for claim in self.claims.iter().map(Arc::as_ref).chain(self.takes()) {
            charge::add(charges, claim, overcommit);
        }
    }
}

/// Returns the lines of a text, the last one too where it has no end.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let all = rest;
        // Of a slice it does not fail, and is quicker than a look at each byte.
        let end = rest.skip_until(b'\n').ok().filter(|&end| end > 0)?;
        let line = &all[..end];
        Some(line.strip_suffix(b"\n").unwrap_or(line))
    })
}

/// Complaints about lines, as one: the first in full, and how many more there were.
#[derive(Default)]
struct Notes {
    first: Option<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, line: usize, why: &str) {
        if self.first.is_some() {
            self.more += 1;
        } else {
            let number = line + 1;
            self.first = Some(format!("line {number} is not understood: {why}"));
        }
    }

    fn end(self) -> Vec<String> {
        let more = match self.more {
            0 => "it is kept".to_owned(),
            1 => "it is kept, as is another such line".to_owned(),
            more => format!("it is kept, as are {more} other such lines"),
        };
        let kept = "and counts as far as it can be read until the host is restarted";
        self.first.map(|first| format!("{first} ({more}, {kept})")).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
