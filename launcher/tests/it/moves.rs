//! Real processes of this machine that are moved between its CPUs: its kernel, with one node or more.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use placer_engine::claims::Processes;
use placer_engine::{CpuId, CpuSet, NodeId, NodeSet};
use placer_launcher::mover::{
    Books, Direction, Host as _, Journal, Live, MoveError, Pace, Phase, Record, Share, Threads,
    back, carry,
};
use placer_launcher::sys;

/// What is saved stays here.
#[derive(Default)]
struct Kept {
    saved: Vec<Phase>,
    claims: Vec<Direction>,
}

impl Books for Kept {
    fn save(&mut self, journal: &Journal) -> Result<(), String> {
        self.saved.push(journal.moves[0].phase);
        Ok(())
    }

    fn claim(&mut self, _: &Record, direction: Direction, _: bool) -> Result<(), String> {
        self.claims.push(direction);
        Ok(())
    }

    fn settle(&mut self, _: &Record, direction: Direction) -> Result<(), String> {
        self.claims.push(direction);
        Ok(())
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shell that makes a process every now and then, and says when it runs.
fn shell() -> Running {
    let script = "echo ready; while :; do sleep 0.01; done";
    let child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("sh");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    Running(child)
}

fn record(pid: u32, to: &CpuSet, look: &mut Processes) -> Record {
    let mut host = Live::new();
    let threads = host.threads(pid).expect("threads");
    let threads = threads
        .into_iter()
        .map(|id| Threads { cpus: host.affinity(id).expect("CPUs"), ids: vec![id] });
    let node = NodeSet::from_iter([NodeId(0)]);
    Record {
        guest: look.identify(pid).expect("it runs"),
        program: "sh".to_owned(),
        claims: vec![],
        group: 0,
        is_earlier: false,
        from: node.clone(),
        to: node,
        cpus: to.clone(),
        threads: threads.collect(),
        cage: None,
        source: vec![Share { node: 0, bytes: 1 << 20 }],
        target: vec![Share { node: 0, bytes: 1 << 20 }],
        pinned: vec![],
        memory: 1 << 20,
        slowdown: 1.0,
        phase: Phase::Planned,
        moved: 0,
        stayed: 0,
        finished_s: None,
        why: None,
    }
}

/// The CPUs that this test may use; the last of them.
fn last_cpu() -> CpuSet {
    let own = sys::affinity(0).expect("own CPUs");
    own.last().into_iter().collect()
}

#[test]
fn threads_go_to_other_cpus_and_back_and_memory_is_looked_through() {
    let guest = shell();
    let pid = guest.0.id();
    let mut look = Processes::look().expect("a live host");
    let to = last_cpu();
    let mut journal = Journal::new(look.boot());
    journal.moves.push(record(pid, &to, &mut look));
    let before = sys::affinity(pid.try_into().expect("a pid")).expect("its CPUs");
    let mut books = Kept::default();
    let pace = Pace::new(1 << 30);
    let moved = carry(&mut journal, 0, &mut Live::new(), &mut books, pace);
    // On a host of several nodes pages of it may be on another one: they are moved to node 0.
    moved.expect("moved");
    assert_eq!(sys::affinity(pid.try_into().expect("a pid")), Ok(to));
    assert_eq!(books.saved, [Phase::Moving, Phase::Moved]);
    assert!(journal.moves[0].finished_s.is_some_and(|at| at > 0.0));

    back(&mut journal, 0, &mut Live::new(), &mut books, pace).expect("back");
    assert_eq!(sys::affinity(pid.try_into().expect("a pid")), Ok(before));
    assert_eq!(books.saved[2..], [Phase::Returning, Phase::Returned]);
    let (there, here) = (Direction::There, Direction::Back);
    assert_eq!(books.claims, [there, there, here, here]);
}

#[test]
fn a_step_that_the_kernel_refuses_puts_threads_back() {
    let guest = shell();
    let pid = guest.0.id();
    let mut look = Processes::look().expect("a live host");
    let mut journal = Journal::new(look.boot());
    // No host has this CPU.
    let far = CpuSet::from_iter([CpuId(900_000)]);
    journal.moves.push(record(pid, &far, &mut look));
    let mut books = Kept::default();
    let moved = carry(&mut journal, 0, &mut Live::new(), &mut books, Pace::new(1 << 30));
    assert!(matches!(moved, Err(MoveError::Refused(..))), "{moved:?}");
    let record = &journal.moves[0];
    assert_eq!(record.phase, Phase::Returned);
    assert!(record.why.as_deref().is_some_and(|why| why.contains("on CPUs 900000")), "{record:?}");
}

#[test]
fn a_process_that_has_ended_is_left_out_and_its_pid_is_no_other_process() {
    let guest = shell();
    let pid = guest.0.id();
    let mut look = Processes::look().expect("a live host");
    let mut journal = Journal::new(look.boot());
    journal.moves.push(record(pid, &last_cpu(), &mut look));
    // A process of the same pid that started at another time.
    let mut other = journal.clone();
    other.moves[0].guest.start += 500;
    let before = sys::affinity(pid.try_into().expect("a pid"));
    let pace = Pace::new(1 << 30);
    let moved = carry(&mut other, 0, &mut Live::new(), &mut Kept::default(), pace);
    assert_eq!((moved, other.moves[0].phase), (Err(MoveError::Gone), Phase::Dropped));
    assert_eq!(sys::affinity(pid.try_into().expect("a pid")), before);

    drop(guest);
    let moved = carry(&mut journal, 0, &mut Live::new(), &mut Kept::default(), pace);
    assert_eq!((moved, journal.moves[0].phase), (Err(MoveError::Gone), Phase::Dropped));
}

#[test]
fn pages_are_moved_to_the_node_they_are_on() {
    let memory = std::hint::black_box(vec![1_u8; 8 << 20]);
    let size = sys::page_size();
    let first = (memory.as_ptr() as u64).div_ceil(size) * size;
    let pages: Vec<u64> = (0..512).map(|page| first + page * size).collect();
    let mut host = Live::new();
    let nodes = host.nodes_of(std::process::id(), &pages).expect("nodes");
    let there = pages.iter().zip(&nodes).map(|(&page, node)| (page, node.expect("it is there")));
    let there: Vec<(u64, NodeId)> = there.collect();
    assert_eq!(host.move_pages(std::process::id(), &there, false), Ok(false));
    assert_eq!(host.nodes_of(std::process::id(), &pages), Ok(nodes));
    host.pause(Duration::from_millis(1));
    // Nodes that do not exist are an error, unless the kernel has no NUMA.
    let far: Vec<(u64, NodeId)> = pages.iter().map(|&page| (page, NodeId(900))).collect();
    let moved = host.move_pages(std::process::id(), &far, false);
    assert!(matches!(moved, Err(_) | Ok(false)), "{moved:?}");
    assert!(memory.iter().step_by(4096).all(|&byte| byte == 1));
}
