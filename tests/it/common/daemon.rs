//! A daemon to ask on its socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{self, SHIPPED, placer, run, text};
use testkit::varlink::Interface;

const LOG: &str = "daemon.log";

/// A daemon with a directory of its own.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: PathBuf,
}

impl Daemon {
    pub(crate) fn start(root: Option<&Path>, settings: &str) -> Self {
        Self::start_with(root, settings, |_| {})
    }

    /// Starts one whose command is changed before.
    pub(crate) fn start_with(
        root: Option<&Path>,
        settings: &str,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("set");
        let config = dir.path().join("placer.toml");
        let shipped = std::fs::read_to_string(SHIPPED).expect("the shipped settings");
        std::fs::write(&config, shipped + "\nqueue = false\n" + settings).expect("written");
        let mut command = command(root, dir.path(), &config);
        change(&mut command);
        let child = command.spawn().expect("the daemon starts");
        let daemon = Self { child, dir, config };
        daemon.await_answer();
        daemon
    }

    pub(crate) fn await_answer(&self) {
        let start = Instant::now();
        while self.connect().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn connect(&self) -> Option<UnixStream> {
        let stream = UnixStream::connect(self.dir.path().join("placer.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        Some(stream)
    }

    pub(crate) fn client(&self) -> Command {
        let mut command = placer();
        command.env("PLACER_STATE_DIR", self.dir.path()).env("PLACER_CONFIG", &self.config);
        command
    }

    pub(crate) fn call(&self, method: &str, parameters: Value) -> Value {
        let mut stream = self.connect().expect("it answers");
        call(&mut stream, method, parameters)
    }

    /// Asks by HTTP on the socket; returns the whole reply.
    pub(crate) fn http(&self, path: &str) -> String {
        http(self.connect().expect("it answers"), path)
    }

    /// Returns what it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(done.expect("kill").success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks by HTTP, once; returns the whole reply.
pub(crate) fn http(mut stream: UnixStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    reply
}

pub(crate) fn spawn(root: Option<&Path>, dir: &Path, config: &Path) -> Child {
    command(root, dir, config).spawn().expect("the daemon starts")
}

fn command(root: Option<&Path>, dir: &Path, config: &Path) -> Command {
    let mut command = placer();
    command.arg("daemon").env("PLACER_STATE_DIR", dir).env("PLACER_CONFIG", config);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    let log = std::fs::File::options().create(true).append(true).open(dir.join(LOG));
    command.stderr(log.expect("a log"));
    command
}

/// Calls, and holds call and reply against the interfaces that are shipped.
#[expect(clippy::needless_pass_by_value, reason = "made for the call")]
pub(crate) fn call(stream: &mut UnixStream, method: &str, parameters: Value) -> Value {
    let call = json!({"method": method, "parameters": parameters});
    stream.write_all(format!("{call}\0").as_bytes()).expect("sent");
    let reply = reply(stream);
    for name in ["org.placer.Daemon", "org.varlink.service"] {
        let file = common::project().join(format!("src/protocol/{name}.varlink"));
        let interface = Interface::parse(&std::fs::read_to_string(file).expect("an interface"));
        let known = !method.ends_with(".Nothing");
        let broken =
            if known { interface.broken(method, Some(&parameters), &reply) } else { Vec::new() };
        assert_eq!(broken, [""; 0], "{method} {parameters}: {reply}");
    }
    reply
}

pub(crate) fn reply(stream: &mut impl Read) -> Value {
    let mut reply = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).expect("a reply");
        if byte[0] == 0 {
            return serde_json::from_slice(&reply).expect("JSON");
        }
        reply.push(byte[0]);
    }
}

pub(crate) fn request(cpus: u32, mib: u64) -> Value {
    json!({"cpus": cpus, "memory": mib << 20})
}

/// Runs `--via daemon` until it is answered: it waits 50 ms, which a busy machine may not keep.
pub(crate) fn answered(mut client: impl FnMut() -> Command) -> Output {
    eventually("an answer in time", || {
        let output = run(&mut client());
        (!text(&output.stderr).contains("no answer within ")).then_some(output)
    })
}

/// Tries until there is something.
pub(crate) fn eventually<T>(what: &str, mut tried: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = tried() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
