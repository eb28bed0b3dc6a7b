//! What is written where: the answer alone to stdout, everything else to stderr.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, ErrorKind, Write};

use crate::report::escape;
use crate::trouble;

thread_local! {
    /// The lines for stderr of an answer that is given to somebody else's terminal.
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Writes the answer. A reader that has gone away (`placer show | head -1`) is no failure.
pub fn answer(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| {
            io::Error::new(e.kind(), format!("cannot write the answer to standard output: {e}"))
        }),
    }
}

/// Writes one line to stderr: a line end in a path or a name does not make it two, and no other
/// control character reaches the terminal. Nobody can be told if that fails.
pub fn line(text: &str) {
    let mut line = escape::terminal(text).into_owned();
    let for_others = KEPT.with_borrow_mut(|kept| match kept {
        Some(lines) => {
            lines.push(std::mem::take(&mut line));
            true
        }
        None => false,
    });
    if !for_others {
        line.push('\n');
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Does some work of an answer that goes to somebody else, and returns the lines that this thread
/// would have written to stderr beside it.
pub(crate) fn kept<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let outer = KEPT.replace(Some(Vec::new()));
    let result = work();
    trouble::tell();
    (result, KEPT.replace(outer).unwrap_or_default())
}

/// Writes a warning: an answer follows, and this should be known about it.
pub fn warn(text: &str) {
    line(&format!("placer: warning: {text}"));
}

/// Writes an error with its causes.
pub fn complain(program: &str, error: &dyn Error) {
    line(&format!("{program}: {}", chain(error)));
}

/// Returns an error and its causes, the outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
