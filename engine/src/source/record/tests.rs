//! Recordings of recorded machines, made here or taken from `golden/fixtures` beside the project.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;

use super::tree::{Entry, MAX_BYTES, MAX_ENTRIES, Tree, relative, resolve};
use super::{RecordError, Recorded, record};
use crate::policy::numad::Rules;
use crate::source::{HostReader, SysRoot};
use crate::{Limits, Snapshot};

const NODE: &str = "sys/devices/system/node";

/// A machine made for one test, with room for a copy beside it.
struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    fn machine(&self) -> PathBuf {
        self.dir.path().join("machine")
    }

    fn copy(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.machine().join(path);
        fs::create_dir_all(path.parent().expect("below the machine")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.machine().join(path);
        fs::create_dir_all(path.parent().expect("below the machine")).expect("made");
        symlink(to, path).expect("linked");
    }

    fn record(&self) -> Result<Recorded, RecordError> {
        record(&SysRoot::at(self.machine()), &self.copy(), Duration::ZERO)
    }

    fn copied(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.copy().join(path)).ok()
    }

    /// Three nodes, of which one leaves and one fills up between the two readings.
    fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().expect("a directory") };
        for (node, free) in [(0, 9000), (2, 7000), (5, 800_000)] {
            let dir = format!("{NODE}/node{node}");
            made.put(&format!("{dir}/cpulist"), &format!("{}-{}\n", node * 2, node * 2 + 1));
            made.put(&format!("{dir}/distance"), "10 20 20\n");
            made.put(&format!("{dir}/meminfo"), &meminfo(node, free));
        }
        made.put(&format!("{NODE}/online"), "0,2,5\n");
        made.put("sys/devices/system/cpu/online", "0-1,4-5,10-11\n");
        made.put("sys/devices/system/cpu/possible", "0-15\n");
        made.put("sys/devices/system/cpu/isolated", "5\n");
        made.put("sys/devices/system/cpu/cpu0/topology/thread_siblings", "0003\0\n");
        made.put("proc/stat", &stat(1000));
        made.put("next/proc/stat", &stat(1150));
        made.put(&format!("next/{NODE}/node2/meminfo"), &meminfo(2, 70));
        made.put("next/.removed", &format!("{NODE}/node5\n"));
        made.put("clock", "5000 200\n");
        made.put("node-order", "2 5 0\n");
        made.put("proc/self/status", STATUS);
        made
    }
}

fn meminfo(node: u32, free: u32) -> String {
    format!(
        "Node {node} MemTotal: 900000 kB\nNode {node} MemFree: {free} kB\n\
         Node {node} Inactive(file): 2048 kB\n"
    )
}

fn stat(idle: u32) -> String {
    let line = |cpu| format!("cpu{cpu} 1 2 3 {idle} 5\n");
    let cpus: String = [0, 1, 4, 5, 10, 11].map(line).concat();
    format!("cpu  6 12 18 {idle} 30\n{cpus}intr 77 1 2 3\nctxt 4\n")
}

const STATUS: &str = "Name:\tSECRET\nState:\tS (sleeping)\nTgid:\t4711\nPid:\t4711\nPPid:\t4710\n\
    TracerPid:\t0\nUid:\t1007\t1007\t1007\t1007\nGid:\t1007\t1007\t1007\t1007\nFDSize:\t256\n\
    Groups:\t4 1007 \nThreads:\t3\nSigQ:\t1/9\nSigPnd:\t0000000000000000\n\
    ShdPnd:\t0000000000000000\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\n\
    SigCgt:\t0000000000000440\nCapInh:\t0000000000000000\nCapPrm:\t000001ffffffffff\n\
    CapEff:\t000001ffffffffff\nCpus_allowed:\t0033\nCpus_allowed_list:\t0-1,4-5\n\
    Mems_allowed:\t00000005\nMems_allowed_list:\t0,2\n";

/// Everything that is asked of a machine, as text without its place.
fn answers(dir: &Path) -> String {
    let root = SysRoot::at(dir);
    let hide = |text: String| text.replace(&dir.display().to_string(), "ROOT");
    let limits = format!("{:?}", Limits::read(&root));
    let files = HostReader::open(&root).map(|reader| reader.files().clone());
    let snapshot = Snapshot::take(&root, Duration::ZERO).map(|snapshot| {
        let rules = Rules::default();
        let numad = &snapshot.host().numad;
        let figures = numad.figures(snapshot.before(), snapshot.sample(), &rules);
        format!("{figures:?}\n{snapshot:?}")
    });
    hide(format!("{limits}\n{files:?}\n{snapshot:?}"))
}

/// Every file and link below a directory, as text.
fn contents(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).expect("listed") {
            let path = entry.expect("listed").path();
            let name = path.strip_prefix(dir).expect("below").to_owned();
            if let Ok(to) = fs::read_link(&path) {
                all.insert(name, format!("-> {}", to.display()));
            } else if path.is_dir() {
                dirs.push(path);
            } else {
                let text = fs::read(&path).expect("read").escape_ascii().to_string();
                all.insert(name, text);
            }
        }
    }
    all
}

#[test]
fn a_copy_answers_as_the_original_and_a_copy_of_it_is_the_same() {
    let made = Made::new();
    let recorded = made.record().expect("recorded");
    assert_eq!((recorded.second_moment, recorded.notes.len()), (true, 0), "{recorded:?}");
    assert_eq!(answers(&made.copy()), answers(&made.machine()));
    assert_eq!(recorded.files, contents(&made.copy()).len());

    assert_eq!(made.copied("clock").as_deref(), Some("5000 200\n"));
    assert_eq!(made.copied("node-order").as_deref(), Some("2 5 0\n"));
    assert_eq!(made.copied("next/.removed").as_deref(), Some("sys/devices/system/node/node5\n"));
    assert_eq!(made.copied(&format!("next/{NODE}/node0/meminfo")), None);
    let stat = made.copied("next/proc/stat").expect("the second reading");
    assert!(stat.ends_with("intr 77\nctxt 4\n"), "{stat}");
    let siblings = made.copied("sys/devices/system/cpu/cpu0/topology/thread_siblings");
    assert_eq!(siblings.as_deref(), Some("0003\0\n"));

    let again = made.dir.path().join("again");
    record(&SysRoot::at(made.copy()), &again, Duration::from_secs(9)).expect("recorded");
    assert_eq!(contents(&again), contents(&made.copy()));
}

#[test]
fn recorded_machines_answer_the_same_from_a_copy() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures");
    let fixtures = fs::read_dir(&own).expect("the machines are part of the project");
    let tmp = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for fixture in fixtures {
        let fixture = fixture.expect("listed").path();
        if !fixture.join("sys").is_dir() {
            continue;
        }
        let copy = tmp.path().join(fixture.file_name().expect("a name"));
        let recorded = record(&SysRoot::at(&fixture), &copy, Duration::ZERO)
            .unwrap_or_else(|e| panic!("{}: {e}", fixture.display()));
        assert_eq!(recorded.notes, [""; 0], "{}", fixture.display());
        assert_eq!(answers(&copy), answers(&fixture), "{}", fixture.display());
        count += 1;
    }
    assert!(count > 10, "{count} machines in {}", own.display());
}

#[test]
fn one_reading_stays_one_reading() {
    let made = Made::new();
    fs::remove_file(made.machine().join("next/proc/stat")).expect("removed");
    let recorded = made.record().expect("recorded");
    assert!(!recorded.second_moment);
    assert_eq!(made.copied("next/proc/stat"), None);
    assert_eq!(answers(&made.copy()), answers(&made.machine()));
    let origin = made.copied("ORIGIN.md").expect("written");
    assert!(origin.contains("one reading, so its CPU load is unknown"), "{origin}");
}

#[test]
fn nothing_that_tells_who_and_where_is_recorded() {
    let made = Made::new();
    made.put("proc/self/cgroup", "0::/user.slice/SECRET.service\n");
    made.put("proc/cpuinfo", "processor: 0\nmodel name: A CPU\nSerial: SECRET\n\nSerial: SECRET\n");
    made.put("proc/version", "Linux version 6.1.0-x (SECRET@SECRET) (gcc 12) #1\n");
    made.put("proc/cmdline", "SECRET\n");
    made.put("proc/sys/kernel/hostname", "SECRET\n");
    made.put("sys/devices/system/cpu/cpu0/topology/ppin", "0xSECRET\n");
    made.put("sys/devices/pci0000:00/0000:00:03.0/net/eth0/address", "SECRET\n");
    made.link("sys/devices/pci0000:00/0000:00:03.0/net/eth0/device", "../..");
    made.link("sys/class/net/eth0", "../../devices/pci0000:00/0000:00:03.0/net/eth0");
    made.link("sys/class/net/enx0123456789ab", "../../devices/pci0000:00/0000:00:03.0/net/eth0");
    made.record().expect("recorded");
    let all = contents(&made.copy());
    for (path, text) in &all {
        // The name of the program that asks is the one thing that is kept of it.
        let text = text.replace("Name:\\tSECRET", "");
        assert!(!text.contains("SECRET") && !text.contains("1007"), "{}: {text}", path.display());
        assert!(!path.to_string_lossy().contains("enx"), "{}", path.display());
    }
    let origin = made.copied("ORIGIN.md").expect("written");
    assert!(
        origin.contains("| CPU | A CPU |\n| kernel | 6.1.0-x |\n| nodes | 0,2,5 |"),
        "{origin}"
    );
    assert!(origin.contains("| memory | 2.6 GiB |"), "{origin}");
    assert!(origin.contains("two readings, 2.00 s apart"), "{origin}");
}

#[test]
fn what_hwloc_and_a_launcher_read_is_recorded() {
    let made = Made::new();
    let pci = "sys/devices/pci0000:00/0000:00:01.0";
    let kept = [
        format!("{NODE}/has_cpu"),
        format!("{NODE}/node0/cpumap"),
        format!("{NODE}/node0/vmstat"),
        format!("{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages"),
        format!("{NODE}/node0/access0/initiators/read_latency"),
        format!("{NODE}/node5/memory_side_cache/index1/size"),
        "sys/devices/system/cpu/smt/active".to_owned(),
        "sys/devices/system/cpu/cpu10/online".to_owned(),
        "sys/devices/system/cpu/cpu10/topology/core_id".to_owned(),
        "sys/devices/system/cpu/cpu10/cache/index3/shared_cpu_map".to_owned(),
        "sys/devices/system/cpu/cpu10/cache/index3/shared_cpu_list".to_owned(),
        "sys/devices/system/cpu/cpu10/cache/index3/level".to_owned(),
        "sys/devices/system/cpu/cpu10/cpu_capacity".to_owned(),
        "sys/devices/cpu_core/cpus".to_owned(),
        "sys/devices/cpu_atom/cpus".to_owned(),
        "sys/devices/cpu_lowpower/cpus".to_owned(),
        "sys/kernel/mm/hugepages/hugepages-1048576kB/resv_hugepages".to_owned(),
        "sys/devices/virtual/memory_tiering/memory_tier4/nodelist".to_owned(),
        format!("{pci}/numa_node"),
        "sys/bus/pci/devices/0000:00:1f.0/class".to_owned(),
    ];
    for path in &kept {
        made.put(path, "1\n");
    }
    let links = [
        (format!("{NODE}/node5/access0/initiators/node0"), "../../../node0"),
        (format!("{NODE}/node0/access0/targets/node5"), "../../../node5"),
        ("sys/bus/pci/devices/0000:00:01.0".to_owned(), "../../../devices/pci0000:00/0000:00:01.0"),
        (
            "sys/class/block/vda".to_owned(),
            "../../devices/pci0000:00/0000:00:01.0/virtio0/block/vda",
        ),
        (format!("{pci}/virtio0/block/vda/device"), "../../../virtio0"),
        ("sys/class/net/lo".to_owned(), "../../devices/virtual/net/lo"),
    ];
    for (path, to) in &links {
        made.link(path, to);
    }
    // Not what was asked for, or not to be followed.
    let left_out = [
        (format!("{NODE}/node5/access0/initiators/node9"), "../../../node9"),
        ("sys/bus/pci/devices/0000:00:02.0".to_owned(), "../../../../../../../etc"),
        ("sys/bus/pci/devices/0000:00:04.0".to_owned(), "/sys/devices/pci0000:00/0000:00:01.0"),
        ("sys/class/net/evil0".to_owned(), "../../../../outside"),
    ];
    for (path, to) in &left_out {
        made.link(path, to);
    }
    made.put("sys/devices/virtual/net/lo/mtu", "1500\n");
    made.put(&format!("{NODE}/node07/cpulist"), "0\n");
    let before = contents(&made.machine());
    let recorded = made.record().expect("recorded");
    assert_eq!(
        recorded.notes,
        ["0000:00:02.0", "0000:00:04.0"]
            .map(|pci| format!("sys/bus/pci/devices/{pci} is left out: it leads to no device"))
    );
    let after = contents(&made.copy());
    for path in kept.iter().map(String::as_str).chain(links.iter().map(|(path, _)| path.as_str())) {
        assert_eq!(after.get(Path::new(path)), before.get(Path::new(path)), "{path}");
    }
    for (path, _) in &left_out {
        assert_eq!(after.get(Path::new(path)), None, "{path}");
    }
    assert!(!made.copy().join(NODE).join("node07").exists());
    assert!(!made.copy().join("sys/devices/virtual/net/lo/mtu").exists());
    // The node that leaves goes with all that was in it.
    assert_eq!(
        made.copied("next/.removed").as_deref(),
        Some("sys/devices/system/node/node0/access0/targets\nsys/devices/system/node/node5\n")
    );
}

#[test]
fn a_directory_that_is_in_use_is_refused_and_left_alone() {
    let made = Made::new();
    fs::create_dir(made.copy()).expect("made");
    fs::write(made.copy().join("mine"), "mine").expect("written");
    let error = made.record().expect_err("refused");
    assert!(matches!(error, RecordError::NotEmpty { .. }), "{error}");
    assert_eq!(contents(&made.copy()).len(), 1);

    fs::remove_file(made.copy().join("mine")).expect("removed");
    made.record().expect("an empty directory is taken");

    let to = |path: &Path| record(&SysRoot::at(made.machine()), path, Duration::ZERO);
    let link = made.dir.path().join("link");
    let empty = made.dir.path().join("empty");
    fs::create_dir(&empty).expect("made");
    symlink(&empty, &link).expect("linked");
    assert!(matches!(to(&link), Err(RecordError::NotADirectory { .. })));
    assert_eq!(contents(&empty).len(), 0);
    let file = made.dir.path().join("file");
    fs::write(&file, "x").expect("written");
    assert!(matches!(to(&file), Err(RecordError::NotADirectory { .. })));
    let error = to(&made.dir.path().join("no/such")).expect_err("refused").to_string();
    assert!(error.starts_with("cannot make the directory "), "{error}");
}

#[test]
fn a_host_that_cannot_be_read_leaves_nothing_behind() {
    let made = Made { dir: tempfile::tempdir().expect("a directory") };
    fs::create_dir(made.machine()).expect("made");
    let error = made.record().expect_err("no host");
    assert!(matches!(error, RecordError::Source { .. }), "{error}");
    assert!(!made.copy().exists());

    // A pipe would block who opens it; a link out of the machine would be handed on.
    let meminfo = format!("{NODE}/node0/meminfo");
    let made = Made::new();
    fs::remove_file(made.machine().join(&meminfo)).expect("removed");
    nix::unistd::mkfifo(&made.machine().join(&meminfo), Mode::S_IRWXU).expect("a pipe");
    let error = made.record().expect_err("a pipe");
    assert!(matches!(error, RecordError::Source { .. }), "{error}");
    assert!(!made.copy().exists());

    let made = Made::new();
    fs::remove_file(made.machine().join(&meminfo)).expect("removed");
    fs::write(made.dir.path().join("private"), "SECRET").expect("written");
    made.link(&meminfo, "../../../../../../private");
    let error = made.record().expect_err("a link that leads out");
    assert!(matches!(error, RecordError::Outside { .. }), "{error}");
    assert!(!made.copy().exists());
    fs::create_dir(made.copy()).expect("made");
    made.record().expect_err("as before");
    assert!(made.copy().exists(), "a directory that was there stays");

    // What the answer does not turn on is left out, and named.
    let made = Made::new();
    fs::write(made.dir.path().join("private"), "SECRET").expect("written");
    made.link("proc/version", "../../private");
    fs::create_dir_all(made.machine().join("proc/cpuinfo")).expect("made");
    let notes = made.record().expect("recorded").notes;
    let [cpuinfo, version] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(cpuinfo.starts_with("proc/version is left out: "), "{cpuinfo}");
    assert!(version.starts_with("proc/cpuinfo is left out: "), "{version}");
}

#[test]
fn a_write_that_fails_undoes_those_before_it() {
    let tmp = tempfile::tempdir().expect("a directory");
    let dir = tmp.path().join("copy");
    let mut target = super::target::Target::open(&dir).expect("made");
    let text = b"x";
    target.write("a/b/c", text).expect("written");
    target.link("a/link", "a/b").expect("written");
    target.write("d", text).expect("written");
    // Never through a link, not even through one of its own.
    assert!(target.write("a/link/c", text).is_err());
    let error = target.write("a/b/c", text).expect_err("there already").to_string();
    assert_eq!(error, format!("cannot write {}", dir.join("a/b/c").display()));
    assert!(dir.join("a/link/c").exists());
    drop(target);
    assert!(!dir.exists());
}

#[test]
fn links_are_followed_by_their_text_alone() {
    for (link, to, place) in [
        ("sys/bus/pci/devices/x", "../../../devices/pci/x", Some("sys/devices/pci/x")),
        ("a/b", "./c//d", Some("a/c/d")),
        ("a/b", "../..", None),
        ("a/b", "../../a", None),
        ("a/b", "/a", None),
        ("a/b", "..", None),
        ("a/b", "c d", None),
    ] {
        assert_eq!(resolve(link, to).as_deref(), place, "{link} -> {to}");
    }
    for (link, to, text) in [
        ("sys/bus/pci/devices/x", "sys/devices/pci/x", "../../../devices/pci/x"),
        ("a/b/c", "a/b", "../b"),
        ("a", "b", "b"),
    ] {
        assert_eq!(relative(link, to), text);
        assert_eq!(resolve(link, text).as_deref(), Some(to));
    }
}

#[test]
fn a_host_without_end_is_cut_off() {
    let mut tree = Tree::default();
    assert!(!tree.add("large", Entry::Text(vec![0; MAX_BYTES])));
    for i in 0..MAX_ENTRIES {
        assert!(tree.add(&format!("{i}"), Entry::Dir));
    }
    assert!(!tree.add("more", Entry::Dir));
}
