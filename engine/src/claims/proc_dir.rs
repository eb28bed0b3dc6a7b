//! A `/proc`, of this host or a recorded one.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstatat};

/// So many processes are looked through at most: more than a host of a thousand guests has, and a
/// third of a second at once a minute.
pub(super) const MOST_PROCESSES: usize = 131_072;
/// No status, stat or sensible command line of a process is longer; the rest is not read.
const LONGEST: usize = 64 << 10;
/// Some ten mappings.
const FIRST_MAPS: usize = 1024;
const LONGEST_MAPS: usize = 1 << 20;
/// Thousands of mounts, as hosts of containers have.
const LONGEST_MOUNTS: usize = 4 << 20;

/// A `/proc`, kept open. What was read last is in [`text`](Self::text).
#[derive(Debug)]
pub(super) struct ProcDir {
    dir: OwnedFd,
    path: PathBuf,
    name: String,
    text: Vec<u8>,
}

impl ProcDir {
    /// Opens a directory.
    pub(super) fn open(path: &Path) -> Result<Self, nix::Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(nix::fcntl::AT_FDCWD, path, flags, Mode::empty())?;
        Ok(Self { dir, path: path.to_owned(), name: String::new(), text: Vec::new() })
    }

    /// Returns what was read last.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Lists the processes, at most so many as are looked through.
    pub(super) fn pids(&self) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(&self.path) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names.take(MOST_PROCESSES).collect()
    }

    /// Lists the threads of a process; `None` where there are more than `most`, or none is seen.
    pub(super) fn threads(&self, pid: u32, most: usize) -> Option<Vec<u32>> {
        let entries = std::fs::read_dir(self.path.join(format!("{pid}/task"))).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let threads: Vec<u32> = names.take(most.saturating_add(1)).collect();
        (!threads.is_empty() && threads.len() <= most).then_some(threads)
    }

    /// Reads a file of a process. Returns whether there was one, with something in it.
    pub(super) fn read(&mut self, pid: u32, file: &str) -> bool {
        self.name.clear();
        // Writing to a string does not fail.
        let _ = write!(self.name, "{pid}/{file}");
        self.fill(LONGEST)
    }

    /// Reads the `stat` of a process's first thread: the same start, parent, state and name as in
    /// the `stat` of the process, without the sums over all threads that the kernel makes for that
    /// one. These take milliseconds where there are thousands of threads.
    pub(super) fn read_leader_stat(&mut self, pid: u32) -> bool {
        self.name.clear();
        let _ = write!(self.name, "{pid}/task/{pid}/stat");
        self.fill(LONGEST)
    }

    /// Reads the beginning of a process's `numa_maps`: each line costs the kernel a walk over the pages
    /// of a mapping. Returns whether there was one, with something in it.
    pub(super) fn read_first_maps(&mut self, pid: u32) -> bool {
        self.name.clear();
        let _ = write!(self.name, "{pid}/numa_maps");
        self.fill(FIRST_MAPS)
    }

    /// Reads the mappings of a process, the first ten thousand or so: no page is looked at for them.
    pub(super) fn read_maps(&mut self, pid: u32) -> bool {
        self.name.clear();
        let _ = write!(self.name, "{pid}/maps");
        self.fill(LONGEST_MAPS)
    }

    /// Lists up to `most` open descriptors of a process; none where this user may not know.
    pub(super) fn descriptors(&self, pid: u32, most: usize) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(self.path.join(format!("{pid}/fd"))) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        names.take(most).collect()
    }

    /// Reads a file of the host.
    pub(super) fn read_own(&mut self, file: &str) -> bool {
        self.name.clear();
        self.name.push_str(file);
        self.fill(if file.ends_with("mounts") { LONGEST_MOUNTS } else { LONGEST })
    }

    /// Returns when the directory of a process was first looked up, in nanoseconds since 1970. It is never that of
    /// an earlier process of the pid. The kernel may forget it meanwhile: then it is younger.
    pub(super) fn made_ns(&self, pid: u32) -> Option<u64> {
        let meta = self.meta(pid)?;
        // Not the time of modification, which a user can set for its own files.
        let seconds = u64::try_from(meta.st_ctime).ok()?;
        seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(meta.st_ctime_nsec).ok()?)
    }

    /// Returns the user who owns the directory of a process: its effective one, and root where the process may not
    /// be looked into by that user.
    pub(super) fn owner(&self, pid: u32) -> Option<u32> {
        self.meta(pid).map(|meta| meta.st_uid)
    }

    fn meta(&self, pid: u32) -> Option<FileStat> {
        fstatat(self.dir.as_fd(), pid.to_string().as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }

    /// Returns where a link of a process leads.
    pub(super) fn link(&self, pid: u32, file: &str) -> Option<Vec<u8>> {
        let link = readlinkat(self.dir.as_fd(), format!("{pid}/{file}").as_str()).ok()?;
        Some(link.as_encoded_bytes().to_vec())
    }

    fn fill(&mut self, longest: usize) -> bool {
        self.text.clear();
        // In a recording there may be anything in a file's place.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let Ok(fd) = openat(self.dir.as_fd(), self.name.as_str(), flags, Mode::empty()) else {
            return false;
        };
        let mut file = File::from(fd);
        self.text.resize(longest.min(4096), 0);
        let mut filled = 0;
        loop {
            match file.read(&mut self.text[filled..]) {
                // The kernel ends a reading between two lines: a short one is not the end.
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    if filled >= longest {
                        break;
                    }
                    if filled == self.text.len() {
                        self.text.resize(filled * 2, 0);
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.text.clear();
                    return false;
                }
            }
        }
        self.text.truncate(filled);
        filled > 0
    }
}
