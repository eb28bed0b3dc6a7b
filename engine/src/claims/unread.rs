//! Lines of a ledger that are not understood: damaged, or written by another version of placer.
//!
//! They are kept as they are, since each may be a guest's claim: dropped, its memory would be promised
//! again. What can be read of them counts in full until the host is restarted.

use serde::Deserialize;

use super::claim::{Caller, Claim, ClaimId, Origin, Owner, Promise};
use super::principal::Principal;
use crate::ids::{CpuId, NodeId};
use crate::idset::{CpuSet, NodeSet};
use crate::parse;
use crate::request::Request;
use crate::sample::Instant;
use crate::units::{Bytes, CpuShare};

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    line: Vec<u8>,
    boot: Option<String>,
    /// What it takes from the nodes, where that can be read.
    takes: Option<Box<Claim>>,
}

/// The part of a line that counts, in whatever else there is.
#[derive(Deserialize)]
struct Form {
    boot: Option<String>,
    /// Node, bytes, hundredths of a CPU.
    promised: Vec<(u32, u64, u64)>,
    page: Option<u64>,
    pinned: Option<String>,
    roaming: Option<String>,
}

impl Unread {
    /// Takes a line in.
    pub(super) fn new(line: &[u8]) -> Self {
        let form = serde_json::from_slice::<Form>(line).ok();
        let boot = match &form {
            Some(form) => form.boot.clone(),
            None => boot_in(line),
        };
        Self { line: line.to_vec(), boot, takes: form.and_then(takes).map(Box::new) }
    }

    /// Returns the line, without its end.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Returns what it takes from the nodes, as a claim that nothing has been seen of.
    pub(super) fn takes(&self) -> Option<&Claim> {
        self.takes.as_deref()
    }

    /// Returns whether it is known to be of another boot.
    pub(super) fn is_of_another_boot(&self, boot: &str) -> bool {
        self.boot.as_ref().is_some_and(|told| told != boot)
    }
}

fn takes(form: Form) -> Option<Claim> {
    let mut promised: Vec<Promise> = Vec::new();
    for (node, memory, cpus) in form.promised {
        let sane = memory <= Request::MAX_MEMORY.get() && cpus <= Request::MAX_CPUS.hundredths();
        let promise = Promise {
            node: NodeId(node),
            memory: Bytes::new(memory),
            cpus: CpuShare::from_hundredths(cpus),
        };
        if !sane {
            return None;
        }
        promised.push(promise);
    }
    let cpus = |list: Option<String>| -> CpuSet {
        let list = list.map(|list| parse::list::parse::<CpuId>(list.as_bytes()));
        list.transpose().ok().flatten().unwrap_or_default()
    };
    Some(Claim {
        id: ClaimId(0),
        boot: String::new(),
        owner: Owner::Hold { until: Instant::from_nanoseconds(u64::MAX) },
        caller: Caller::default(),
        // Whoever's it is, nothing is promised over it.
        principal: Principal::Host,
        nonce: None,
        origin: Origin::Asked,
        made: Instant::default(),
        cpus: CpuShare::ZERO,
        memory: Bytes::ZERO,
        page: form.page.map(Bytes::new),
        promised,
        pinned: cpus(form.pinned),
        roaming: cpus(form.roaming),
        within: NodeSet::new(),
        seen: None,
        checked: None,
    })
}

/// Finds the boot id in a line that is no JSON: a UUID behind its key.
fn boot_in(line: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"boot\":\"";
    let at = line.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let id = line.get(at..at + 36)?;
    let is_uuid = id.iter().enumerate().all(|(at, &b)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    (is_uuid && line.get(at + 36) == Some(&b'"')).then(|| String::from_utf8_lossy(id).into_owned())
}
