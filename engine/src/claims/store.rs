//! The ledger's file and its lock.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant as Clock};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, major, minor};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::claim::{Claim, ClaimId};
use super::error::ClaimError;
use super::kept::Kept;
use super::ledger::{Ledger, lines};
use super::proc_text;
use super::whole::Whole;
use crate::hash::fnv64;
use crate::parse;
use crate::read::Read;
use crate::source::SysRoot;
use crate::store::{StateDir, Version};

/// The longest wait for the holder of the ledger's lock: a caller that asks for advice is about to
/// start a guest.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// Pauses between two attempts at the lock: such a part of the time waited, from and to.
const PAUSE_PART: u32 = 32;
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// A queue that moves is waited in for so many times as long, since all who are in it want the
/// same, and an answer without a claim would promise their memory again. 64 guests that start at
/// once on two CPUs take longer than one holder may.
const QUEUE: u32 = 20;
/// A ledger of this size, in bytes, is written before the lock is taken, but for what is added under it. The system calls
/// that this takes cost more than to write a smaller one.
const WRITTEN_BEFORE: usize = 64 << 10;
/// The largest ledger, in bytes: larger ones are not written, and of what is larger no more is read.
pub(super) const MAX_LEDGER: usize = 8 << 20;

/// Readable by all: other users' advice counts what root was promised.
const MODE: Mode = Mode::from_bits_truncate(0o644);

/// One host's ledger as a file: `claims.jsonl` in a state directory, a line a claim.
///
/// Readers take no lock: the file is replaced as a whole. Claims of a recorded machine have a file
/// of their own, by its canonical path.
#[derive(Debug)]
pub struct ClaimFile<S = System> {
    dir: StateDir,
    ledger: String,
    lock: String,
    temporary: String,
    known: Kept,
    steps: S,
}

/// The steps by which the ledger is changed. Tests fail each, or end the process there.
pub(super) trait Steps {
    /// Is asked before each step.
    fn before(&self, _step: Step) -> io::Result<()> {
        Ok(())
    }

    /// Writes the new ledger.
    fn write(&self, file: &mut File, text: &[u8]) -> io::Result<()> {
        file.write_all(text)
    }
}

/// One step, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A large ledger is written to a file without a name, which ends with its process.
    Prepare,
    OpenLock,
    Lock,
    /// The holder's name is written into the lock file.
    Sign,
    Read,
    /// What was decided on is compared with what is there.
    Compare,
    Create,
    Write,
    /// All is written, and in the directory under the temporary name.
    Rename,
    /// The new ledger is in place.
    Unlock,
}

/// The steps as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Steps for System {}

impl ClaimFile {
    /// Opens the directory for the claims of a host; makes it when it is missing.
    ///
    /// Errors: as [`StateDir::open`].
    pub fn open(dir: &Path, root: &SysRoot) -> Result<Self, ClaimError> {
        Ok(Self::in_dir(StateDir::open(dir)?, root, System))
    }

    /// Opens the directory of some user to read it. `None` when it is not there.
    ///
    /// Errors: as [`StateDir::open_of`].
    pub fn open_of(dir: &Path, owner: u32, root: &SysRoot) -> Result<Option<Self>, ClaimError> {
        let dir = StateDir::open_of(dir, owner)?;
        Ok(dir.map(|dir| Self::in_dir(dir, root, System)))
    }
}

// `Steps` is no business of other crates: they have only `System`.
#[expect(private_bounds, reason = "a seam for tests")]
impl<S: Steps> ClaimFile<S> {
    pub(super) fn in_dir(dir: StateDir, root: &SysRoot, steps: S) -> Self {
        let name = if root.is_live() {
            "claims".to_owned()
        } else {
            let path = root.dir().canonicalize().unwrap_or_else(|_| root.dir().to_owned());
            format!("claims-{:016x}", fnv64(path.as_os_str().as_encoded_bytes().iter().copied()))
        };
        Self {
            dir,
            ledger: format!("{name}.jsonl"),
            lock: format!("{name}.lock"),
            // One name for all: only who has the lock writes it, and what a killed writer left is
            // overwritten by the next.
            temporary: format!(".{name}.jsonl.new"),
            known: Kept::default(),
            steps,
        }
    }

    /// Reads nothing again that is known.
    pub(super) fn knowing(mut self, known: &Kept) -> Self {
        self.known = known.clone();
        self
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// Returns where the ledger is.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.ledger)
    }

    /// Reads the ledger, without a lock. One that is not there is empty. Of one that is larger than
    /// placer writes them, the lines that begin it are read, and the only note says so.
    ///
    /// Errors: it cannot be read, belongs to another user, or is no ordinary file.
    pub fn read(&self) -> Result<Read<Ledger>, ClaimError> {
        self.step(Step::Read, "read", &self.ledger)?;
        if let Some(whole) = self.kept() {
            return Ok(Read { value: whole.ledger, notes: Vec::new() });
        }
        let Some(part) = self.dir.read_part(&self.ledger, MAX_LEDGER)? else {
            return Ok(Read { value: Ledger::default(), notes: Vec::new() });
        };
        let mut text = part.text;
        if part.is_all {
            return Ok(self.parse(&text));
        }
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        let mut read = self.parse(&text);
        let path = self.path();
        read.notes = vec![format!(
            "{}: expected at most {MAX_LEDGER} bytes, found more: what comes after is not counted",
            path.display()
        )];
        Ok(read)
    }

    /// Reads the ledger without a lock, to be changed if nobody changes it before.
    ///
    /// Errors: as [`read`](Self::read); it is larger than placer writes them.
    pub(super) fn observe(&self) -> Result<Read<Observed<'_, S>>, ClaimError> {
        self.step(Step::Read, "read", &self.ledger)?;
        if let Some(Whole { version, text, ledger }) = self.kept() {
            let (before, version) = (ledger.clone(), Some(version));
            let (written, damaged) = (None, false);
            let observed = Observed { file: self, ledger, written, before, text, damaged, version };
            return Ok(Read { value: observed, notes: Vec::new() });
        }
        let (text, version) = match self.dir.read_part(&self.ledger, MAX_LEDGER)? {
            Some(part) if part.is_all => (part.text, Some(part.version)),
            // The error that names the limit.
            Some(_) => (self.dir.read(&self.ledger, MAX_LEDGER)?.unwrap_or_default(), None),
            None => (Vec::new(), None),
        };
        let Read { value: ledger, notes } = self.parse(&text);
        let (before, damaged) = (ledger.clone(), !notes.is_empty());
        let (text, version) = (Arc::new(text), version.map(Arc::new));
        if !damaged && let Some(version) = &version {
            self.keep_known(version, &text, &ledger);
        }
        Ok(Read {
            value: Observed { file: self, ledger, written: None, before, text, damaged, version },
            notes,
        })
    }

    /// Returns the ledger as it was read or written last, if the file is still that one.
    fn kept(&self) -> Option<Whole> {
        self.known.file.get(|version| self.dir.is_still(&self.ledger, Some(version)))
    }

    fn keep_known(&self, version: &Arc<Version>, text: &Arc<Vec<u8>>, ledger: &Ledger) {
        let (version, text) = (Arc::clone(version), Arc::clone(text));
        self.known.file.keep(|| Whole { version, text, ledger: ledger.clone() });
    }

    fn parse(&self, text: &[u8]) -> Read<Ledger> {
        // Another thread that reads at the moment is not waited for.
        let mut read = match self.known.lines.0.try_lock() {
            Ok(mut lines) => Ledger::parse_again(text, &mut lines),
            Err(_) => Ledger::parse(text),
        };
        let path = self.path();
        for note in &mut read.notes {
            *note = format!("{}: {note}", path.display());
        }
        read
    }

    /// Takes the lock, waiting at most `patience` for any one holder, and reads the ledger under it.
    ///
    /// Errors: [`ClaimError::Locked`] when it cannot be had in time; as [`read`](Self::read).
    pub fn lock(&self, patience: Duration) -> Result<Read<Locked<'_, S>>, ClaimError> {
        let lock = self.wait_for_lock(patience)?;
        let Read { value: observed, notes } = self.observe()?;
        Ok(Read { value: Locked { observed, lock }, notes })
    }

    fn wait_for_lock(&self, patience: Duration) -> Result<Flock<File>, ClaimError> {
        let start = Clock::now();
        let mut holder = Vec::new();
        let mut since = start;
        let mut file = self.open_lock()?;
        self.step(Step::Lock, "lock", &self.lock)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) if self.is_in_place(&lock) => {
                    self.sign(&mut lock);
                    return Ok(lock);
                }
                // Somebody removed the file: another may hold the lock of its successor.
                Ok(_) => file = self.open_lock()?,
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, e)) => return Err(self.error("lock", &self.lock, e.into())),
            }
            let now = Clock::now();
            let signed = signature(&file);
            if signed != holder {
                // It has changed hands: a queue that moves is no reason to give up.
                (holder, since) = (signed, now);
            }
            let waited = now.duration_since(since);
            if waited >= patience || now.duration_since(start) >= patience * QUEUE {
                let path = self.dir.path().join(&self.lock);
                let signed = || parse::number(&holder).and_then(|(pid, _)| u32::try_from(pid).ok());
                let holder = holder_of(&file).or_else(signed);
                return Err(ClaimError::Locked { path, holder, waited });
            }
            // Asked again and again, since a blocked flock cannot be given up. A pause is a part of the
            // time waited so far: the longer the queue, the more there are to ask, so the lock is
            // never free for long, and a thousand do not spend the CPUs on asking.
            let pause = (now.duration_since(start) / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
            std::thread::sleep(pause.min(patience.saturating_sub(waited)));
        }
    }

    fn open_lock(&self) -> Result<File, ClaimError> {
        self.step(Step::OpenLock, "open", &self.lock)?;
        // 0600: who may not open it cannot hold it.
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mode = Mode::from_bits_truncate(0o600);
        let file = openat(self.dir.fd(), self.lock.as_str(), flags | OFlag::O_CLOEXEC, mode)
            .map(File::from)
            .map_err(|e| self.error("open", &self.lock, e.into()))?;
        // Somebody may have loosened it. What cannot be mended is waited for like any other lock.
        if fstat(&file).is_ok_and(|stat| stat.st_mode & 0o077 != 0) {
            let _ = fchmod(&file, mode);
        }
        Ok(file)
    }

    /// Writes into the lock file who holds it, by which those who wait see that it changes hands,
    /// and whom to name when it does not. A full disk is no reason not to have the lock.
    fn sign(&self, lock: &mut File) {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        if self.steps.before(Step::Sign).is_err() {
            return;
        }
        let _ = lock.write_all_at(format!("{} {call:<10}\n", std::process::id()).as_bytes(), 0);
    }

    fn is_in_place(&self, lock: &File) -> bool {
        let here = fstatat(self.dir.fd(), self.lock.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        match (fstat(lock), here) {
            (Ok(ours), Ok(here)) => (ours.st_dev, ours.st_ino) == (here.st_dev, here.st_ino),
            _ => false,
        }
    }

    /// Puts a new ledger in place of the old one. The lock is held. `begun` is a file without a name that has the
    /// beginning of the text, up to a length.
    fn replace(
        &self,
        lock: &File,
        text: &[u8],
        begun: Option<(File, usize)>,
    ) -> Result<Option<Version>, ClaimError> {
        let written = match begun {
            Some((file, length)) => self.write_rest(file, text, length),
            None => self.write(text),
        };
        let placed = written.and_then(|file| {
            if !self.is_in_place(lock) {
                // Somebody removed the lock's file meanwhile, and another may have claimed.
                let path = self.dir.path().join(&self.lock);
                return Err(ClaimError::Locked { path, holder: None, waited: Duration::ZERO });
            }
            self.step(Step::Rename, "rename", &self.temporary)?;
            renameat(self.dir.fd(), self.temporary.as_str(), self.dir.fd(), self.ledger.as_str())
                .map_err(|e| self.error("rename", &self.temporary, e.into()))?;
            Ok(Version::of(file))
        });
        if placed.is_err() {
            // What cannot be removed either is overwritten by the next.
            let name = self.temporary.as_str();
            let _ = unlinkat(self.dir.fd(), name, UnlinkatFlags::NoRemoveDir);
        }
        placed
    }

    /// Writes to a file without a name, which ends with this process. `None` where that cannot be.
    fn write_unnamed(&self, text: &[u8]) -> Option<File> {
        self.step(Step::Prepare, "write", &self.temporary).ok()?;
        let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let fd = openat(self.dir.fd(), ".", flags, MODE).ok()?;
        fchmod(fd.as_fd(), MODE).ok()?;
        let mut file = File::from(fd);
        file.write_all(text).ok()?;
        Some(file)
    }

    /// Adds the rest of the text to a file without a name, and gives it the temporary name.
    fn write_rest(&self, mut file: File, text: &[u8], length: usize) -> Result<File, ClaimError> {
        let name = self.temporary.as_str();
        self.step(Step::Write, "write", name)?;
        let written = self.steps.write(&mut file, &text[length..]);
        written.map_err(|e| self.error("write", name, e))?;
        self.step(Step::Create, "create", name)?;
        self.remove_temporary()?;
        // The other way to name it takes a capability.
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        match linkat(nix::fcntl::AT_FDCWD, unnamed.as_str(), self.dir.fd(), name, follow) {
            Ok(()) => Ok(file),
            // No `/proc`, or that of another pid namespace.
            Err(_) => self.write(text),
        }
    }

    fn write(&self, text: &[u8]) -> Result<File, ClaimError> {
        let name = self.temporary.as_str();
        self.step(Step::Create, "create", name)?;
        self.remove_temporary()?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(self.dir.fd(), name, flags, MODE)
            .map_err(|e| self.error("create", name, e.into()))?;
        fchmod(fd.as_fd(), MODE).map_err(|e| self.error("create", name, e.into()))?;
        self.step(Step::Write, "write", name)?;
        let mut file = File::from(fd);
        self.steps.write(&mut file, text).map_err(|e| self.error("write", name, e))?;
        Ok(file)
    }

    fn remove_temporary(&self) -> Result<(), ClaimError> {
        let name = self.temporary.as_str();
        match unlinkat(self.dir.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.error("replace", name, e.into())),
        }
    }

    fn step(&self, step: Step, attempted: &'static str, name: &str) -> Result<(), ClaimError> {
        self.steps.before(step).map_err(|e| self.error(attempted, name, e))
    }

    fn error(&self, attempted: &'static str, name: &str, source: io::Error) -> ClaimError {
        ClaimError::Io { attempted, path: self.dir.path().join(name), source }
    }
}

/// The ledger as it was read.
#[derive(Debug)]
pub(super) struct Observed<'a, S = System> {
    file: &'a ClaimFile<S>,
    /// What may be changed.
    pub(super) ledger: Ledger,
    written: Option<Written>,
    before: Ledger,
    /// What was read, by which lines that have not changed are written again.
    text: Arc<Vec<u8>>,
    damaged: bool,
    version: Option<Arc<Version>>,
}

/// What of a new ledger is made before the lock is taken.
#[derive(Debug)]
struct Written {
    /// How many claims the text has: the first ones of the ledger.
    claims: usize,
    text: Vec<u8>,
    /// Has the text.
    file: Option<File>,
}

impl<'a, S: Steps> Observed<'a, S> {
    /// Returns the size of the ledger in bytes, as it was read.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    /// Makes the text of all claims, so that only a new one has to be added under the lock.
    pub(super) fn prepare(&mut self) {
        let claims = self.ledger.claims().len();
        self.written = Some(Written { claims, text: self.claims_text(), file: None });
    }

    fn claims_text(&self) -> Vec<u8> {
        // Lines of a damaged ledger are not those of its claims.
        let text = if self.damaged { &[][..] } else { self.text.as_slice() };
        let lines: Vec<&[u8]> = lines(text).filter(|line| !line.is_empty()).collect();
        self.ledger.claims_after(&self.before, &lines)
    }

    /// Takes the lock, as [`ClaimFile::lock`]. `None` where the ledger was changed since it was read.
    ///
    /// Errors: as there.
    pub(super) fn lock(mut self, patience: Duration) -> Result<Option<Locked<'a, S>>, ClaimError> {
        if let Some(written) = self.written.as_mut().filter(|w| w.text.len() >= WRITTEN_BEFORE) {
            written.file = self.file.write_unnamed(&written.text);
        }
        let lock = self.file.wait_for_lock(patience)?;
        self.file.step(Step::Compare, "read", &self.file.ledger)?;
        let same = self.file.dir.is_still(&self.file.ledger, self.version.as_deref());
        Ok(same.then_some(Locked { observed: self, lock }))
    }
}

impl<S: Steps> Observed<'_, S> {
    /// Writes the ledger. Returns what is there now.
    fn write(&mut self, lock: &File) -> Result<(Vec<u8>, Option<Version>), ClaimError> {
        let written = self.written.take().unwrap_or_else(|| {
            let claims = self.ledger.claims().len();
            Written { claims, text: self.claims_text(), file: None }
        });
        let Written { claims, mut text, file } = written;
        let mut begun = file.map(|file| (file, text.len()));
        self.ledger.end_text(&mut text, claims);
        if text.len() > MAX_LEDGER {
            self.ledger.forget_seen();
            (text, begun) = (self.ledger.to_text(), None);
        }
        if text.len() > MAX_LEDGER {
            return Err(ClaimError::TooLarge { limit: MAX_LEDGER });
        }
        let version = self.file.replace(lock, &text, begun)?;
        Ok((text, version))
    }
}

/// The ledger while its lock is held. Dropping it changes nothing.
#[derive(Debug)]
pub struct Locked<'a, S = System> {
    pub(super) observed: Observed<'a, S>,
    lock: Flock<File>,
}

#[expect(private_bounds, reason = "a seam for tests")]
impl<S: Steps> Locked<'_, S> {
    /// Returns what may be changed, and is kept by [`keep`](Self::keep).
    pub fn ledger(&mut self) -> &mut Ledger {
        self.observed.written = None;
        &mut self.observed.ledger
    }

    /// Adds a claim, as [`Ledger::add`].
    pub(super) fn add(&mut self, claim: Claim) -> Option<ClaimId> {
        self.observed.ledger.add(claim)
    }

    /// Writes the ledger if it has changed, and lets go of the lock.
    ///
    /// Errors: the kernel refused a step. The file is then as it was before.
    pub fn keep(self) -> Result<(), ClaimError> {
        let Self { mut observed, lock } = self;
        let changed = observed.ledger != observed.before;
        let written = changed.then(|| observed.write(&lock)).transpose()?;
        // What is kept is kept: that the lock ends with the process is soon enough.
        let _ = observed.file.steps.before(Step::Unlock);
        drop(lock);
        if let Some((text, Some(version))) = written
            && !observed.damaged
        {
            observed.file.keep_known(&Arc::new(version), &Arc::new(text), &observed.ledger);
        }
        Ok(())
    }
}

/// Returns what the holder of the lock wrote into it.
fn signature(lock: &File) -> Vec<u8> {
    let mut text = [0; 32];
    let length = lock.read_at(&mut text, 0).unwrap_or(0);
    text[..length].to_vec()
}

/// Returns the process that holds a lock, as the kernel tells it: who holds it need not have signed.
fn holder_of(lock: &File) -> Option<u32> {
    const LONGEST: u64 = 1 << 20;
    let stat = fstat(lock).ok()?;
    let mut text = Vec::new();
    File::open("/proc/locks").ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    proc_text::lock_holder(&text, major(stat.st_dev), minor(stat.st_dev), stat.st_ino)
}

#[cfg(test)]
mod tests;
