//! Writes a file that a flag names; `-` is standard output.

use std::path::Path;

use crate::output;
use placer::atomic_file::{ReplaceError, replace};

/// Writes a file in one step, or standard output if the path is `-`.
///
/// Errors: those of [`replace`]; standard output cannot be written.
pub(crate) fn save(path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    if path == Path::new("-") {
        let failed = |source| ReplaceError::Io { path: path.to_owned(), source };
        return output::answer(content).map_err(failed);
    }
    replace(path, content)
}
