//! A small builder for recorded machines of any shape.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub use crate::random::Rng;
use placer_engine::{CpuId, CpuSet, NodeId, NodeSet, Snapshot, SysRoot};

/// Directories of the kernel's, relative to the root of the machine.
pub const NODES: &str = "sys/devices/system/node";
pub const CPUS: &str = "sys/devices/system/cpu";

/// The two moments of every machine, in hundredths of a second.
const FIRST: u64 = 100_000;
const GAP: u64 = 200;

/// A machine: add nodes, change what is special about them, then [`write`](Machine::write) it.
///
/// ```ignore
/// Machine::new().node(0, 0..4, 8 << 20, 6 << 20).node(3, 4..8, 8 << 20, 1 << 20).write(dir);
/// ```
#[derive(Clone, Debug)]
pub struct Machine {
    nodes: BTreeMap<u32, Node>,
    /// Idle ticks of a CPU between the two moments; 200 where nothing is said.
    idle: BTreeMap<u32, u64>,
    distances: BTreeMap<(u32, u32), u32>,
    threads: u32,
    order: Option<Vec<u32>>,
    status: Option<String>,
    has_next: bool,
}

#[derive(Clone, Debug)]
struct Node {
    cpus: BTreeSet<u32>,
    total_kib: u64,
    free_kib: u64,
    inactive_file_kib: u64,
}

impl Machine {
    /// Returns a machine without any node.
    pub fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            idle: BTreeMap::new(),
            distances: BTreeMap::new(),
            threads: 1,
            order: None,
            status: None,
            has_next: true,
        }
    }

    /// Adds a node. Without CPUs or without memory is fine, as are gaps between the ids.
    pub fn node(
        mut self,
        id: u32,
        cpus: impl IntoIterator<Item = u32>,
        total_kib: u64,
        free_kib: u64,
    ) -> Self {
        let cpus = cpus.into_iter().collect();
        self.nodes.insert(id, Node { cpus, total_kib, free_kib, inactive_file_kib: 0 });
        self
    }

    /// Sets a node's page cache that is given up first, beside what is free.
    pub fn inactive_file(mut self, id: u32, kib: u64) -> Self {
        self.nodes.get_mut(&id).expect("a node of the machine").inactive_file_kib = kib;
        self
    }

    /// Sets a node's free memory.
    pub fn free(mut self, id: u32, kib: u64) -> Self {
        self.nodes.get_mut(&id).expect("a node of the machine").free_kib = kib;
        self
    }

    /// Sets how much of the time a CPU is idle, in percent.
    pub fn idle(mut self, cpu: u32, percent: u64) -> Self {
        self.idle.insert(cpu, percent * GAP / 100);
        self
    }

    /// Sets one distance. Without a word 10 to itself and 20 to others.
    pub fn distance(mut self, from: u32, to: u32, distance: u32) -> Self {
        self.distances.insert((from, to), distance);
        self
    }

    /// Sets the hardware threads of CPU 0's core.
    pub fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the order in which the directory lists the nodes.
    pub fn order(mut self, order: impl IntoIterator<Item = u32>) -> Self {
        self.order = Some(order.into_iter().collect());
        self
    }

    /// Sets what the asking process of this machine may use.
    pub fn allowed(mut self, cpus: &str, nodes: &str) -> Self {
        self.status = Some(status(cpus, nodes));
        self
    }

    /// Leaves the second moment out: CPU load is unknown.
    pub fn without_load(mut self) -> Self {
        self.has_next = false;
        self
    }

    /// Returns the ids of the nodes.
    pub fn ids(&self) -> Vec<u32> {
        self.nodes.keys().copied().collect()
    }

    /// Returns the files of the machine: where they lie, relative to its root, and their text.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut put = |path: String, text: String| files.insert(path, text.into_bytes());
        let nodes: NodeSet = self.nodes.keys().copied().map(NodeId).collect();
        let cpus: CpuSet =
            self.nodes.values().flat_map(|node| node.cpus.iter().copied().map(CpuId)).collect();
        put(format!("{NODES}/online"), format!("{nodes}\n"));
        for name in ["possible", "online"] {
            put(format!("{CPUS}/{name}"), format!("{cpus}\n"));
        }
        let mask = (1_u64 << self.threads) - 1;
        put(format!("{CPUS}/cpu0/topology/thread_siblings"), format!("{mask:08x}\n"));
        for (id, node) in &self.nodes {
            let list: CpuSet = node.cpus.iter().copied().map(CpuId).collect();
            put(format!("{NODES}/node{id}/cpulist"), format!("{list}\n"));
            let row = self.nodes.keys().map(|to| self.distance_of(*id, *to).to_string());
            let row = row.collect::<Vec<_>>().join(" ");
            put(format!("{NODES}/node{id}/distance"), format!("{row}\n"));
            put(format!("{NODES}/node{id}/meminfo"), node.meminfo(*id));
        }
        put("proc/stat".to_owned(), self.stat(false));
        if self.has_next {
            put("next/proc/stat".to_owned(), self.stat(true));
        }
        put("clock".to_owned(), format!("{FIRST} {GAP}\n"));
        if let Some(order) = &self.order {
            let order: Vec<String> = order.iter().map(u32::to_string).collect();
            put("node-order".to_owned(), format!("{}\n", order.join(" ")));
        }
        if let Some(status) = &self.status {
            put("proc/self/status".to_owned(), status.clone());
        }
        files
    }

    /// Writes the machine to a directory.
    pub fn write(&self, dir: &Path) {
        for (path, text) in self.files() {
            put_file(dir, &path, text);
        }
    }

    /// Returns the machine as placer reads it, at its second moment.
    pub fn snapshot(&self) -> Snapshot {
        let dir = scratch();
        self.write(dir.path());
        Snapshot::take(&SysRoot::at(dir.path()), Duration::ZERO).expect("a good machine")
    }

    /// Returns what a snapshot of the machine should say of each node: its id, its CPUs, all of its
    /// memory and what of it is free in bytes, and how many CPUs' worth of time was idle.
    pub fn states(&self) -> Vec<(u32, String, u64, u64, f64)> {
        let state = |(id, node): (&u32, &Node)| {
            let idle = |cpu: &u32| self.idle.get(cpu).copied().unwrap_or(GAP);
            let ticks: u64 = node.cpus.iter().map(idle).sum();
            let idle = f64::from(u32::try_from(ticks).expect("few")) / 200.0;
            let cpus: CpuSet = node.cpus.iter().copied().map(CpuId).collect();
            let free = node.free_kib + node.inactive_file_kib;
            (*id, cpus.to_string(), node.total_kib << 10, free << 10, idle)
        };
        self.nodes.iter().map(state).collect()
    }

    /// Returns the distance from the CPUs of one node to the memory of another.
    pub fn distance_of(&self, from: u32, to: u32) -> u32 {
        let plain = if from == to { 10 } else { 20 };
        self.distances.get(&(from, to)).copied().unwrap_or(plain)
    }

    /// Each CPU with its idle ticks at one of the two moments.
    fn counters(&self, second: bool) -> impl Iterator<Item = (u32, u64)> + '_ {
        let cpus: BTreeSet<u32> =
            self.nodes.values().flat_map(|node| node.cpus.iter().copied()).collect();
        cpus.into_iter().map(move |cpu| {
            let gained = self.idle.get(&cpu).copied().unwrap_or(GAP);
            (cpu, 50_000 + u64::from(cpu) + if second && self.has_next { gained } else { 0 })
        })
    }

    fn stat(&self, second: bool) -> String {
        let mut text = "cpu  9 0 9 9 0 0 0 0 0 0\n".to_owned();
        for (cpu, idle) in self.counters(second) {
            text.push_str(&format!("cpu{cpu} 100 0 100 {idle} 7 0 0 0 0 0\n"));
        }
        text.push_str("intr 5 0 5\nctxt 9\nbtime 1\n");
        text
    }
}

impl Node {
    fn meminfo(&self, id: u32) -> String {
        let Self { total_kib, free_kib, inactive_file_kib, .. } = self;
        format!(
            "Node {id} MemTotal:       {total_kib} kB\nNode {id} MemFree:        {free_kib} kB\n\
             Node {id} MemUsed:        0 kB\nNode {id} Inactive:       9 kB\n\
             Node {id} Inactive(file): {inactive_file_kib} kB\nNode {id} HugePages_Free:     0\n"
        )
    }
}

/// Returns the text of a `proc/self/status` as Linux 6.1 writes it.
pub fn status(cpus: &str, nodes: &str) -> String {
    format!(
        "Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t7\nNgid:\t0\nPid:\t7\nPPid:\t1\n\
         TracerPid:\t0\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t64\nGroups:\t0 \nNStgid:\t7\n\
         NSpid:\t7\nNSpgid:\t7\nNSsid:\t1\nVmPeak:\t    5792 kB\nVmSize:\t    5792 kB\n\
         VmLck:\t       0 kB\nThreads:\t1\nSigQ:\t0/15000\nSigPnd:\t0000000000000000\n\
         ShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n\
         SigCgt:\t0000000000000000\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n\
         CapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n\
         NoNewPrivs:\t0\nSeccomp:\t0\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\n\
         Mems_allowed:\t00000000,00000003\nMems_allowed_list:\t{nodes}\n\
         voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t1\n"
    )
}

/// Returns a directory for machines, in memory where there is a place for that: the trees are many.
pub fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Writes one file of a machine, with the directories above it.
pub fn put_file(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("made");
    fs::write(path, text).expect("written");
}

/// Returns a machine of 64 nodes with 16 CPUs each, with loads and distances of many kinds.
pub fn large() -> Machine {
    let mut machine = Machine::new();
    for node in 0..64 {
        let free = u64::from(node % 7 + 1) << 20;
        machine = machine.node(node, node * 16..node * 16 + 16, 8 << 20, free);
        for cpu in node * 16..node * 16 + 16 {
            machine = machine.idle(cpu, u64::from(cpu * 37 % 101));
        }
        for to in (0..64).filter(|to| *to != node) {
            machine = machine.distance(node, to, 12 + 4 * (node ^ to).ilog2());
        }
    }
    machine
}

/// A machine of 64 nodes in 8 packages of 8, on two boards: 1,024 CPUs.
pub fn sixty_four(dir: &Path) {
    let mut machine = Machine::new();
    for node in 0..64 {
        let (cpus, total) = (node * 16..node * 16 + 16, 32 << 20);
        let free = total - u64::from(node * 37 % 31) * (1 << 20);
        machine = machine.node(node, cpus, total, free);
        for busy in node * 16..node * 16 + node * 5 % 17 {
            machine = machine.idle(busy, 2);
        }
        for to in 0..64 {
            let distance = match (node, to) {
                (a, b) if a == b => 10,
                (a, b) if a / 8 == b / 8 => 12,
                (a, b) if a / 32 == b / 32 => 20,
                _ => 32,
            };
            machine = machine.distance(node, to, distance);
        }
    }
    machine.write(dir);
    for cpu in 0..1024 {
        let package = cpu / 128;
        let at = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        let (first, last) = (package * 128, package * 128 + 127);
        put_file(dir, &format!("{at}/physical_package_id"), format!("{package}\n"));
        put_file(dir, &format!("{at}/core_siblings_list"), format!("{first}-{last}\n"));
    }
}

/// A machine of QEMU that ran when a host was recorded, of the user that asks.
#[derive(Clone, Copy, Debug)]
pub struct Qemu<'a> {
    pub pid: u32,
    /// As `stat` tells its name.
    pub program: &'a str,
    pub cpus: u32,
    /// What it was promised, and what of that is there.
    pub mib: (u64, u64),
    /// What its memory is bound to.
    pub node: u32,
    /// The CPUs it may run on.
    pub allowed: &'a str,
}

impl Qemu<'_> {
    /// Writes it to a recorded machine.
    pub fn write(&self, root: &Path) {
        let Self { pid, program, cpus, mib: (mib, there), node, allowed } = self;
        let put = |file: &str, text: String| put_file(root, &format!("proc/{pid}/{file}"), text);
        put("comm", "qemu-system-x86\n".to_owned());
        put("stat", format!("{pid} ({program}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 100 1 1\n"));
        let backend =
            format!("memory-backend-ram,id=ram,size={mib}M,host-nodes={node},policy=bind");
        let line = format!(
            "qemu-system-x86_64 -smp {cpus} -m {mib} -object {backend} -machine q35,memory-backend=ram "
        );
        put("cmdline", line.replace(' ', "\0"));
        let kib = there * 1024;
        put(
            "status",
            format!(
                "Name:\tqemu-system-x86\nTgid:\t{pid}\nPPid:\t1\nUid:\t0\t0\t0\t0\n\
                 RssAnon:\t{kib} kB\nRssShmem:\t0 kB\nCpus_allowed_list:\t{allowed}\n"
            ),
        );
    }
}

/// Returns a good machine of a random shape: 1 to 8 nodes with gaps between their ids, some without
/// CPUs or without memory, hardware threads or none, any order of listing.
pub fn any_machine(rng: &mut Rng) -> Machine {
    let threads = if rng.percent(40) { 2 } else { 1 };
    let per_node = 2 * (1 + u32::try_from(rng.below(6)).expect("small"));
    let size = (1 + rng.below(64)) << 18;
    let count = 1 + rng.below(8);
    let mut machine = Machine::new().threads(threads);
    let (mut id, mut cpu) = (0, 0);
    for position in 0..count {
        if rng.percent(25) {
            id += 1 + u32::try_from(rng.below(5)).expect("small");
        }
        let cpus = if position > 0 && rng.percent(15) { 0 } else { per_node };
        let total = if position > 0 && rng.percent(15) { 0 } else { size };
        let free = rng.below(total + 1);
        machine = machine.node(id, cpu..cpu + cpus, total, free);
        machine = machine.inactive_file(id, rng.below(total - free + 1));
        for busy in cpu..cpu + cpus {
            if rng.percent(40) {
                machine = machine.idle(busy, rng.below(101));
            }
        }
        (id, cpu) = (id + 1, cpu + cpus);
    }
    let ids = machine.ids();
    for (at, &from) in ids.iter().enumerate() {
        for &to in &ids[at + 1..] {
            let distance = 11 + u32::try_from(rng.below(30)).expect("small");
            machine = machine.distance(from, to, distance).distance(to, from, distance);
        }
    }
    if rng.percent(50) {
        let mut order = ids;
        for at in (1..order.len()).rev() {
            order.swap(at, rng.index(at + 1));
        }
        machine = machine.order(order);
    }
    machine
}
