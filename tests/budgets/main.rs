//! The budgets that can be held as ratios and counts: what one Sample costs beside just reading its
//! files, allocations while sampling, memory over a million answers, answers that wait for nothing,
//! pictures of a large host.
//!
//! Microseconds are reported by `benches/` and never asserted.

use testkit::wide as common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::in_turn;
use common::machine::Machine;
use common::plain::PlainReader;
use placer_engine::balance::{self, Guest, GuestMemory, HostNode, Rules};
use placer_engine::policy::best::DistanceMatrix;
use placer_engine::source::HostReader;
use placer_engine::{Bytes, Engine, NodeId, Request, Sample, Snapshot, SysRoot, advise};

/// Counts what is allocated: by this thread, and what is live in the whole process.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

fn count(change: isize) {
    // Not there while a thread is being made or ended: those allocations are not asked about.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    LIVE.fetch_add(change, Ordering::Relaxed);
}

// SAFETY: every call is handed on to `System` as it came, and counting touches no memory that is
// given out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps `alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(signed(layout.size()), Ordering::Relaxed);
        // SAFETY: as above; `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: as above; `at` came from `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Tests that measure do so one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn reader_of(root: &Path) -> HostReader {
    HostReader::open(&SysRoot::at(root)).expect("a readable machine")
}

/// One Sample costs at most this many times just reading the same files.
const SAMPLE_BUDGET: f64 = 1.3;

/// Returns the median ratio of five rounds: other work on the machine spoils some, and a lucky round
/// hides nothing.
fn typical(mut measure: impl FnMut() -> f64) -> f64 {
    let mut ratios: [f64; 5] = std::array::from_fn(|_| measure());
    ratios.sort_unstable_by(f64::total_cmp);
    ratios[2]
}

#[test]
fn a_sample_costs_little_more_than_reading_its_files() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The live host: what the kernel does to write the texts is part of reading them.
    let mut reader = reader_of(Path::new("/"));
    let mut sample = Sample::default();
    let mut plain = PlainReader::open(Path::new("/"));
    let ratio = typical(|| {
        in_turn(
            1_000,
            || reader.sample(&mut sample).expect("a sample"),
            || {
                black_box(plain.read());
            },
        )
        .ratio()
    });
    eprintln!(
        "live host: one Sample takes {ratio:.2} times just reading its {} files",
        plain.files()
    );
    assert!(ratio <= SAMPLE_BUDGET, "{ratio:.2} times, the budget is {SAMPLE_BUDGET}");
}

/// Calls of read(2) by this thread.
fn reads() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").expect("Linux counts them");
    let count = io.lines().find_map(|line| line.strip_prefix("syscr: "));
    count.expect("a line of read calls").parse().expect("a number")
}

/// Caches are read with the topology, once: a Sample reads as often where CPUs have them as where none is known.
#[test]
fn a_sample_reads_no_more_files_where_there_are_caches() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (nodes, cpus) = (2, 256);
    let dir = Machine { nodes, cpus }.write();
    let of_samples = |root: &Path| {
        let mut reader = reader_of(root);
        let mut sample = Sample::default();
        reader.sample(&mut sample).expect("a sample");
        let before = reads();
        // The first reading of the counter is a read of its own.
        let own = reads() - before;
        for _ in 0..10 {
            reader.sample(&mut sample).expect("a sample");
        }
        reads() - before - 2 * own
    };
    let without = of_samples(dir.path());
    for cpu in 0..cpus {
        let first = cpu / 8 * 8;
        let index = format!("sys/devices/system/cpu/cpu{cpu}/cache/index3");
        let index = dir.path().join(index);
        fs::create_dir_all(&index).expect("made");
        let shared = format!("{first}-{}\n", first + 7);
        for (file, text) in [("level", "3\n"), ("type", "Unified\n"), ("shared_cpu_list", &shared)]
        {
            fs::write(index.join(file), text).expect("written");
        }
    }
    let snapshot = Snapshot::take(&SysRoot::at(dir.path()), Duration::ZERO).expect("a good host");
    let caches: usize = snapshot.topology().nodes().iter().map(|node| node.caches.len()).sum();
    assert_eq!(caches, 32);
    let with = of_samples(dir.path());
    eprintln!("10 Samples: {with} calls of read(2) with caches, {without} without");
    assert_eq!(with, without);
    assert!(without > 0);
}

/// On a recorded machine reading is a mere copy from memory, so the ratio to it means nothing. What
/// can be held there is that a Sample's time grows with the bytes and not faster.
#[test]
fn the_time_of_a_sample_grows_with_the_bytes_and_not_faster() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let [small, large] = [Machine { nodes: 2, cpus: 256 }, Machine { nodes: 2, cpus: 4096 }];
    let (small_dir, large_dir) = (small.write(), large.write());
    let mut sides = [small_dir.path(), large_dir.path()].map(|root| {
        let bytes = PlainReader::open(root).read();
        (reader_of(root), Sample::default(), bytes)
    });
    let bytes = f64_of(sides[1].2) / f64_of(sides[0].2);
    let [a, b] = &mut sides;
    let time = typical(|| {
        in_turn(
            200,
            || b.0.sample(&mut b.1).expect("a sample"),
            || a.0.sample(&mut a.1).expect("a sample"),
        )
        .ratio()
    });
    eprintln!("{bytes:.1} times the bytes take {time:.1} times as long");
    assert!(time <= 1.5 * bytes, "{time:.1} times as long for {bytes:.1} times the bytes");
}

/// A picture costs at most this many times telling the same figures as JSON.
const PICTURE_BUDGET: f64 = 4.0;

/// What makes a picture of a large host long is reading the host: 200 ms hold both.
#[test]
#[ignore = "needs the program as installed: make test"]
fn a_picture_of_64_nodes_costs_little_more_than_its_figures() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let host = Machine { nodes: 64, cpus: 1024 }.write();
    let state = tempfile::tempdir().expect("a directory");
    let program = std::env::var_os("PLACER_INSTALLED").expect("a program without debug code");
    let show = |form: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("show").args(form).env("PLACER_STATE_DIR", state.path());
        command
            .env("PLACER_CONFIG", concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/placer.toml"));
        let output = command.env("PLACER_ROOT", host.path()).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.len() > 1_000);
    };
    for form in ["--svg", "--html"] {
        let ratio = typical(|| in_turn(7, || show(&[form, "-"]), || show(&["--json"])).ratio());
        eprintln!("64 nodes, 1,024 CPUs: {form} takes {ratio:.2} times --json");
        assert!(
            ratio <= PICTURE_BUDGET,
            "{form}: {ratio:.2} times, the budget is {PICTURE_BUDGET}"
        );
    }
}

fn f64_of(n: usize) -> f64 {
    u32::try_from(n).map(f64::from).expect("a small number")
}

#[test]
fn sampling_allocates_nothing_for_each_cpu() {
    let second_sample = |machine: Machine| {
        let dir = machine.write();
        let mut reader = reader_of(dir.path());
        let mut sample = Sample::default();
        // Buffers grow once.
        reader.sample(&mut sample).expect("a sample");
        let count = allocations_of(|| reader.sample(&mut sample).expect("a sample"));
        assert_eq!(u32::try_from(sample.cpu.len()), Ok(machine.cpus));
        count
    };
    let few = second_sample(Machine { nodes: 4, cpus: 16 });
    let many = second_sample(Machine { nodes: 4, cpus: 4096 });
    eprintln!("a second Sample: {few} allocations with 16 CPUs, {many} with 4,096");
    assert_eq!(few, many);

    let mut live = reader_of(Path::new("/"));
    let mut sample = Sample::default();
    live.sample(&mut sample).expect("a sample");
    let count = allocations_of(|| live.sample(&mut sample).expect("a sample"));
    let files = u64::try_from(PlainReader::open(Path::new("/")).files()).expect("a few files");
    eprintln!("live host: {count} allocations for {files} files");
    assert_eq!((few, count), (0, 0), "allocations for {files} files");
}

/// Names what a child process of this test program does; absent in the parent.
const TASK: &str = "PLACER_BUDGET_TASK";

/// The ordinary answer of policy `best` makes nothing but the advice: its nodes, those with memory, its CPUs,
/// the usable ones, and the split. What all answers on a snapshot have in common is made by the first one, or by the Engine.
#[test]
fn an_ordinary_answer_allocates_only_what_it_returns() {
    for machine in [Machine { nodes: 2, cpus: 16 }, Machine { nodes: 64, cpus: 4096 }] {
        let dir = machine.write();
        let snapshot =
            Snapshot::take(&SysRoot::at(dir.path()), Duration::ZERO).expect("a snapshot");
        let request: Request = "0.5:500".parse().expect("a request");
        let ask = || drop(black_box(advise(&snapshot, &request).expect("advice")));
        let first = allocations_of(ask);
        let again = allocations_of(ask);
        eprintln!("{}: {first} allocations, then {again}", machine.name());
        assert!(again <= 5 && first > again, "{first}, {again}");
    }
}

/// Runs one task in a process of its own, where nothing else allocates. Returns what it printed.
fn in_a_process_of_its_own(task: &str) -> String {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(TASK, task)
        .output()
        .expect("this program starts again");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout
}

/// Returns a number that a task printed as `NAME=NUMBER`.
fn figure(printed: &str, name: &str) -> i64 {
    let mut words = printed.split_whitespace();
    words
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
        .unwrap_or_else(|| unreachable!("no {name} in {printed:?}"))
}

#[test]
#[ignore = "the part of other tests that runs in a process of its own"]
fn child() {
    match std::env::var(TASK).as_deref() {
        Ok("resident") => print_resident(),
        Ok("million") => print_growth(),
        task => panic!("started by other tests only, with a task: {task:?}"),
    }
}

/// Returns a line of `/proc/self/status`, in KiB.
fn status_kib(key: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("a Linux process");
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number of kB")
}

#[test]
fn the_engine_stays_within_8_mib_at_64_nodes_and_1024_cpus() {
    let printed = in_a_process_of_its_own("resident");
    let (before, peak) = (figure(&printed, "before_kib"), figure(&printed, "peak_kib"));
    let (heap, samples) = (figure(&printed, "heap_kib"), figure(&printed, "samples"));
    eprintln!(
        "peak resident {peak} KiB in a process that had {before} KiB before the engine; {heap} KiB \
         allocated after {samples} samples"
    );
    assert!(peak <= 8 << 10, "{peak} KiB");
}

/// Samples a hundred times and answers, with as much kept as an engine ever keeps.
fn print_resident() {
    let dir = Machine { nodes: 64, cpus: 1024 }.write();
    let before = status_kib("VmHWM");
    let builder = Engine::builder(SysRoot::at(dir.path())).interval(Duration::from_millis(10));
    let engine = builder.start().expect("a machine to sample");
    let request: Request = "4:500".parse().expect("a request");
    let snapshots = engine.subscribe();
    let samples = snapshots.take(100).count();
    // On a live host with a long window the engine keeps up to 65 readings of the CPU counters; on
    // a recorded one it has no use for them, so they are kept for it.
    let _kept = vec![engine.snapshot().sample().cpu.clone(); 65];
    for _ in 0..20 {
        engine.advise(&request).expect("advice");
    }
    let (peak, heap) = (status_kib("VmHWM"), LIVE.load(Ordering::Relaxed) / 1024);
    println!("\nbefore_kib={before} peak_kib={peak} heap_kib={heap} samples={samples}");
}

/// Plans for 200 guests, half of them with their memory on another node.
fn plan_for_200_guests(rounds: usize) -> usize {
    let node = |id: u32| HostNode {
        id: NodeId(id),
        cpus: 16.0,
        capacity: 16.0,
        others: 0.0,
        room_mib: 8_192.0,
        total_mib: 65_536.0,
    };
    let cells = (0..256).map(|at| if at / 16 == at % 16 { 10.0 } else { 20.0 });
    let distances = DistanceMatrix::new(16, cells.collect()).expect("square");
    let host = balance::Host::new((0..16).map(node).collect(), Arc::new(distances));
    let host = host.expect("sound");
    let guest = |at: u32| Guest {
        threads: std::iter::once(NodeId(at % 16)).collect(),
        memory: vec![GuestMemory {
            node: NodeId((at + at % 2) % 16),
            resident: Bytes::new(1 << 30),
            pinned: Bytes::ZERO,
            claimed: Bytes::ZERO,
        }],
        demand: 1.0,
        peak: 1.0,
        allowed: (0..16).map(NodeId).collect(),
        age_s: 3_600.0,
        rested_s: None,
        fixed: None,
    };
    let guests: Vec<Guest> = (0..200).map(guest).collect();
    let plan = || balance::plan(&host, &guests, &Rules::default()).expect("sound");
    (0..rounds).map(|_| black_box(plan()).steps.len()).sum()
}

#[test]
fn a_hundred_plans_leave_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = LIVE.load(Ordering::Relaxed);
    assert_eq!(plan_for_200_guests(100), 800);
    // Other threads of the test program hold a little.
    let left = LIVE.load(Ordering::Relaxed) - before;
    assert!(left < 64 << 10, "{left} bytes");
}

#[test]
fn a_million_answers_leave_nothing_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let printed = in_a_process_of_its_own("million");
    let (live, resident) = (figure(&printed, "live"), figure(&printed, "resident_kib"));
    eprintln!("a million answers: {live} bytes more allocated, {resident} KiB more resident");
    // One snapshot more or less may be alive at the moment of counting, and no more than that.
    assert!(live.abs() <= 16 << 10, "{live} bytes");
    assert!(resident <= 256, "{resident} KiB");
}

/// Answers a million times while the host is sampled a hundred times a second.
fn print_growth() {
    let dir = Machine { nodes: 2, cpus: 16 }.write();
    let builder = Engine::builder(SysRoot::at(dir.path())).interval(Duration::from_millis(10));
    let engine = builder.start().expect("a machine to sample");
    let requests = ["4:500", "12:100G", "40:1T"].map(|r| r.parse::<Request>().expect("a request"));
    let answer = |times: usize| {
        for request in requests.iter().cycle().take(times) {
            black_box(engine.advise(request).expect("advice"));
        }
    };
    answer(50_000);
    let (live, resident) = (LIVE.load(Ordering::Relaxed), status_kib("VmRSS"));
    answer(1_000_000);
    let live = LIVE.load(Ordering::Relaxed) - live;
    println!("\nlive={live} resident_kib={}", status_kib("VmRSS") - resident);
}

/// A thread that has to wait for a lock goes to sleep, and the kernel counts that as a voluntary
/// switch. Four threads answer while a fifth asks for nothing but new snapshots, and the sampler
/// stores one each 10 ms: were a lock held for the time of a sample, every store would put them to
/// sleep.
#[test]
fn answers_wait_for_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Machine { nodes: 4, cpus: 4096 }.write();
    let builder = Engine::builder(SysRoot::at(dir.path())).interval(Duration::from_millis(10));
    let engine = builder.start().expect("a machine to sample");
    let request: Request = "4:500".parse().expect("a request");
    let snapshots = engine.subscribe();
    let first = engine.snapshot();
    let ended = AtomicBool::new(false);
    let (answers, sleeps) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut stored = 0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // The first answers make this thread's arena.
                for _ in 0..100 {
                    engine.advise(&request).expect("advice");
                }
                let (mut own, before) = (0, voluntary_switches());
                while !ended.load(Ordering::Relaxed) {
                    black_box(engine.advise(&request).expect("advice"));
                    own += 1;
                }
                sleeps.fetch_add(voluntary_switches() - before, Ordering::Relaxed);
                answers.fetch_add(own, Ordering::Relaxed);
            });
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            stored += snapshots.next_within(Duration::from_secs(1)).map_or(0, |_| 1);
        }
        ended.store(true, Ordering::Relaxed);
    });
    let (answers, sleeps) = (answers.into_inner(), sleeps.into_inner());
    eprintln!(
        "{answers} answers by 4 threads beside {stored} stored snapshots: slept {sleeps} times"
    );
    // Somebody who keeps an old snapshot holds up nobody either.
    assert!(engine.snapshot().generation() > first.generation());
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(stored > 5, "only {stored} snapshots were stored");
    assert!(sleeps * 10 <= stored, "slept {sleeps} times for {stored} snapshots");
}

fn voluntary_switches() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").expect("a Linux thread");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a number of switches")
}
