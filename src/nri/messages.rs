//! The messages of NRI (v1alpha1) and ttrpc that a plugin needs, by the numbers of their fields. Fields that are not
//! listed are passed over.

use std::collections::BTreeMap;

use prost::Message;

/// A call, in ttrpc.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// Its answer.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// None: success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// One of gRPC's codes.
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RegisterPluginRequest {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    #[prost(string, tag = "2")]
    pub plugin_idx: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ConfigureRequest {
    #[prost(string, tag = "1")]
    pub config: String,
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// In milliseconds; 0 from runtimes that do not say.
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ConfigureResponse {
    /// A bit for each kind of event.
    #[prost(int32, tag = "2")]
    pub events: i32,
}

/// Pods and containers stay bytes until each is looked at: as values they may take a hundred times as much.
#[derive(Clone, PartialEq, Message)]
pub struct SynchronizeRequest {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub pods: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub containers: Vec<Vec<u8>>,
    #[prost(bool, tag = "3")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct SynchronizeResponse {
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// What CreateContainer, StartContainer, StopContainer and RemoveContainer are called with; UpdateContainer with what
/// is to be changed as well.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<Pod>,
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
    #[prost(message, optional, tag = "3")]
    pub resources: Option<Resources>,
}

/// What older runtimes send instead of StartContainer and RemoveContainer.
#[derive(Clone, PartialEq, Message)]
pub struct StateChange {
    #[prost(int32, tag = "1")]
    pub event: i32,
    #[prost(message, optional, tag = "2")]
    pub pod: Option<Pod>,
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pod {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
}

impl Pod {
    /// Returns the pod without annotations that are for others.
    pub fn brief(mut self) -> Self {
        self.annotations.retain(|key, _| key.starts_with("org.placer."));
        self
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Container {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    #[prost(string, tag = "3")]
    pub name: String,
    /// See [`RUNNING`].
    #[prost(int32, tag = "4")]
    pub state: i32,
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "8")]
    pub env: Vec<String>,
    #[prost(message, optional, tag = "11")]
    pub linux: Option<LinuxContainer>,
    #[prost(uint32, tag = "12")]
    pub pid: u32,
}

/// States of a container.
pub const PAUSED: i32 = 2;
pub const RUNNING: i32 = 3;

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    #[prost(message, optional, tag = "3")]
    pub resources: Option<Resources>,
    #[prost(message, optional, tag = "4")]
    pub oom_score_adj: Option<Signed>,
    #[prost(string, tag = "5")]
    pub cgroups_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resources {
    #[prost(message, optional, tag = "1")]
    pub memory: Option<Memory>,
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<Cpu>,
    #[prost(message, repeated, tag = "3")]
    pub hugepage_limits: Vec<HugepageLimit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HugepageLimit {
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Memory {
    #[prost(message, optional, tag = "1")]
    pub limit: Option<Signed>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Cpu {
    #[prost(message, optional, tag = "1")]
    pub shares: Option<Unsigned>,
    #[prost(message, optional, tag = "2")]
    pub quota: Option<Signed>,
    #[prost(message, optional, tag = "3")]
    pub period: Option<Unsigned>,
    #[prost(string, tag = "6")]
    pub cpus: String,
    #[prost(string, tag = "7")]
    pub mems: String,
}

/// A number that may be missing.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Signed {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Unsigned {
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub adjust: Option<Adjustment>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Adjustment {
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "4")]
    pub env: Vec<Variable>,
    #[prost(message, optional, tag = "6")]
    pub linux: Option<LinuxAdjustment>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Variable {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxAdjustment {
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Resources>,
}

/// The answer to UpdateContainer.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainerResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<Update>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Update {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxUpdate>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxUpdate {
    #[prost(message, optional, tag = "1")]
    pub resources: Option<Resources>,
}
