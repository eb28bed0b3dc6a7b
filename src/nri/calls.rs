//! The calls of the runtime, and the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

use placer_engine::claims::Nonce;
use placer_engine::{Bytes, NodeSet};
use prost::Message;

use super::keeper::{Keeper, Running};
use super::messages::{
    Adjustment, ConfigureRequest, ConfigureResponse, Container, ContainerRequest, Cpu,
    CreateContainerResponse, LinuxAdjustment, LinuxUpdate, PAUSED, Pod, RUNNING, Request,
    Resources, StateChange, Status, SynchronizeRequest, SynchronizeResponse, Update,
    UpdateContainerResponse, Variable,
};
use super::wanted::{self, ALL, NODES, NOTE};
use crate::container::{NotHeld, Placement, Wanted};
use crate::daemon::Log;
use crate::settings::{Advise, Level};

/// The service that the runtime calls.
const SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// CreateContainer, StartContainer, UpdateContainer, StopContainer, RemoveContainer: bit n - 1 for event n.
const EVENTS: i32 = 1 << 3 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10;
/// Events that come by StateChange from older runtimes.
const START_CONTAINER: i32 = 6;
const REMOVE_CONTAINER: i32 = 11;
/// The longest time of a decision: each call holds up all others of the runtime.
const DECISION: Duration = Duration::from_millis(500);
/// The most pods and containers that are looked at.
const MOST: usize = 16_384;

/// Codes of gRPC.
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;
const UNAVAILABLE: i32 = 14;

/// An answer to the runtime.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    /// A hold that ends if the answer cannot be sent.
    pub(super) hold: Option<Nonce>,
}

impl Answer {
    fn of(message: &impl Message) -> Self {
        Self { payload: message.encode_to_vec(), hold: None }
    }
}

/// The memory of the host.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) total: Bytes,
    /// The nodes that have some.
    pub(super) nodes: NodeSet,
}

/// Containers for which a hold was answered that have not started yet. A runtime that ends the connection in between may
/// have created them without it.
pub(super) type Created = BTreeSet<String>;

/// The plugin, as the runtime calls it on one connection.
pub(super) struct Calls<'a> {
    keeper: &'a Keeper,
    log: &'a Log,
    host: &'a Memory,
    set: &'a Advise,
    decision: Duration,
    created: &'a mut Created,
    /// What Synchronize has listed so far: what is said of pods about their containers, and containers.
    pods: BTreeMap<String, Pod>,
    containers: Vec<Container>,
}

impl<'a> Calls<'a> {
    pub(super) fn new(
        keeper: &'a Keeper,
        log: &'a Log,
        host: &'a Memory,
        set: &'a Advise,
        created: &'a mut Created,
    ) -> Self {
        let (pods, containers) = Default::default();
        Self { keeper, log, host, set, decision: DECISION, created, pods, containers }
    }

    /// Answers a call.
    ///
    /// Errors: a status, which the runtime passes on to its client.
    pub(super) fn answer(&mut self, payload: &[u8]) -> Result<Answer, Status> {
        let request = Request::decode(payload).map_err(|error| malformed("call", &error))?;
        if request.service != SERVICE {
            return Err(unknown(&request));
        }
        match request.method.as_str() {
            "Configure" => self.configure(&read(&request)?),
            "Synchronize" => self.synchronize(read(&request)?),
            "CreateContainer" => self.create(&read(&request)?),
            "UpdateContainer" => Ok(self.update(&read(&request)?)),
            "StartContainer" => Ok(self.started(&read(&request)?)),
            "StopContainer" | "RemoveContainer" => Ok(self.ended(&read(&request)?)),
            "StateChange" => {
                let StateChange { event, pod, container } = read(&request)?;
                let of = ContainerRequest { pod, container, resources: None };
                match event {
                    START_CONTAINER => Ok(self.started(&of)),
                    REMOVE_CONTAINER => Ok(self.ended(&of)),
                    _ => Ok(Answer::default()),
                }
            }
            "Shutdown" => Ok(Answer::default()),
            _ => Err(unknown(&request)),
        }
    }

    fn configure(&mut self, request: &ConfigureRequest) -> Result<Answer, Status> {
        let ConfigureRequest { config, runtime_name, runtime_version, request_timeout } = request;
        let fields: [(&str, &dyn Display); 2] =
            [("runtime", runtime_name), ("version", runtime_version)];
        self.log.tell(Level::Notice, "connected", &fields);
        if !config.trim().is_empty() {
            let why = "settings are read from /etc/placer.toml";
            self.log.tell(
                Level::Warning,
                "the runtime's configuration has no effect",
                &[("why", &why)],
            );
        }
        // The runtime drops a plugin that takes longer: half is left for all else.
        if let Some(time) = u64::try_from(*request_timeout).ok().filter(|time| *time > 0) {
            self.decision = DECISION.min(Duration::from_millis(time / 2));
        }
        Ok(Answer::of(&ConfigureResponse { events: EVENTS }))
    }

    fn synchronize(&mut self, request: SynchronizeRequest) -> Result<Answer, Status> {
        let SynchronizeRequest { pods, containers, more } = request;
        for pod in pods {
            let pod = Pod::decode(&pod[..]).map_err(|error| malformed("pod", &error))?;
            if self.pods.len() < MOST {
                self.pods.insert(pod.id.clone(), pod.brief());
            }
        }
        for container in containers {
            let container = Container::decode(&container[..])
                .map_err(|error| malformed("container", &error))?;
            if wanted::placed(&container).is_some() && self.containers.len() < MOST {
                self.containers.push(container);
            }
        }
        if !more {
            let pods = std::mem::take(&mut self.pods);
            let containers = std::mem::take(&mut self.containers);
            let listed: BTreeSet<&str> = containers.iter().map(|one| &*one.id).collect();
            self.created.retain(|id| {
                let there = listed.contains(id.as_str());
                there || !self.keeper.end(wanted::claim_name(id))
            });
            let runs = |container: &Container| {
                matches!(container.state, RUNNING | PAUSED) && container.pid > 0
            };
            let containers = containers.into_iter().filter(runs);
            let of = |container: Container| ContainerRequest {
                pod: pods.get(&container.pod_sandbox_id).cloned(),
                container: Some(container),
                resources: None,
            };
            let running = containers.filter_map(|container| self.running(&of(container))).collect();
            self.kept(self.keeper.settle(running));
        }
        Ok(Answer::of(&SynchronizeResponse { more }))
    }

    fn create(&mut self, asked: &ContainerRequest) -> Result<Answer, Status> {
        let Some(container) = &asked.container else { return Ok(Answer::default()) };
        let name = wanted::name(asked.pod.as_ref(), container);
        let (strict, odd) = match wanted::strict(asked) {
            Ok(strict) => (strict, None),
            Err(why) => (false, Some(why)),
        };
        let claim = wanted::claim_name(&container.id);
        let (code, why) = match wanted::wanted(asked, self.host.total, self.set) {
            Ok(None) => {
                self.log.tell(Level::Debug, "left alone", &[("container", &name)]);
                let env = unmarked(container);
                if env.is_empty() || wanted::by_hand(container) {
                    return Ok(Answer::default());
                }
                return Ok(adjusted(Adjustment { env, ..Adjustment::default() }));
            }
            Err(why) => (INVALID_ARGUMENT, why),
            Ok(Some(wanted)) => {
                let until = Instant::now() + self.decision;
                let covers = wanted.covers_limit;
                let mut decided =
                    self.keeper.place(claim, wanted, self.decision).map(|at| (at, covers));
                if matches!(decided, Err(NotHeld::Unfit(_)))
                    && let Some(less) = self.by_request(asked).filter(|_| !strict)
                {
                    let left = until.saturating_duration_since(Instant::now());
                    decided = self.keeper.place(claim, less, left).map(|at| (at, false));
                }
                match decided {
                    Ok((placement, covers)) => {
                        if self.created.len() < MOST {
                            self.created.insert(container.id.clone());
                        }
                        let answer = self.placed(&name, covers, &placement, odd);
                        return Ok(Answer { hold: Some(claim), ..answer });
                    }
                    Err(NotHeld::Unfit(why)) => (RESOURCE_EXHAUSTED, why),
                    Err(NotHeld::Failed(why)) => (UNAVAILABLE, why),
                }
            }
        };
        if strict {
            let fields: [(&str, &dyn Display); 2] = [("container", &name), ("why", &why)];
            self.log.tell(Level::Warning, "refused", &fields);
            return Err(Status { code, message: format!("placer: {why}") });
        }
        Ok(self.noted(&name, why, container))
    }

    /// Memory is bound only under a claim that covers all that the container may use: else it would be ended for want
    /// of memory on its nodes while others have some.
    fn placed(&self, name: &str, bound: bool, place: &Placement, note: Option<String>) -> Answer {
        let Placement { claim, cpus, nodes } = place;
        let cpus = cpus.to_string();
        let mems = if bound { nodes.to_string() } else { String::new() };
        let nodes = if nodes.is_empty() { ALL.to_owned() } else { nodes.to_string() };
        let fields: [(&str, &dyn Display); 5] = [
            ("container", &name),
            ("nodes", &nodes),
            ("cpus", &cpus),
            ("mems", &mems),
            ("claim", claim),
        ];
        self.log.tell(Level::Info, "placed", &fields);
        let cpu = Cpu { cpus, mems, ..Cpu::default() };
        let resources = Resources { cpu: Some(cpu), ..Resources::default() };
        let adjust = Adjustment {
            annotations: note.map(|note| (NOTE.to_owned(), note)).into_iter().collect(),
            env: vec![Variable { key: NODES.to_owned(), value: nodes }],
            linux: Some(LinuxAdjustment { resources: Some(resources) }),
        };
        adjusted(adjust)
    }

    /// Leaves a container as it is, but for an annotation that says why.
    fn noted(&self, name: &str, why: String, container: &Container) -> Answer {
        let fields: [(&str, &dyn Display); 2] = [("container", &name), ("why", &why)];
        self.log.tell(Level::Warning, "not placed", &fields);
        let annotations = [(NOTE.to_owned(), why)].into_iter().collect();
        let env = unmarked(container);
        adjusted(Adjustment { annotations, env, ..Adjustment::default() })
    }

    fn started(&mut self, asked: &ContainerRequest) -> Answer {
        if let Some(running) = self.running(asked) {
            let id = asked.container.as_ref().map_or("", |container| &container.id);
            // Whoever makes a container names its variables: without a hold only the memory of this process is proof.
            let kept = if self.created.remove(id) {
                self.keeper.settle(vec![running])
            } else {
                self.keeper.adopt(running)
            };
            self.kept(kept);
        }
        Answer::default()
    }

    fn ended(&mut self, asked: &ContainerRequest) -> Answer {
        if let Some(container) =
            asked.container.as_ref().filter(|one| wanted::placed(one).is_some())
        {
            self.created.remove(&container.id);
            self.kept(self.keeper.end(wanted::claim_name(&container.id)));
        }
        Answer::default()
    }

    /// A container that has another size from now on is claimed with that. Where it cannot be, or its claim does not cover
    /// its limit, its memory is bound to no nodes any more.
    fn update(&self, asked: &ContainerRequest) -> Answer {
        let changed = || {
            let (container, change) = (asked.container.as_ref()?, asked.resources.as_ref()?);
            let after = wanted::changed(wanted::resources(container), change);
            Some((container, self.running_with(asked, &after)?))
        };
        let Some((container, running)) = changed() else { return Answer::default() };
        let (name, bound) = (running.name.clone(), running.placed.bound);
        let covers = running.wanted.covers_limit;
        match self.keeper.resize(running, self.decision) {
            Ok(()) if covers => return Answer::default(),
            Ok(()) => {}
            Err(why) => {
                let fields: [(&str, &dyn Display); 2] = [("container", &name), ("why", &why)];
                self.log.tell(Level::Warning, "its new size is not claimed", &fields);
            }
        }
        if !bound {
            return Answer::default();
        }
        let cpu = Cpu { mems: self.host.nodes.to_string(), ..Cpu::default() };
        let resources = Resources { cpu: Some(cpu), ..Resources::default() };
        let linux = Some(LinuxUpdate { resources: Some(resources) });
        let update = vec![Update { container_id: container.id.clone(), linux }];
        Answer::of(&UpdateContainerResponse { update })
    }

    /// Returns a container that runs, or is about to, where placer has placed it.
    fn running(&self, asked: &ContainerRequest) -> Option<Running> {
        let resources = wanted::resources(asked.container.as_ref()?)?;
        self.running_with(asked, resources)
    }

    fn running_with(&self, asked: &ContainerRequest, resources: &Resources) -> Option<Running> {
        let container = asked.container.as_ref()?;
        let placed = wanted::placed(container)?;
        let (total, set) = (self.host.total, self.set);
        let wanted = wanted::wanted_with(asked, Some(resources), total, set).ok()?;
        // It asks for nothing any more.
        let wanted = wanted.unwrap_or_else(wanted::nothing);
        let less = || wanted::by_request(asked, Some(resources), total, set);
        // Its limit was not claimed.
        let less = if placed.bound { None } else { less() };
        let wanted = less.unwrap_or(wanted);
        let name = wanted::name(asked.pod.as_ref(), container);
        let claim = wanted::claim_name(&container.id);
        Some(Running { name, claim, pid: container.pid, placed, wanted })
    }

    fn by_request(&self, asked: &ContainerRequest) -> Option<Wanted> {
        let resources = asked.container.as_ref().and_then(wanted::resources);
        wanted::by_request(asked, resources, self.host.total, self.set)
    }

    fn kept(&self, taken: bool) {
        if !taken {
            let why = "too many containers start at once";
            self.log.tell(Level::Warning, "a claim is not kept up to date", &[("why", &why)]);
        }
    }
}

fn adjusted(adjust: Adjustment) -> Answer {
    Answer::of(&CreateContainerResponse { adjust: Some(adjust) })
}

/// Returns what empties [`NODES`] in a container that has it from elsewhere.
fn unmarked(container: &Container) -> Vec<Variable> {
    let empty = || Variable { key: NODES.to_owned(), value: String::new() };
    wanted::marked(container).map(|_| empty()).into_iter().collect()
}

fn read<T: Message + Default>(request: &Request) -> Result<T, Status> {
    T::decode(&request.payload[..]).map_err(|error| malformed(&request.method, &error))
}

fn malformed(what: &str, error: &prost::DecodeError) -> Status {
    Status { code: INVALID_ARGUMENT, message: format!("placer: cannot read {what}: {error}") }
}

fn unknown(request: &Request) -> Status {
    let Request { service, method, .. } = request;
    Status { code: UNIMPLEMENTED, message: format!("placer: unknown method {service}/{method}") }
}
