//! Machines of any size, made of nothing but their size: the same bytes on every run.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Nodes and CPUs of the machines that are measured.
pub const SIZES: [Machine; 6] = [
    Machine { nodes: 2, cpus: 16 },
    Machine { nodes: 4, cpus: 64 },
    Machine { nodes: 8, cpus: 128 },
    Machine { nodes: 16, cpus: 512 },
    Machine { nodes: 36, cpus: 1152 },
    Machine { nodes: 64, cpus: 4096 },
];

/// A machine with two threads a core and its CPUs spread evenly, numbered as x86 does: the first
/// threads of all cores, then the second ones.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub nodes: u32,
    /// A multiple of twice the nodes.
    pub cpus: u32,
}

/// The time between the two recorded readings, in 1/100 s.
const GAP: u64 = 200;

impl Machine {
    /// Returns its name in reports.
    pub fn name(self) -> String {
        format!("{} nodes, {} CPUs", self.nodes, self.cpus)
    }

    /// Writes the machine as a recording, in memory where the system has such a place.
    pub fn write(self) -> TempDir {
        let dir = in_memory();
        let root = dir.path();
        let node = |id, file| format!("sys/devices/system/node/node{id}/{file}");
        for id in 0..self.nodes {
            put(root, &node(id, "cpulist"), &self.cpulist(id));
            put(root, &node(id, "distance"), &self.distance(id));
            put(root, &node(id, "meminfo"), &self.meminfo(id, 0));
            put(root, &format!("next/{}", node(id, "meminfo")), &self.meminfo(id, GAP));
        }
        let all = format!("0-{}\n", self.cpus - 1);
        put(root, "sys/devices/system/node/online", &format!("0-{}\n", self.nodes - 1));
        put(root, "sys/devices/system/cpu/online", &all);
        put(root, "sys/devices/system/cpu/possible", &all);
        put(root, "sys/devices/system/cpu/isolated", "\n");
        put(root, "sys/devices/system/cpu/cpu0/topology/thread_siblings", &self.mask(&[0]));
        put(root, "proc/stat", &self.stat(0));
        put(root, "next/proc/stat", &self.stat(GAP));
        put(root, "clock", &format!("100000 {GAP}\n"));
        dir
    }

    fn cores(self) -> u32 {
        self.cpus / 2
    }

    /// Returns `node<N>/cpulist`.
    pub fn cpulist(self, node: u32) -> String {
        let each = self.cores() / self.nodes;
        let (first, last) = (node * each, node * each + each - 1);
        format!("{first}-{last},{}-{}\n", first + self.cores(), last + self.cores())
    }

    /// Returns a list of every other CPU: the longest a list can be.
    pub fn gappy_list(self) -> String {
        let ids: Vec<String> = (0..self.cpus).step_by(2).map(|cpu| cpu.to_string()).collect();
        ids.join(",") + "\n"
    }

    /// Returns a mask of some cores, both threads, in words of 32 bits with commas between.
    pub fn mask(self, cores: &[u32]) -> String {
        let mut words = vec![0u32; self.cpus.div_ceil(32) as usize];
        for cpu in cores.iter().flat_map(|&core| [core, core + self.cores()]) {
            words[(cpu / 32) as usize] |= 1 << (cpu % 32);
        }
        let words: Vec<String> = words.iter().rev().map(|word| format!("{word:08x}")).collect();
        words.join(",") + "\n"
    }

    /// Returns `node<N>/distance`: groups of four nodes, in a ring.
    pub fn distance(self, node: u32) -> String {
        let row = (0..self.nodes).map(|to| {
            let (a, b) = (node / 4, to / 4);
            let groups = self.nodes.div_ceil(4);
            let hops = a.abs_diff(b).min(groups - a.abs_diff(b));
            let distance = match (node == to, hops) {
                (true, _) => 10,
                (false, 0) => 12,
                (false, hops) => 20 + hops,
            };
            distance.to_string()
        });
        row.collect::<Vec<_>>().join(" ") + "\n"
    }

    /// Returns `node<N>/meminfo` as Linux 6.1 writes it. Nodes are between full and empty.
    pub fn meminfo(self, node: u32, ticks: u64) -> String {
        let total = 64 << 20;
        let free = total / 100 * (5 + noise(node, 1) % 90) + ticks;
        let cache = (total - free) / 4;
        let mut text = String::new();
        for (key, kib) in [
            ("MemTotal:      ", total),
            ("MemFree:       ", free),
            ("MemUsed:       ", total - free),
            ("SwapCached:    ", 0),
            ("Active:        ", cache * 2),
            ("Inactive:      ", cache),
            ("Active(anon):  ", cache),
            ("Inactive(anon):", cache / 3),
            ("Active(file):  ", cache),
            ("Inactive(file):", cache - cache / 3),
            ("Unevictable:   ", 4096),
            ("Mlocked:       ", 4096),
            ("Dirty:         ", 144),
            ("Writeback:     ", 0),
            ("FilePages:     ", cache * 2),
            ("Mapped:        ", 123_456),
            ("AnonPages:     ", cache),
            ("Shmem:         ", 20_480),
            ("KernelStack:   ", 9_872),
            ("PageTables:    ", 31_908),
            ("SecPageTables: ", 0),
            ("NFS_Unstable:  ", 0),
            ("Bounce:        ", 0),
            ("WritebackTmp:  ", 0),
            ("KReclaimable:  ", 812_344),
            ("Slab:          ", 1_012_344),
            ("SReclaimable:  ", 812_344),
            ("SUnreclaim:    ", 200_000),
            ("AnonHugePages: ", 2_097_152),
            ("ShmemHugePages:", 0),
            ("ShmemPmdMapped:", 0),
            ("FileHugePages: ", 0),
            ("FilePmdMapped: ", 0),
            ("Unaccepted:    ", 0),
        ] {
            _ = writeln!(text, "Node {node} {key} {kib:8} kB");
        }
        for key in ["HugePages_Total:", "HugePages_Free: ", "HugePages_Surp: "] {
            _ = writeln!(text, "Node {node} {key}     0");
        }
        text
    }

    /// Returns `/proc/stat` so many ticks after the first reading. CPUs are between idle and busy.
    pub fn stat(self, ticks: u64) -> String {
        let mut text =
            "cpu  352100391 1381911 31409914 9427880127 110421 0 241213 0 0 0\n".to_owned();
        for cpu in 0..self.cpus {
            let part = noise(cpu, 2) % 101;
            let idle = 9_000_000 + noise(cpu, 3) % 500_000 + ticks * part / 100;
            let user = 350_000 + noise(cpu, 4) % 90_000 + ticks * (100 - part) / 100;
            _ = writeln!(text, "cpu{cpu} {user} 1381 31409 {idle} 1104 0 241 0 0 0");
        }
        // As long as on a machine with some hundred interrupts.
        text += "intr 8251730612";
        for irq in 0..800 {
            _ = write!(text, " {}", if irq % 7 == 0 { noise(irq, 5) % 1_000_000 } else { 0 });
        }
        text += "\nctxt 9812345678\nbtime 1700000000\nprocesses 12345678\nprocs_running 3\n\
                 procs_blocked 0\nsoftirq 1234567890 1 2 3 4 5 6 7 8 9 10\n";
        text
    }
}

/// Returns a number that looks random and is always the same.
fn noise(a: u32, b: u32) -> u64 {
    let mut x = (u64::from(a) << 32 | u64::from(b)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) >> 1
}

/// Makes a directory in memory, so that no disk is measured; elsewhere if there is no such place.
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory for the made machine")
}

fn put(root: &Path, relative: &str, text: &str) {
    let path: PathBuf = root.join(relative);
    let dir = path.parent().expect("a path with a directory");
    fs::create_dir_all(dir).expect("the directory is ours");
    fs::write(&path, text).expect("the file is ours");
}
