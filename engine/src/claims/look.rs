//! A look at who is running, for one decision.

use std::collections::BTreeSet;

use super::claim::{Claim, Owner, ProcessId};
use super::desk::MOST_LOOKS;
use super::error::ClaimError;
use super::fates::fates;
use super::guest::{self, Guest};
use super::ledger::{Fate, Ledger};
use super::observed::Observer;
use super::proc::Processes;
use crate::ids::NodeId;
use crate::sample::Instant;
use crate::source::{HostReader, SysRoot, live_clock};
use crate::store::StateDir;
use crate::units::Bytes;

/// The processes of this host, read only where there is something to ask about; and the guests of
/// the host that is decided about, if they are looked for.
pub(super) struct Look<'a> {
    root: &'a SysRoot,
    processes: Option<Processes>,
    guests: Vec<Guest>,
    /// The pids of those that have a claim.
    owners: BTreeSet<u32>,
    /// Cgroups that have a claim, all that runs in them included.
    cgroups: Vec<String>,
}

impl<'a> Look<'a> {
    pub(super) fn new(root: &'a SysRoot) -> Self {
        Self {
            root,
            processes: None,
            guests: Vec::new(),
            owners: BTreeSet::new(),
            cgroups: Vec::new(),
        }
    }

    /// Looks for guests. Those found the last time are kept in `state`. On a recorded machine only
    /// what was recorded is looked at.
    pub(super) fn observe(&mut self, state: Option<&StateDir>) {
        let asking = nix::unistd::geteuid().as_raw();
        let mut observer = Observer::new(self.root, asking);
        let Ok(now) = live_clock().map(Instant::nanoseconds) else { return };
        let found = if self.root.is_live() {
            observer.look(state, now, || match self.get() {
                Ok(look) if look.has_own_proc() => Ok(look),
                _ => Err(()),
            })
        } else {
            let mut recorded = Processes::recorded(self.root);
            observer.look(None, now, || recorded.as_mut().map_err(|_| ()))
        };
        self.guests = found.unwrap_or_default();
    }

    fn get(&mut self) -> Result<&mut Processes, ClaimError> {
        if self.processes.is_none() {
            self.processes = Some(Processes::look()?);
        }
        self.processes.as_mut().ok_or(ClaimError::NoPlace)
    }

    pub(super) fn processes(mut self) -> Result<Processes, ClaimError> {
        self.get()?;
        self.processes.ok_or(ClaimError::NoPlace)
    }

    /// Hands holds to the guests that have appeared for them, drops what counts no more, and looks
    /// at some of the guests. The memory of a recorded machine is as it was recorded: what processes
    /// of this host touch is not missing there.
    pub(super) fn refresh(&mut self, ledger: &mut Ledger) -> Result<(), ClaimError> {
        if ledger.claims().is_empty() {
            return Ok(());
        }
        let live = self.root.is_live();
        let look = self.get()?;
        let (boot, now) = (look.boot().to_owned(), look.now());
        if live && !self.guests.is_empty() {
            // Before holds end: who looks late hands them over none the less.
            self.adopt(ledger)?;
        }
        let look = self.get()?;
        let due = if live { ledger.due(MOST_LOOKS) } else { Vec::new() };
        let fates = fates(look, ledger, &boot, &due);
        let fate = |claim: &Claim| fates.get(&claim.id).copied().unwrap_or(Fate::Unknown);
        ledger.settle(&boot, now, fate);
        if live {
            for id in due {
                if let Some(seen) = ledger.get(id).and_then(|claim| look.seen(claim)) {
                    ledger.see(id, seen);
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, ledger: &mut Ledger) -> Result<(), ClaimError> {
        self.note_owners(ledger.claims())?;
        let guests = std::mem::take(&mut self.guests);
        let look = self.get()?;
        let boot = look.boot().to_owned();
        let (ticks, now) = look.ticks_and_clock();
        let age =
            |guest: &Guest| ticks.saturating_sub(guest.process.start).saturating_mul(10_000_000);
        let owned: Vec<ProcessId> =
            guests.iter().filter(|guest| self.is_owned(guest)).map(|guest| guest.process).collect();
        guest::adopt(ledger, &guests, &boot, now, age, |guest| owned.contains(&guest.process));
        self.guests = guests;
        Ok(())
    }

    /// Notes who has a claim, by the pids seen from here.
    fn note_owners(&mut self, claims: &[Claim]) -> Result<(), ClaimError> {
        let look = self.get()?;
        let (mut owners, mut cgroups) = (Vec::new(), Vec::new());
        for claim in claims {
            owners.extend(claim.owner.process().and_then(|process| look.pid_here(process)));
            if let Owner::Cgroup(_, cgroup) = &claim.owner {
                cgroups.push(cgroup.path.trim_end_matches('/').to_owned());
            }
        }
        self.owners.extend(owners);
        self.cgroups.extend(cgroups);
        Ok(())
    }

    fn is_owned(&mut self, guest: &Guest) -> bool {
        let pid = guest.process.pid;
        if self.owners.contains(&pid) {
            return true;
        }
        let Some(look) = self.processes.as_mut().filter(|_| !self.cgroups.is_empty()) else {
            return false;
        };
        let Some(path) = look.cgroup_of(pid) else { return false };
        self.cgroups.iter().any(|cgroup| {
            path.strip_prefix(cgroup.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Returns the claims of guests that nobody asked for, and whose memory is not all there yet.
    /// `claims` are those that were asked for.
    pub(super) fn observed(&mut self, claims: &[Claim]) -> Result<Vec<Claim>, ClaimError> {
        if self.guests.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.root.is_live();
        if live {
            self.note_owners(claims)?;
        }
        let mut guests = std::mem::take(&mut self.guests);
        guests.retain(|guest| guest.lacking() != (0, 0) && !(live && self.is_owned(guest)));
        let free = if guests.iter().any(Guest::is_spread) { self.free() } else { Vec::new() };
        let look = self.get()?;
        let (boot, now) = (look.boot().to_owned(), look.now());
        Ok(guests.iter().flat_map(|guest| guest.claims(&boot, now, &free)).collect())
    }

    /// Returns what is free on each node, by which the memory of guests is divided that may take it
    /// from several; nothing where that cannot be told, and then no decision can be made either.
    fn free(&self) -> Vec<(NodeId, Bytes)> {
        let mut memory = Vec::new();
        let read = HostReader::open(self.root).and_then(|mut reader| reader.memory(&mut memory));
        if read.is_err() {
            return Vec::new();
        }
        let free = memory.iter().filter_map(|node| {
            let meminfo = node.meminfo?;
            let cache = meminfo.inactive_file.unwrap_or_default();
            Some((node.node, meminfo.free?.saturating_add(cache)))
        });
        free.collect()
    }
}
