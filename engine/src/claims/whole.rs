//! A ledger that this process has read or written as a whole, with its file, so that it is not read again.

use std::sync::{Arc, Mutex};

use super::ledger::Ledger;
use crate::store::Version;

/// A ledger in which all was understood. Its file is open.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) version: Arc<Version>,
    pub(super) text: Arc<Vec<u8>>,
    pub(super) ledger: Ledger,
}

/// The ledger that a process keeps. Clones share it. By default none is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownFile(Option<Arc<Mutex<Option<Whole>>>>);

impl KnownFile {
    /// Keeps what is read or written last.
    pub(super) fn of_last() -> Self {
        Self(Some(Arc::default()))
    }

    /// Returns what is kept, if `is_still` says that its file is the same. Another thread that keeps something at the
    /// moment is not waited for.
    pub(super) fn get(&self, is_still: impl FnOnce(&Version) -> bool) -> Option<Whole> {
        let whole = self.0.as_ref()?.try_lock().ok()?.clone()?;
        is_still(&whole.version).then_some(whole)
    }

    /// Keeps a ledger in place of the last one.
    pub(super) fn keep(&self, whole: impl FnOnce() -> Whole) {
        if let Some(kept) = &self.0
            && let Ok(mut kept) = kept.try_lock()
        {
            *kept = Some(whole());
        }
    }
}
