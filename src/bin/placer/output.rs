//! What is written where: the answer alone to stdout, everything else to stderr.

use std::error::Error;
use std::io::{self, ErrorKind, Write};

use placer::error_chain::chain;
use placer::report::escape;
use placer::service::notes::Notes;

/// Writes the answer. A reader that has gone away (`placer show | head -1`) is no failure.
pub(crate) fn answer(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| {
            io::Error::new(e.kind(), format!("cannot write the answer to standard output: {e}"))
        }),
    }
}

/// Writes one line to stderr: a line end in a path or a name does not make it two, and no other
/// control character reaches the terminal. Failures are ignored: there is nowhere to report them.
pub(crate) fn line(text: &str) {
    let line = format!("{}\n", escape::terminal(text));
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Writes the notes that come before the answer.
pub(crate) fn notes(notes: &mut Notes) {
    notes.take_lines().iter().for_each(|text| line(text));
}

/// Writes all notes that are left, after the answer.
pub(crate) fn last_notes(notes: &mut Notes) {
    notes.take_all().iter().for_each(|text| line(text));
}

/// Writes a warning: an answer follows, and this should be known about it.
pub(crate) fn warn(text: &str) {
    line(&format!("placer: warning: {text}"));
}

/// Writes an error with its causes.
pub(crate) fn complain(program: &str, error: &dyn Error) {
    line(&format!("{program}: {}", chain(error)));
}
