//! Lines of ledgers that were read before.
//!
//! A line says the same each time, so what was read stays true whatever becomes of the file. A process that decides
//! often reads the few lines that others have changed since, and not a thousand: a line takes 1.5 µs to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::claim::Claim;

/// Lines and their claims, by the ends of the lines: their checksums.
type Known = HashMap<[u8; 8], (Box<[u8]>, Arc<Claim>)>;

/// The claims of the lines that were read last.
#[derive(Debug, Default)]
pub(super) struct Lines(Known);

/// What a process has read of a ledger: at most the claims of one text. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownLines(pub(super) Arc<Mutex<Lines>>);

/// One reading of a text. At its end only the lines of this text are known.
pub(super) struct Reading<'a> {
    before: Known,
    now: &'a mut Lines,
}

impl Lines {
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn again(&mut self) -> Reading<'_> {
        Reading { before: std::mem::take(&mut self.0), now: self }
    }
}

impl Reading<'_> {
    /// Reads a line, as [`Claim::from_line`].
    pub(super) fn claim(&mut self, line: &[u8]) -> Result<Arc<Claim>, String> {
        let end = line.strip_suffix(b"\"}").and_then(|rest| rest.last_chunk::<8>()).copied();
        let known = end.and_then(|end| self.before.remove(&end));
        let (text, claim) = match known {
            Some((text, claim)) if *text == *line => (text, claim),
            _ => (line.into(), Arc::new(Claim::from_line(line)?)),
        };
        if let Some(end) = end {
            self.now.0.insert(end, (text, Arc::clone(&claim)));
        }
        Ok(claim)
    }
}
