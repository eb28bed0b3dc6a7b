//! The JSON of several guests at once, and of how many more fit.

use placer_engine::claims::ClaimId;
use placer_engine::policy::best::Proof;
use placer_engine::{Fit, JointAdvice, JointGuest, Request};
use serde::Serialize;

use super::{AmountForm, CacheForm, IdList, ShareForm};

/// The answer of `placer advise --together --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Together"))]
pub struct JointForm {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// The guests, in the order given.
    guests: Vec<GuestForm>,
    /// The number of guests that do not fit.
    refused: usize,
    /// The number of guests that have to be refused at least: the same as `refused` where that is proven.
    least_refused: usize,
    /// The slowdown expected of the guests that fit, weighted by their memory.
    slowdown: f64,
    /// `"optimal"`: no plan refuses fewer guests or has a lower slowdown. `{"gap": 0.05}`: none that refuses as many
    /// has one lower by more than 5 %; null where that is not known.
    proof: ProofForm,
    /// What a person should know: what was assumed, left out or is unknown.
    notes: Vec<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PlanProof"))]
#[serde(rename_all = "lowercase")]
enum ProofForm {
    Optimal,
    Gap(#[cfg_attr(test, schemars(range(min = 0)))] Option<f64>),
}

/// One of the guests.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Guest"))]
struct GuestForm {
    /// What was asked for; whole CPUs where each vCPU has one of its own.
    request: AmountForm,
    /// Whether it fits beside the others.
    fits: bool,
    /// Its nodes; empty where it does not fit.
    nodes: IdList,
    /// The CPUs that it may use; empty as above.
    cpu_list: IdList,
    /// With `--pin cores`: the CPU of each of its vCPUs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<u32>,
    /// The last-level caches that these CPUs belong to. Empty where they are not known or not looked at.
    caches: Vec<CacheForm>,
    /// What each node is expected to carry, in ascending order of nodes.
    split: Vec<ShareForm>,
    /// How much slower than alone on local memory it is expected to run: 1 is not at all. Null where it does not fit.
    slowdown: Option<f64>,
    /// What is short beside the others; not there when it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    short: Option<AmountForm>,
    /// What `placer release` takes; not there when nothing was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

impl JointForm {
    /// `claims` are those of the guests that fit, in the order given; empty where nothing was claimed.
    pub(crate) fn new(joint: &JointAdvice, notes: &[String], claims: &[ClaimId]) -> Self {
        let mut claims = claims.iter();
        let guest = |guest: &JointGuest| {
            let claim = guest.advice.as_ref().and_then(|_| claims.next());
            GuestForm::new(guest, claim.copied())
        };
        Self {
            version: 1,
            guests: joint.guests.iter().map(guest).collect(),
            refused: joint.refused(),
            least_refused: joint.least_refused,
            slowdown: joint.slowdown,
            proof: match joint.proof {
                Proof::Optimal => ProofForm::Optimal,
                Proof::Gap(gap) => ProofForm::Gap(gap.is_finite().then_some(gap)),
            },
            notes: notes.to_vec(),
        }
    }
}

impl GuestForm {
    fn new(guest: &JointGuest, claim: Option<ClaimId>) -> Self {
        let advice = guest.advice.as_ref();
        let short = guest.shortfall;
        Self {
            request: AmountForm::of(&guest.request),
            fits: advice.is_some(),
            nodes: IdList(advice.map(|advice| advice.nodes.to_string()).unwrap_or_default()),
            cpu_list: IdList(advice.map(|advice| advice.cpus.to_string()).unwrap_or_default()),
            pinned: guest.pinned.iter().map(|cpu| cpu.0).collect(),
            caches: advice
                .map(|advice| advice.caches.iter().map(CacheForm::of).collect())
                .unwrap_or_default(),
            split: advice.map(ShareForm::all).unwrap_or_default(),
            slowdown: advice.and_then(|advice| advice.slowdown),
            short: short
                .map(|short| AmountForm { cpus: short.cpus.as_cpus(), memory: short.memory.get() }),
            claim: claim.map(|id| id.to_string()),
        }
    }
}

/// The answer of `placer fit --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Fit"))]
pub struct FitForm {
    /// Of this form; more fields may come without a new one.
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// The size of each guest; whole CPUs with `--pin cores`.
    request: AmountForm,
    /// How many more guests fit.
    guests: u64,
    /// Of these, how many fit with each on a single node.
    on_one_node: u64,
    /// Of these, how many fit with idle CPUs for each.
    with_idle_cpus: u64,
    /// What a person should know: what was assumed, left out or is unknown.
    notes: Vec<String>,
}

impl FitForm {
    pub fn new(request: &Request, fit: &Fit, notes: &[String]) -> Self {
        Self {
            version: 1,
            request: AmountForm::of(request),
            guests: fit.guests,
            on_one_node: fit.on_one_node,
            with_idle_cpus: fit.with_idle_cpus,
            notes: notes.to_vec(),
        }
    }
}
