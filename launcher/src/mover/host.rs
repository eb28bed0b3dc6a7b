//! What a move does to a host.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::claims::ProcessId;
use placer_engine::{CpuSet, NodeId};

use super::maps::Mapping;

/// The calls that a move makes. Tests put a host in its place that fails, and ends, at each of them.
pub trait Host {
    /// Returns whether the process is still there, and no other of its pid.
    ///
    /// Errors: it could not be looked at, which says nothing about it.
    fn is_running(&mut self, guest: &ProcessId) -> Result<bool, Errno>;
    /// Lists its threads.
    fn threads(&mut self, pid: u32) -> Result<Vec<u32>, Errno>;
    /// Returns the CPUs of a thread.
    fn affinity(&mut self, thread: u32) -> Result<CpuSet, Errno>;
    /// Sets the CPUs of a thread of a process.
    fn set_affinity(&mut self, pid: u32, thread: u32, cpus: &CpuSet) -> Result<(), Errno>;
    /// Returns whether the kernel made a thread for itself inside the process, whose CPUs nobody may set.
    fn is_the_kernels(&mut self, pid: u32, thread: u32) -> bool;
    /// Reads a file of a control group.
    fn read(&mut self, file: &Path) -> Result<String, Errno>;
    /// Writes a file of a control group.
    fn write(&mut self, file: &Path, text: &str) -> Result<(), Errno>;
    /// Asks virsh, or has it change something of a guest that runs; returns what it printed.
    ///
    /// Errors: in its words, or what is wrong with it.
    fn virsh(&mut self, arguments: &[&str]) -> Result<String, String>;
    /// Lists the mappings that hold memory of a process's own.
    fn mappings(&mut self, pid: u32) -> Result<Vec<Mapping>, Errno>;
    /// Returns the size of a page.
    fn page_size(&self) -> u64;
    /// Returns the nodes of pages.
    fn nodes_of(&mut self, pid: u32, pages: &[u64]) -> Result<Vec<Option<NodeId>>, Errno>;
    /// Lists those of some ascending pages that are there although [`nodes_of`](Self::nodes_of) does not see them, and lets
    /// it see them. Returns also how many could not be read for that.
    fn uncover(&mut self, pid: u32, pages: &[u64]) -> Result<(Vec<u64>, usize), Errno>;
    /// Moves pages, those of a shared mapping also where other processes have them. Returns whether a node is full.
    fn move_pages(
        &mut self,
        pid: u32,
        pages: &[(u64, NodeId)],
        shared: bool,
    ) -> Result<bool, Errno>;
    /// Returns the part of the last 10 s in which tasks waited for memory, on the host and in a group: 0 to 100.
    fn pressure(&mut self, group: Option<&Path>) -> f64;
    /// Returns the time.
    fn now(&mut self) -> Duration;
    /// Waits.
    fn pause(&mut self, time: Duration);
}
