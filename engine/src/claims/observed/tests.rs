//! On trees made for the purpose: a `/proc` and a directory of libvirt's.

use std::fs;
use std::time::{Duration, Instant as Clock};

use super::super::claim::{Claim, Origin};
use super::super::desk::{ClaimDirs, Claims};
use super::*;
use crate::ids::NodeId;

/// A recorded machine of two nodes with 6 and 2 GiB free.
struct Host {
    tmp: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { tmp: tempfile::tempdir().expect("a directory") };
        host.put("sys/devices/system/cpu/online", "0-1\n");
        host.put("proc/uptime", "1000.00 9\n");
        for (node, mib) in [(0, 6144), (1, 2048)] {
            let dir = format!("sys/devices/system/node/node{node}");
            host.put(&format!("{dir}/cpulist"), &format!("{node}\n"));
            host.put(&format!("{dir}/distance"), "10 20\n");
            let kib = mib * 1024;
            let text = format!("Node {node} MemTotal: {kib} kB\nNode {node} MemFree: {kib} kB\n");
            host.put(&format!("{dir}/meminfo"), &text);
        }
        host.put("proc/stat", "cpu0 0 0 0 1 0 0 0 0 0 0\ncpu1 0 0 0 1 0 0 0 0 0 0\n");
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.tmp.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// A process: its name, command line, user and resident MiB, in ordinary and in huge pages.
    fn process(&self, pid: u32, comm: &str, cmdline: &str, uid: u32, mib: (u64, u64)) {
        let stat = format!("{pid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 5000 1 1\n");
        self.put(&format!("proc/{pid}/stat"), &stat);
        self.put(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.put(&format!("proc/{pid}/cmdline"), &cmdline.replace(' ', "\0"));
        let (kib, huge) = (mib.0 * 1024, mib.1 * 1024);
        let status = format!(
            "Name:\t{comm}\nTgid:\t{pid}\nUid:\t{uid}\t{uid}\nVmRSS:\t{kib} kB\nRssAnon:\t{kib} kB\n\
             HugetlbPages:\t{huge} kB\nMems_allowed_list:\t0-1\n"
        );
        self.put(&format!("proc/{pid}/status"), &status);
    }

    fn claims(&self) -> Vec<std::sync::Arc<Claim>> {
        let place = ClaimDirs::default();
        let root = SysRoot::at(self.tmp.path());
        let view = Claims::open(&place, &root).expect("nothing to open").view().expect("readable");
        assert_eq!(view.notes, [""; 0]);
        for claim in &view.claims {
            assert_eq!(claim.origin, Origin::Observed);
            // What is charged is what is claimed.
            for promise in &claim.promised {
                let charge = view.charges.of(promise.node);
                match claim.page {
                    None => assert!(charge.memory >= promise.memory),
                    Some(page) => assert!(charge.huge_of(page) >= promise.memory),
                }
            }
        }
        view.claims
    }

    /// The pids of those that are claimed for, and how many MiB on each node.
    fn claimed(&self) -> Vec<(u32, Vec<(u32, u64)>)> {
        let on = |claim: &Claim| -> Vec<(u32, u64)> {
            let promised = claim.promised.iter();
            promised.map(|p| (p.node.0, p.memory.get() >> 20)).collect()
        };
        let pid = |claim: &Claim| claim.owner.process().expect("a process").pid;
        self.claims().iter().map(|claim| (pid(claim), on(claim))).collect()
    }
}

const QEMU: &str = "qemu-system-x86";

#[test]
fn guests_that_nobody_asked_for_are_found_and_others_are_not() {
    let host = Host::new();
    assert_eq!(host.claimed(), []);
    host.process(10, QEMU, "/usr/bin/qemu-system-x86_64 -m 4G -smp 4", 0, (1024, 0));
    assert_eq!(host.claimed(), [(10, vec![(0, 2304), (1, 768)])]);
    let claim = host.claims().remove(0);
    assert_eq!((claim.memory, claim.cpus.hundredths()), (crate::Bytes::new(4 << 30), 400));
    // All there; bound; of a stranger; no machine; a thread of the first.
    host.process(10, QEMU, "/usr/bin/qemu-system-x86_64 -m 4G -smp 4", 0, (4096, 0));
    let bound = "qemu-kvm -m 1G -machine q35,memory-backend=r \
                 -object memory-backend-ram,id=r,size=1G,host-nodes=1,policy=bind";
    host.process(11, "kvm", bound, 0, (256, 0));
    host.process(12, QEMU, "/usr/bin/qemu-system-x86_64 -m 1T", 54_321, (0, 0));
    host.process(13, "qemu-nbd", "/usr/bin/qemu-nbd -m 4G", 0, (0, 0));
    host.process(14, QEMU, "/usr/bin/qemu-system-x86_64 -m 4G", 0, (0, 0));
    let status = host.tmp.path().join("proc/14/status");
    let text = fs::read_to_string(&status).expect("text").replace("Tgid:\t14", "Tgid:\t10");
    fs::write(&status, text).expect("written");
    assert_eq!(host.claimed(), [(11, vec![(1, 768)])]);
    // Libvirt's user is believed.
    host.put("etc/passwd", "root:x:0:0\nlibvirt-qemu:x:54321:1\n");
    assert_eq!(host.claimed().iter().map(|(pid, _)| *pid).collect::<Vec<_>>(), [11, 12]);
}

#[test]
fn huge_pages_are_claimed_as_such() {
    let host = Host::new();
    let line = "kvm -m 2G -mem-path /dev/hugepages/libvirt";
    host.process(10, "kvm", line, 0, (100, 512));
    let claim = host.claims().remove(0);
    assert_eq!(claim.page, Some(crate::Bytes::new(2 << 20)));
    assert_eq!(host.claimed(), [(10, vec![(0, 1152), (1, 384)])]);
    host.put("proc/self/mounts", "h /dev/hugepages hugetlbfs rw,pagesize=1024M 0 0\n");
    assert_eq!(host.claims()[0].page, Some(crate::Bytes::new(1 << 30)));
}

#[test]
fn libvirts_files_tell_exactly() {
    let host = Host::new();
    let file = |pid: u32, tune: &str| {
        format!(
            "<domstatus state='running' pid='{pid}'><numad nodeset='1'/><domain type='kvm'>\
             <memory unit='MiB'>1024</memory><vcpu placement='auto'>4</vcpu>{tune}</domain></domstatus>"
        )
    };
    let tune = "<numatune><memory mode='strict' placement='auto'/></numatune>";
    host.put("run/libvirt/qemu/a.xml", &file(10, tune));
    host.put("run/libvirt/qemu/gone.xml", &file(11, tune));
    host.put("run/libvirt/qemu/damaged.xml", &file(12, tune)[..90]);
    host.put("run/libvirt/qemu/autostart/b.xml", &file(10, ""));
    host.put("run/libvirt/qemu/a.pid", "10\n");
    // By the file, not by a name or a command line.
    host.process(10, "strange-name", "/opt/emulator -m 9G", 0, (24, 0));
    host.process(12, "bash", "bash", 0, (1, 0));
    assert_eq!(host.claimed(), [(10, vec![(1, 1000)])]);
    assert_eq!(host.claims()[0].promised[0].node, NodeId(1));
    host.process(10, QEMU, "/usr/bin/qemu-system-x86_64 -m 9G", 0, (24, 0));
    assert_eq!(host.claimed(), [(10, vec![(1, 1000)])], "each guest once");
}

#[test]
fn a_host_full_of_strange_things_is_looked_at_in_bounded_time() {
    let host = Host::new();
    for pid in 1000..1100 {
        host.process(pid, QEMU, "/usr/bin/qemu-system-x86_64 -m 1G -smp 1", 0, (0, 0));
    }
    let huge = "kvm -m 1G ".to_owned() + &"-smp 4 ".repeat(1 << 20);
    host.process(1100, "kvm", &huge, 0, (0, 0));
    host.put("run/libvirt/qemu/large.xml", &"<a>".repeat(4 << 20));
    host.put("proc/77", "a file in place of a process");
    host.put("proc/78/comm/x", "a directory in place of a file");
    let start = Clock::now();
    let found = host.claimed();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // At most so many are read for one decision; a recording keeps nothing for the next.
    assert_eq!(found.len(), MOST_LOOKS);
}

/// This host: a process that is called like a QEMU, and has the arguments of one.
#[test]
fn a_guest_on_this_host_is_found_kept_and_forgotten() {
    let tmp = tempfile::tempdir().expect("a directory");
    let state = StateDir::open(&tmp.path().join("state")).expect("made");
    let program = tmp.path().join("qemu-system-test");
    fs::copy("/bin/sleep", &program).expect("copied");
    let me = nix::unistd::geteuid().as_raw();
    let find = || {
        let mut look = Processes::look().expect("a live host");
        let now = look.now().nanoseconds();
        let mut observer = Observer::new(&SysRoot::live(), me);
        observer.look(Some(&state), now, || Ok::<_, ()>(&mut look)).expect("looked")
    };
    let before: Vec<u32> = find().iter().map(|guest| guest.process.pid).collect();
    assert!(state.contains(NAME), "what was found is kept");
    // sleep takes several times, and adds them up: it takes no options, so they come last.
    let mut guest = std::process::Command::new("sh");
    guest.args(["-c", "exec \"$0\" 60 2>/dev/null"]).arg(&program);
    let mut guest = guest.spawn().expect("it starts");
    let pid = guest.id();
    let mut found = None;
    for _ in 0..500 {
        found = find().into_iter().find(|guest| guest.process.pid == pid);
        if found.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let found = found.expect("a new pid is tried");
    // No -m: what QEMU takes by itself.
    assert_eq!((found.spec.memory, found.spec.cpus, found.uid), (128 << 20, 1, me));
    assert!(!before.contains(&pid));
    guest.kill().expect("killed");
    guest.wait().expect("waited for");
    assert!(find().iter().all(|guest| guest.process.pid != pid), "it has ended");
}
