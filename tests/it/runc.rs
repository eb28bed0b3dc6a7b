//! `placer-runc` in front of a runtime that writes down how it was started, on a recorded host and on this one.

use crate::common;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use needs::needs;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use common::{fixture, ids, json, run, text};
use testkit::machine::{put_file, scratch};

/// What starts containers here: writes down its arguments, its pid, its signals and what its descriptors are.
const REAL: &str = r#"#!/bin/sh
cd "${0%/*}" || exit 9
if [ "$1" = features ]; then
    cat features 2>/dev/null
    exit
fi
for arg; do printf '%s\n' "$arg"; done >argv
"$PLACER_TEST" ps --json >claims 2>/dev/null
echo $$ >pid
grep -e SigBlk -e SigIgn -e SigCgt /proc/$$/status >signals
cat >stdin
for fd in /proc/$$/fd/*; do readlink "$fd"; done >fds
while [ -e wait ]; do sleep 0.05; done
exit 7
"#;

/// A host with `placer-runc`, a bundle and its settings.
struct Host {
    dir: tempfile::TempDir,
    root: Option<PathBuf>,
}

impl Host {
    /// Returns the recorded host of four nodes with two CPUs each.
    fn recorded(settings: &str) -> Self {
        Self { root: Some(fixture("ring-4")), ..Self::live(settings) }
    }

    fn live(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Self { dir, root: None };
        let write = |name: &str, text: &str, mode| {
            fs::write(host.path(name), text).expect("written");
            fs::set_permissions(host.path(name), Permissions::from_mode(mode)).expect("set");
        };
        write("real", REAL, 0o755);
        let real = host.path("real");
        let settings = format!("[runtime]\nreal = \"{}\"\n{settings}", real.display());
        write("placer.toml", &settings, 0o644);
        symlink(common::program(), host.path("placer-runc")).expect("a link");
        fs::create_dir(host.path("bundle")).expect("a directory");
        fs::set_permissions(host.path("bundle"), Permissions::from_mode(0o711)).expect("set");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PLACER_CONFIG", self.path("placer.toml"));
        command.env("PLACER_STATE_DIR", self.path("state"));
        command.env("PLACER_TEST", common::program());
        if let Some(root) = &self.root {
            command.env("PLACER_ROOT", root);
        }
        command
    }

    /// Calls the runtime, with what it is to read.
    fn call(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.command(&self.path("placer-runc"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // One that refuses reads nothing.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// Starts a container as containerd does.
    fn create(&self, config: &Value) -> Output {
        self.set(config);
        let (bundle, log) = (self.path("bundle"), self.path("log"));
        let (bundle, log) = (bundle.display().to_string(), log.display().to_string());
        let global = ["--root", "/run/test", "--log", &log, "--log-format", "json"];
        let verb = ["create", "--bundle", &bundle, "--pid-file", "/p", "c1"];
        self.call(&[&global[..], &verb[..]].concat(), "in")
    }

    fn set(&self, config: &Value) {
        fs::write(self.config_path(), format!("{config:#}")).expect("written");
    }

    fn config_path(&self) -> PathBuf {
        self.path("bundle/config.json")
    }

    fn config(&self) -> Value {
        let text = fs::read_to_string(self.config_path()).expect("a configuration");
        serde_json::from_str(&text).expect("JSON")
    }

    fn claims(&self) -> Vec<Value> {
        let output = run(self.command(Path::new(&common::program())).args(["ps", "--json"]));
        asked(&json(&output))
    }

    /// Returns the claims that the real runtime has seen when it was started last.
    fn claims_of_start(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("claims")).expect("written down");
        asked(&serde_json::from_str(&text).expect("JSON"))
    }

    /// Returns whether the real runtime has been started since the last question.
    fn started(&self) -> bool {
        fs::remove_file(self.path("argv")).is_ok()
    }

    /// Calls the hook that is in the configuration as a runtime does: with a container's state, and its variables alone.
    fn hook(&self, pid: u32) -> Output {
        let config = self.config();
        let hook = config["hooks"]["createRuntime"].as_array().and_then(|all| all.last().cloned());
        let hook = hook.expect("a hook");
        let words = |key: &str| -> Vec<String> {
            let words = hook[key].as_array().expect("a list").iter();
            words.map(|word| word.as_str().expect("text").to_owned()).collect()
        };
        let args = words("args");
        let mut command = Command::new(hook["path"].as_str().expect("a path"));
        std::os::unix::process::CommandExt::arg0(&mut command, &args[0]);
        command.args(&args[1..]).env_clear();
        for variable in words("env") {
            let (name, value) = variable.split_once('=').expect("a variable");
            command.env(name, value);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let state = json!({ "ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": pid });
        let state = state.to_string();
        child.stdin.take().expect("a pipe").write_all(state.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    }
}

/// Returns the claims of a list but for those of guests that happen to run on this machine.
fn asked(list: &Value) -> Vec<Value> {
    let all = list["claims"].as_array().expect("claims").iter();
    all.filter(|claim| claim["origin"] == "asked").cloned().collect()
}

fn limited(quota: i64, memory: i64) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "linux": { "resources": {
            "cpu": { "quota": quota, "period": 100_000 }, "memory": { "limit": memory }
        } }
    })
}

const LIMITED: &str = "place = \"limited\"\n";

#[test]
fn a_container_is_placed_within_the_group_above_it() {
    let root = scratch();
    let host = testkit::machine::large();
    host.write(root.path());
    let nodes = host.ids();
    let of = |node: u32| {
        let list = root.path().join(format!("sys/devices/system/node/node{node}/cpulist"));
        fs::read_to_string(list).expect("a list").trim().to_owned()
    };
    put_file(root.path(), "proc/self/cgroup", "0::/system.slice/docker.service\n");
    for &node in &nodes {
        // The slice that is named has no cpuset of its own.
        let group = format!("sys/fs/cgroup/m{node}.slice");
        put_file(root.path(), &format!("{group}/m{node}-a.slice/memory.max"), "max\n");
        put_file(root.path(), &format!("{group}/cpuset.cpus.effective"), of(node));
        put_file(root.path(), &format!("{group}/cpuset.mems.effective"), format!("{node}\n"));
    }
    for node in nodes {
        let mut host = Host::live(LIMITED);
        host.root = Some(root.path().to_owned());
        for group in [format!("m{node}-a.slice:docker:c1"), format!("/m{node}.slice/c1")] {
            let mut config = limited(100_000, 100 << 20);
            config["linux"]["cgroupsPath"] = group.clone().into();
            let output = host.create(&config);
            assert_eq!(text(&output.stderr), "", "{group}");
            let cpu = &host.config()["linux"]["resources"]["cpu"];
            assert_eq!(cpu["mems"], node.to_string(), "{group}: {cpu}");
            let cpus: BTreeSet<u32> = ids(cpu["cpus"].as_str().expect("a list"));
            assert!(cpus.is_subset(&ids(&of(node))), "{group}: {cpu}");
            assert_eq!(host.claims_of_start()[0]["nodes"], node.to_string());
        }
    }
}

#[test]
fn a_container_is_claimed_for_and_the_real_runtime_starts_it_in_place() {
    let host = Host::recorded(LIMITED);
    let before = limited(150_000, 100 << 20);
    // Descriptors that the caller has opened for the container, as with --preserve-fds, and ignored signals.
    host.set(&before);
    let mut command = host.command(Path::new("sh"));
    let script = r#"trap '' PIPE USR1; exec 7</dev/zero; exec "$0" "$@""#;
    command.args(["-c", script]).arg(host.path("placer-runc"));
    command.args(["run", "-b"]).arg(host.path("bundle")).args(["c1", "--preserve-fds", "2"]);
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), ""));
    let told = |name: &str| fs::read_to_string(host.path(name)).expect("written down");
    let bundle = host.path("bundle").display().to_string();
    assert_eq!(told("argv"), format!("run\n-b\n{bundle}\nc1\n--preserve-fds\n2\n"));
    assert_eq!(told("pid"), format!("{pid}\n"));
    let fds = told("fds");
    assert!(fds.contains("/dev/zero\n"), "{fds}");
    for ours in ["state", "bundle", "config", "log"] {
        assert!(!fds.contains(&host.path(ours).display().to_string()), "{fds}");
    }
    let claims = host.claims_of_start();
    // The same signals are ignored and blocked as by itself.
    let real = run(host.command(Path::new("sh")).args(["-c", script]).arg(host.path("real")));
    let by_itself = (real.status.code(), fs::read_to_string(host.path("signals")));
    assert_eq!((by_itself.0, by_itself.1.expect("written down")), (Some(7), told("signals")));

    let after = host.config();
    let cpu = &after["linux"]["resources"]["cpu"];
    let node = cpu["mems"].as_str().and_then(|mems| mems.parse::<u32>().ok()).expect("one node");
    assert_eq!(cpu["cpus"], format!("{}-{}", 2 * node, 2 * node + 1));
    let [claim] = claims.as_slice() else { unreachable!("one claim: {claims:?}") };
    assert_eq!((&claim["kind"], &claim["pid"]), (&"process".into(), &pid.into()));
    assert_eq!(claim["cpus"], 1.5);
    assert_eq!(
        (&claim["memory"], &claim["nodes"]),
        (&(100 << 20).into(), &node.to_string().into())
    );
    // It ends with the runtime that did not start it.
    assert_eq!(host.claims(), [] as [Value; 0]);

    // Started again it has one claim, and the configuration names no second hook.
    assert_eq!(run(command.stdin(Stdio::null())).status.code(), Some(7));
    assert_eq!(host.claims_of_start().len(), 1);
    let hooks = host.config()["hooks"]["createRuntime"].as_array().map(Vec::len);
    assert_eq!(hooks, Some(1));
}

#[test]
fn what_is_not_to_be_placed_is_started_as_it_is() {
    let by_hand = json!({ "linux": { "resources": { "cpu": { "quota": 1000, "cpus": "0" } } } });
    let mut sandbox = limited(1000, 1 << 20);
    sandbox["annotations"] = json!({ "io.kubernetes.cri.container-type": "sandbox" });
    let unlimited = json!({ "linux": {} });
    for (settings, config) in [
        ("", limited(1000, 1 << 20)),
        (LIMITED, unlimited),
        (LIMITED, by_hand.clone()),
        (LIMITED, sandbox.clone()),
        ("place = \"all\"\n", by_hand),
        ("place = \"all\"\n", sandbox),
    ] {
        let host = Host::recorded(settings);
        let output = host.create(&config);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(7), ""));
        assert_eq!(fs::read_to_string(host.config_path()).expect("there"), format!("{config:#}"));
        assert!(host.started() && host.claims_of_start().is_empty(), "{settings} {config}");
    }
    let host = Host::recorded("place = \"all\"\n");
    host.create(&json!({ "linux": {} }));
    assert_eq!(host.claims_of_start().len(), 1, "all");
}

#[test]
fn what_does_not_fit_is_refused_where_that_is_set() {
    let large = |strict: Option<&str>| {
        let mut config = limited(100_000, 500 << 30);
        if let Some(strict) = strict {
            config["annotations"] = json!({ "org.placer.strict": strict });
        }
        config
    };
    let why = "1 CPU and 500.0 GiB do not fit on node";
    for (strict, annotation, refused) in [
        ("false", None, false),
        ("true", None, true),
        ("false", Some("true"), true),
        ("true", Some("false"), false),
    ] {
        let host = Host::recorded(&format!("{LIMITED}strict = {strict}\n"));
        let config = large(annotation);
        let output = host.create(&config);
        let (said, log) = (text(&output.stderr), fs::read_to_string(host.path("log")));
        let log: Value = serde_json::from_str(&log.expect("a log")).expect("one line of JSON");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(log["msg"], said.trim_end());
        if refused {
            assert!(said.starts_with("placer: not started: "), "{said}");
            assert_eq!((output.status.code(), &log["level"]), (Some(1), &"error".into()));
        } else {
            assert!(said.starts_with("placer: warning: container c1: not placed: "), "{said}");
            assert_eq!((output.status.code(), &log["level"]), (Some(7), &"warning".into()));
        }
        assert_eq!(host.started(), !refused, "{said}");
        assert_eq!(host.config(), config);
        assert_eq!(host.claims(), [] as [Value; 0]);
    }
}

#[test]
fn what_cannot_be_read_as_it_is_meant_is_refused_or_said() {
    let host = Host::recorded("");
    let with = |name: &str, value: &str| {
        let mut config = limited(100_000, 1 << 20);
        config["annotations"] = json!({ name: value });
        config
    };
    let said = |config: &Value| {
        let output = host.create(config);
        (output.status.code(), text(&output.stderr))
    };
    let (code, why) = said(&with("org.placer.request", "4:8GB"));
    assert!(code == Some(1) && why.contains("annotation org.placer.request: request"), "{why}");
    let (code, why) = said(&with("org.placer.strict", "yes"));
    assert!(code == Some(1) && why.contains("expected true or false, found \"yes\""), "{why}");
    let (code, why) = said(&with("org.placer.requst", "1"));
    assert_eq!(code, Some(7));
    assert_eq!(why, "placer: warning: container c1: annotation org.placer.requst is not known\n");
    // The runtime says what is wrong with a configuration that is none.
    fs::write(host.config_path(), "{").expect("written");
    let bundle = host.path("bundle").display().to_string();
    let output = host.call(&["create", "-b", &bundle, "c1"], "");
    let why = text(&output.stderr);
    assert!(output.status.code() == Some(7) && why.contains("EOF while parsing"), "{why}");
    // What others can write is not believed.
    host.set(&with("org.placer.request", "1:1"));
    fs::set_permissions(host.path("bundle"), Permissions::from_mode(0o777)).expect("set");
    let output = host.call(&["create", "-b", &bundle, "c1"], "");
    let why = text(&output.stderr);
    assert!(output.status.code() == Some(7) && why.contains("(mode 0777)"), "{why}");
    assert_eq!(host.claims(), [] as [Value; 0]);
}

#[test]
fn other_verbs_are_the_real_runtimes() {
    let host = Host::recorded("");
    for args in [
        &["--root", "/r", "state", "c1"][..],
        &["kill", "c1", "KILL"],
        &["--log", "/nowhere/log", "delete", "--force", "c1"],
        &["update", "--resources", "-", "c1"],
        &["--version"],
        &[],
        &["run"],
        &["adopt"],
    ] {
        let output = host.call(args, "{\"cpu\":{}}");
        assert_eq!(
            (output.status.code(), text(&output.stderr).as_str()),
            (Some(7), ""),
            "{args:?}"
        );
        let argv = fs::read_to_string(host.path("argv")).expect("started");
        assert_eq!(argv, args.iter().map(|arg| format!("{arg}\n")).collect::<String>(), "{args:?}");
        assert_eq!(fs::read_to_string(host.path("stdin")).expect("read"), "{\"cpu\":{}}");
    }
}

#[test]
fn faulty_settings_start_nothing_and_stop_everything() {
    for (name, faulty) in [
        ("crun", "[runtime]\nreal = \"crun\"\nstrict = true\n[daemon]\nqueu = true\n"),
        ("crun", "[runtime]\nreal = \"crun\"\nplace = \"limted\"\n"),
        ("crun", "[runtime]\nreal = \"crun\"\n[advise]\nhold = 10s\n"),
        ("runc", "[runtime]\nrael = \"crun\"\n"),
    ] {
        let host = Host::recorded("");
        fs::write(host.path("placer.toml"), faulty).expect("written");
        fs::rename(host.path("real"), host.path(name)).expect("renamed");
        host.set(&limited(100_000, 500 << 30));
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{path}", host.dir.path().display());
        let (bundle, log) = (host.path("bundle"), host.path("log"));
        let called = |args: &[&str]| {
            let mut command = host.command(&host.path("placer-runc"));
            command.env("PATH", &path).arg("--log").arg(&log).stdin(Stdio::null());
            let output = run(command.args(args));
            (output.status.code(), text(&output.stderr))
        };
        for verb in ["create", "run"] {
            let (code, said) = called(&[verb, "-b", &bundle.display().to_string(), "c1"]);
            assert!(said.starts_with("placer: not started: cannot read the settings: "), "{said}");
            assert_eq!((code, said.lines().count(), host.started()), (Some(1), 1, false), "{said}");
            let logged = fs::read_to_string(&log).expect("a log");
            assert!(logged.contains("not started: cannot read the settings: "), "{logged}");
            fs::remove_file(&log).expect("removed");
        }
        for verb in ["kill", "delete"] {
            let (code, said) = called(&[verb, "c1"]);
            let start = format!("placer: warning: using [runtime] real = {name:?} alone: ");
            assert!(said.starts_with(&start) && said.lines().count() == 1, "{said}");
            assert_eq!((code, host.started()), (Some(7), true), "{said}");
        }
    }
}

#[needs(root, user_mounts)]
#[test]
fn a_container_of_a_user_is_started_and_not_placed() {
    let host = Host::recorded("place = \"limited\"\nstrict = true\n");
    let config = limited(100_000, 1 << 20);
    host.set(&config);
    // The host's /etc/placer.toml, of an owner whom the namespace does not have, as root is for rootless engines.
    let etc = host.path("etc");
    fs::create_dir(&etc).expect("made");
    let file = etc.join("placer.toml");
    fs::copy(host.path("placer.toml"), &file).expect("copied");
    std::os::unix::fs::chown(&file, Some(4242), Some(4242)).expect("given away");
    let call = || {
        let mut command = host.command(Path::new("unshare"));
        let script = r#"mount --bind "$0" /etc && exec "$@""#;
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&etc);
        command.arg(host.path("placer-runc")).args(["run", "-b"]).arg(host.path("bundle"));
        command.arg("c1").stdin(Stdio::null()).env_remove("PLACER_CONFIG");
        let output = run(command.env("PLACER_STATE_DIR", "/proc/no-such-place"));
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = call();
    assert!(said.starts_with("placer: warning: container c1: not placed: "), "{said}");
    assert_eq!((code, said.lines().count(), host.started()), (Some(7), 1, true), "{said}");
    assert_eq!(host.config(), config);
    fs::set_permissions(&file, Permissions::from_mode(0o664)).expect("set");
    let (code, said) = call();
    assert!(said.contains("/etc/placer.toml: writable by group or others"), "{said}");
    assert_eq!((code, host.started()), (Some(1), false), "{said}");
}

#[test]
fn a_runtime_that_is_not_there_is_named_and_nothing_is_held() {
    let host = Host::recorded(LIMITED);
    let set = |real: &str| {
        let text = format!("[runtime]\n{LIMITED}real = \"{real}\"\n");
        fs::write(host.path("placer.toml"), text).expect("written");
    };
    let refused = |why: &str| {
        let output = host.create(&limited(100_000, 1 << 20));
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
        assert_eq!(host.claims(), [] as [Value; 0]);
    };
    set("no-such-runtime");
    refused("cannot run no-such-runtime: no such program; set [runtime] real in /etc/placer.toml");
    set(&host.path("placer-runc").display().to_string());
    refused("it is placer itself");
    // It starts this program again.
    let wrapper = host.path("wrapper");
    let placer = host.path("placer-runc");
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", placer.display());
    fs::write(&wrapper, script).expect("written");
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("set");
    set(&wrapper.display().to_string());
    refused("it starts placer-runc; set [runtime] real in /etc/placer.toml");
    // Claimed for, and then it cannot be started.
    fs::write(host.path("real"), "no program").expect("written");
    set(&host.path("real").display().to_string());
    refused("Exec format error");
}

#[test]
fn memory_that_is_not_all_claimed_is_preferred_where_the_runtime_can() {
    let host = Host::recorded("");
    let mut config = json!({ "linux": {}, "annotations": { "org.placer.request": "1:100" } });
    host.create(&config);
    let placed = host.config();
    assert!(placed["linux"]["resources"]["cpu"]["cpus"].is_string(), "{placed}");
    assert!(placed["linux"]["resources"]["cpu"].get("mems").is_none(), "{placed}");
    assert!(placed["linux"].get("memoryPolicy").is_none(), "{placed}");
    let features = json!({ "linux": { "memoryPolicy": { "modes": ["MPOL_PREFERRED_MANY"] } } });
    fs::write(host.path("features"), features.to_string()).expect("written");
    host.create(&config);
    let placed = host.config();
    assert_eq!(placed["linux"]["memoryPolicy"]["mode"], "MPOL_PREFERRED_MANY");
    // All of the memory that it may use is claimed: it is bound.
    config["linux"] = json!({ "resources": { "memory": { "limit": 100 << 20 } } });
    host.create(&config);
    let placed = host.config();
    assert!(placed["linux"].get("memoryPolicy").is_none(), "{placed}");
    assert!(placed["linux"]["resources"]["cpu"]["mems"].is_string(), "{placed}");
    // A runtime that never answers is not waited for.
    fs::write(host.path("real"), "#!/bin/sh\n[ \"$1\" != features ] || exec sleep 60\nexit 7\n")
        .expect("written");
    host.create(&json!({ "linux": {}, "annotations": { "org.placer.request": "1:100" } }));
    assert!(host.config()["linux"].get("memoryPolicy").is_none());
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("it starts")
}

#[test]
fn the_hook_makes_it_the_claim_of_the_container() {
    let host = Host::live(LIMITED);
    host.set(&limited(1000, 1 << 20));
    fs::write(host.path("wait"), "").expect("written");
    let mut command = host.command(&host.path("placer-runc"));
    command.args(["create", "-b"]).arg(host.path("bundle")).arg("c1").stdin(Stdio::null());
    let mut runtime = command.spawn().expect("it starts");
    while !host.path("fds").exists() {
        assert_eq!(runtime.try_wait().expect("a child"), None, "it waits");
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = host.claims();
    assert_eq!((before.len(), &before[0]["pid"]), (1, &runtime.id().into()));
    // The same container is not started beside itself, and keeps its claim.
    let other = host.path("other.toml");
    fs::write(&other, format!("[runtime]\nreal = \"true\"\n{LIMITED}")).expect("written");
    let output = run(command.stdin(Stdio::null()).env("PLACER_CONFIG", &other));
    let said = text(&output.stderr);
    assert!(said.contains("not placed: it has a claim already, of process "), "{said}");

    let mut container = sleeper();
    // Done twice it is as done once.
    for _ in 0..2 {
        let output = host.hook(container.id());
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        let claims = host.claims();
        assert_eq!((claims.len(), &claims[0]["pid"]), (1, &container.id().into()));
        // It is in no group but the one of this test.
        assert_eq!((&claims[0]["kind"], &claims[0]["id"]), (&"process".into(), &before[0]["id"]));
    }
    fs::remove_file(host.path("wait")).expect("removed");
    assert_eq!(runtime.wait().expect("it ends").code(), Some(7));
    assert_eq!(host.claims().len(), 1, "it is not the runtime's");
    container.kill().expect("killed");
    container.wait().expect("it ends");
    assert_eq!(host.claims(), [] as [Value; 0]);

    let mut container = sleeper();
    let output = host.hook(container.id());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said, "placer: not claimed: its claim has ended\n");
    container.kill().expect("killed");
    container.wait().expect("it ends");
}

/// Starts the runtime and kills it at its `step`-th stop at a system call; `None` when it has become the real one
/// before.
fn killed_at(host: &Host, step: usize) -> Option<()> {
    let mut command = host.command(Path::new("sh"));
    command.args(["-c", r#"kill -STOP $$; exec "$0" "$@""#]).arg(host.path("placer-runc"));
    command
        .args(["--root", "/run/test", "create", "-b"])
        .arg(host.path("bundle"))
        .arg("c1")
        .stdin(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let stat = format!("/proc/{pid}/stat");
    while !fs::read_to_string(&stat).expect("it is there").contains(") T ") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).expect("the right to trace");
    kill(pid, Signal::SIGCONT).expect("it goes on");
    let (mut programs, mut stops) = (0, 0);
    let real = loop {
        match waitpid(pid, None).expect("it stops") {
            WaitStatus::PtraceEvent(_, _, event) if event == nix::libc::PTRACE_EVENT_EXEC => {
                programs += 1;
                // placer-runc, the real runtime.
                if programs == 2 {
                    break true;
                }
            }
            WaitStatus::PtraceSyscall(_) if programs == 1 => {
                stops += 1;
                if stops == step {
                    break false;
                }
            }
            _ => {}
        }
        ptrace::syscall(pid, None).expect("it goes on");
    };
    child.kill().expect("killed");
    child.wait().expect("it ends");
    (!real).then_some(())
}

#[needs(ptrace)]
#[test]
fn killed_at_any_step_no_claim_is_left_and_no_configuration_is_half_written() {
    let host = Host::live(LIMITED);
    let before = limited(1000, 1 << 20);
    let (mut steps, mut untouched, mut placed) = (0, 0, 0);
    // Not each one of some hundred calls: each part of each run is another one.
    for step in (1..).step_by(7) {
        host.set(&before);
        if killed_at(&host, step).is_none() {
            break;
        }
        steps += 1;
        let config = host.config();
        if config == before {
            untouched += 1;
        } else {
            assert!(config["hooks"]["createRuntime"][0]["args"][2].is_string(), "{config}");
            placed += 1;
        }
        assert_eq!(host.claims(), [] as [Value; 0], "at {step}");
    }
    println!("{steps} kills: {untouched} as before, {placed} placed");
    assert!(untouched > 0 && placed > 0, "before and after");
    assert_eq!(host.create(&before).status.code(), Some(7));
    assert_eq!(host.claims_of_start().len(), 1);
}
