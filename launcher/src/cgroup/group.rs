//! A group that was made, and what undoes it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use placer_engine::claims;

use super::kernel::Kernel;
use super::tree::Tree;
use crate::error::LaunchError;
use crate::step::GroupStep;

/// A guest's group. Dropped, everything that was done for it is undone, in reverse order.
pub struct Group<'k> {
    kernel: &'k dyn Kernel,
    dir: PathBuf,
    /// Holds the lock by which others know that its launcher lives. `None` before it is made.
    open: Option<OwnedFd>,
    inode: u64,
    /// Where the guest's process is born, if not in the group itself.
    inner: Option<OwnedFd>,
    undo: Vec<Undo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Undo {
    Remove(PathBuf),
    Disable(PathBuf, Vec<&'static str>),
    /// Out of the first into the second.
    Return(PathBuf, PathBuf),
}

/// Why a step was not done.
struct Refusal {
    errno: Errno,
    /// What was seen, where it is more than an errno.
    seen: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, seen: None }
    }
}

/// How often a group that is still draining is tried to be removed, and how long between.
const TRIES: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(5);

impl<'k> Group<'k> {
    /// Performs the steps that make a group; those of the guest's process and of its end are not
    /// for now. `None` if no group is made.
    ///
    /// Errors: the step that was refused. Those before it are undone then.
    pub fn make(kernel: &'k dyn Kernel, steps: &[GroupStep]) -> Result<Option<Self>, LaunchError> {
        let (dir, undo) = (PathBuf::new(), Vec::new());
        let mut group = Self { kernel, dir, open: None, inode: 0, inner: None, undo };
        for step in steps {
            group.perform(step).map_err(|refusal| {
                let error = step.refused(refusal.errno);
                match refusal.seen {
                    Some(seen) => error.but_seen(seen),
                    None => error,
                }
            })?;
        }
        Ok(group.open.is_some().then_some(group))
    }

    fn perform(&mut self, step: &GroupStep) -> Result<(), Refusal> {
        let kernel = self.kernel;
        let me = || std::process::id().to_string();
        match step {
            GroupStep::Leave { from, to } => {
                kernel.make_dir(to)?;
                self.undo.push(Undo::Remove(to.clone()));
                kernel.write(&to.join("cgroup.procs"), &me())?;
                self.undo.push(Undo::Return(to.clone(), from.clone()));
            }
            GroupStep::Enable { dir, controllers, undone } => {
                kernel.write(&dir.join("cgroup.subtree_control"), &signed('+', controllers))?;
                if *undone {
                    self.undo.push(Undo::Disable(dir.clone(), controllers.clone()));
                }
            }
            GroupStep::Make { dir } => {
                sweep(kernel, dir.parent().unwrap_or(dir));
                self.found(dir)?;
            }
            GroupStep::Hold { dir, file, list } => {
                kernel.write(&dir.join(file), list)?;
                // Written are wishes: the groups around it may allow less.
                let effective = kernel.read(&dir.join(format!("{file}.effective")))?;
                let effective = effective.trim();
                if effective != list {
                    let seen = format!("the groups around it allow only {effective:?} of these");
                    return Err(Refusal { errno: Errno::ERANGE, seen: Some(seen) });
                }
            }
            GroupStep::Inner { dir } => {
                kernel.make_dir(dir)?;
                self.inner = Some(kernel.open_dir(dir)?);
            }
            GroupStep::Enter { .. } | GroupStep::Scope(_) | GroupStep::Remove { .. } => {}
        }
        Ok(())
    }

    /// Makes the directory and takes its lock. Another launcher that sweeps may take it for one
    /// that was left behind, and remove it, before it is locked.
    fn found(&mut self, dir: &Path) -> Result<(), Errno> {
        let mut made = false;
        for _ in 0..TRIES {
            match self.kernel.make_dir(dir) {
                Ok(()) if !made => {
                    made = true;
                    self.undo.push(Undo::Remove(dir.to_owned()));
                }
                Ok(()) => {}
                Err(Errno::EEXIST) if made => {}
                Err(errno) => return Err(errno),
            }
            let open = match self.kernel.open_dir(dir) {
                Err(Errno::ENOENT) => continue,
                open => open?,
            };
            match self.kernel.lock(open.as_fd()) {
                Err(Errno::EAGAIN) => {
                    std::thread::sleep(BETWEEN);
                    continue;
                }
                locked => locked?,
            }
            let inode = fstat(&open)?.st_ino;
            // Still the one that has this name?
            match self.kernel.open_dir(dir) {
                Ok(again) if fstat(&again)?.st_ino == inode => {}
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            }
            (self.dir, self.open, self.inode) = (dir.to_owned(), Some(open), inode);
            return Ok(());
        }
        Err(Errno::EBUSY)
    }

    /// Returns the open directory, for a process that is to be born in it.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.as_ref().or(self.open.as_ref()).map(AsFd::as_fd)
    }

    /// Returns its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns how a claim names it. `None` where it is not in this tree.
    pub fn claimed(&self, tree: &Tree) -> Option<claims::Cgroup> {
        let below = self.dir.strip_prefix(tree.mount.as_ref()?).ok()?;
        Some(claims::Cgroup { path: format!("/{}", below.to_str()?), inode: self.inode })
    }

    /// Removes the group and undoes what was done for it, when the guest has ended.
    ///
    /// Errors: the first that could not be undone; the others are.
    pub fn remove(mut self) -> Result<(), LaunchError> {
        self.undo_all()
    }

    fn undo_all(&mut self) -> Result<(), LaunchError> {
        let mut first = Ok(());
        while let Some(undo) = self.undo.pop() {
            let done = self.undo(&undo);
            first = first.and(done);
        }
        first
    }

    fn undo(&self, undo: &Undo) -> Result<(), LaunchError> {
        let kernel = self.kernel;
        let (what, done) = match undo {
            Undo::Remove(dir) => {
                let done = remove(kernel, dir, TRIES);
                return done.map_err(|e| GroupStep::Remove { dir: dir.clone() }.refused(e));
            }
            Undo::Disable(dir, controllers) => {
                let file = dir.join("cgroup.subtree_control");
                let text = signed('-', controllers);
                let what = format!("write {text:?} to {}", file.display());
                (what, kernel.write(&file, &text))
            }
            Undo::Return(_, to) => {
                let me = std::process::id().to_string();
                let what = format!("move the launcher back to {}", to.display());
                (what, kernel.write(&to.join("cgroup.procs"), &me))
            }
        };
        done.map_err(|errno| LaunchError::new(what, errno))
    }
}

impl fmt::Debug for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("dir", &self.dir).field("undo", &self.undo).finish()
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        // Whoever drops it has an error to tell already.
        let _ = self.undo_all();
    }
}

fn signed(sign: char, controllers: &[&str]) -> String {
    let signed: Vec<String> = controllers.iter().map(|name| format!("{sign}{name}")).collect();
    signed.join(" ")
}

/// Removes a group and the groups that were made in it, as soon as no process is in them.
fn remove(kernel: &dyn Kernel, dir: &Path, tries: u32) -> Result<(), Errno> {
    let mut left = tries;
    loop {
        left -= 1;
        // Whoever lives in there may want the groups he made, also those that are empty.
        let events = kernel.read(&dir.join("cgroup.events"));
        let populated = events.is_ok_and(|text| text.lines().any(|line| line == "populated 1"));
        match if populated { Err(Errno::EBUSY) } else { remove_all(kernel, dir) } {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY | Errno::EINTR) if left > 0 => {
                std::thread::sleep(BETWEEN);
            }
            Err(errno) => return Err(errno),
        }
    }
}

fn remove_all(kernel: &dyn Kernel, dir: &Path) -> Result<(), Errno> {
    // Some guests make groups of their own.
    for inner in kernel.dirs(dir).unwrap_or_default() {
        let _ = remove_all(kernel, &inner);
    }
    kernel.remove_dir(dir)
}

/// Removes groups whose launcher was killed and whose guest has ended since.
fn sweep(kernel: &dyn Kernel, parent: &Path) {
    for dir in kernel.dirs(parent).unwrap_or_default() {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // As in placer-db1.1234, and not placer-exporter.service.
        let pid = name.strip_prefix("placer-").and_then(|rest| rest.rsplit_once('.'));
        if !pid.is_some_and(|(_, pid)| pid.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        // Who can lock it knows that its launcher has gone. If processes are in it, it stays.
        let Ok(open) = kernel.open_dir(&dir) else { continue };
        if kernel.lock(open.as_fd()).is_ok() {
            let _ = remove(kernel, &dir, 1);
        }
    }
}
