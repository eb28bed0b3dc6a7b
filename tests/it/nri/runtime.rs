//! A container runtime that calls a plugin: frames, calls and containers as containerd has them.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use placer::nri::messages::{
    ConfigureResponse, Container, ContainerRequest, Cpu, CreateContainerResponse, LinuxContainer,
    Memory, Pod, RegisterPluginRequest, Request, Resources, Response, Signed, Status,
    SynchronizeRequest, SynchronizeResponse, Unsigned, Variable,
};
use prost::Message;
use serde_json::Value;

use crate::common::{fixture, json, placer, run};

/// Far beyond anything that is waited for: a test that waits for so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const MIB: i64 = 1 << 20;
const PLUGIN: u32 = 1;
const RUNTIME: u32 = 2;

/// A host, its ledger, and the runtime's socket.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    root: PathBuf,
    listener: UnixListener,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("nri.sock")).expect("bound");
        Self { dir, root: fixture(name), listener }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = placer();
        command.args(args).env("PLACER_ROOT", &self.root).env("PLACER_STATE_DIR", self.state());
        command
    }

    pub(crate) fn plugin(&self, args: &[&str]) -> Plugin {
        let mut command = self.command(&["nri"]);
        command.arg("--socket").arg(self.dir.path().join("nri.sock")).args(args);
        Plugin(command.stderr(Stdio::inherit()).spawn().expect("it starts"))
    }

    /// Waits for a plugin to connect.
    pub(crate) fn accept(&self) -> Link {
        self.listener.set_nonblocking(true).expect("set");
        let start = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return Link::new(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(start.elapsed() < LONG, "no plugin connects");
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => unreachable!("{error}"),
            }
        }
    }

    /// Closes the runtime's socket, and opens it anew.
    pub(crate) fn restart(&mut self) {
        let path = self.dir.path().join("nri.sock");
        std::fs::remove_file(&path).expect("removed");
        self.listener = UnixListener::bind(path).expect("bound");
    }

    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        run(&mut self.command(args))
    }

    /// Returns the claims, in ascending order of ids.
    pub(crate) fn claims(&self) -> Vec<Value> {
        let mut claims =
            json(&self.ask(&["ps", "--json"]))["claims"].as_array().expect("a list").clone();
        claims.sort_by_key(|claim| claim["id"].to_string());
        claims
    }

    /// Waits until the claims are as wanted.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let claims = self.claims();
            if wanted(&claims) {
                return claims;
            }
            assert!(start.elapsed() < LONG, "{what}: {claims:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A plugin, which is killed at the end.
pub(crate) struct Plugin(pub(crate) Child);

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection with a plugin.
pub(crate) struct Link {
    stream: UnixStream,
    /// Bytes of each stream that are no whole message yet.
    parts: [Vec<u8>; 2],
    next: u32,
    /// How many bytes of a call go in a frame.
    pub(crate) cut: usize,
    /// The longest frame that has arrived, header included.
    pub(crate) longest: usize,
}

/// A message: its stream, its call, whether it is a request, its payload.
pub(crate) type Arrived = (u32, u32, bool, Vec<u8>);

impl Link {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_nonblocking(false).expect("set");
        stream.set_read_timeout(Some(LONG)).expect("set");
        stream.set_write_timeout(Some(LONG)).expect("set");
        Self { stream, parts: Default::default(), next: 1, cut: 100_000, longest: 0 }
    }

    /// Returns both ends of a connection, for a plugin that is started with one.
    pub(crate) fn pair() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        (Self::new(ours), OwnedFd::from(theirs))
    }

    fn send(&mut self, stream: u32, call: u32, kind: u8, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).expect("short");
        let head = [&length.to_be_bytes()[..], &call.to_be_bytes(), &[kind, 0]].concat();
        let message = [&head, payload].concat();
        for part in message.chunks(self.cut) {
            let length = u32::try_from(part.len()).expect("short");
            self.stream.write_all(&stream.to_be_bytes())?;
            self.stream.write_all(&length.to_be_bytes())?;
            self.stream.write_all(part)?;
        }
        Ok(())
    }

    /// Reads the next message. `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Arrived> {
        loop {
            for (stream, parts) in [PLUGIN, RUNTIME].into_iter().zip(&mut self.parts) {
                let Some(head) = parts.first_chunk::<10>().copied() else { continue };
                let number = |at: usize| {
                    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
                };
                let length = number(0) as usize;
                if parts.len() >= 10 + length {
                    let payload = parts[10..10 + length].to_vec();
                    parts.drain(..10 + length);
                    return Some((stream, number(4), head[8] == 1, payload));
                }
            }
            let mut head = [0; 8];
            match self.stream.read_exact(&mut head) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                read => read.expect("read"),
            }
            let number = |at: usize| {
                u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
            };
            let (stream, length) = (number(0), number(4) as usize);
            // What drops the connection of a real runtime.
            assert!(length + 8 <= 4096, "a frame of {length} bytes");
            self.longest = self.longest.max(length + 8);
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).expect("the rest of a frame");
            self.parts[usize::from(stream == RUNTIME)].extend(bytes);
        }
    }

    /// Takes the plugin's call to register, and returns name and index.
    pub(crate) fn registration(&mut self) -> (u32, RegisterPluginRequest) {
        let (stream, call, request, payload) = self.next().expect("a call");
        assert!(stream == RUNTIME && request);
        let request = Request::decode(&payload[..]).expect("a call");
        assert_eq!(
            (&*request.service, &*request.method),
            ("nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin")
        );
        (call, RegisterPluginRequest::decode(&request.payload[..]).expect("a registration"))
    }

    pub(crate) fn registered(&mut self, call: u32, status: Option<Status>) {
        let response = Response { status, payload: Vec::new() };
        self.send(RUNTIME, call, 2, &response.encode_to_vec()).expect("sent");
    }

    /// Calls without waiting for the answer.
    pub(crate) fn begin(
        &mut self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> std::io::Result<u32> {
        let (service, method) = (service.to_owned(), method.to_owned());
        let request = Request { service, method, payload };
        let call = self.next;
        self.next += 2;
        self.send(PLUGIN, call, 1, &request.encode_to_vec()).map(|()| call)
    }

    pub(crate) fn call_raw(
        &mut self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let call = self.begin(service, method, payload).expect("sent");
        let (stream, answered, request, payload) = self.next().expect("an answer");
        assert_eq!((stream, answered, request), (PLUGIN, call, false));
        let Response { status, payload } = Response::decode(&payload[..]).expect("an answer");
        status.map_or(Ok(payload), Err)
    }

    pub(crate) fn call<T: Message + Default>(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<T, Status> {
        let service = "nri.pkg.api.v1alpha1.Plugin";
        let answer = self.call_raw(service, method, message.encode_to_vec())?;
        Ok(T::decode(&answer[..]).expect("an answer of its kind"))
    }

    /// Takes a plugin in: it is configured before its registration is answered.
    pub(crate) fn take_in(&mut self, containers: &[ContainerRequest]) {
        let (call, _) = self.registration();
        let events: ConfigureResponse =
            self.call("Configure", &Status::default()).expect("configured");
        assert_eq!(events.events, 0x6a8);
        self.registered(call, None);
        self.synchronize(containers);
    }

    pub(crate) fn synchronize(&mut self, containers: &[ContainerRequest]) {
        let pods = containers.iter().filter_map(|one| one.pod.as_ref()).map(Message::encode_to_vec);
        let all = containers.iter().filter_map(|one| one.container.as_ref());
        let request = SynchronizeRequest {
            pods: pods.collect(),
            containers: all.map(Message::encode_to_vec).collect(),
            more: false,
        };
        let answer: SynchronizeResponse = self.call("Synchronize", &request).expect("in sync");
        assert_eq!(answer, SynchronizeResponse::default());
    }

    /// Asks what is to be changed about a container that is created, and changes it.
    pub(crate) fn create(&mut self, asked: &ContainerRequest) -> Result<ContainerRequest, Status> {
        let answer: CreateContainerResponse = self.call("CreateContainer", asked)?;
        let mut created = asked.clone();
        let container = created.container.as_mut().expect("there");
        let Some(adjust) = answer.adjust else { return Ok(created) };
        container.annotations.extend(adjust.annotations);
        for Variable { key, value } in adjust.env {
            let (name, line) = (format!("{key}="), format!("{key}={value}"));
            match container.env.iter_mut().find(|old| old.starts_with(&name)) {
                Some(old) => *old = line,
                None => container.env.push(line),
            }
        }
        if let Some(cpu) = adjust.linux.and_then(|linux| linux.resources).and_then(|all| all.cpu) {
            let resources = container.linux.as_mut().and_then(|linux| linux.resources.as_mut());
            let had = resources.expect("there").cpu.get_or_insert_default();
            (had.cpus, had.mems) = (cpu.cpus, cpu.mems);
        }
        Ok(created)
    }
}

/// Returns a container of a pod: with a name, CPU shares, a memory limit and a score.
pub(crate) fn container(name: &str, shares: u64, limit: i64, score: i64) -> ContainerRequest {
    let cpu = Cpu { shares: Some(Unsigned { value: shares }), ..Cpu::default() };
    let memory = Memory { limit: Some(Signed { value: limit }) };
    let resources = Resources { memory: Some(memory), cpu: Some(cpu), ..Resources::default() };
    let linux = LinuxContainer {
        resources: Some(resources),
        oom_score_adj: Some(Signed { value: score }),
        ..LinuxContainer::default()
    };
    let id = format!("{:064x}", name.bytes().fold(7_u128, |hash, b| hash * 257 + u128::from(b)));
    let id = id.chars().rev().collect();
    let container =
        Container { id, name: name.to_owned(), linux: Some(linux), ..Container::default() };
    let pod = Pod {
        id: format!("pod-{name}"),
        name: name.to_owned(),
        namespace: "test".to_owned(),
        ..Pod::default()
    };
    let container = Container { pod_sandbox_id: pod.id.clone(), ..container };
    ContainerRequest { pod: Some(pod), container: Some(container), resources: None }
}

/// Returns it with an annotation of its pod.
pub(crate) fn annotated(mut asked: ContainerRequest, key: &str, value: &str) -> ContainerRequest {
    let pod = asked.pod.as_mut().expect("there");
    pod.annotations.insert(key.to_owned(), value.to_owned());
    asked
}

/// The same container, as it runs.
pub(crate) fn running(mut created: ContainerRequest, pid: u32) -> ContainerRequest {
    let container = created.container.as_mut().expect("there");
    (container.pid, container.state) = (pid, 3);
    created
}

/// Returns CPUs and nodes of a container.
pub(crate) fn place(created: &ContainerRequest) -> (String, String) {
    let linux = created.container.as_ref().and_then(|one| one.linux.as_ref());
    let cpu = linux.and_then(|linux| linux.resources.as_ref()).and_then(|all| all.cpu.as_ref());
    cpu.map(|cpu| (cpu.cpus.clone(), cpu.mems.clone())).unwrap_or_default()
}

pub(crate) fn note(created: &ContainerRequest) -> Option<&str> {
    let container = created.container.as_ref().expect("there");
    container.annotations.get("org.placer.note").map(String::as_str)
}
