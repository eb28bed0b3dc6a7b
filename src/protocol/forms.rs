//! The forms of calls and replies, and what they mean in placer's own terms.

use placer_engine::claims::{Nonce, Parts, Promise};
use placer_engine::policy::numad::{self as rules, Version};
use placer_engine::policy::{best, cache};
use placer_engine::{
    Bytes, CpuLimit, CpuSet, CpuShare, Id, IdSet, Limits, MemoryLimit, NodeId, Policy, Request,
};
use placer_launcher::MemoryMode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::numad;
use crate::service::advise::Form;
use crate::service::emit::EmitForm;

/// A call as it comes.
#[derive(Debug, Deserialize)]
pub(crate) struct Call<'a> {
    pub(crate) method: String,
    #[serde(borrow)]
    pub(crate) parameters: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) oneway: bool,
    #[serde(default)]
    pub(crate) more: bool,
    #[serde(default)]
    pub(crate) upgrade: bool,
}

/// A call as it is made.
#[derive(Debug, Serialize)]
pub(crate) struct Calling<'a, T> {
    pub(crate) method: &'a str,
    pub(crate) parameters: T,
}

/// A reply as it comes.
#[derive(Debug, Deserialize)]
pub(crate) struct Reply<'a> {
    pub(crate) error: Option<String>,
    #[serde(borrow)]
    pub(crate) parameters: Option<&'a RawValue>,
}

/// `Request` of the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestForm {
    pub(crate) cpus: f64,
    pub(crate) memory: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numad_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    near: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_bound: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    smt_percent: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefer: Option<PreferForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    effort: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache_penalty: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cores: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed_cpus: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed_nodes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_limit: Option<MemoryLimitForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<CpuLimitForm>,
}

/// `MemoryLimit` of the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemoryLimitForm {
    group: String,
    file: String,
    limit: u64,
    left: u64,
}

/// `CpuLimit` of the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CpuLimitForm {
    group: String,
    file: String,
    limit: f64,
}

impl MemoryLimitForm {
    fn of(limit: &MemoryLimit) -> Self {
        let MemoryLimit { group, file, limit, left } = limit;
        let (group, file) = (group.clone(), file.clone());
        Self { group, file, limit: limit.get(), left: left.get() }
    }

    fn read(self) -> MemoryLimit {
        let (limit, left) = (Bytes::new(self.limit), Bytes::new(self.left));
        MemoryLimit { group: self.group, file: self.file, limit, left }
    }
}

impl CpuLimitForm {
    fn of(limit: &CpuLimit) -> Self {
        let CpuLimit { group, file, limit } = limit;
        let (group, file) = (group.clone(), file.clone());
        Self { group, file, limit: limit.as_cpus() }
    }

    fn read(self) -> Result<CpuLimit, &'static str> {
        if !(0.0..=Request::MAX_CPUS.as_cpus()).contains(&self.limit) {
            return Err("cpu_limit");
        }
        let limit = CpuShare::from_hundredths(hundredths(self.limit));
        Ok(CpuLimit { group: self.group, file: self.file, limit })
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyForm {
    Best,
    Numad,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PreferForm {
    Room,
    Pack,
}

/// The highest penalty for caches, in percent.
const MAX_CACHE_PENALTY: u32 = 1000;
/// The most steps that a stranger may have searched for.
const MOST_EFFORT: u64 = 1_000_000;

impl RequestForm {
    /// Puts a request in its form, and the version of numad that is asked or compared with.
    pub(crate) fn of(request: &Request, numad: Version) -> Self {
        let text = |set: &Option<IdSet<NodeId>>| set.as_ref().map(ToString::to_string);
        let rules = match &request.policy {
            Policy::Best(rules) => Some(*rules),
            Policy::Numad(_) => None,
        };
        Self {
            cpus: request.cpus.as_cpus(),
            memory: i64::try_from(request.memory.get()).unwrap_or(i64::MAX),
            policy: Some(rules.map_or(PolicyForm::Numad, |_| PolicyForm::Best)),
            numad_version: Some(numad.to_string()),
            within: text(&request.within),
            near: request.near.map(|node| node.0),
            pages: request.pages.map(Bytes::get),
            memory_bound: rules.map(|rules| rules.memory_bound),
            smt_percent: rules.map(|rules| rules.smt_percent),
            prefer: rules.map(|rules| match rules.prefer {
                best::Prefer::Room => PreferForm::Room,
                best::Prefer::Pack => PreferForm::Pack,
            }),
            effort: rules.and_then(|rules| rules.effort),
            cache: rules.map(|_| request.cache.mode.name().to_owned()),
            cache_penalty: rules.map(|_| request.cache.penalty_percent),
            cores: rules.map(|_| request.cache.cores.name().to_owned()),
            allowed_cpus: request.limits.cpus.as_ref().map(ToString::to_string),
            allowed_nodes: text(&request.limits.memory_nodes),
            memory_limit: request.limits.memory.as_ref().map(MemoryLimitForm::of),
            cpu_limit: request.limits.cpu_time.as_ref().map(CpuLimitForm::of),
        }
    }

    /// Reads the form. `in_force` is the version of numad where none is named.
    ///
    /// Errors: the name of a parameter that is not as it has to be.
    pub(crate) fn read(
        self,
        in_force: impl FnOnce() -> Version,
    ) -> Result<(Request, Version), &'static str> {
        let version = match &self.numad_version {
            Some(version) => version.parse().map_err(|_| "numad_version")?,
            None => in_force(),
        };
        if !(0.0..=Request::MAX_CPUS.as_cpus()).contains(&self.cpus) {
            return Err("cpus");
        }
        let memory = u64::try_from(self.memory).map_err(|_| "memory")?;
        if memory > Request::MAX_MEMORY.get() {
            return Err("memory");
        }
        let pages = match self.pages {
            Some(size) if !size.is_power_of_two() => return Err("pages"),
            pages => pages.map(Bytes::new),
        };
        let limits = Limits {
            cpus: ids(self.allowed_cpus, "allowed_cpus")?,
            memory_nodes: ids(self.allowed_nodes, "allowed_nodes")?,
            memory: self.memory_limit.map(MemoryLimitForm::read),
            cpu_time: self.cpu_limit.map(CpuLimitForm::read).transpose()?,
        };
        let within = ids(self.within, "within")?;
        let near = self.near.map(NodeId);
        let policy = match self.policy {
            None | Some(PolicyForm::Best) => {
                let usual = best::Rules::default();
                let rules = best::Rules {
                    memory_bound: self.memory_bound.unwrap_or(usual.memory_bound),
                    smt_percent: self.smt_percent.unwrap_or(usual.smt_percent),
                    prefer: match self.prefer {
                        Some(PreferForm::Pack) => best::Prefer::Pack,
                        _ => best::Prefer::Room,
                    },
                    effort: self.effort,
                };
                if !(0.0..=1.0).contains(&rules.memory_bound) {
                    return Err("memory_bound");
                }
                if rules.smt_percent > 100 {
                    return Err("smt_percent");
                }
                if rules.effort.is_some_and(|steps| steps > MOST_EFFORT) {
                    return Err("effort");
                }
                Policy::Best(rules)
            }
            Some(PolicyForm::Numad) => {
                if pages.is_some() {
                    return Err("pages");
                }
                if near.is_some() {
                    return Err("near");
                }
                Policy::Numad(rules::Rules::lenient(version))
            }
        };
        let usual = cache::Rules::default();
        let penalty = self.cache_penalty.unwrap_or(usual.penalty_percent);
        if penalty > MAX_CACHE_PENALTY {
            return Err("cache_penalty");
        }
        let mode = self.cache.as_deref().map_or(Some(usual.mode), cache::Mode::from_name);
        let cores = self.cores.as_deref().map_or(Some(usual.cores), cache::Cores::from_name);
        let cache = usual
            .with_penalty(penalty)
            .with_mode(mode.ok_or("cache")?)
            .with_cores(cores.ok_or("cores")?);
        let cpus = CpuShare::from_hundredths(hundredths(self.cpus));
        let request = Request::new(cpus, Bytes::new(memory));
        Ok((Request { policy, limits, within, pages, near, cache, ..request }, version))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded by the caller")]
#[expect(clippy::cast_sign_loss, reason = "bounded by the caller")]
fn hundredths(cpus: f64) -> u64 {
    (cpus * 100.0).round() as u64
}

fn ids<T: Id>(list: Option<String>, name: &'static str) -> Result<Option<IdSet<T>>, &'static str> {
    let Some(list) = list else { return Ok(None) };
    let set = list.parse::<IdSet<T>>().map_err(|_| name)?;
    if set.is_empty() { Err(name) } else { Ok(Some(set)) }
}

/// `Print` of the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrintForm {
    pub(crate) version: String,
    pub(crate) settings: String,
    form: FormName,
    mode: String,
    pub(crate) strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
// An interface allows no hyphen in a name.
#[serde(rename_all = "snake_case")]
enum FormName {
    Nodes,
    Cpus,
    Json,
    Explain,
    ExplainFactors,
    Numactl,
    Systemd,
    Qemu,
    LibvirtXml,
    Lxc,
    CloudHypervisor,
    Proxmox,
}

impl PrintForm {
    pub(crate) fn of(form: Form, strict: bool, settings: String) -> Self {
        let mut mode = MemoryMode::Strict;
        let form = match form {
            Form::Nodes | Form::Compact { .. } => FormName::Nodes,
            Form::Cpus => FormName::Cpus,
            Form::Json => FormName::Json,
            Form::Explain { factors: false } => FormName::Explain,
            Form::Explain { factors: true } => FormName::ExplainFactors,
            Form::Emit(form, of) => {
                mode = of;
                match form {
                    EmitForm::Numactl => FormName::Numactl,
                    EmitForm::Systemd => FormName::Systemd,
                    EmitForm::Qemu => FormName::Qemu,
                    EmitForm::LibvirtXml => FormName::LibvirtXml,
                    EmitForm::Lxc => FormName::Lxc,
                    EmitForm::CloudHypervisor => FormName::CloudHypervisor,
                    EmitForm::Proxmox => FormName::Proxmox,
                }
            }
        };
        let version = super::VERSION.to_owned();
        Self { version, settings, form, mode: mode.to_string(), strict }
    }

    /// Reads the form.
    ///
    /// Errors: the name of a parameter that is not as it has to be.
    pub(crate) fn read(&self) -> Result<Form, &'static str> {
        let mode: MemoryMode = self.mode.parse().map_err(|_| "mode")?;
        Ok(match self.form {
            FormName::Nodes => Form::Nodes,
            FormName::Cpus => Form::Cpus,
            FormName::Json => Form::Json,
            FormName::Explain => Form::Explain { factors: false },
            FormName::ExplainFactors => Form::Explain { factors: true },
            FormName::Numactl => Form::Emit(EmitForm::Numactl, mode),
            FormName::Systemd => Form::Emit(EmitForm::Systemd, mode),
            FormName::Qemu => Form::Emit(EmitForm::Qemu, mode),
            FormName::LibvirtXml => Form::Emit(EmitForm::LibvirtXml, mode),
            FormName::Lxc => Form::Emit(EmitForm::Lxc, mode),
            FormName::CloudHypervisor => Form::Emit(EmitForm::CloudHypervisor, mode),
            FormName::Proxmox => Form::Emit(EmitForm::Proxmox, mode),
        })
    }
}

/// `Printed` of the interface.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Printed {
    pub(crate) status: u8,
    pub(crate) text: String,
    pub(crate) lines: Vec<String>,
}

/// The parameters of `Advise`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdviseForm {
    pub(crate) request: RequestForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) explain: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) print: Option<PrintForm>,
}

/// The parameters of `AdviseAndClaim`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimForm {
    pub(crate) request: RequestForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) explain: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) print: Option<PrintForm>,
}

/// The parameters of `Adopt`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdoptForm {
    pub(crate) claim: String,
    pub(crate) pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<bool>,
}

/// `Part` of the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartForm {
    node: u32,
    cpus: f64,
    memory: u64,
}

/// The parameters of `Commit`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartsForm {
    cpus: f64,
    memory: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pages: Option<u64>,
    parts: Vec<PartForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pinned: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roaming: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forced: Option<bool>,
    pub(crate) pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
}

impl PartsForm {
    /// Puts what was decided in its form, for a process of the caller's; 0 is the caller. `forced`: it is known
    /// not to fit.
    pub(crate) fn of(parts: &Parts, forced: bool, pid: u32, nonce: Option<Nonce>) -> Self {
        let list = |cpus: &CpuSet| (!cpus.is_empty()).then(|| cpus.to_string());
        let part = |promise: &Promise| PartForm {
            node: promise.node.0,
            cpus: promise.cpus.as_cpus(),
            memory: promise.memory.get(),
        };
        Self {
            cpus: parts.cpus.as_cpus(),
            memory: parts.memory.get(),
            pages: parts.page.map(Bytes::get),
            parts: parts.promised.iter().map(part).collect(),
            pinned: list(&parts.pinned),
            roaming: list(&parts.roaming),
            within: (!parts.within.is_empty()).then(|| parts.within.to_string()),
            forced: forced.then_some(true),
            pid,
            caller: None,
            nonce: nonce.map(|nonce| nonce.to_string()),
        }
    }

    /// Reads the form.
    ///
    /// Errors: the name of a parameter that is not as it has to be.
    pub(crate) fn read(self) -> Result<Parts, &'static str> {
        let most = Request::MAX_CPUS.as_cpus();
        let amount = |cpus: f64, memory: u64| {
            let sane = (0.0..=most).contains(&cpus) && memory <= Request::MAX_MEMORY.get();
            sane.then(|| (CpuShare::from_hundredths(hundredths(cpus)), Bytes::new(memory)))
        };
        let (cpus, memory) = amount(self.cpus, self.memory).ok_or("cpus")?;
        let mut promised: Vec<Promise> = Vec::new();
        for PartForm { node, cpus, memory } in self.parts {
            let (cpus, memory) = amount(cpus, memory).ok_or("parts")?;
            let node = NodeId(node);
            if promised.last().is_some_and(|last| last.node >= node) {
                return Err("parts");
            }
            promised.push(Promise { node, memory, cpus });
        }
        if self.pages.is_some_and(|size| !size.is_power_of_two()) {
            return Err("pages");
        }
        Ok(Parts {
            cpus,
            memory,
            page: self.pages.map(Bytes::new),
            promised,
            pinned: ids(self.pinned, "pinned")?.unwrap_or_default(),
            roaming: ids(self.roaming, "roaming")?.unwrap_or_default(),
            within: ids(self.within, "within")?.unwrap_or_default(),
        })
    }
}

/// What `Commit` replies.
#[derive(Debug, Deserialize)]
pub(crate) struct ClaimedReply {
    pub(crate) claim: String,
}

/// What `Adopt` and `Release` reply, as far as the client reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct DoneReply {
    #[serde(alias = "released", alias = "adopted")]
    pub(crate) claim: serde_json::Value,
}

/// What `Advise` and `AdviseAndClaim` reply, as the client reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct PrintedReply {
    pub(crate) printed: Printed,
}

/// What `Advise` and `AdviseAndClaim` reply, as the daemon writes it.
#[derive(Debug, Serialize)]
pub(crate) struct AdviceReply<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) printed: Option<Printed>,
}

/// The parameters of `Numad`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumadForm {
    pub(crate) cpus: i32,
    pub(crate) megabytes: i32,
    pub(crate) options: NumadOptions,
    pub(crate) version: String,
    pub(crate) settings: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
}

/// `NumadOptions` of the interface: those on which an answer depends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumadOptions {
    numad_version: String,
    inactive_file: bool,
    thread_percent: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserved: Option<String>,
    log_level: i32,
    given: String,
}

impl NumadOptions {
    /// Puts options in their form; `None` where they have none: a list of CPUs that is no text.
    pub(crate) fn of(options: &numad::Options) -> Option<Self> {
        let reserved = options.reserved.clone().map(String::from_utf8).transpose().ok()?;
        Some(Self {
            numad_version: options.version.to_string(),
            inactive_file: options.count_inactive_file,
            thread_percent: options.thread_percent,
            reserved,
            log_level: options.log_level,
            given: options.given.iter().map(|&letter| char::from(letter)).collect(),
        })
    }

    /// Reads the form. All that an answer does not depend on is as if nothing was given.
    pub(crate) fn read(self) -> Result<numad::Options, &'static str> {
        if self.thread_percent > 100 {
            return Err("thread_percent");
        }
        let version = self.numad_version.parse().map_err(|_| "numad_version")?;
        Ok(numad::Options {
            count_inactive_file: self.inactive_file,
            thread_percent: self.thread_percent,
            reserved: self.reserved.map(String::into_bytes),
            log_level: self.log_level,
            given: self.given.bytes().collect(),
            ..numad::Options::of(version)
        })
    }
}

/// `LogLine` of the interface.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) level: i32,
    pub(crate) text: String,
}

/// What `Numad` replies.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NumadReply {
    pub(crate) nodes: String,
    pub(crate) lines: Vec<String>,
    pub(crate) log: Vec<LogLine>,
}

/// The error `Failed`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) reason: String,
    pub(crate) lines: Vec<String>,
    pub(crate) log: Vec<LogLine>,
}

/// The errors `NotClaimed` and `NotAllowed`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reason {
    pub(crate) reason: String,
}

/// The error `Other`.
#[derive(Debug, Serialize)]
pub(crate) struct Other<'a> {
    pub(crate) daemon: &'a str,
    pub(crate) client: &'a str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_come_through_as_they_were() {
        let nodes = |list: &str| ids::<NodeId>(Some(list.to_owned()), "x").expect("a list");
        let rules = best::Rules {
            memory_bound: 0.25,
            prefer: best::Prefer::Pack,
            effort: Some(9),
            smt_percent: 33,
        };
        let whole = Request {
            policy: Policy::Best(rules),
            limits: Limits {
                cpus: ids(Some("0-7,9".to_owned()), "x").expect("a list"),
                memory_nodes: nodes("1"),
                memory: Some(MemoryLimit {
                    group: "/job".to_owned(),
                    file: "memory.max".to_owned(),
                    limit: Bytes::new(200 << 20),
                    left: Bytes::new((1 << 52) + 1),
                }),
                cpu_time: Some(CpuLimit {
                    group: "/".to_owned(),
                    file: "cpu.max".to_owned(),
                    limit: CpuShare::from_hundredths(151),
                }),
            },
            within: nodes("0-3"),
            pages: Some(Bytes::new(2 << 20)),
            near: Some(NodeId(3)),
            ..Request::new(CpuShare::from_hundredths(251), Bytes::new((1 << 52) + 1))
        };
        for version in Version::ALL {
            let numads = Policy::Numad(rules::Rules::lenient(version));
            let plain = "4:500".parse::<Request>().expect("a request").with_policy(numads);
            for request in [whole.clone(), plain] {
                let form = RequestForm::of(&request, version);
                let text = serde_json::to_string(&form).expect("a form");
                let form: RequestForm = serde_json::from_str(&text).expect("a form");
                let named = || unreachable!("a version is named");
                assert_eq!(form.read(named), Ok((request, version)), "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, name) in [
            (r#"{"cpus":-1,"memory":0}"#, "cpus"),
            (r#"{"cpus":1e300,"memory":0}"#, "cpus"),
            (r#"{"cpus":1000000.01,"memory":0}"#, "cpus"),
            (r#"{"cpus":4294967296,"memory":0}"#, "cpus"),
            (r#"{"cpus":1,"memory":-1}"#, "memory"),
            (r#"{"cpus":1,"memory":72057594037927937}"#, "memory"),
            (r#"{"cpus":1,"memory":1,"within":""}"#, "within"),
            (r#"{"cpus":1,"memory":1,"within":"0-4294967295"}"#, "within"),
            (r#"{"cpus":1,"memory":1,"allowed_nodes":"x"}"#, "allowed_nodes"),
            (r#"{"cpus":1,"memory":1,"pages":3}"#, "pages"),
            (r#"{"cpus":1,"memory":1,"memory_bound":2}"#, "memory_bound"),
            (r#"{"cpus":1,"memory":1,"smt_percent":101}"#, "smt_percent"),
            (r#"{"cpus":1,"memory":1,"effort":9999999}"#, "effort"),
            (r#"{"cpus":1,"memory":1,"policy":"numad","near":1}"#, "near"),
            (r#"{"cpus":1,"memory":1,"numad_version":"2016"}"#, "numad_version"),
        ] {
            let form: RequestForm = serde_json::from_str(text).expect(text);
            assert_eq!(form.read(Version::default), Err(name), "{text}");
        }
    }

    #[test]
    fn every_form_of_an_answer_has_its_name() {
        use clap::ValueEnum;
        let emits = EmitForm::value_variants().iter();
        let emits = emits.map(|&form| Form::Emit(form, MemoryMode::Interleave));
        let explained = [false, true].map(|factors| Form::Explain { factors });
        let plain = [Form::Nodes, Form::Cpus, Form::Json];
        for form in plain.into_iter().chain(explained).chain(emits) {
            let print = PrintForm::of(form, true, String::new());
            let text = serde_json::to_string(&print).expect("a form");
            let back: PrintForm = serde_json::from_str(&text).expect("a form");
            assert_eq!(back.read(), Ok(form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_parameters_are_answered(text in any::<String>()) {
            let _ = serde_json::from_str::<Call<'_>>(&text);
            let _ = serde_json::from_str::<ClaimForm>(&text);
            let _ = serde_json::from_str::<NumadForm>(&text);
        }
    }
}
