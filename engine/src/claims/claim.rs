//! One claim, and its form as a line of JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::nonce::Nonce;
use super::principal::Principal;
use crate::advice::{Advice, Share};
use crate::ids::{Id, NodeId};
use crate::idset::{CpuSet, IdSet, NodeSet};
use crate::parse;
use crate::request::Request;
use crate::sample::Instant;
use crate::units::{Bytes, CpuShare, split_by_weight};

/// The name of a claim, as in `placer release 5f3a9c01`: never given twice while one has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u32);

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}", self.0))
    }
}

impl FromStr for ClaimId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = hex.then(|| u32::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or_else(|| {
            format!("expected 8 hex digits, as `placer ps` lists them, found {text:?}")
        })
    }
}

/// One process for as long as the host is up: a pid alone is given again to another.
///
/// The boot id is kept with the [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid namespace it was named in: the number behind `/proc/self/ns/pid`.
    pub pid_namespace: u64,
    /// Its pid there.
    pub pid: u32,
    /// When it started, in ticks of 1/100 s since boot, as seen from the first time namespace.
    pub start: u64,
}

/// The owner of a claim, which decides when it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A process that runs: the claim ends with it.
    Process(ProcessId),
    /// A process in a cgroup of its own: the claim ends with the last process in there, and all
    /// memory of the cgroup is the guest's.
    Cgroup(ProcessId, Cgroup),
    /// No process yet: the claim ends at a given time, unless a guest takes it over before.
    Hold {
        /// When it ends.
        until: Instant,
    },
}

impl Owner {
    /// Returns the process, if there is one.
    pub fn process(&self) -> Option<&ProcessId> {
        match self {
            Self::Process(process) | Self::Cgroup(process, _) => Some(process),
            Self::Hold { .. } => None,
        }
    }
}

/// A cgroup (v2) that holds one guest and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cgroup {
    /// Its path below the cgroup root, as in `/proc/PID/cgroup`.
    pub path: String,
    /// The number of its directory, which distinguishes it from a later one of the same name.
    pub inode: u64,
}

/// What was promised on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The node.
    pub node: NodeId,
    /// Memory, of the claim's page size.
    pub memory: Bytes,
    /// CPUs.
    pub cpus: CpuShare,
}

/// What could be seen of a guest when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Its memory in ordinary pages.
    pub resident: Bytes,
    /// Its memory in huge pages, of all sizes.
    pub huge: Bytes,
    /// The same as `resident` node by node, where a cgroup reports it; else empty.
    pub per_node: Vec<(NodeId, Bytes)>,
    /// The CPUs it has used since it started, on average.
    pub cpus: CpuShare,
}

/// The process that asked for a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The process that asked, which may have ended long ago.
    pub pid: u32,
    /// The name of its program: at most 15 bytes, the kernel keeps no more.
    pub program: String,
}

/// How a claim came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A request to placer.
    Asked,
    /// A running guest was found that has not touched all its memory yet.
    Observed,
}

/// Memory and CPUs promised to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub id: ClaimId,
    /// The boot it was made in: no claim outlives the machine's running.
    pub boot: String,
    /// The process or cgroup it is for, or its end time.
    pub owner: Owner,
    /// The process that asked for it.
    pub caller: Caller,
    /// The account that the claim belongs to, decided when it was made.
    pub principal: Principal,
    /// The client's own name for it, by which a repeated request finds it.
    pub nonce: Option<Nonce>,
    /// How it came about.
    pub origin: Origin,
    /// When it was made.
    pub made: Instant,
    /// The CPUs that were asked for, by which a guest that takes over a hold is known.
    pub cpus: CpuShare,
    /// The memory that was asked for.
    pub memory: Bytes,
    /// The size of the huge pages it is in; `None` for ordinary memory.
    pub page: Option<Bytes>,
    /// What was promised, each node once, in ascending order of ids.
    pub promised: Vec<Promise>,
    /// The CPUs that single threads of the guest have for themselves; mostly none.
    pub pinned: CpuSet,
    /// The CPUs that the guest's threads are bound to together, where those are not all of its nodes:
    /// mostly those of one cache.
    pub roaming: CpuSet,
    /// The only nodes that the guest may be on, as it was asked for; empty: all of the host.
    pub within: NodeSet,
    /// What was last seen of the guest; `None` before the first look.
    pub seen: Option<Seen>,
    /// When the owner was last found to be the one that the claim is for, in nanoseconds since 1970; `None`
    /// when that is not known. A `/proc/PID` that has been there since before is of no other process.
    pub checked: Option<u64>,
}

impl Claim {
    /// Returns what an advice promises, node by node: its own split.
    ///
    /// The CPUs add up to those of the request, by [`split_by_weight`].
    pub fn split(request: &Request, advice: &Advice) -> Vec<Promise> {
        promises(request.cpus, &advice.split)
    }

    /// Returns all memory that was promised.
    pub fn promised_memory(&self) -> Bytes {
        self.promised.iter().map(|promise| promise.memory).sum()
    }

    /// Returns all CPUs that were promised.
    pub fn promised_cpus(&self) -> CpuShare {
        self.promised.iter().map(|promise| promise.cpus).sum()
    }

    /// Returns the claim as a line of text, without a line end.
    pub fn to_line(&self) -> String {
        let form = Form::of(self);
        // Numbers and strings always have a form.
        let body = serde_json::to_string(&form).unwrap_or_default();
        let open = body.strip_suffix('}').unwrap_or_default();
        format!("{open}{CHECK}{:08x}\"}}", checksum(open.as_bytes()))
    }

    /// Reads a line.
    ///
    /// Errors: what is wrong with it, as half a sentence. Each line ends with a checksum, since a
    /// changed digit would else be believed, and memory promised twice.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        let tail = CHECK.len() + 8 + 2;
        let (open, check) = line.split_at(line.len().saturating_sub(tail));
        let told = check
            .strip_prefix(CHECK.as_bytes())
            .and_then(|rest| rest.strip_suffix(b"\"}"))
            .and_then(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
            .ok_or("expected a checksum at its end, found none")?;
        if told != checksum(open) {
            return Err("its checksum is of another text".to_owned());
        }
        let mut body = open.to_vec();
        body.push(b'}');
        let form: Form = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        form.read()
    }
}

fn promises(cpus: CpuShare, shares: &[Share]) -> Vec<Promise> {
    #[expect(clippy::cast_possible_truncation, reason = "a float is cut to the largest u64")]
    #[expect(clippy::cast_sign_loss, reason = "shares are not negative, and NaN becomes 0")]
    let weight = |share: &Share| (share.cpus * 1e6).round() as u64;
    let weights: Vec<u64> = shares.iter().map(weight).collect();
    let cpus = split_by_weight(cpus.hundredths(), &weights);
    let promise = |(share, cpus): (&Share, u64)| Promise {
        node: share.node,
        memory: share.memory,
        cpus: CpuShare::from_hundredths(cpus),
    };
    shares.iter().zip(cpus).map(promise).collect()
}

/// The version of the lines that are written. Version 1 had neither principal nor nonce.
const VERSION: u32 = 2;

const CHECK: &str = ",\"check\":\"";

/// CRC-32: no change within 32 bits goes unnoticed.
fn checksum(text: &[u8]) -> u32 {
    crc32fast::hash(text)
}

/// The line's form. Lists of pairs and triples, since a host may have a thousand claims.
#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    id: u32,
    boot: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<ProcessId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cgroup: Option<Cgroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until_ns: Option<u64>,
    caller: Caller,
    /// Since version 2, as in `user:1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    /// 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    origin: Origin,
    made_ns: u64,
    cpus: u64,
    memory: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<u64>,
    /// Node, bytes, hundredths of a CPU.
    promised: Vec<(u32, u64, u64)>,
    /// A list of CPUs, as in 0-3,8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    /// The same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roaming: Option<String>,
    /// A list of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<SeenForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checked: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct SeenForm {
    at_ns: u64,
    resident: u64,
    huge: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    per_node: Vec<(u32, u64)>,
    cpus: u64,
}

/// Returns a set as a list; `None` where it is empty.
fn list_of<T: Id>(ids: &IdSet<T>) -> Option<String> {
    (!ids.is_empty()).then(|| ids.to_string())
}

fn ids_of<T: Id>(list: Option<String>) -> Result<IdSet<T>, String> {
    let ids = list.map(|list| parse::list::parse::<T>(list.as_bytes()));
    Ok(ids.transpose().map_err(|e| e.to_string())?.unwrap_or_default())
}

impl Form {
    fn of(claim: &Claim) -> Self {
        let (process, cgroup, until_ns) = match &claim.owner {
            Owner::Process(process) => (Some(*process), None, None),
            Owner::Cgroup(process, cgroup) => (Some(*process), Some(cgroup.clone()), None),
            Owner::Hold { until } => (None, None, Some(until.nanoseconds())),
        };
        Self {
            version: VERSION,
            id: claim.id.0,
            boot: claim.boot.clone(),
            process,
            cgroup,
            until_ns,
            caller: claim.caller.clone(),
            principal: Some(claim.principal.to_string()),
            nonce: claim.nonce.map(|nonce| nonce.to_string()),
            origin: claim.origin,
            made_ns: claim.made.nanoseconds(),
            cpus: claim.cpus.hundredths(),
            memory: claim.memory.get(),
            page: claim.page.map(Bytes::get),
            promised: claim
                .promised
                .iter()
                .map(|p| (p.node.0, p.memory.get(), p.cpus.hundredths()))
                .collect(),
            pinned: list_of(&claim.pinned),
            roaming: list_of(&claim.roaming),
            within: list_of(&claim.within),
            seen: claim.seen.as_ref().map(|seen| SeenForm {
                at_ns: seen.at.nanoseconds(),
                resident: seen.resident.get(),
                huge: seen.huge.get(),
                per_node: seen.per_node.iter().map(|(n, m)| (n.0, m.get())).collect(),
                cpus: seen.cpus.hundredths(),
            }),
            checked: claim.checked,
        }
    }

    fn read(self) -> Result<Claim, String> {
        if !(1..=VERSION).contains(&self.version) {
            return Err(format!("expected version 1 or {VERSION}, found {}", self.version));
        }
        let principal = match (self.principal, self.version) {
            (Some(text), _) => text.parse()?,
            (None, 1) => Principal::of_uid(self.caller.uid),
            (None, _) => return Err("expected a principal, found none".to_owned()),
        };
        let nonce = self.nonce.map(|text| text.parse()).transpose()?;
        let owner = match (self.process, self.cgroup, self.until_ns) {
            (Some(process), None, None) => Owner::Process(process),
            (Some(process), Some(cgroup), None) => Owner::Cgroup(process, cgroup),
            (None, None, Some(ns)) => Owner::Hold { until: Instant::from_nanoseconds(ns) },
            _ => return Err("expected either a process or an end, found both or none".to_owned()),
        };
        if !self.promised.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err("expected each node once, in ascending order".to_owned());
        }
        let promised = self.promised.into_iter().map(|(node, memory, cpus)| Promise {
            node: NodeId(node),
            memory: Bytes::new(memory),
            cpus: CpuShare::from_hundredths(cpus),
        });
        Ok(Claim {
            pinned: ids_of(self.pinned)?,
            roaming: ids_of(self.roaming)?,
            within: ids_of(self.within)?,
            id: ClaimId(self.id),
            boot: self.boot,
            owner,
            caller: self.caller,
            principal,
            nonce,
            origin: self.origin,
            made: Instant::from_nanoseconds(self.made_ns),
            cpus: CpuShare::from_hundredths(self.cpus),
            memory: Bytes::new(self.memory),
            page: self.page.map(Bytes::new),
            promised: promised.collect(),
            seen: self.seen.map(|seen| Seen {
                at: Instant::from_nanoseconds(seen.at_ns),
                resident: Bytes::new(seen.resident),
                huge: Bytes::new(seen.huge),
                per_node: seen
                    .per_node
                    .into_iter()
                    .map(|(node, memory)| (NodeId(node), Bytes::new(memory)))
                    .collect(),
                cpus: CpuShare::from_hundredths(seen.cpus),
            }),
            checked: self.checked,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::ids::CpuId;
    use proptest::prelude::*;

    use super::*;

    /// A claim of some process for so many MiB on each of some nodes.
    pub(crate) fn claim(id: u32, mib: &[(u32, u64)]) -> Claim {
        let promised = mib.iter().map(|&(node, mib)| Promise {
            node: NodeId(node),
            memory: Bytes::new(mib << 20),
            cpus: CpuShare::from_hundredths(100),
        });
        let promised: Vec<_> = promised.collect();
        Claim {
            id: ClaimId(id),
            boot: "boot-1".to_owned(),
            owner: Owner::Process(ProcessId { pid_namespace: 1, pid: id, start: 7 }),
            caller: Caller { uid: 0, pid: 2, program: "virsh \"x\"\n".to_owned() },
            principal: Principal::Host,
            nonce: None,
            origin: Origin::Asked,
            made: Instant::from_centiseconds(5),
            cpus: CpuShare::from_hundredths(100),
            memory: promised.iter().map(|promise| promise.memory).sum(),
            page: None,
            promised,
            pinned: CpuSet::new(),
            roaming: CpuSet::new(),
            within: NodeSet::new(),
            seen: None,
            checked: None,
        }
    }

    fn samples() -> Vec<Claim> {
        let plain = claim(1, &[(0, 100), (250, 7)]);
        let mut hold = claim(u32::MAX, &[]);
        hold.owner = Owner::Hold { until: Instant::from_nanoseconds(u64::MAX) };
        hold.page = Some(Bytes::new(2 << 20));
        hold.checked = Some(77);
        hold.principal = Principal::User(1000);
        hold.nonce = Some(Nonce::of_process(7, 9));
        let mut grouped = claim(3, &[(1, 1)]);
        let Owner::Process(process) = grouped.owner else { unreachable!("made above") };
        let cgroup = Cgroup { path: "/machine.slice/a\\x2db".to_owned(), inode: 99 };
        grouped.owner = Owner::Cgroup(process, cgroup);
        grouped.pinned = [0, 1, 9].into_iter().map(CpuId).collect();
        grouped.roaming = (16..32).map(CpuId).collect();
        grouped.within = [0, 250].into_iter().map(NodeId).collect();
        grouped.seen = Some(Seen {
            at: Instant::from_nanoseconds(9),
            resident: Bytes::new(1 << 40),
            huge: Bytes::ZERO,
            per_node: vec![(NodeId(1), Bytes::new(5))],
            cpus: CpuShare::from_hundredths(33),
        });
        vec![plain, hold, grouped]
    }

    #[test]
    fn lines_read_back() {
        for claim in samples() {
            let line = claim.to_line();
            assert!(!line.contains('\n'), "{line}");
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
            assert_eq!(Claim::from_line(line.as_bytes()), Ok(claim));
        }
    }

    #[test]
    fn lines_of_version_1_are_read() {
        for (uid, principal) in [(0, Principal::Host), (1000, Principal::User(1000))] {
            let line = claim(1, &[(0, 100)]).to_line().replace("\"version\":2", "\"version\":1");
            let line = line.replace("\"principal\":\"host\",", "");
            let line = line.replace("\"uid\":0", &format!("\"uid\":{uid}"));
            let open = line.split(CHECK).next().unwrap_or_default();
            let line = format!("{open}{CHECK}{:08x}\"}}", checksum(open.as_bytes()));
            let read = Claim::from_line(line.as_bytes()).expect("a claim");
            assert_eq!((read.principal, read.nonce), (principal, None), "{line}");
        }
    }

    #[test]
    fn lines_without_cpus_are_those_of_before() {
        let line = claim(1, &[(0, 100)]).to_line();
        assert!(!line.contains("pinned") && !line.contains("roaming"), "{line}");
        let mut pinned = claim(1, &[(0, 100)]);
        pinned.pinned = [3].into_iter().map(CpuId).collect();
        assert!(pinned.to_line().contains(",\"pinned\":\"3\","), "{}", pinned.to_line());
    }

    #[test]
    fn no_changed_byte_is_believed() {
        for claim in samples() {
            let line = claim.to_line().into_bytes();
            for at in 0..line.len() {
                for flip in [1, 4, 0x20, 0x80] {
                    let mut bad = line.clone();
                    bad[at] ^= flip;
                    // Hex digits of the checksum may change their case, and nothing else.
                    let same = Claim::from_line(&bad).is_ok_and(|read| read == claim);
                    assert!(same == bad.eq_ignore_ascii_case(&line) || !same, "{at} {flip}");
                    assert!(same || Claim::from_line(&bad).is_err(), "byte {at} ^ {flip}");
                }
                assert!(Claim::from_line(&line[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |from: &str, to: &str| {
            let line = claim(1, &[(0, 100), (1, 7)]).to_line().replace(from, to);
            let open = line.split(CHECK).next().unwrap_or_default();
            let line = format!("{open}{CHECK}{:08x}\"}}", checksum(open.as_bytes()));
            Claim::from_line(line.as_bytes()).expect_err("damaged")
        };
        assert_eq!(with("\"version\":2", "\"version\":3"), "expected version 1 or 2, found 3");
        assert!(with("\"principal\":\"host\",", "").contains("expected a principal"));
        assert!(with("\"host\"", "\"user:01\"").contains("as in host, user:1000"));
        assert!(with("\"process\":", "\"other\":").contains("either a process or an end"));
        assert!(with("[1,7340032,100]", "[0,7340032,100]").contains("each node once"));
        assert!(with("\"memory\":", "\"mem\":").contains("missing field"), "{}", with("a", "b"));
        let error = Claim::from_line(b"").expect_err("nothing");
        assert_eq!(error, "expected a checksum at its end, found none");
    }

    #[test]
    fn a_split_loses_no_cpu_by_rounding() {
        let (third, seventh) = (1.0 / 3.0, 8.0 / 7.0);
        for (hundredths, shares) in [
            (100, vec![third; 3]),
            (800, vec![seventh; 7]),
            (1, vec![0.003_333; 3]),
            (1, vec![0.005; 2]),
            (250, vec![2.5, 0.0]),
            (7, vec![0.0; 2]),
        ] {
            let shares: Vec<Share> = (0..)
                .zip(shares)
                .map(|(node, cpus)| Share { node: NodeId(node), cpus, memory: Bytes::ZERO })
                .collect();
            let promised = promises(CpuShare::from_hundredths(hundredths), &shares);
            let sum: u64 = promised.iter().map(|promise| promise.cpus.hundredths()).sum();
            assert_eq!(sum, hundredths, "{promised:?}");
        }
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        assert_eq!("0000002a".parse(), Ok(ClaimId(42)));
        assert_eq!(ClaimId(42).to_string(), "0000002a");
        for text in ["", "2a", "0000002g", "+000002a", "0000002a0"] {
            assert!(text.parse::<ClaimId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claim::from_line(&bytes);
        }
    }
}
