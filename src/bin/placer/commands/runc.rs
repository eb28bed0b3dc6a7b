//! `placer-runc`: an OCI runtime that places containers and starts them with runc or crun.
//!
//! This process claims for itself, writes the place into the container's configuration, and becomes the real runtime.
//! That calls `placer-runc adopt` when the container has its control group, and before its own program runs: the
//! claim is the group's from then on. If the start fails the claim ends with the runtime.

mod features;
mod real;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::geteuid;
use placer_engine::SysRoot;
use placer_engine::claims::Nonce;
use placer_launcher::cgroup::Tree;
use placer_launcher::{Step, exec_in_place};
use serde::Deserialize;

use crate::output;
use placer::container::{self, NotHeld, Placement, STRICT, Wanted};
use placer::error_chain::chain;
use placer::oci::{Binding, Bundle, Config, Hook, Line, Log, Severity, Start};
use placer::service::notes::Notes;
use placer::settings::{Settings, variables};
use placer::trust;

/// How long the runtime waits for `placer-runc adopt`, in seconds: on a host with much to do that takes seconds.
const HOOK_TIMEOUT: u32 = 60;
/// No state of a container is nearly so long.
const MOST_STATE: u64 = 1 << 20;
/// Variables of this program begin with it.
const OUR_VARIABLES: &str = "PLACER_";
/// Is set for the real runtime. A wrapper that starts this program again would do so for ever.
const STARTED: &str = "PLACER_RUNC_STARTED";

/// Runs as an OCI runtime. `args` is what follows the name of the program.
pub(crate) fn run(args: &[OsString], notes: &mut Notes) -> ExitCode {
    let (set, faulty) = settings();
    if let [verb, name] = args
        && verb == "adopt"
    {
        if let Some(why) = faulty {
            output::warn(&format!("using built-in defaults: {why}"));
        }
        return adopt(name, &set);
    }
    let line = Line::parse(args);
    let runtime = Runtime { log: Log::of(&line), root: root(), set };
    if std::env::var_os(STARTED).is_some() {
        let real = &runtime.set.runtime.real;
        return runtime.refuse(&format!(
            "cannot run {real}: it starts placer-runc; set [runtime] real in /etc/placer.toml"
        ));
    }
    if let Some(why) = faulty {
        if line.verb.as_deref().is_some_and(|verb| verb == "create" || verb == "run") {
            return runtime.refuse(&format!("not started: {why}"));
        }
        // Containers that run have to be stopped and removed, by the runtime that knows them.
        let real = &runtime.set.runtime.real;
        output::warn(&format!("using [runtime] real = {real:?} alone: {why}"));
    }
    let real = match real::find(&runtime.set.runtime.real) {
        Ok(real) => real,
        Err(why) => return runtime.refuse(&why),
    };
    let mut claimed = None;
    if let Some(start) = &line.start {
        match runtime.place(&line, start, &real, notes) {
            Ok(name) => claimed = name,
            Err(why) => return runtime.refuse(&format!("not started: {why}")),
        }
        for note in notes.take_all() {
            runtime.log.write(Severity::Warning, &note);
            output::line(&note);
        }
    }
    let argv = std::iter::once(real.into_os_string()).chain(args.iter().cloned());
    let started = Step::Variable { name: STARTED, value: "1".to_owned() };
    let Err(error) = exec_in_place(&[started, Step::Exec { argv: argv.collect() }]);
    if let Some(name) = claimed {
        runtime.release(name);
    }
    runtime.refuse(&chain(&error))
}

struct Runtime {
    log: Log,
    root: SysRoot,
    set: Settings,
}

/// Why a container is not placed.
enum Fault {
    /// Its definition cannot mean what it says.
    Definition(String),
    /// There is no place for it, or none can be found out.
    Place(String),
}

impl Runtime {
    /// Places a container in its configuration. Returns the name of its claim; `None` where it is started
    /// as it is.
    ///
    /// Errors: why it is not started.
    fn place(
        &self,
        line: &Line,
        start: &Start,
        real: &Path,
        notes: &mut Notes,
    ) -> Result<Option<Nonce>, String> {
        // A user's containers are never placed: the administrator's `strict` would refuse each of them.
        let mut strict = self.set.runtime.strict && trust::has_all_users();
        let placed = self.try_to_place(line, start, real, &mut strict, notes);
        placed.or_else(|fault| match fault {
            Fault::Place(why) if !strict => {
                notes.warn(&of(start, &format!("not placed: {why}")));
                Ok(None)
            }
            Fault::Place(why) | Fault::Definition(why) => Err(why),
        })
    }

    fn try_to_place(
        &self,
        line: &Line,
        start: &Start,
        real: &Path,
        strict: &mut bool,
        notes: &mut Notes,
    ) -> Result<Option<Nonce>, Fault> {
        if let Some(file) = &start.config {
            let file = file.to_string_lossy();
            return Err(Fault::Place(format!("expected config.json, found --config {file}")));
        }
        let dir = start.bundle.clone().unwrap_or_else(|| PathBuf::from("."));
        let bundle = Bundle::open(&dir).map_err(Fault::Place)?;
        let read = |fault: String| Fault::Place(format!("{}: {fault}", bundle.path().display()));
        let mut config = Config::parse(bundle.text()).map_err(read)?;
        for name in config.unknown_annotations().map_err(read)? {
            notes.warn(&of(start, &format!("annotation {name} is not known")));
        }
        match config.annotation(STRICT).map_err(read)?.as_deref() {
            None => {}
            Some("true") => *strict = true,
            Some("false") => *strict = false,
            Some(other) => {
                let why = format!("annotation {STRICT}: expected true or false, found {other:?}");
                return Err(Fault::Definition(why));
            }
        }
        let (which, advise) = (self.set.runtime.place, &self.set.advise);
        let wanted = config.definition().map_err(read)?;
        let wanted = wanted.map(|definition| definition.wanted(which, advise));
        let wanted = wanted.transpose().map_err(Fault::Definition)?.flatten();
        let wanted = match wanted {
            Some(wanted) => users_group().map(|group| Some((wanted, group))),
            None => Ok(None),
        };
        let Some((mut wanted, group)) = wanted.map_err(Fault::Place)? else {
            // What an earlier start has left in it would go on to bind it.
            if config.is_changed() {
                config.to_text().and_then(|text| bundle.replace(&text)).map_err(Fault::Place)?;
            }
            return Ok(None);
        };

        // Slices of a user are below the user's own; so is what starts the container.
        wanted.parent = group.or(wanted.parent);
        let program = real::own_program().map_err(Fault::Place)?;
        let engine = line.root.as_deref().unwrap_or_default().to_string_lossy();
        let name = container::name(&engine, &start.id.to_string_lossy());
        let claimed = container::claim(&wanted, name, &self.root, &self.set, notes);
        let placement = claimed.map_err(|fault| match fault {
            NotHeld::Unfit(why) | NotHeld::Failed(why) => Fault::Place(why),
        })?;
        let hook =
            Hook { program, name: name.to_string(), env: our_variables(), timeout_s: HOOK_TIMEOUT };
        let binding = binding(&wanted, &placement, || features::has_memory_policy(real));
        let written = config
            .place(&binding, &hook)
            .and_then(|()| config.to_text())
            .and_then(|text| bundle.replace(&text));
        match written {
            Ok(()) => Ok(Some(name)),
            Err(why) => {
                self.release(name);
                Err(Fault::Place(why))
            }
        }
    }

    /// Ends the claim of a container that does not start. One that cannot be ended now ends with this process.
    fn release(&self, name: Nonce) {
        let _ = container::release(name, &self.root, self.set.claims);
    }

    /// Says why nothing is started, to the engine and to the user.
    fn refuse(&self, why: &str) -> ExitCode {
        let why = format!("placer: {why}");
        self.log.write(Severity::Error, &why);
        output::line(&why);
        ExitCode::FAILURE
    }
}

/// Warnings of several containers may meet in one place.
fn of(start: &Start, what: &str) -> String {
    format!("container {}: {what}", start.id.to_string_lossy())
}

/// Returns what binds a container. Memory is bound only to nodes on which all of it is claimed; else these nodes are
/// preferred, where the runtime knows how.
fn binding(
    wanted: &Wanted,
    placement: &Placement,
    has_memory_policy: impl FnOnce() -> bool,
) -> Binding {
    let (cpus, nodes) = (placement.cpus.to_string(), placement.nodes.to_string());
    match wanted.covers_limit {
        true => Binding { cpus, mems: nodes, ..Binding::default() },
        false if !nodes.is_empty() && has_memory_policy() => {
            Binding { cpus, preferred: nodes, ..Binding::default() }
        }
        false => Binding { cpus, ..Binding::default() },
    }
}

/// Makes what is claimed for a container the claim of its control group: called by the real runtime, with the state of the
/// container as standard input.
fn adopt(name: &OsStr, set: &Settings) -> ExitCode {
    #[derive(Deserialize)]
    struct State {
        pid: u32,
    }
    let adopted = || -> Result<(), String> {
        let name: Nonce = name.to_string_lossy().parse()?;
        let mut state = Vec::new();
        let read = std::io::stdin().lock().take(MOST_STATE).read_to_end(&mut state);
        read.map_err(|error| format!("cannot read the state of a container: {error}"))?;
        let State { pid } = serde_json::from_slice(&state)
            .map_err(|error| format!("expected the state of a container: {error}"))?;
        let claim = container::adopt(name, pid, &root(), set.claims);
        claim.map(drop).map_err(|why| format!("not claimed: {why}"))
    };
    match adopted() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            output::line(&format!("placer: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Reads the settings. Where something is wrong with them returns the real runtime alone, and what it is.
fn settings() -> (Settings, Option<String>) {
    let named = variables::value("PLACER_CONFIG").map(PathBuf::from);
    match Settings::read(named.as_deref()) {
        Ok(set) => (set, None),
        Err(error) => {
            let mut set = Settings::default();
            if let Some(real) = Settings::read_real(named.as_deref()) {
                set.runtime.real = real;
            }
            (set, Some(chain(&error)))
        }
    }
}

fn root() -> SysRoot {
    variables::value("PLACER_ROOT").map_or_else(SysRoot::live, SysRoot::at)
}

/// Returns the variables of placer's, for the hook: runtimes start it without any.
fn our_variables() -> Vec<String> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        name.starts_with(OUR_VARIABLES).then(|| format!("{name}={value}"))
    });
    ours.collect()
}

/// Returns the control group that containers of a user are beside; `None` for the root of the host.
///
/// Errors: CPUs and nodes of the user's containers cannot be set: they get what the user was given.
fn users_group() -> Result<Option<String>, String> {
    if geteuid().is_root() && trust::has_all_users() {
        return Ok(None);
    }
    let tree = Tree::read(Path::new("/"));
    let given = tree.mount.and_then(|mount| {
        let group = mount.join(tree.own.trim_start_matches('/')).join("cgroup.controllers");
        std::fs::read_to_string(group).ok()
    });
    if given.unwrap_or_default().split_whitespace().any(|controller| controller == "cpuset") {
        return Ok(Some(tree.own));
    }
    Err("control group controller cpuset is not delegated to this user".to_owned())
}

#[cfg(test)]
mod tests {
    use placer_engine::Request;
    use placer_engine::claims::ClaimId;

    use super::*;

    #[test]
    fn memory_is_bound_where_all_of_it_is_claimed() {
        let request: Request = "1:100".parse().expect("a request");
        let wanted = |covers_limit| Wanted { request: request.clone(), covers_limit, parent: None };
        let placement = |nodes: &str| Placement {
            claim: ClaimId(1),
            cpus: "4-5".parse().expect("CPUs"),
            nodes: nodes.parse().unwrap_or_default(),
        };
        let cpus = || "4-5".to_owned();
        let only = Binding { cpus: cpus(), ..Binding::default() };
        let never = || -> bool { unreachable!("the runtime is not asked") };
        let bound = Binding { mems: "2".to_owned(), ..only.clone() };
        assert_eq!(binding(&wanted(true), &placement("2"), never), bound);
        let preferred = Binding { preferred: "2".to_owned(), ..only.clone() };
        assert_eq!(binding(&wanted(false), &placement("2"), || true), preferred);
        assert_eq!(binding(&wanted(false), &placement("2"), || false), only);
        // All of the host.
        assert_eq!(binding(&wanted(false), &placement(""), never), only);
        assert_eq!(binding(&wanted(true), &placement(""), never), only);
    }
}
