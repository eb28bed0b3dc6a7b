//! The JSON forms that other programs rely on. Memory is in bytes; lists of nodes and CPUs are text.

mod joint;

use placer_engine::claims::{ClaimId, Parts};
use placer_engine::policy::best::Proof;
use placer_engine::{Advice, Bytes, CacheShare, Candidate, CpuSet, Explanation, Request, Share};
use serde::Serialize;

use crate::report::explain;
use crate::report::view::{Core, Domain, Node, Pages, View, odd};
pub use joint::{FitForm, JointForm};

/// The answer of `placer advise --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Advice"))]
pub struct AdviceForm<'a> {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// What was asked for.
    request: AmountForm,
    /// The rule that chose.
    #[cfg_attr(test, schemars(extend("enum" = ["best", "numad-2015", "numad-2025"])))]
    policy: &'a str,
    /// The nodes advised. None under `--strict` when the request does not fit.
    nodes: IdList,
    /// The same as `cpu_list`, for programs that know it by this name. In `request`, `short` and `split` this name
    /// is a number of CPUs.
    cpus: IdList,
    /// Their CPUs that may be used.
    cpu_list: IdList,
    /// The last-level caches that these CPUs belong to. Empty where they are not known or not looked at.
    caches: Vec<CacheForm>,
    /// How much slower the guest runs for its CPUs and caches inside the nodes: 1 is in one cache without
    /// contention. Null where no caches were chosen.
    cache_cost: Option<f64>,
    /// The caches of the advised nodes that no claim uses, with all their CPUs. Not there where no caches were
    /// chosen, or no node has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    free_caches: Option<Vec<CacheForm>>,
    /// Whether the memory fits, and no more CPUs are asked for than the nodes have.
    fits: bool,
    /// What is short; not there when the request fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<AmountForm>,
    /// What each node is expected to carry, in ascending order of nodes.
    split: Vec<ShareForm>,
    /// How much slower than alone on local memory the guest is expected to run: 1 is not at all. Null
    /// where the nodes have no CPUs or no memory, or none are named.
    slowdown: Option<f64>,
    /// The mean distance of the guest's CPUs from its memory, 10 is all local; null as above.
    near: Option<f64>,
    /// Runnable threads for each CPU, at least 1; null as above.
    crowding: Option<f64>,
    /// `"optimal"`: no other nodes are more than 2 % faster. `{"gap": 0.05}`: none are more than 5 %
    /// faster. Null by numad's rules, which do not ask.
    proof: Option<ProofForm>,
    /// The sets that come next, best first.
    alternatives: Vec<CandidateForm>,
    /// numad's own answer, by the same figures; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    numad: Option<CandidateForm>,
    /// The version of numad that is compared with; absent as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("enum" = ["2015", "2025"])))]
    numad_version: Option<&'static str>,
    /// What would make it fit, in words; not there when it fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remedies: Vec<String>,
    /// What `placer release` takes; not there when nothing was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    /// What a person should know: what was assumed, left out or is unknown.
    notes: Vec<String>,
}

/// What `placer launch --json` prints before its guest runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Launch"))]
pub struct LaunchForm<'a> {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// The name of the guest.
    guest: &'a str,
    /// As `placer advise --json` has it.
    advice: AdviceForm<'a>,
    /// What is done to start the guest, in order; as `--dry-run` shows it.
    steps: Vec<&'a str>,
    /// What is claimed; not there when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimedForm>,
}

/// What is claimed for a guest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Claimed"))]
struct ClaimedForm {
    /// What `placer release` takes.
    id: String,
    /// What is promised on each node, in ascending order of nodes.
    promised: Vec<ShareForm>,
    /// The size of its huge pages in bytes; null for ordinary memory.
    page: Option<u64>,
    /// CPUs that single threads have for themselves.
    pinned: IdList,
    /// CPUs that its threads share, where those are not all of its nodes.
    roaming: IdList,
}

impl<'a> LaunchForm<'a> {
    /// Describes a launch: what was decided, the steps a line each, and what was claimed.
    pub fn new(
        guest: &'a str,
        (request, advice): (&Request, &'a Advice),
        notes: &[String],
        why: Option<&Explanation>,
        steps: &'a str,
        claim: Option<(ClaimId, &Parts)>,
    ) -> Self {
        let claimed = |(id, parts): (ClaimId, &Parts)| ClaimedForm {
            id: id.to_string(),
            promised: parts
                .promised
                .iter()
                .map(|promise| ShareForm {
                    node: promise.node.0,
                    cpus: promise.cpus.as_cpus(),
                    memory: promise.memory.get(),
                })
                .collect(),
            page: parts.page.map(Bytes::get),
            pinned: IdList(parts.pinned.to_string()),
            roaming: IdList(parts.roaming.to_string()),
        };
        Self {
            version: 1,
            guest,
            advice: AdviceForm::new(request, advice, notes, claim.map(|(id, _)| id), why),
            steps: steps.lines().collect(),
            claim: claim.map(claimed),
        }
    }
}

/// Ids as the kernel writes them: ascending, runs joined, as in `0-3,8`; empty for none.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct IdList(
    #[cfg_attr(test, schemars(regex(pattern = "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$")))]
    String,
);

/// CPUs and memory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Amount"))]
struct AmountForm {
    /// CPUs, to the hundredth.
    #[cfg_attr(test, schemars(range(min = 0)))]
    cpus: f64,
    /// Bytes.
    memory: u64,
}

impl AmountForm {
    fn of(request: &Request) -> Self {
        Self { cpus: request.cpus.as_cpus(), memory: request.memory.get() }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Proof"))]
#[serde(rename_all = "lowercase")]
enum ProofForm {
    Optimal,
    Gap(#[cfg_attr(test, schemars(range(min = 0)))] f64),
}

/// A set of nodes beside the advised one.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Candidate"))]
struct CandidateForm {
    nodes: IdList,
    /// As that of the advice; null without CPUs or memory.
    slowdown: Option<f64>,
    near: Option<f64>,
    crowding: Option<f64>,
    /// Why it was not advised, in words.
    reason: String,
}

impl CandidateForm {
    fn new(candidate: &Candidate) -> Self {
        Self {
            nodes: IdList(candidate.nodes.to_string()),
            slowdown: candidate.slowdown,
            near: candidate.near,
            crowding: candidate.crowding,
            reason: explain::reason(candidate),
        }
    }
}

/// One node's part of a guest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Share"))]
struct ShareForm {
    node: u32,
    /// CPUs of the guest that run there on the average.
    #[cfg_attr(test, schemars(range(min = 0)))]
    cpus: f64,
    /// Bytes.
    memory: u64,
}

impl ShareForm {
    fn all(advice: &Advice) -> Vec<Self> {
        let form = |share: &Share| Self {
            node: share.node.0,
            cpus: share.cpus,
            memory: share.memory.get(),
        };
        advice.split.iter().map(form).collect()
    }
}

/// A cache, or the part of it that the guest gets.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CacheShare"))]
struct CacheForm {
    /// The node that it belongs to.
    node: u32,
    /// Its level; 0 for CPUs whose cache is not known.
    level: u8,
    /// Its size in bytes; null where it is not known.
    size: Option<u64>,
    /// The same as `cpu_list`, for programs that know it by this name.
    cpus: IdList,
    /// Its CPUs; in `caches` those that the guest gets.
    cpu_list: IdList,
}

impl CacheForm {
    fn of(share: &CacheShare) -> Self {
        Self {
            node: share.node.0,
            level: share.level,
            size: share.size.map(Bytes::get),
            cpus: IdList(share.cpus.to_string()),
            cpu_list: IdList(share.cpus.to_string()),
        }
    }
}

impl<'a> AdviceForm<'a> {
    pub(crate) fn new(
        request: &Request,
        advice: &'a Advice,
        notes: &[String],
        claim: Option<ClaimId>,
        why: Option<&Explanation>,
    ) -> Self {
        let numad = why.and_then(|why| why.numad.as_ref());
        Self {
            version: 1,
            request: AmountForm::of(request),
            policy: advice.policy.name(),
            nodes: IdList(advice.nodes.to_string()),
            cpus: IdList(advice.cpus.to_string()),
            cpu_list: IdList(advice.cpus.to_string()),
            caches: advice.caches.iter().map(CacheForm::of).collect(),
            cache_cost: advice.cache_cost,
            free_caches: why
                .and_then(|why| why.free_caches.as_ref())
                .map(|free| free.iter().map(CacheForm::of).collect()),
            fits: advice.fits(),
            short: advice
                .shortfall
                .map(|short| AmountForm { cpus: short.cpus.as_cpus(), memory: short.memory.get() }),
            split: ShareForm::all(advice),
            slowdown: advice.slowdown,
            near: advice.near.map(millionths),
            crowding: advice.crowding.map(millionths),
            proof: advice.proof.map(|proof| match proof {
                Proof::Optimal => ProofForm::Optimal,
                Proof::Gap(gap) => ProofForm::Gap(gap),
            }),
            alternatives: why
                .map(|why| why.alternatives.iter().map(CandidateForm::new).collect())
                .unwrap_or_default(),
            numad: numad.map(CandidateForm::new),
            numad_version: numad.and(why).map(|why| why.numad_version.name()),
            remedies: why.map(|why| why.remedies.clone()).unwrap_or_default(),
            claim: claim.map(|id| id.to_string()),
            notes: notes.to_vec(),
        }
    }

    /// Returns the form of an answer that names no nodes, since the request does not fit on any.
    pub(crate) fn without_nodes(self) -> Self {
        let none = || IdList(String::new());
        Self {
            nodes: none(),
            cpus: none(),
            cpu_list: none(),
            caches: Vec::new(),
            cache_cost: None,
            free_caches: None,
            split: Vec::new(),
            slowdown: None,
            near: None,
            crowding: None,
            proof: None,
            alternatives: Vec::new(),
            numad: None,
            numad_version: None,
            ..self
        }
    }
}

/// The answer of `placer show --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Host"))]
pub struct HostForm<'a> {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// In ascending order of ids.
    nodes: Vec<NodeForm>,
    /// The highest-level caches that CPUs share, by node, then by their first CPU; empty where they are not
    /// known. Every CPU of a node whose caches are known is in one of them.
    caches: Vec<HostCacheForm>,
    /// The CPUs by their speed, the fastest first; not there where all CPUs are alike.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    core_kinds: Vec<KindForm>,
    /// How many claims and holds there are; null when that is not known.
    claims: Option<CountForm>,
    /// Null where the host does not report them.
    distances: Option<DistancesForm>,
    /// What hwloc knows beside, with `--devices`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hwloc: Option<serde_json::Value>,
    /// What is odd about the host.
    odd: Vec<OddForm<'a>>,
    /// What a person should know: what was assumed, left out or is unknown.
    notes: &'a [String],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Node"))]
struct NodeForm {
    id: u32,
    /// Its online CPUs as the kernel lists them.
    cpus: IdList,
    /// Bytes; null when it is not reported.
    memory_total: Option<u64>,
    /// Bytes that programs can have, before claims: MemFree and `memory_cached`, less what lies below the
    /// zones' watermarks; null when MemFree is not known.
    memory_free: Option<u64>,
    /// Bytes of `memory_free` that the kernel has to give up first: file cache and reclaimable slab; null
    /// when not known.
    memory_cached: Option<u64>,
    /// Idle CPU time, in CPUs; null when the load is unknown.
    cpus_free: Option<f64>,
    /// What is promised of it and not yet visible as used, in bytes; null when that is not known.
    claimed: Option<u64>,
    /// The same in huge pages; not there when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    claimed_huge: Vec<HugeForm>,
    /// The huge pages of the node; not there when it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    huge_pages: Vec<PagesForm>,
    /// The packages (sockets) its CPUs are in, by the kernel's numbers; empty where it has no CPUs, or
    /// some CPU does not tell its package.
    packages: Vec<u64>,
}

/// A highest-level cache, or the part of it that belongs to one node.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "HostCache"))]
struct HostCacheForm {
    node: u32,
    /// Its level; 0 for CPUs whose cache is not known.
    level: u8,
    /// Its size in bytes; null where it is not known.
    size: Option<u64>,
    /// The CPUs that share it.
    cpus: IdList,
    /// The same by cores: the hardware threads of each.
    cores: Vec<IdList>,
    /// Idle CPU time, in CPUs; null when the load is unknown.
    cpus_free: Option<f64>,
    /// CPUs that belong to single threads of guests (claims with pinned vCPUs).
    owned: IdList,
    /// CPUs that guests are bound to with all their threads.
    shared: IdList,
    /// Whether a claim owns a CPU of it or is bound to some; null when claims are not known.
    claimed: Option<bool>,
}

impl HostCacheForm {
    fn of(node: &Node, domain: &Domain) -> Self {
        let (level, size) = domain.cache.unwrap_or((0, None));
        let core = |core: &Core| {
            let cpus: CpuSet = core.cpus.iter().map(|cpu| cpu.id).collect();
            IdList(cpus.to_string())
        };
        let claimed = domain.claimed.clone().unwrap_or_default();
        Self {
            node: node.id.0,
            level,
            size: size.map(Bytes::get),
            cpus: IdList(domain.cpus.to_string()),
            cores: domain.cores.iter().map(core).collect(),
            cpus_free: domain.idle,
            owned: IdList(claimed.owned.to_string()),
            shared: IdList(claimed.shared.to_string()),
            claimed: domain.is_claimed(),
        }
    }
}

/// CPUs of one speed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CoreKind"))]
struct KindForm {
    cpus: IdList,
    /// What one of them is worth beside the fastest CPU of the host, at most 1.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    capacity: f64,
}

/// The huge pages of one size on a node.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Pages"))]
struct PagesForm {
    /// The size of a page in bytes.
    page: u64,
    /// All pages.
    total: u64,
    /// Free pages.
    free: u64,
}

/// Something odd about the host.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Odd"))]
struct OddForm<'a> {
    /// What it is; more kinds may come.
    kind: &'a str,
    /// The same for people.
    text: &'a str,
}

/// What is promised of a node in huge pages of one size.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Huge"))]
struct HugeForm {
    /// The size of a page in bytes.
    page: u64,
    /// Bytes.
    memory: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Count"))]
struct CountForm {
    guests: usize,
    holds: usize,
}

/// Distances from the CPUs of a node (row) to the memory of a node (column); 10 is local.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Distances"))]
struct DistancesForm {
    /// The nodes of the rows and columns, in their order.
    nodes: Vec<u32>,
    matrix: Vec<Vec<u32>>,
}

impl<'a> HostForm<'a> {
    pub fn new(view: &'a View, hwloc: Option<serde_json::Value>) -> Self {
        let nodes = view.nodes.iter().map(|node| {
            let memory = &node.memory;
            let huge = node.huge.iter();
            let claimed = huge.clone().filter(|huge| huge.claimed > Bytes::ZERO);
            NodeForm {
                id: node.id.0,
                cpus: IdList(node.listed.to_string()),
                memory_total: memory.total.map(Bytes::get),
                memory_free: memory.free.map(Bytes::get),
                memory_cached: memory.cached.map(Bytes::get),
                cpus_free: node.idle,
                claimed: memory.claimed.map(Bytes::get),
                claimed_huge: claimed
                    .map(|huge| HugeForm { page: huge.page.get(), memory: huge.claimed.get() })
                    .collect(),
                huge_pages: huge
                    .filter_map(|huge| huge.pages.map(|pages| (huge.page, pages)))
                    .map(|(page, Pages { total, free })| PagesForm {
                        page: page.get(),
                        total,
                        free,
                    })
                    .collect(),
                packages: node.packages.clone(),
            }
        });
        let distances = view.distances.as_ref().map(|table| DistancesForm {
            nodes: table.nodes().iter().map(|node| node.0).collect(),
            matrix: table.rows().map(<[u32]>::to_vec).collect(),
        });
        let claims = view.claims().map(|(guests, holds)| CountForm { guests, holds });
        let odd = view.odd.iter().map(|odd| OddForm { kind: odd.kind, text: &odd.text });
        let (nodes, odd) = (nodes.collect(), odd.collect());
        let known = view.nodes.iter().filter(|node| node.knows_caches());
        let caches = known.flat_map(|node| node.domains.iter().map(|d| HostCacheForm::of(node, d)));
        let kinds = view.core_kinds().into_iter().map(|(capacity, cpus)| KindForm {
            cpus: IdList(cpus.to_string()),
            capacity: millionths(capacity),
        });
        Self {
            version: 1,
            nodes,
            caches: caches.collect(),
            core_kinds: kinds.collect(),
            claims,
            distances,
            hwloc,
            odd,
            notes: &view.notes,
        }
    }

    /// Leaves out the table of distances, for who has it.
    pub(crate) fn without_distances(self) -> Self {
        Self { distances: None, ..self }
    }

    /// Leaves out where the memory of guests is, for who could not look himself.
    pub(crate) fn without_guests_memory(mut self) -> Self {
        self.odd.retain(|odd| odd.kind != odd::MISPLACED);
        self
    }
}

/// Rounds to what is meant by a figure.
fn millionths(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

/// Writes a form as text, one object, with a line end.
pub fn text(form: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(form)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds the shipped schema to the types; `UPDATE_EXPECT=1` writes it anew.
    fn check<T: schemars::JsonSchema>(file: &str, shipped: &str) {
        let settings = schemars::generate::SchemaSettings::draft2020_12().for_serialize();
        let schema = settings.into_generator().into_root_schema_for::<T>();
        let mut made = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        made.push('\n');
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let path = format!("{}/src/report/schema/{file}", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(&path, made).unwrap_or_else(|error| panic!("{path}: {error}"));
        } else {
            assert!(made == shipped, "{file} is not what the types say: UPDATE_EXPECT=1");
        }
    }

    #[test]
    fn the_shipped_schemas_are_those_of_the_types() {
        check::<AdviceForm<'_>>("advise.json", crate::report::schema::ADVISE);
        check::<LaunchForm<'_>>("launch.json", crate::report::schema::LAUNCH);
        check::<HostForm<'_>>("show.json", crate::report::schema::SHOW);
        check::<JointForm>("together.json", crate::report::schema::TOGETHER);
        check::<FitForm>("fit.json", crate::report::schema::FIT);
        check::<crate::report::moved::MovedForm>("balance.json", crate::report::schema::BALANCE);
        check::<crate::replay::report::ReplayForm<'_>>(
            "replay.json",
            crate::report::schema::REPLAY,
        );
        check::<crate::replay::report::ManageForm<'_>>(
            "manage.json",
            crate::report::schema::MANAGE,
        );
    }

    /// Answers on one node and on two, one that does not fit, one by numad's rules.
    #[test]
    fn the_engine_serializes_an_advice_as_the_program_does() {
        use placer_engine::policy::{Policy, numad};
        use placer_engine::testing::MadeHost;

        let gib = |count| Bytes::from_gib(count).expect("GiB");
        let host = MadeHost::new().node(0, "0-7", gib(16)).node(2, "8-15", gib(64));
        let host = host.distances([[10, 21], [21, 10]]).busy("8-9").cache(3, gib(1), "0-3");
        let snapshot = host.snapshot().expect("a host");
        let numad = Policy::Numad(numad::Rules::lenient(numad::Version::V2015));
        for (text, policy) in [
            ("2.5:8G", Policy::default()),
            ("12:70G", Policy::default()),
            ("4:700G", Policy::default()),
            ("4:8G", numad),
        ] {
            let mut request: Request = text.parse().expect("a request");
            request.policy = policy;
            let mut advice = placer_engine::advise(&snapshot, &request).expect("an advice");
            advice.notes.push("a note".to_owned());
            let program = AdviceForm::new(&request, &advice, &advice.notes, None, None);
            let program = serde_json::to_value(program).expect("JSON");
            let mut engine = serde_json::to_value(&advice).expect("JSON");
            let fields = engine.as_object_mut().expect("an object");
            for added in ["version", "request", "alternatives"] {
                assert!(!fields.contains_key(added), "{added}");
                fields.insert(added.to_owned(), program[added].clone());
            }
            assert_eq!(engine, program, "{text}");
            assert_eq!(engine.get("short").is_some(), text == "4:700G", "{text}");
        }
    }
}
