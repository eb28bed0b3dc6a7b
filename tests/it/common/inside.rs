//! A private set of namespaces for each test: its own message queues, pids, `/run` and `/var/log`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{placer, project, run, text};

/// Set inside.
const INSIDE: &str = "PLACER_TEST_INSIDE";
pub(crate) const PID_FILE: &str = "/run/numad.pid";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a test by this name in namespaces of its own. The test needs `root, namespaces, numad, python3`.
pub(crate) fn inside(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        for place in ["/run", "/var/log"] {
            assert!(call("mount", &["-t", "tmpfs", "none", place]).status.success(), "{place}");
        }
        return test();
    }
    let this = std::env::current_exe().expect("a path");
    let output = Command::new("timeout")
        .args(["-k", "1", "300", "unshare", "--mount", "--ipc", "--pid", "--fork"])
        .args(["--mount-proc", "--kill-child"])
        .arg(this)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{name}: {out}{err}");
    eprint!("{err}");
}

pub(crate) fn call(program: &str, args: &[&str]) -> Output {
    run(Command::new(program).env_clear().env("PATH", PATH).args(args))
}

/// Returns what a program printed, when all went well.
pub(crate) fn said(program: &str, args: &[&str]) -> String {
    let output = call(program, args);
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The real numad with a time limit: hangs are exit status 124. Returns stdout and the status.
pub(crate) fn numad(args: &[&str]) -> (String, Option<i32>) {
    let mut words = vec!["-k", "1", "60", "numad"];
    words.extend(args);
    let output = call("timeout", &words);
    (text(&output.stdout), output.status.code())
}

/// A version of the real numad, and how it is run here.
pub(crate) struct Real {
    words: Vec<String>,
}

impl Real {
    /// Returns the one that is installed.
    pub(crate) fn of_2015() -> Self {
        Self { words: vec!["numad".to_owned()] }
    }

    /// Returns the one that `ci/numad-2025` has fetched, in a root of its own that sees this machine's files.
    pub(crate) fn of_2025() -> Self {
        let root = crate::common::root_of_2025();
        let script = "for at in proc sys dev run tmp var/log; do mount --rbind /$at $0/$at; done; \
                      exec chroot $0 /usr/bin/numad \"$@\"";
        let root = root.to_str().expect("a path");
        let words = ["unshare", "--mount", "sh", "-ec", script, root].map(str::to_owned);
        Self { words: words.to_vec() }
    }

    /// Returns a client or daemon with a time limit: hangs are exit status 124.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.env_clear().env("PATH", PATH).args(["-k", "1", "60"]).args(&self.words).args(args);
        command
    }

    /// Runs it. Returns stdout and the status.
    pub(crate) fn numad(&self, args: &[&str]) -> (String, Option<i32>) {
        let output = run(&mut self.command(args));
        (text(&output.stdout), output.status.code())
    }

    /// Starts it and waits until it waits for an answer.
    pub(crate) fn waiting(&self, args: &[&str]) -> Child {
        let mut client = self.command(args);
        client.stdout(Stdio::null()).stderr(Stdio::null());
        let client = client.spawn().expect("it starts");
        wait_for("a client that waits", || {
            // The process that timeout has started, which has become numad.
            let children = format!("/proc/{0}/task/{0}/children", client.id());
            let child = std::fs::read_to_string(children).unwrap_or_default();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
            stat.is_ok_and(|stat| stat.contains(" (numad) S "))
        });
        client
    }
}

/// Plays a stranger.
pub(crate) fn stranger(args: &[&str]) -> Output {
    run(Command::new(project().join("tests/sysv/queue")).args(args))
}

/// Our program in the place of numad 2015. Returns stdout, stderr and the status.
pub(crate) fn our_numad(args: &[&str]) -> (String, String, Option<i32>) {
    our_numad_of("2015", args)
}

/// The same, in the place of a version.
pub(crate) fn our_numad_of(version: &str, args: &[&str]) -> (String, String, Option<i32>) {
    let output = run(placer().arg("numad").args(args).env("PLACER_NUMAD_VERSION", version));
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `placer daemon` on the queue.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until clients of numad's find it.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    pub(crate) fn start_with(settings: &str) -> Self {
        let daemon = Self::spawn(settings);
        let pid = format!("{}\n", daemon.pid());
        wait_for("the pid file", || pid_file().as_deref() == Some(&pid));
        daemon
    }

    pub(crate) fn spawn(settings: &str) -> Self {
        let config = Path::new("/run/placer.toml");
        std::fs::write(config, settings).expect("written");
        let log = PathBuf::from("/run/daemon.log");
        let file = std::fs::File::create(&log).expect("a file");
        let child = placer()
            .arg("daemon")
            .env("PLACER_CONFIG", config)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("it starts");
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines of its log that hold a text.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub(crate) fn signal(&self, name: &str) {
        said("kill", &[&format!("-{name}"), &self.pid().to_string()]);
        if name == "STOP" {
            // A thread that the signal has not reached yet goes on answering.
            let tasks = format!("/proc/{}/task", self.pid());
            let stopped = |task: std::io::Result<std::fs::DirEntry>| {
                let stat = std::fs::read_to_string(task.expect("an entry").path().join("stat"));
                stat.expect("a thread").rsplit(") ").next().is_some_and(|s| s.starts_with('T'))
            };
            wait_for("a daemon that is stopped", || {
                std::fs::read_dir(&tasks).expect("its threads").all(stopped)
            });
        }
    }

    /// Asks as a real client, and says who is to answer.
    pub(crate) fn answers(&mut self) {
        assert!(!self.has_ended(), "the daemon has ended");
        let (answer, status) = numad(&["-w", "1:1"]);
        assert_eq!(status, Some(0), "a client hangs or fails: {:?}", self.lines(""));
        assert!(answer.ends_with('\n') && answer.len() > 1, "{answer:?}: {:?}", self.lines(""));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn pid_file() -> Option<String> {
    std::fs::read_to_string(PID_FILE).ok()
}

/// A node of a host that is put over the real one: MB in all, free, of inactive file cache.
pub(crate) type Node = (u64, u64, u64);

/// Puts a host over this one's files, for whoever is inside: a CPU on each node, which is idle.
pub(crate) fn put_host(nodes: &[Node]) {
    let dir = Path::new("/run/host");
    let write = |path: &str, text: String| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let last = nodes.len() - 1;
    let all = if last == 0 { "0\n".to_owned() } else { format!("0-{last}\n") };
    for (id, (total, free, inactive)) in nodes.iter().enumerate() {
        let row = (0..nodes.len()).map(|to| if to == id { "10" } else { "20" });
        write(&format!("node/node{id}/cpulist"), format!("{id}\n"));
        write(&format!("node/node{id}/distance"), row.collect::<Vec<_>>().join(" ") + "\n");
        let line = |name: &str, mb: u64| format!("Node {id} {name}: {} kB\n", mb * 1024);
        let meminfo = [("MemTotal", *total), ("MemFree", *free), ("Inactive(file)", *inactive)];
        let text: String = meminfo.iter().map(|(name, mb)| line(name, *mb)).collect();
        write(&format!("node/node{id}/meminfo"), text);
    }
    for file in ["node/online", "node/possible", "node/has_cpu", "node/has_memory"] {
        write(file, all.clone());
    }
    for file in ["cpu/online", "cpu/possible", "cpu/present"] {
        write(file, all.clone());
    }
    write("cpu/cpu0/topology/thread_siblings", "1\n".to_owned());
    let cpus = (0..nodes.len()).map(|id| format!("cpu{id} 0 0 0 1000 0 0 0 0 0 0\n"));
    write("stat", format!("cpu 0 0 0 1000 0 0 0 0 0 0\n{}", cpus.collect::<String>()));
    for (from, to) in [
        ("node", "/sys/devices/system/node"),
        ("cpu", "/sys/devices/system/cpu"),
        ("stat", "/proc/stat"),
    ] {
        let from = dir.join(from);
        said("mount", &["--bind", from.to_str().expect("a path"), to]);
    }
}
