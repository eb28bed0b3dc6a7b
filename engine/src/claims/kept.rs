//! What a process that decides often keeps between two decisions.

use super::lines::KnownLines;
use super::watched::KnownOwners;
use super::whole::KnownFile;

/// What is known of the own ledger and of the owners in it. Clones share it. By default this is memory alone.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub(super) lines: KnownLines,
    pub(super) file: KnownFile,
    pub(super) owners: KnownOwners,
}

impl Kept {
    /// Keeps descriptors as well: the ledger's file, and one for each owner, up to `owners`.
    pub fn with_descriptors(owners: usize) -> Self {
        let lines = KnownLines::default();
        Self { lines, file: KnownFile::of_last(), owners: KnownOwners::up_to(owners) }
    }
}
