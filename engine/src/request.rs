//! What a guest needs.

use std::fmt;
use std::str::FromStr;

use crate::ids::NodeId;
use crate::idset::{CpuSet, NodeSet};
use crate::policy::{Policy, cache};
use crate::units::{Bytes, CpuShare};

/// What a guest needs, and by which rule it is placed.
///
/// Read from `CPUS[:MEMORY]`: CPUs with up to two decimals; memory a bare number of MiB, or with
/// K, M, G or T (binary).
///
/// ```
/// use placer_engine::{Bytes, Request};
/// let request: Request = "2.5:8G".parse()?;
/// assert_eq!(request.cpus.hundredths(), 250);
/// assert_eq!(Some(request.memory), Bytes::from_mib(8192));
/// assert_eq!(
///     "4:500MB".parse::<Request>().unwrap_err().to_string(),
///     "request \"4:500MB\": byte 6: expected a unit K, M, G or T, found \"MB\"; write 4:500M",
/// );
/// # Ok::<(), placer_engine::RequestError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// CPUs, to the hundredth.
    pub cpus: CpuShare,
    /// Memory.
    pub memory: Bytes,
    /// The rule that chooses.
    pub policy: Policy,
    /// What may be used; by default all of the host.
    pub limits: Limits,
    /// The only nodes that may be named. Memory of GPUs is used only when it is named here.
    pub within: Option<NodeSet>,
    /// The size of the huge pages the memory has to be made of; `None` for ordinary pages. Policy
    /// `best` alone looks at them, in a snapshot that has read them.
    pub pages: Option<Bytes>,
    /// The node of a device that the guest should be near to. Policy `best` alone looks at it.
    pub near: Option<NodeId>,
    /// How caches and kinds of cores count. Policy `best` alone looks at them.
    pub cache: cache::Rules,
}

/// The part of a host that may be used. `None` is no limit.
///
/// The limits of a process are those of `Cpus_allowed_list` and `Mems_allowed_list`, see
/// [`Limits::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The CPUs that may be used.
    pub cpus: Option<CpuSet>,
    /// The nodes whose memory may be used. Says nothing about their CPUs: Linux lists only nodes
    /// that have memory, for every process.
    pub memory_nodes: Option<NodeSet>,
    /// What the caller's control groups leave it of memory, over all nodes together. Bounds ordinary
    /// pages; huge pages are not charged to it.
    pub memory: Option<MemoryLimit>,
    /// The CPU time that the caller's control groups leave it.
    pub cpu_time: Option<CpuLimit>,
}

/// A memory limit of a control group: the one of the caller's group and its ancestors that leaves
/// least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The group, as `/proc/self/cgroup` names it. Print it with care.
    pub group: String,
    /// The file with the limit: `memory.max`, `memory.high`, `memory.limit_in_bytes`.
    pub file: String,
    /// The limit.
    pub limit: Bytes,
    /// The limit less what the group uses; file cache that the kernel gives up counts as unused.
    pub left: Bytes,
}

/// A limit of CPU time of a control group: the lowest of the caller's group and its ancestors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuLimit {
    /// The group, as `/proc/self/cgroup` names it. Print it with care.
    pub group: String,
    /// The file with the limit: `cpu.max`, `cpu.cfs_quota_us`.
    pub file: String,
    /// The limit in CPUs, at least one: less than that still runs one thread.
    pub limit: CpuShare,
}

impl Limits {
    /// Returns what both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpus: both(self.cpus, other.cpus),
            memory_nodes: both(self.memory_nodes, other.memory_nodes),
            memory: least(self.memory, other.memory, |limit| limit.left),
            cpu_time: least(self.cpu_time, other.cpu_time, |limit| limit.limit),
        }
    }
}

fn both<T: crate::Id>(
    a: Option<crate::IdSet<T>>,
    b: Option<crate::IdSet<T>>,
) -> Option<crate::IdSet<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.intersection(&b)),
        (a, b) => a.or(b),
    }
}

fn least<T, K: Ord>(a: Option<T>, b: Option<T>, key: impl Fn(&T) -> K) -> Option<T> {
    a.into_iter().chain(b).min_by_key(key)
}

impl Request {
    /// The most CPUs that can be asked for: more than any host has.
    pub const MAX_CPUS: CpuShare = CpuShare::from_hundredths(100_000_000);
    /// The most memory that can be asked for, 2^56 bytes: more than any host has.
    pub const MAX_MEMORY: Bytes = Bytes::new(1 << 56);

    /// Returns the memory limit that the request goes beyond.
    pub fn beyond_memory_limit(&self) -> Option<&MemoryLimit> {
        let limit = self.limits.memory.as_ref().filter(|_| self.pages.is_none());
        limit.filter(|limit| self.memory > limit.left)
    }

    /// Returns the limit of CPU time that the request goes beyond.
    pub fn beyond_cpu_limit(&self) -> Option<&CpuLimit> {
        self.limits.cpu_time.as_ref().filter(|limit| self.cpus > limit.limit)
    }

    /// Returns whether no host is as large as the request.
    pub fn is_beyond_any_host(&self) -> bool {
        self.cpus > Self::MAX_CPUS || self.memory > Self::MAX_MEMORY
    }

    /// Returns a request for these CPUs and this memory, by the default policy, on the whole host.
    pub fn new(cpus: CpuShare, memory: Bytes) -> Self {
        Self {
            cpus,
            memory,
            policy: Policy::default(),
            limits: Limits::default(),
            within: None,
            pages: None,
            near: None,
            cache: cache::Rules::default(),
        }
    }

    /// Sets the rule that chooses.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets what may be used.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl Request {
    /// Sets the only nodes that may be named.
    #[must_use]
    pub fn with_nodes(mut self, within: NodeSet) -> Self {
        self.within = Some(within);
        self
    }

    /// Sets the size of the huge pages the memory has to be made of.
    #[must_use]
    pub fn with_pages(mut self, size: Bytes) -> Self {
        self.pages = Some(size);
        self
    }

    /// Sets how caches and kinds of cores count.
    #[must_use]
    pub fn with_cache(mut self, cache: cache::Rules) -> Self {
        self.cache = cache;
        self
    }

    /// Sets the node of a device that the guest should be near to.
    #[must_use]
    pub fn with_device_on(mut self, node: NodeId) -> Self {
        self.near = Some(node);
        self
    }
}

/// Why a text is no request: which one, where it broke, what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestError {
    request: String,
    /// From 0.
    offset: usize,
    expected: String,
    hint: Option<String>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, offset, expected, hint } = self;
        let rest = request.as_bytes().get(*offset..).unwrap_or_default();
        let shown = crate::parse::excerpt(request.as_bytes());
        let shown = if request.is_empty() { "\"\"".to_owned() } else { shown };
        let (byte, found) = (offset + 1, crate::parse::excerpt(rest));
        write!(f, "request {shown}: byte {byte}: expected {expected}, found {found}")?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for RequestError {}

/// The largest number of any unit of memory.
const MAX_AMOUNT: u64 = 1 << 46;

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, RequestError> {
        let mut scan = Scan { text, at: 0 };
        let most = Self::MAX_CPUS.hundredths() / 100;
        let whole = scan.number("a number of CPUs", most)?;
        let mut hundredths = whole * 100;
        if scan.skip(b'.') {
            for scale in [10, 1] {
                match scan.peek() {
                    Some(digit @ b'0'..=b'9') => {
                        hundredths += u64::from(digit - b'0') * scale;
                        scan.at += 1;
                    }
                    _ if scale == 10 => return Err(scan.wanted("a decimal")),
                    _ => {}
                }
            }
            if scan.peek().is_some_and(|b| b.is_ascii_digit()) {
                return Err(scan.wanted("at most two decimals"));
            }
        }
        let cpus = CpuShare::from_hundredths(hundredths);
        if cpus > Self::MAX_CPUS {
            scan.at = 0;
            return Err(scan.wanted(&format!("a number of CPUs of at most {most}")));
        }
        let mut memory = Bytes::ZERO;
        if scan.skip(b':') {
            memory = scan.memory()?;
        }
        if scan.at < text.len() {
            let wanted =
                if text.contains(':') { "the end" } else { "\":\" and the memory, or the end" };
            return Err(scan.wanted(wanted));
        }
        Ok(Self::new(cpus, memory))
    }
}

impl Request {
    /// Reads an amount of memory by itself, as it stands behind the colon of a request.
    ///
    /// Errors: as for a request.
    ///
    /// ```
    /// use placer_engine::{Bytes, Request};
    /// assert_eq!(Request::memory_of("8G")?, Bytes::new(8 << 30));
    /// assert!(Request::memory_of("8GB").unwrap_err().to_string().ends_with("; write 8G"));
    /// # Ok::<(), placer_engine::RequestError>(())
    /// ```
    pub fn memory_of(text: &str) -> Result<Bytes, RequestError> {
        let mut scan = Scan { text, at: 0 };
        let memory = scan.memory()?;
        if scan.at < text.len() { Err(scan.wanted("the end")) } else { Ok(memory) }
    }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn wanted(&self, expected: &str) -> RequestError {
        RequestError {
            request: self.text.to_owned(),
            offset: self.at,
            expected: expected.to_owned(),
            hint: Some("write CPUS[:MEMORY], as in 4:500, 2.5:8G".to_owned()),
        }
    }

    fn number(&mut self, what: &str, most: u64) -> Result<u64, RequestError> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.wanted(what));
        }
        match crate::parse::number(self.rest()) {
            Some((value, digits)) if value <= most => {
                self.at += digits;
                Ok(value)
            }
            _ => Err(self.wanted(&format!("{what} of at most {most}"))),
        }
    }

    fn memory(&mut self) -> Result<Bytes, RequestError> {
        let start = self.at;
        let amount = self.number("an amount of memory", MAX_AMOUNT)?;
        let digits = &self.text[start..self.at];
        let shift = match self.peek() {
            Some(b'K') => 10,
            Some(b'G') => 30,
            Some(b'T') => 40,
            _ => 20,
        };
        let unit_at = self.at;
        self.at += usize::from(matches!(self.peek(), Some(b'K' | b'M' | b'G' | b'T')));
        let unit = &self.text.get(unit_at..).unwrap_or_default();
        if let Some(letter) = meant(unit) {
            let head = &self.text[..start];
            return Err(RequestError {
                request: self.text.to_owned(),
                offset: unit_at,
                expected: "a unit K, M, G or T".to_owned(),
                hint: Some(format!("write {head}{digits}{letter}")),
            });
        }
        match amount.checked_mul(1 << shift) {
            Some(bytes) if bytes <= Request::MAX_MEMORY.get() => Ok(Bytes::new(bytes)),
            _ => {
                self.at = start;
                Err(self.wanted("at most 2^56 bytes of memory"))
            }
        }
    }
}

/// Returns the letter that was meant by a unit in another spelling.
fn meant(unit: &str) -> Option<char> {
    let spelt = unit.to_ascii_lowercase();
    let letter = spelt.chars().next().filter(|c| "kmgt".contains(*c))?.to_ascii_uppercase();
    let rest = &spelt[1..];
    let upper = unit.starts_with(letter);
    (matches!(rest, "b" | "ib") || (rest.is_empty() && !upper)).then_some(letter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(u64, u64), String> {
        let request = text.parse::<Request>().map_err(|e| e.to_string())?;
        Ok((request.cpus.hundredths(), request.memory.get()))
    }

    #[test]
    fn good_requests() {
        for (text, cpus, memory) in [
            ("0", 0, 0),
            ("4", 400, 0),
            ("4:500", 400, 500 << 20),
            ("2.5:1G", 250, 1 << 30),
            ("0.25:4K", 25, 4096),
            ("0:1T", 0, 1 << 40),
            ("007:010M", 700, 10 << 20),
            ("1000000", 100_000_000, 0),
            ("1:65536T", 100, 1 << 56),
            ("1:70368744177664K", 100, 1 << 56),
        ] {
            assert_eq!(read(text), Ok((cpus, memory)), "{text:?}");
        }
    }

    #[test]
    fn bad_requests_say_where_and_what_was_wanted() {
        const FORM: &str = "write CPUS[:MEMORY], as in 4:500, 2.5:8G";
        for (text, error) in [
            ("", format!("request \"\": byte 1: expected a number of CPUs, found nothing; {FORM}")),
            ("x", format!("request \"x\": byte 1: expected a number of CPUs, found \"x\"; {FORM}")),
            ("-1", format!("request \"-1\": byte 1: expected a number of CPUs, found \"-1\"; {FORM}")),
            ("4:", format!("request \"4:\": byte 3: expected an amount of memory, found nothing; {FORM}")),
            ("4.", format!("request \"4.\": byte 3: expected a decimal, found nothing; {FORM}")),
            ("1.234", format!("request \"1.234\": byte 5: expected at most two decimals, found \"4\"; {FORM}")),
            ("4:500:1", format!("request \"4:500:1\": byte 6: expected the end, found \":1\"; {FORM}")),
            ("4 :500", format!("request \"4 :500\": byte 2: expected the end, found \" :500\"; {FORM}")),
            ("4x", format!("request \"4x\": byte 2: expected \":\" and the memory, or the end, found \"x\"; {FORM}")),
            (
                "1000001",
                format!("request \"1000001\": byte 1: expected a number of CPUs of at most 1000000, found \"1000001\"; {FORM}"),
            ),
            (
                "1000000.01",
                format!("request \"1000000.01\": byte 1: expected a number of CPUs of at most 1000000, found \"1000000.01\"; {FORM}"),
            ),
            (
                "1:70368744177665",
                format!("request \"1:70368744177665\": byte 3: expected an amount of memory of at most 70368744177664, found \"70368744177665\"; {FORM}"),
            ),
            (
                "1:65537T",
                format!("request \"1:65537T\": byte 3: expected at most 2^56 bytes of memory, found \"65537T\"; {FORM}"),
            ),
            ("4:500MB", "request \"4:500MB\": byte 6: expected a unit K, M, G or T, found \"MB\"; write 4:500M".to_owned()),
            ("4:8GiB", "request \"4:8GiB\": byte 4: expected a unit K, M, G or T, found \"GiB\"; write 4:8G".to_owned()),
            ("4:8g", "request \"4:8g\": byte 4: expected a unit K, M, G or T, found \"g\"; write 4:8G".to_owned()),
        ] {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = read(&text);
        }

        #[test]
        fn near_requests_are_answered(text in "[0-9.:KMGTBi -]{0,24}") {
            let _ = read(&text);
        }

        #[test]
        fn written_amounts_read_back(cpus in 0u64..1_000_000, part in 0u64..100, mib in 0u64..1 << 36) {
            let wanted = (cpus * 100 + part, mib << 20);
            prop_assert_eq!(read(&format!("{cpus}.{part:02}:{mib}")), Ok(wanted));
            prop_assert_eq!(read(&format!("{cpus}.{part:02}:{mib}M")), Ok(wanted));
        }
    }
}
