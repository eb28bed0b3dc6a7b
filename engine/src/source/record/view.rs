//! A host at one moment: its files, directories and links by their path from the root.

use std::io;
use std::path::{Path, PathBuf};

use super::super::SysRoot;
use super::super::file::{self, Buffer, LARGE};
use super::super::root::Overlay;
use super::RecordError;
use super::tree::{is_name, resolve};
use crate::error::{SourceError, is_gone};

/// More names than any directory of a host has.
const MAX_NAMES: usize = 1 << 20;

/// The live host now, or a recorded one at one of its two moments.
pub(super) struct View<'a> {
    pub(super) root: &'a SysRoot,
    /// The second moment of a recorded machine.
    overlay: Option<&'a Overlay>,
    /// A recorded machine's real place: nothing outside it is read. The live kernel is trusted.
    fence: Option<PathBuf>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        root: &'a SysRoot,
        overlay: Option<&'a Overlay>,
    ) -> Result<Self, RecordError> {
        let fence = if root.is_live() {
            None
        } else {
            let real = std::fs::canonicalize(root.dir());
            Some(real.map_err(|e| broken(root, SourceError::io(root.dir(), e)))?)
        };
        Ok(Self { root, overlay, fence })
    }

    /// Reads a file, whole or until `enough` of it is there. `None` when it is not there.
    pub(super) fn read(
        &self,
        relative: &str,
        enough: fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, RecordError> {
        let Some(path) = self.place(relative) else { return Ok(None) };
        let Some(path) = self.fenced(path)? else { return Ok(None) };
        let broken = |e| broken(self.root, e);
        let Some(file) = file::open(&path).map_err(broken)? else { return Ok(None) };
        let mut buffer = Buffer::default();
        match buffer.fill(&file, &path, LARGE, enough) {
            Ok(()) => Ok(Some(buffer.text().to_vec())),
            Err(e) if e.is_gone() => Ok(None),
            Err(e) => Err(broken(e)),
        }
    }

    /// Returns the names in a directory, sorted; none when it is not there.
    pub(super) fn names(&self, relative: &str) -> Result<Vec<String>, RecordError> {
        let mut names = Vec::new();
        self.list(&self.root.path(relative), &mut names)?;
        if let Some(overlay) = self.overlay {
            self.list(&self.root.path("next").join(relative), &mut names)?;
            names.retain(|name| overlay.path(self.root, &format!("{relative}/{name}")).is_some());
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Returns whether a directory is there.
    pub(super) fn is_dir(&self, relative: &str) -> bool {
        self.place(relative).is_some()
            && (self.root.path(relative).is_dir()
                || (self.overlay.is_some() && self.root.path("next").join(relative).is_dir()))
    }

    /// Returns the path, from the root, that a link leads to. `None` when there is no link, or it
    /// leads out of the host.
    pub(super) fn link(&self, relative: &str) -> Option<String> {
        let to = std::fs::read_link(self.place(relative)?).ok()?;
        resolve(relative, to.to_str()?)
    }

    /// Returns whether there is a link, wherever it leads.
    pub(super) fn is_link(&self, relative: &str) -> bool {
        self.place(relative).is_some_and(|path| path.is_symlink())
    }

    /// Returns where a path is found; `None` when it is gone at this moment.
    fn place(&self, relative: &str) -> Option<PathBuf> {
        match self.overlay {
            Some(overlay) => overlay.path(self.root, relative),
            None => Some(self.root.path(relative)),
        }
    }

    /// Follows links, and refuses those that leave a recorded machine.
    fn fenced(&self, path: PathBuf) -> Result<Option<PathBuf>, RecordError> {
        let Some(fence) = &self.fence else { return Ok(Some(path)) };
        match std::fs::canonicalize(&path) {
            Ok(real) if real.starts_with(fence) => Ok(Some(real)),
            Ok(_) => Err(RecordError::Outside { path }),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(broken(self.root, SourceError::io(&path, e))),
        }
    }

    fn list(&self, path: &Path, names: &mut Vec<String>) -> Result<(), RecordError> {
        let Some(path) = self.fenced(path.to_owned())? else { return Ok(()) };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(broken(self.root, SourceError::io(&path, e))),
        };
        for entry in entries {
            let entry = entry.map_err(|e| broken(self.root, SourceError::io(&path, e)))?;
            if names.len() >= MAX_NAMES {
                return Err(super::too_much(self.root));
            }
            if let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)) {
                names.push(name.to_owned());
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    is_gone(error) || error.kind() == io::ErrorKind::NotADirectory
}

fn broken(root: &SysRoot, source: SourceError) -> RecordError {
    RecordError::Source { root: root.dir().to_owned(), source }
}
