//! `config.json`: what it says about a container's size and place, and the same with a place. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::Object;
use crate::container::{Definition, REQUEST, STRICT};

/// The annotation with what placer has written, by which it finds that again.
pub const PLACED: &str = "org.placer.placed";
/// What begins the names of all annotations of placer's.
const OURS: &str = "org.placer.";
/// What begins the variable that the NRI plugin gives to a container which it has placed.
const NODES: &str = "PLACER_NODES=";
/// The first arguments of the hook.
const HOOK: [&str; 2] = ["placer-runc", "adopt"];

/// The kinds of containers of a pod: containerd's annotation, CRI-O's.
const KINDS: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

/// A container's configuration. What is not known of it is kept as it is.
#[derive(Debug)]
pub struct Config {
    root: Object,
    changed: bool,
}

/// What binds a container to its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// A list of CPUs; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// A list of the only nodes that its memory may be on; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mems: String,
    /// A list of nodes that its memory is on as far as there is room.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

/// The call that hands the container's claim over to its control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// This program.
    pub program: String,
    /// The name of the claim.
    pub name: String,
    /// Variables, as `NAME=VALUE`.
    pub env: Vec<String>,
    pub timeout_s: u32,
}

#[derive(Serialize)]
struct HookForm<'a> {
    path: &'a str,
    args: [&'a str; 3],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    env: &'a [String],
    timeout: u32,
}

#[derive(Serialize)]
struct PolicyForm<'a> {
    mode: &'static str,
    nodes: &'a str,
}

#[derive(Deserialize)]
struct HugePages {
    #[serde(default)]
    limit: u64,
}

/// What is read of a hook.
#[derive(Deserialize)]
struct Arguments {
    #[serde(default)]
    args: Option<Vec<String>>,
}

impl Config {
    /// Reads a configuration, and takes out what placer has written into it for an earlier start.
    ///
    /// Errors: it is not JSON, or a part that is looked at is not what it has to be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self { root: Object::parse(text)?, changed: false };
        // Users can write annotations, and hooks they cannot.
        if config.hooks().is_ok_and(|hooks| hooks.iter().any(|hook| is_ours(hook))) {
            let placed = config.annotation(PLACED).ok().flatten();
            let was = placed.and_then(|placed| serde_json::from_str(&placed).ok());
            config.take_out(&was.unwrap_or_default())?;
        }
        Ok(config)
    }

    /// Returns whether it is another text than it was.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Returns the text.
    ///
    /// Errors: none that is known.
    pub fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(&self.root).map_err(|error| error.to_string())
    }

    /// Returns an annotation.
    ///
    /// Errors: it is no text.
    pub fn annotation(&self, name: &str) -> Result<Option<String>, String> {
        let why = |error| format!("annotations: {error}");
        self.root.object("annotations")?.value(name).map_err(why)
    }

    /// Returns the annotations that look like placer's and are not.
    ///
    /// Errors: the annotations are no object.
    pub fn unknown_annotations(&self) -> Result<Vec<String>, String> {
        let annotations = self.root.object("annotations")?;
        // One that is still here was not written by placer.
        let known = [REQUEST, STRICT];
        let odd = annotations.keys().filter(|key| key.starts_with(OURS) && !known.contains(key));
        Ok(odd.map(str::to_owned).collect())
    }

    /// Returns what it says about the container's size and place; `None` where it is for no Linux container.
    ///
    /// Errors: a part of it is not what it has to be.
    pub fn definition(&self) -> Result<Option<Definition>, String> {
        if self.root.raw("linux").is_none() {
            return Ok(None);
        }
        let linux = self.root.object("linux")?;
        let resources = linux.object("resources")?;
        let (cpu, memory) = (resources.object("cpu")?, resources.object("memory")?);
        let given = |key| -> Result<bool, String> {
            Ok(cpu.value::<String>(key)?.is_some_and(|list| !list.is_empty()))
        };
        let env: Option<Vec<String>> = self.root.object("process")?.value("env")?;
        // The plugin empties the variable where it has not placed the container.
        let placed = |set: &String| set.strip_prefix(NODES).is_some_and(|nodes| !nodes.is_empty());
        let by_plugin = env.is_some_and(|env| env.iter().any(placed));
        let by_group = resources.object("unified")?.keys().any(|key| key.starts_with("cpuset."));
        let kind = |name: &&str| self.annotation(name).transpose();
        let kind: Option<String> = KINDS.iter().find_map(kind).transpose()?;
        let huge: Option<Vec<HugePages>> = resources.value("hugepageLimits")?;
        Ok(Some(Definition {
            request: self.annotation(REQUEST)?,
            quota: cpu.value("quota")?,
            period: cpu.value("period")?,
            shares: cpu.value("shares")?,
            shares_are_cpus: kind.is_some(),
            memory: memory.value("limit")?,
            huge_pages: huge.is_some_and(|sizes| sizes.iter().any(|size| size.limit > 0)),
            placed: by_plugin
                || given("cpus")?
                || given("mems")?
                || by_group
                || linux.raw("memoryPolicy").is_some(),
            sandbox: kind.as_deref() == Some("sandbox"),
            group: linux.value("cgroupsPath")?,
        }))
    }

    /// Writes a place into it, and the hook that is called when the container has its control group.
    ///
    /// Errors: a part of it is not what it has to be.
    pub fn place(&mut self, binding: &Binding, hook: &Hook) -> Result<(), String> {
        self.changed = true;
        let cpu = |key| ["linux", "resources", "cpu", key];
        for (key, list) in [("cpus", &binding.cpus), ("mems", &binding.mems)] {
            if !list.is_empty() {
                self.root.set(&cpu(key), list)?;
            }
        }
        if !binding.preferred.is_empty() {
            let policy = PolicyForm { mode: "MPOL_PREFERRED_MANY", nodes: &binding.preferred };
            self.root.set(&["linux", "memoryPolicy"], &policy)?;
        }
        let [name, verb] = HOOK;
        let form = HookForm {
            path: &hook.program,
            args: [name, verb, &hook.name],
            env: &hook.env,
            timeout: hook.timeout_s,
        };
        let mut hooks = self.hooks()?;
        hooks.push(serde_json::value::to_raw_value(&form).map_err(|error| error.to_string())?);
        self.root.set(&["hooks", "createRuntime"], &hooks)?;
        let placed = serde_json::to_string(binding).map_err(|error| error.to_string())?;
        self.root.set(&["annotations", PLACED], &placed)
    }

    fn hooks(&self) -> Result<Vec<Box<RawValue>>, String> {
        Ok(self.root.object("hooks")?.value("createRuntime")?.unwrap_or_default())
    }

    /// Removes what [`place`](Self::place) has written. What was changed since is another's.
    fn take_out(&mut self, was: &Binding) -> Result<(), String> {
        self.changed = true;
        let cpu = self.root.object("linux")?.object("resources")?.object("cpu")?;
        for (key, list) in [("cpus", &was.cpus), ("mems", &was.mems)] {
            if !list.is_empty() && cpu.value::<String>(key)?.as_ref() == Some(list) {
                self.root.remove(&["linux", "resources", "cpu", key])?;
            }
        }
        let policy: Option<BTreeMap<String, serde_json::Value>> =
            self.root.object("linux")?.value("memoryPolicy")?;
        let nodes = policy.as_ref().and_then(|policy| policy.get("nodes")?.as_str());
        if !was.preferred.is_empty() && nodes == Some(&was.preferred) {
            self.root.remove(&["linux", "memoryPolicy"])?;
        }
        let others: Vec<_> = self.hooks()?.into_iter().filter(|hook| !is_ours(hook)).collect();
        if others.is_empty() {
            self.root.remove(&["hooks", "createRuntime"])?;
        } else {
            self.root.set(&["hooks", "createRuntime"], &others)?;
        }
        self.root.remove(&["annotations", PLACED])
    }
}

fn is_ours(hook: &RawValue) -> bool {
    let read = serde_json::from_str::<Arguments>(hook.get());
    let args = read.ok().and_then(|hook| hook.args).unwrap_or_default();
    args.iter().map(String::as_str).take(HOOK.len()).eq(HOOK)
}

#[cfg(test)]
mod tests;
