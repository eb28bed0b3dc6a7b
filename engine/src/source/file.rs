//! Opening and reading one kernel file, with a bound on everything.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::error::SourceError;

/// Sizes no kernel exceeds. A cpulist of 8,192 alternating CPUs has 40 KB, /proc/stat of as many
/// CPUs about 1 MB and a long line of interrupts.
pub(super) const SMALL: usize = 1 << 20;
pub(super) const LARGE: usize = 16 << 20;

/// Opens a file for reading. `None` when it is not there.
///
/// Never waits: a FIFO in a recorded tree would block an ordinary open for ever. Close-on-exec.
pub(super) fn open(path: &Path) -> Result<Option<File>, SourceError> {
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    match opened {
        // The kernel's own: to ask what it is costs a twentieth of an answer.
        Ok(file) if is_kernels(path) => Ok(Some(file)),
        Ok(file) => match file.metadata() {
            Ok(kind) if kind.is_file() => Ok(Some(file)),
            Ok(_) => Err(SourceError::NotAFile { path: path.to_owned() }),
            Err(e) => Err(SourceError::io(path, e)),
        },
        // ENOTDIR: a file lies where a directory of the path should be.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(SourceError::io(path, e)),
    }
}

/// Says whether a file is of the live kernel, or of a process's own view of it; recorded trees are elsewhere.
fn is_kernels(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/sys")
}

/// Says whether the kernel makes a file as a whole at each reading, and gives it all where there is room.
fn is_made_at_once(path: &Path) -> bool {
    path.starts_with("/sys") || path.starts_with("/proc/sys") || path == Path::new("/proc/meminfo")
}

/// Bytes of a file. The buffer keeps its size between files, and is not cleared between them.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Buffer {
    /// Returns what was read last.
    pub(super) fn text(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Reads an open file from its start, in place of what was read before.
    ///
    /// `enough` is asked after each piece and may end the reading early.
    pub(super) fn fill(
        &mut self,
        file: &File,
        path: &Path,
        limit: usize,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), SourceError> {
        const FIRST: usize = 4096;
        // To find the end of these would make them anew: less than a page is all. Longer ones, lists of CPUs, come a
        // page at a time, whatever the room.
        let at_once = is_made_at_once(path);
        self.filled = 0;
        loop {
            if self.filled == self.bytes.len() {
                self.bytes.resize((self.filled * 2).max(FIRST), 0);
            }
            // Kernel files are made anew when they are read at offset 0.
            let offset = u64::try_from(self.filled).unwrap_or(u64::MAX);
            match file.read_at(&mut self.bytes[self.filled..], offset) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    self.filled += n;
                    if self.filled > limit {
                        self.filled = 0;
                        return Err(SourceError::TooLarge { path: path.to_owned(), limit });
                    }
                    if enough(self.text()) || (at_once && self.filled < FIRST) {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(SourceError::io(path, e)),
            }
        }
    }
}

/// Reads a whole small file. `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    read_at_most(path, SMALL)
}

/// Reads a whole file that may be long: a host of ten thousand containers has megabytes of mounts.
pub(super) fn read_large(path: &Path) -> Result<Option<Vec<u8>>, SourceError> {
    read_at_most(path, LARGE)
}

fn read_at_most(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut buffer = Buffer::default();
    match buffer.fill(&file, path, limit, |_| false) {
        Ok(()) => Ok(Some(buffer.text().to_vec())),
        // It left between the opening and the reading: as if it had never been there.
        Err(e) if e.is_gone() => Ok(None),
        Err(e) => Err(e),
    }
}
