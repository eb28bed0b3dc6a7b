//! vCPUs that are plugged into a machine that runs.
//!
//! QEMU has no event for a new vCPU, and its thread starts with the CPUs of the thread that makes it. So
//! QEMU is asked for its vCPUs once a second, where more can be plugged in, and each thread that has come since is
//! pinned.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use placer_engine::CpuSet;
use serde::Deserialize;

use crate::sys::{self, Mask};

/// How often QEMU is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// A vCPU as `query-cpus-fast` names it.
#[derive(Debug, Deserialize)]
pub(super) struct CpuThread {
    #[serde(rename = "cpu-index")]
    pub(super) index: u32,
    #[serde(rename = "thread-id")]
    pub(super) thread: i32,
    pub(super) props: Option<CpuProperties>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CpuProperties {
    #[serde(rename = "node-id")]
    pub(super) node: Option<u32>,
}

/// The vCPUs of a machine, and which of their threads are pinned.
#[derive(Debug)]
pub(super) struct Plugged {
    pid: u32,
    vcpus: Vec<CpuSet>,
    pinned: BTreeMap<i32, CpuSet>,
    /// When QEMU is asked again.
    next: Instant,
    /// Whether it has not answered yet.
    asked: bool,
}

impl Plugged {
    pub(super) fn new(pid: u32, vcpus: Vec<CpuSet>) -> Self {
        let (pinned, next) = (BTreeMap::new(), Instant::now() + INTERVAL);
        Self { pid, vcpus, pinned, next, asked: false }
    }

    /// Returns how long until QEMU is asked again.
    pub(super) fn look_in(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Returns whether to ask now.
    pub(super) fn ask(&mut self) -> bool {
        self.next = Instant::now() + INTERVAL;
        !std::mem::replace(&mut self.asked, true)
    }

    /// Pins the threads that have come since the last answer.
    pub(super) fn answered(&mut self, vcpus: &[CpuThread]) {
        self.asked = false;
        let mut wanted: BTreeMap<i32, CpuSet> = BTreeMap::new();
        for vcpu in vcpus {
            let at = usize::try_from(vcpu.index).unwrap_or(usize::MAX);
            // Several in one thread: it has the CPUs of all.
            if let Some(cpus) = self.vcpus.get(at) {
                let all = wanted.entry(vcpu.thread).or_default();
                *all = all.union(cpus);
            }
        }
        self.pinned.retain(|thread, cpus| wanted.get(thread) == Some(cpus));
        for (thread, cpus) in wanted {
            let own = format!("/proc/{}/task/{thread}", self.pid);
            if !self.pinned.contains_key(&thread)
                && Path::new(&own).exists()
                && sys::set_affinity(thread, &Mask::of_cpus(&cpus)).is_ok()
            {
                self.pinned.insert(thread, cpus);
            }
        }
    }
}
