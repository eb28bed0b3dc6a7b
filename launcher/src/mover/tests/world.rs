//! A host in memory, which counts its operations.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::claims::ProcessId;
use placer_engine::{CpuSet, NodeId, NodeSet};

use super::super::*;
use super::{by_node, nodes};

const PAGE: u64 = 4_096;
const START: u64 = 1 << 30;

/// Where the guest is, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Here,
    There,
    Neither,
}

#[derive(Clone, Debug)]
struct State {
    journal: Journal,
    /// Which claims are written: false for those of before.
    claims_there: bool,
    hold: bool,
    /// Pages: their nodes, and whether they are pinned.
    pages: BTreeMap<u64, (NodeId, bool)>,
    before: BTreeMap<u32, u64>,
    /// Pages that the kernel has marked, so that it does not see them.
    marked: BTreeSet<u64>,
    /// Those of them that are the kernel's page of zeros, which is on no node.
    zeros: BTreeSet<u64>,
    /// Whether marks can be taken off.
    readable: bool,
    /// Free pages of nodes; what is not named has room for all.
    room: BTreeMap<NodeId, u64>,
    threads: BTreeMap<u32, CpuSet>,
    thread_moves: u32,
    births: u32,
    files: BTreeMap<String, String>,
    /// What libvirt has pinned, by virsh's words for it; each stands for a thread, the emulator for all others.
    pins: BTreeMap<String, CpuSet>,
    operations: u32,
    ends: Option<u32>,
    refused: Option<u32>,
    guest_ends: Option<u32>,
    occupied: bool,
    paused: Duration,
}

/// A host with one guest that is to be moved, and its claims and journal.
#[derive(Clone, Debug)]
pub(super) struct World(Rc<RefCell<State>>);

const EMULATOR: &str = "emulatorpin";
const VCPU: &str = "vcpupin 0";
const IOTHREAD: &str = "iothreadpin 1";

fn cpus(list: &str) -> CpuSet {
    crate::definition::parse_list(list).expect("CPUs")
}

impl World {
    /// A guest with so many pages on node 0, the first of them pinned, that goes to node 1.
    pub(super) fn new(count: u64, pinned: u64) -> Self {
        let pages: BTreeMap<u64, (NodeId, bool)> =
            (0..count).map(|page| (START + page * PAGE, (NodeId(0), page < pinned))).collect();
        let guest = ProcessId { pid_namespace: 1, pid: 100, start: 7 };
        let share = |node, pages: u64| Share { node, bytes: pages * PAGE };
        let record = Record {
            guest,
            program: "hog".to_owned(),
            claims: vec![],
            group: 0,
            is_earlier: false,
            from: nodes("0"),
            to: nodes("1"),
            cpus: cpus("4-7"),
            threads: vec![
                Threads { cpus: cpus("0-3"), ids: vec![100, 101] },
                Threads { cpus: cpus("0-7"), ids: vec![102] },
            ],
            cage: None,
            source: vec![share(0, count)],
            target: vec![share(1, count)],
            pinned: vec![],
            memory: count * PAGE,
            slowdown: 1.5,
            phase: Phase::Planned,
            moved: 0,
            stayed: 0,
            finished_s: None,
            why: None,
        };
        let mut journal = Journal::new("boot");
        journal.moves.push(record);
        let threads = [(100, "0-3"), (101, "0-3"), (102, "0-7")];
        Self(Rc::new(RefCell::new(State {
            journal,
            claims_there: false,
            hold: false,
            before: by_node(&pages),
            pages,
            marked: BTreeSet::new(),
            zeros: BTreeSet::new(),
            readable: true,
            room: BTreeMap::new(),
            threads: threads.into_iter().map(|(id, list)| (id, cpus(list))).collect(),
            thread_moves: 0,
            births: 0,
            files: BTreeMap::new(),
            pins: BTreeMap::new(),
            operations: 0,
            ends: None,
            refused: None,
            guest_ends: None,
            occupied: false,
            paused: Duration::ZERO,
        })))
    }

    /// The same in a group that holds it to node 0.
    pub(super) fn in_a_group(self) -> Self {
        let mut state = self.0.borrow_mut();
        let (dir, cpus, mems) = ("/g".to_owned(), "0-7".to_owned(), "0".to_owned());
        state.journal.moves[0].cage = Some(Cage { dir, cpus, mems, libvirt: None });
        for (file, text) in [("cpuset.cpus", "0-7"), ("cpuset.mems", "0")] {
            state.files.insert(format!("/g/{file}"), text.to_owned());
        }
        drop(state);
        self
    }

    /// The same in a group of libvirt's, which runs it as `g` on CPUs 0-3 and memory of node 0.
    pub(super) fn in_libvirt(self) -> Self {
        let world = self.in_a_group();
        let mut state = world.0.borrow_mut();
        let record = &mut state.journal.moves[0];
        let libvirt = LibvirtGuest { name: "g".to_owned(), uuid: "u-1".to_owned() };
        let cage = record.cage.as_mut().expect("a group");
        (cage.cpus, cage.libvirt) = ("0-3".to_owned(), Some(libvirt));
        record.threads = vec![Threads { cpus: cpus("0-3"), ids: vec![100, 101, 102] }];
        for own in state.threads.values_mut() {
            *own = cpus("0-3");
        }
        for pinned in [EMULATOR, VCPU, IOTHREAD] {
            state.pins.insert(pinned.to_owned(), cpus("0-3"));
        }
        state.files.insert("/run/libvirt/qemu/g.pid".to_owned(), "100\n".to_owned());
        drop(state);
        world
    }

    /// What a file has, or what virsh says to a question: `virsh dominfo`.
    pub(super) fn set_text(&self, name: &str, text: &str) {
        self.0.borrow_mut().files.insert(name.to_owned(), text.to_owned());
    }

    /// A user pins the vCPU by virsh.
    pub(super) fn pin_vcpu(&self, list: &str) {
        self.0.borrow_mut().pin(VCPU, cpus(list));
    }

    /// The same with a target of both nodes, of which the old one keeps so many pages.
    pub(super) fn keeping_its_node(self, kept: u64) -> Self {
        let mut state = self.0.borrow_mut();
        let count: u64 = state.before.values().sum();
        let share = |node, pages: u64| Share { node, bytes: pages * PAGE };
        let record = &mut state.journal.moves[0];
        record.target = vec![share(0, kept), share(1, count - kept)];
        record.to = nodes("0-1");
        drop(state);
        self
    }

    /// The same with every second page read and never written.
    pub(super) fn zeros(self) -> Self {
        let world = self.marked(true);
        let mut state = world.0.borrow_mut();
        state.zeros = state.marked.clone();
        drop(state);
        world
    }

    /// The same with every second page marked by the kernel; only where it is readable marks can be taken off.
    pub(super) fn marked(self, readable: bool) -> Self {
        let mut state = self.0.borrow_mut();
        state.marked = state.pages.keys().copied().step_by(2).collect();
        state.readable = readable;
        drop(state);
        self
    }

    /// The same with every third page on node 2, and a target of two nodes.
    pub(super) fn spread(self) -> Self {
        let mut state = self.0.borrow_mut();
        for (at, page) in state.pages.values_mut().enumerate() {
            if at % 3 == 0 {
                page.0 = NodeId(2);
            }
        }
        state.before = by_node(&state.pages);
        let count: u64 = state.before.values().sum();
        let shares = |parts: &BTreeMap<u32, u64>| -> Vec<Share> {
            parts.iter().map(|(&node, &pages)| Share { node, bytes: pages * PAGE }).collect()
        };
        let source = shares(&state.before);
        let target = shares(&[(1, count / 2), (3, count - count / 2)].into());
        let cage = state.journal.moves[0].cage.is_some();
        let record = &mut state.journal.moves[0];
        (record.source, record.target) = (source, target);
        (record.from, record.to) = (nodes("0,2"), nodes("1,3"));
        if let Some(cage) = &mut record.cage {
            cage.mems = "0,2".to_owned();
        }
        if cage {
            state.files.insert("/g/cpuset.mems".to_owned(), "0,2".to_owned());
        }
        drop(state);
        self
    }

    pub(super) fn saved(&self) -> Journal {
        self.0.borrow().journal.clone()
    }

    pub(super) fn operations(&self) -> u32 {
        self.0.borrow().operations
    }

    /// The process that moves is killed after so many operations.
    pub(super) fn end_after(&self, operations: u32) {
        let mut state = self.0.borrow_mut();
        state.ends = Some(state.operations + operations);
    }

    /// Another process comes. What the killed one held for itself ended with it.
    pub(super) fn restart(&self) {
        let mut state = self.0.borrow_mut();
        (state.ends, state.hold) = (None, false);
    }

    pub(super) fn refuse(&self, operation: u32) {
        self.0.borrow_mut().refused = Some(operation);
    }

    pub(super) fn guest_ends_after(&self, operations: u32) {
        self.0.borrow_mut().guest_ends = Some(operations);
    }

    /// So many threads are born, one at each look at the threads or the pages.
    pub(super) fn births(&self, count: u32) {
        self.0.borrow_mut().births = count;
    }

    /// Others have the nodes that the guest would go to next.
    pub(super) fn occupy(&self, occupied: bool) {
        self.0.borrow_mut().occupied = occupied;
    }

    /// A user gives a thread other CPUs.
    pub(super) fn pin(&self, thread: u32, list: &str) {
        self.0.borrow_mut().threads.insert(thread, cpus(list));
    }

    pub(super) fn cpus_of(&self, thread: u32) -> String {
        self.0.borrow().threads[&thread].to_string()
    }

    pub(super) fn set_room(&self, node: NodeId, pages: u64) {
        self.0.borrow_mut().room.insert(node, pages);
    }

    pub(super) fn threads_count(&self) -> usize {
        self.0.borrow().threads.len()
    }

    pub(super) fn thread_moves(&self) -> u32 {
        self.0.borrow().thread_moves
    }

    pub(super) fn holds(&self) -> bool {
        self.0.borrow().hold
    }

    pub(super) fn paused(&self) -> Duration {
        self.0.borrow().paused
    }

    /// Checks that every page is on one of the two sets, and pinned ones where they were.
    pub(super) fn check_sets(&self) {
        let state = self.0.borrow();
        let record = &state.journal.moves[0];
        for (page, (node, pinned)) in &state.pages {
            let known = record.from.contains(*node) || record.to.contains(*node);
            assert!(known && (!pinned || record.from.contains(*node)), "{page}: {node:?}");
        }
    }

    /// Returns where everything is: threads, memory, group, claims, and no hold is left.
    pub(super) fn placed(&self) -> Placed {
        let state = self.0.borrow();
        let record = &state.journal.moves[0];
        let here = state.threads.iter().all(|(id, cpus)| *cpus == record.cpus_before(*id));
        let there = state.threads.values().all(|cpus| *cpus == record.cpus);
        let file = |name: &str| state.files.get(&format!("/g/{name}")).cloned();
        let (mut cpus, mems) = (file("cpuset.cpus"), file("cpuset.mems"));
        if let Some(first) = state.pins.values().next() {
            let same = state.pins.values().all(|pinned| pinned == first);
            cpus = same.then(|| first.to_string());
        }
        let cage = record.cage.as_ref();
        let free = || state.pages.values().filter(|(_, pinned)| !pinned);
        let as_wanted = || {
            let now = by_node(&state.pages);
            let parts = record.target.iter().filter(|share| share.bytes > 0).count();
            parts < 2
                || record.target.iter().all(|share| {
                    let pages = now.get(&share.node).copied().unwrap_or(0);
                    pages.abs_diff(share.bytes / PAGE) <= 1
                })
        };
        let is_there = there
            && free().all(|(node, _)| record.to.contains(*node))
            && as_wanted()
            && cage.is_none_or(|_| {
                cpus == Some(record.cpus.to_string()) && mems == Some(record.to.to_string())
            });
        let is_here = here
            && by_node(&state.pages) == state.before
            && cage.is_none_or(|cage| {
                cpus.as_ref() == Some(&cage.cpus) && mems.as_ref() == Some(&cage.mems)
            });
        match (is_here, is_there, state.claims_there, state.hold) {
            (true, false, false, false) => Placed::Here,
            (false, true, true, false) => Placed::There,
            _ => Placed::Neither,
        }
    }

    /// Counts an operation; one that is refused changes nothing, and one after the end neither.
    fn operation(&self) -> Result<RefMut<'_, State>, Errno> {
        let mut state = self.0.borrow_mut();
        if state.ends.is_some_and(|end| state.operations >= end) {
            return Err(Errno::EINTR);
        }
        state.operations += 1;
        if state.refused == Some(state.operations - 1) {
            return Err(Errno::EPERM);
        }
        Ok(state)
    }
}

impl State {
    /// A thread is born, with the CPUs of the one that makes it: the youngest.
    fn bear(&mut self) {
        if self.births > 0 {
            let (&youngest, cpus) = self.threads.iter().next_back().expect("threads");
            let cpus = cpus.clone();
            self.threads.insert(youngest + 1, cpus);
        }
        self.births = self.births.saturating_sub(1);
    }
}

impl State {
    /// As libvirt: what it knows, then the threads.
    fn pin(&mut self, pinned: &str, list: CpuSet) {
        for (&id, own) in &mut self.threads {
            let known = match id {
                101 => VCPU,
                102 => IOTHREAD,
                _ => EMULATOR,
            };
            if known == pinned {
                *own = list.clone();
            }
        }
        self.pins.insert(pinned.to_owned(), list);
    }

    fn hold_to(&mut self, list: &str) -> Result<(), Errno> {
        let mems: NodeSet = nodes(list);
        let first = mems.first().ok_or(Errno::EINVAL)?;
        for (node, pinned) in self.pages.values_mut() {
            if !mems.contains(*node) && !*pinned {
                *node = first;
            }
        }
        Ok(())
    }
}

impl Books for World {
    fn save(&mut self, journal: &Journal) -> Result<(), String> {
        let mut state = self.operation().map_err(|errno| errno.to_string())?;
        state.journal = journal.clone();
        Ok(())
    }

    fn claim(&mut self, _record: &Record, _: Direction, whole: bool) -> Result<(), String> {
        let mut state = self.operation().map_err(|errno| errno.to_string())?;
        if whole && state.occupied {
            return Err("others have its nodes".to_owned());
        }
        state.hold = true;
        Ok(())
    }

    fn settle(&mut self, _record: &Record, direction: Direction) -> Result<(), String> {
        let mut state = self.operation().map_err(|errno| errno.to_string())?;
        (state.claims_there, state.hold) = (direction == Direction::There, false);
        Ok(())
    }
}

impl Host for World {
    fn is_running(&mut self, _guest: &ProcessId) -> Result<bool, Errno> {
        let state = self.0.borrow();
        Ok(state.guest_ends.is_none_or(|end| state.operations < end))
    }

    fn threads(&mut self, _pid: u32) -> Result<Vec<u32>, Errno> {
        let mut state = self.operation()?;
        let threads = state.threads.keys().copied().collect();
        state.bear();
        Ok(threads)
    }

    fn affinity(&mut self, thread: u32) -> Result<CpuSet, Errno> {
        self.operation()?.threads.get(&thread).cloned().ok_or(Errno::ESRCH)
    }

    fn set_affinity(&mut self, _: u32, thread: u32, cpus: &CpuSet) -> Result<(), Errno> {
        let mut state = self.operation()?;
        state.thread_moves += 1;
        *state.threads.get_mut(&thread).ok_or(Errno::ESRCH)? = cpus.clone();
        Ok(())
    }

    fn is_the_kernels(&mut self, _: u32, _: u32) -> bool {
        false
    }

    fn read(&mut self, file: &Path) -> Result<String, Errno> {
        let name = file.to_string_lossy().replace(".effective", "");
        self.operation()?.files.get(&name).cloned().ok_or(Errno::ENOENT)
    }

    /// As the kernel: the threads of a group get its CPUs, and its memory goes to its nodes.
    fn write(&mut self, file: &Path, text: &str) -> Result<(), Errno> {
        let mut state = self.operation()?;
        let name = file.to_string_lossy().into_owned();
        state.files.insert(name.clone(), text.to_owned());
        if name.ends_with("cpuset.cpus") {
            for own in state.threads.values_mut() {
                *own = cpus(text);
            }
        } else {
            state.hold_to(text)?;
        }
        Ok(())
    }

    fn virsh(&mut self, arguments: &[&str]) -> Result<String, String> {
        let mut state = self.operation().map_err(|errno| errno.to_string())?;
        let value = |key: &str| {
            let at = arguments.iter().position(|argument| *argument == key)?;
            arguments.get(at + 1).copied()
        };
        let number = value("--vcpu").or_else(|| value("--iothread"));
        let question = arguments[0];
        if matches!(question, "dominfo" | "dumpxml") {
            let inactive = arguments.contains(&"--inactive");
            let key = format!("virsh {question}{}", if inactive { " --inactive" } else { "" });
            return state.files.get(&key).cloned().ok_or("failed to get domain".to_owned());
        }
        assert_eq!(value("--domain"), Some("u-1"));
        let live = arguments.contains(&"--live");
        match (question, value("--cpulist"), value("--nodeset")) {
            ("numatune", None, Some(list)) if live => {
                if let Some(why) = state.files.get("virsh numatune") {
                    return Err(why.clone());
                }
                state.files.insert("/g/cpuset.mems".to_owned(), list.to_owned());
                state.hold_to(list).map_err(|errno| errno.to_string())?;
                Ok(String::new())
            }
            ("numatune", None, None) => Ok(format!(
                "numa_mode      : restrictive\nnuma_nodeset   : {}\n\n",
                state.files["/g/cpuset.mems"]
            )),
            (_, Some(list), None) if live => {
                let number = number.map(|number| format!(" {number}"));
                let pinned = format!("{question}{}", number.unwrap_or_default());
                assert!(state.pins.contains_key(&pinned), "{pinned}");
                state.pin(&pinned, cpus(list));
                Ok(String::new())
            }
            ("vcpupin", None, None) => Ok(format!(" 0   {}\n\n", state.pins[VCPU])),
            ("iothreadinfo", None, None) => Ok(format!(" 1   {}\n", state.pins[IOTHREAD])),
            ("emulatorpin", None, None) => Ok(format!("       *: {}\n", state.pins[EMULATOR])),
            _ => panic!("{arguments:?}"),
        }
    }

    fn mappings(&mut self, _pid: u32) -> Result<Vec<Mapping>, Errno> {
        let pages = self.operation()?.pages.len() as u64;
        // One more page than is there.
        Ok(vec![Mapping { start: START, bytes: (pages + 1) * PAGE, shared: false }])
    }

    fn page_size(&self) -> u64 {
        PAGE
    }

    fn nodes_of(&mut self, _pid: u32, pages: &[u64]) -> Result<Vec<Option<NodeId>>, Errno> {
        let mut state = self.operation()?;
        let node = |page| Some(state.pages.get(page)?.0).filter(|_| !state.marked.contains(page));
        let nodes = pages.iter().map(node).collect();
        state.bear();
        Ok(nodes)
    }

    fn uncover(&mut self, _pid: u32, pages: &[u64]) -> Result<(Vec<u64>, usize), Errno> {
        let mut state = self.operation()?;
        let there: Vec<u64> =
            pages.iter().copied().filter(|page| state.marked.contains(page)).collect();
        if !state.readable {
            return Ok((Vec::new(), there.len()));
        }
        let State { marked, zeros, .. } = &mut *state;
        marked.retain(|page| zeros.contains(page) || !there.contains(page));
        Ok((there, 0))
    }

    fn move_pages(
        &mut self,
        _pid: u32,
        pages: &[(u64, NodeId)],
        _shared: bool,
    ) -> Result<bool, Errno> {
        let mut state = self.operation()?;
        assert!(state.hold || state.ends.is_some(), "room is held while memory moves");
        let mems = state.files.get("/g/cpuset.mems").map(|list| nodes(list));
        let mut full = false;
        for &(page, to) in pages {
            if mems.as_ref().is_some_and(|mems| !mems.contains(to)) {
                return Err(Errno::EACCES);
            }
            let room = state.room.get(&to).copied().unwrap_or(u64::MAX);
            if state.marked.contains(&page) {
                continue;
            }
            let Some(known) = state.pages.get_mut(&page) else { continue };
            if known.1 || known.0 == to {
                continue;
            }
            if room == 0 {
                full = true;
                continue;
            }
            known.0 = to;
            state.room.insert(to, room - 1);
        }
        Ok(full)
    }

    fn pressure(&mut self, _group: Option<&Path>) -> f64 {
        0.0
    }

    fn now(&mut self) -> Duration {
        self.0.borrow().paused
    }

    fn pause(&mut self, time: Duration) {
        self.0.borrow_mut().paused += time;
    }
}
