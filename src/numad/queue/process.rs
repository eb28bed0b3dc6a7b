//! What `/proc` shows of a process that a message or a pid file names.

use std::io;
use std::path::PathBuf;

use placer_engine::claims::Nonce;
use placer_engine::policy::numad::Version;

use crate::settings::numad_version::version_of_program;

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Ticks from boot to its start: with the pid it names one process.
    start: u64,
    parent: u32,
    /// Its name, at most 15 bytes.
    name: Vec<u8>,
    /// It has ended, and its parent has not asked how.
    ended: bool,
}

impl Process {
    /// Returns the process that has this pid here; `None`: there is none.
    pub(crate) fn look(pid: i32) -> Option<Self> {
        parse_stat(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Returns whether it has ended.
    pub(crate) fn has_gone(&self) -> bool {
        match std::fs::read(format!("/proc/{}/stat", self.pid)) {
            Ok(text) => {
                parse_stat(self.pid, &text).is_none_or(|now| now.ended || now.start != self.start)
            }
            // Too many open files, say, tell nothing of it.
            Err(error) => {
                error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
            }
        }
    }

    /// Returns the pid of the process that started it.
    pub(crate) fn parent(&self) -> u32 {
        self.parent
    }

    /// Returns whether it is a numad: the real one, also one that a dynamic loader was told to run, or placer.
    pub(crate) fn is_numad(&self) -> bool {
        let by_name = self.name == b"numad" || self.name == b"placer";
        !self.ended && (by_name || self.loaded().is_some())
    }

    /// Returns the name of the one claim that a numad's client asks for. Another program may ask for one guest
    /// after the other.
    pub(crate) fn nonce(&self) -> Option<Nonce> {
        let pid = u32::try_from(self.pid).ok()?;
        self.is_numad().then(|| Nonce::of_process(pid, self.start))
    }

    /// Returns the version of the real numad that runs in it. `None`: it is another program, as placer is.
    ///
    /// Errors: its program file may not be read, as for a process of another user.
    pub(crate) fn version(&self) -> io::Result<Option<Version>> {
        let exe = PathBuf::from(format!("/proc/{}/exe", self.pid));
        version_of_program(&self.loaded().unwrap_or(exe))
    }

    /// Returns the file of the numad that a dynamic loader runs in this process, as in
    /// `ld-linux-x86-64.so.2 --library-path DIR DIR/numad`.
    fn loaded(&self) -> Option<PathBuf> {
        if !self.name.starts_with(b"ld-linux") {
            return None;
        }
        let words = std::fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let program = words.split(|&byte| byte == 0).find(|word| word.ends_with(b"/numad"))?;
        let program = std::str::from_utf8(program).ok()?.strip_prefix('/')?;
        Some(PathBuf::from(format!("/proc/{}/root", self.pid)).join(program))
    }

    /// Returns whether it is placer by its own name.
    pub(crate) fn is_placer(&self) -> bool {
        !self.ended && self.name == b"placer"
    }
}

/// Returns whose rights a process has; `None`: it has gone, or that may not be known here.
pub(crate) fn user_of(pid: i32) -> Option<u32> {
    parse_user(&std::fs::read(format!("/proc/{pid}/status")).ok()?)
}

/// `PID (NAME) STATE PARENT ...`, the start as 22nd field. A name may have blanks and brackets.
fn parse_stat(pid: i32, text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let name = text.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, start, parent, name, ended: matches!(state, "Z" | "X" | "x") })
}

/// The effective user, the second number of the line `Uid:`.
fn parse_user(text: &[u8]) -> Option<u32> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_may_hold_anything() {
        let row = |name: &str, state: &str| {
            let zeroes = "0 ".repeat(17);
            format!("7 ({name}) {state} 3 {zeroes}4711 99\n")
        };
        let process = |name: &str, ended| {
            let name = name.as_bytes().to_vec();
            Some(Process { pid: 7, start: 4711, parent: 3, name, ended })
        };
        for name in ["numad", "a b", ") S 1 (", ""] {
            assert_eq!(parse_stat(7, row(name, "S").as_bytes()), process(name, false), "{name}");
        }
        assert_eq!(parse_stat(7, row("numad", "Z").as_bytes()), process("numad", true));
        for damaged in ["", "7", "7 (numad", "7 (numad) S", "7 (numad) S x 0", ")("] {
            assert_eq!(parse_stat(7, damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn the_effective_user_counts() {
        assert_eq!(parse_user(b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1\t1\t1\t1\n"), Some(0));
        assert_eq!(parse_user(b"Uid:\t1000\n"), None);
        assert_eq!(parse_user(b""), None);
    }

    #[test]
    fn this_process_is_there() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let this = Process::look(pid).expect("there");
        assert!(!this.has_gone());
        let earlier = Process { start: this.start.wrapping_sub(1), ..this };
        assert!(earlier.has_gone(), "a pid that was given again");
        assert_eq!(user_of(pid), Some(nix::unistd::geteuid().as_raw()));
    }
}
