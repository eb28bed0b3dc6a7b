//! A tree of control groups in a temporary directory, and calls on it that can be made to fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use placer_engine::{Limits, NodeSet, SysRoot};
use placer_launcher::cgroup::{Cpuset, Kernel, Live, Tree};
use placer_launcher::guest::{Cgroup, CgroupMode, Guest, Program};
use placer_launcher::systemd::{Scope, ScopeStep};
use placer_launcher::{Binding, LaunchError, MemoryMode};

/// Behaves as the kernel does with control groups, as far as launches go.
pub struct Fake {
    dir: tempfile::TempDir,
    /// Groups that are delegated.
    pub marked: RefCell<BTreeSet<PathBuf>>,
    /// What was called, in order.
    pub calls: RefCell<Vec<String>>,
    /// The call, by its number in `calls`, that fails, and how.
    pub fails: Cell<Option<(usize, Errno)>>,
    /// The scope that systemd makes, whatever it is asked for. `None`: systemd itself is asked.
    pub scope: RefCell<Option<Scope>>,
    /// What a list becomes where the groups around allow less.
    pub narrowed: Cell<Option<&'static str>>,
}

impl Fake {
    /// A tree whose first group has these controllers.
    pub fn new(controllers: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let fake = Self {
            dir,
            marked: RefCell::default(),
            calls: RefCell::default(),
            fails: Cell::new(None),
            scope: RefCell::default(),
            narrowed: Cell::new(None),
        };
        fill(fake.root(), controllers);
        fake
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a group below others, with these controllers in their groups, and returns it.
    pub fn group(&self, path: &str, enabled: &str) -> PathBuf {
        let mut dir = self.root().to_owned();
        for name in path.split('/') {
            put(&dir.join("cgroup.subtree_control"), enabled);
            dir.push(name);
            if !dir.exists() {
                std::fs::create_dir(&dir).expect("a group");
                fill(&dir, enabled);
            }
        }
        dir
    }

    /// The tree as a process in `own` sees it.
    pub fn tree(&self, own: &str, systemd: bool) -> Tree {
        let mount = Some(self.root().to_owned());
        Tree { mount, own: own.to_owned(), cpuset: Cpuset::V2, systemd, root: true }
    }

    /// All groups below the first, sorted.
    pub fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.root().to_owned()];
        while let Some(dir) = open.pop() {
            let inner = Live.dirs(&dir).expect("a group");
            found.extend(inner.iter().cloned());
            open.extend(inner);
        }
        found.sort();
        found
    }

    fn call(&self, what: &str, path: &Path) -> Result<(), Errno> {
        let shown = path.strip_prefix(self.root()).unwrap_or(path).display().to_string();
        let mut calls = self.calls.borrow_mut();
        calls.push(format!("{what} {shown}"));
        match self.fails.get() {
            Some((at, errno)) if at + 1 == calls.len() => Err(errno),
            _ => Ok(()),
        }
    }
}

pub fn put(file: &Path, text: &str) {
    std::fs::write(file, text).expect("a file of a group");
}

pub fn get(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// Puts the files into a group that the kernel would.
fn fill(dir: &Path, controllers: &str) {
    put(&dir.join("cgroup.controllers"), controllers);
    for file in ["cgroup.subtree_control", "cgroup.procs"] {
        put(&dir.join(file), "");
    }
    if controllers.contains("cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            put(&dir.join(file), "");
            put(&dir.join(format!("{file}.effective")), "");
        }
    }
}

impl Kernel for Fake {
    fn make_dir(&self, dir: &Path) -> Result<(), Errno> {
        self.call("make", dir)?;
        Live.make_dir(dir)?;
        let around = dir.parent().expect("the first group");
        fill(dir, &get(&around.join("cgroup.subtree_control")));
        Ok(())
    }

    fn open_dir(&self, dir: &Path) -> Result<OwnedFd, Errno> {
        self.call("open", dir)?;
        Live.open_dir(dir)
    }

    fn lock(&self, dir: BorrowedFd<'_>) -> Result<(), Errno> {
        self.call("lock", Path::new(""))?;
        Live.lock(dir)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), Errno> {
        self.call("remove", dir)?;
        if !Live.dirs(dir)?.is_empty() {
            return Err(Errno::EBUSY);
        }
        // Whoever was written here is in it while it lives, but for this launcher, which moves out.
        // Others' processes may be hidden, and are told by the right that is missing.
        let text = get(&dir.join("cgroup.procs"));
        let alive = |pid: &&str| {
            let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a pid"));
            nix::sys::signal::kill(pid, None) != Err(Errno::ESRCH)
        };
        let me = std::process::id().to_string();
        if text.split_whitespace().filter(alive).any(|pid| pid != me) {
            return Err(Errno::EBUSY);
        }
        std::fs::remove_dir_all(dir).map_err(|_| Errno::EIO)
    }

    fn dirs(&self, dir: &Path) -> Result<Vec<PathBuf>, Errno> {
        self.call("list", dir)?;
        Live.dirs(dir)
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), Errno> {
        self.call(&format!("write {text:?} to"), file)?;
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "cgroup.subtree_control" {
            let mut on: BTreeSet<String> =
                get(file).split_whitespace().map(str::to_owned).collect();
            for word in text.split_whitespace() {
                match word.strip_prefix('+') {
                    Some(added) => on.insert(added.to_owned()),
                    None => on.remove(word.trim_start_matches('-')),
                };
            }
            let on: Vec<String> = on.into_iter().collect();
            put(file, &on.join(" "));
            return Ok(());
        }
        if !file.exists() {
            return Err(Errno::ENOENT);
        }
        if name.starts_with("cpuset.") {
            let allowed = self.narrowed.get().unwrap_or(text);
            put(&file.with_file_name(format!("{name}.effective")), &format!("{allowed}\n"));
        }
        Live.write(file, text)
    }

    fn read(&self, file: &Path) -> Result<String, Errno> {
        self.call("read", file)?;
        Live.read(file)
    }

    fn make_scope(
        &self,
        step: &ScopeStep,
        pid: u32,
        stopped: &dyn Fn() -> Option<Signal>,
    ) -> Result<Scope, LaunchError> {
        let made = self.scope.borrow().clone();
        made.map_or_else(|| Live.make_scope(step, pid, stopped), Ok)
    }

    fn may_change(&self, dir: &Path) -> bool {
        dir.starts_with(self.root()) && dir.is_dir()
    }

    fn is_marked(&self, dir: &Path, attribute: &CStr) -> bool {
        attribute == c"user.delegate" && self.marked.borrow().contains(dir)
    }
}

/// A guest that runs a command in a group.
pub fn guest(mode: CgroupMode, parent: Option<&str>) -> Guest {
    let program = Program::Command(vec!["true".into()]);
    let mut guest = Guest::new("g".parse().expect("a name"), program);
    guest.cgroup = Cgroup { mode, parent: parent.map(str::to_owned) };
    guest
}

/// Returns a binding that this machine can do.
pub fn binding() -> Binding {
    let limits = Limits::read(&SysRoot::live()).expect("a process");
    let cpus = limits.cpus.and_then(|cpus| cpus.first()).into_iter().collect();
    let memory: NodeSet = limits.memory_nodes.and_then(|nodes| nodes.first()).into_iter().collect();
    Binding { cpus, preferred: memory.clone(), memory, mode: MemoryMode::Strict }
}
