//! Runs virsh.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{AccessFlags, access};

use crate::domain::MAX_BYTES;
use crate::error::{LaunchError, words};
use crate::exec;

/// What ends a launch before its guest runs.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// What to do where libvirt does not answer: the end of each such error.
pub(crate) const STATUS: &str = "systemctl status libvirtd virtqemud says whether libvirt runs";

/// The most of virsh's words that are kept.
const MOST_WORDS: usize = 4096;

/// A virsh, connected anew for each question.
///
/// It runs in a process group of its own: what a terminal sends placer it is not sent, so that a guest is never
/// left half made. A start may take as long as libvirt takes, since huge pages of a large guest are cleared first; a signal
/// that ends the launch kills it.
#[derive(Debug)]
pub(crate) struct Virsh {
    program: PathBuf,
    uri: String,
    /// `None`: this kernel or a filter of system calls has none, and signals wait until the guest runs.
    signals: Option<SignalFd>,
    /// The signals that were blocked before; `None`: they are not this value's to look at.
    before: Option<SigSet>,
    /// How long an answer may take.
    limit: Option<Duration>,
}

impl Virsh {
    pub(super) fn find(program: &Path, uri: String) -> Result<Self, LaunchError> {
        let program = installed(program).map_err(|errno| {
            LaunchError::new("start a libvirt domain: run virsh", errno).hint(
                "libvirt starts such guests: install it (Debian: libvirt-daemon-system, \
                 libvirt-clients); without it placer starts a guest.toml",
            )
        })?;
        let signals = ENDING.into_iter().collect();
        let error = |errno| LaunchError::new("start virsh: prepare for signals", errno);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&signals, flags).ok();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before)).map_err(error)?;
        Ok(Self { program, uri, signals: fd, before: Some(before), limit: None })
    }

    /// One that has to answer within a time, and leaves signals to the caller.
    ///
    /// Errors: virsh is not installed.
    pub(crate) fn with_limit(
        program: &Path,
        uri: String,
        limit: Duration,
    ) -> Result<Self, LaunchError> {
        let program = installed(program).map_err(|errno| {
            LaunchError::new("run virsh", errno).hint("install it; Debian: libvirt-clients")
        })?;
        Ok(Self { program, uri, signals: None, before: None, limit: Some(limit) })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Its words are read, so they are in one language. No sign of life is asked for: a host that has much to
        // do gives none for a while.
        command.args(["-q", "-k", "0", "-c", &self.uri]).args(arguments);
        command.env("LC_ALL", "C").env("LANGUAGE", "C").process_group(0);
        command.stdin(Stdio::null());
        command
    }

    /// Asks a question, waits for its end, and returns what it printed, unless that goes to `output`. `input` is what
    /// it reads as its standard input.
    pub(crate) fn run(
        &self,
        what: &str,
        arguments: &[&str],
        input: Option<&[u8]>,
        output: Option<Stdio>,
    ) -> Result<Vec<u8>, LaunchError> {
        let error = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new(format!("{what}: run virsh"), errno)
        };
        let mut command = self.command(arguments);
        if let Some(input) = input {
            command.stdin(unnamed_file(input).map_err(error)?);
        }
        let printed = unnamed_file(b"").map_err(error)?;
        let output = output.map_or_else(|| printed.try_clone().map(Stdio::from), Ok);
        command.stdout(output.map_err(error)?).stderr(Stdio::piped());
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let mut child = command.spawn().map_err(error)?;
        // Its output stays open here as long as the command does.
        drop(command);
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            // It has ended its words when it has ended.
            let mut part = [0; 1024];
            loop {
                if let Err(ended) = self.wait_readable(what, &stderr, deadline) {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(ended);
                }
                let read = stderr.read(&mut part).map_err(error)?;
                if read == 0 {
                    break;
                }
                said.extend(&part[..read.min(MOST_WORDS - said.len())]);
            }
        }
        let status = child.wait().map_err(error)?;
        if status.success() {
            return read_from_start(&printed).map_err(error);
        }
        let said = String::from_utf8_lossy(&said);
        let lines = said.lines().map(|line| line.trim().trim_start_matches("error: "));
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let seen = match lines.as_slice() {
            [] => format!("virsh ended with {status}"),
            lines => words(&lines.join("; ")),
        };
        let is_down = seen.contains("failed to connect to the hypervisor");
        let error = LaunchError::seen(what, Errno::EIO, seen);
        Err(if is_down { error.hint(STATUS) } else { error })
    }

    /// Waits until there is something to read, or the other end is closed.
    ///
    /// Errors: a signal has come that ends the launch, or the time is over.
    fn wait_readable(
        &self,
        what: &str,
        from: &ChildStderr,
        deadline: Option<Instant>,
    ) -> Result<(), LaunchError> {
        let fds =
            [Some(from.as_fd()), self.signals.as_ref().map(AsFd::as_fd)].into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let time = left.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
            match poll(&mut fds, time.unwrap_or(PollTimeout::MAX)) {
                Ok(0) => break,
                Err(Errno::EINTR) => {}
                // Whatever ends the wait is seen by what comes next.
                _ => return self.interrupted(what),
            }
        }
        let limit = self.limit.unwrap_or_default().as_secs();
        let seen = format!("virsh has not answered for {limit} s");
        let error = LaunchError::seen(what, Errno::ETIMEDOUT, seen);
        Err(error.hint(STATUS))
    }

    /// Returns virsh itself.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Errors: a signal has come that ends the launch.
    pub(super) fn interrupted(&self, what: &str) -> Result<(), LaunchError> {
        let Some(signals) = &self.signals else { return Ok(()) };
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
            && let Ok(Some(info)) = signals.read_signal()
        {
            let name = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
            let name = name.map_or("a signal", Signal::as_str);
            return Err(LaunchError::seen(what, Errno::EINTR, format!("{name} came before")));
        }
        Ok(())
    }
}

impl Drop for Virsh {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(before), None);
        }
    }
}

/// Finds a program. Not by running it: that takes as long as a question to libvirt.
fn installed(program: &Path) -> Result<PathBuf, Errno> {
    let there = |file: PathBuf| access(&file, AccessFlags::X_OK).map(|()| file);
    exec::find(program.as_os_str()).and_then(there)
}

/// Returns whether virsh or libvirtd ended before its answer, by a signal or in virsh's words.
pub(super) fn lost(error: &LaunchError) -> bool {
    if error.errno() == Errno::EINTR {
        return true;
    }
    let words = [
        "End of file",
        "end of file",
        "Connection reset",
        "Broken pipe",
        "socket is closed",
        "virsh ended with signal",
    ];
    let said = error.to_string();
    words.iter().any(|words| said.contains(words))
}

/// Reads a file that another process has written to, up to one byte more than a definition may have.
fn read_from_start(file: &File) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = vec![0; MAX_BYTES + 1];
    let mut length = 0;
    loop {
        match file.read_at(&mut bytes[length..], u64::try_from(length).unwrap_or(u64::MAX))? {
            0 => break,
            read => length += read,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Returns a file with a text in it, at its start, that no other process can name.
fn unnamed_file(text: &[u8]) -> Result<File, std::io::Error> {
    let file = memfd_create(c"placer-domain", MFdFlags::MFD_CLOEXEC).map(File::from);
    let in_a_directory = |_| {
        let flags = OFlag::O_TMPFILE.bits();
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .mode(0o600)
            .open(std::env::temp_dir())
    };
    let file = file.or_else(in_a_directory)?;
    // Its position stays at the start.
    file.write_all_at(text, 0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_virsh_that_does_not_answer_in_time_is_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("virsh");
        let pid = dir.path().join("pid");
        let script = format!(
            "#!/bin/sh\ncase $* in *slow) echo $$ >'{}'; exec sleep 600;; esac\necho \"$@\"\n",
            pid.display()
        );
        fs::write(&program, script).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is a program");
        let ask = |limit, what| {
            let virsh = Virsh::with_limit(&program, "test:///".to_owned(), limit).expect("there");
            virsh.run("ask", &[what], None, None)
        };
        let said = ask(Duration::from_secs(600), "fast").expect("an answer");
        assert_eq!(said, b"-q -k 0 -c test:/// fast\n");
        let error = ask(Duration::from_secs(2), "slow").expect_err("no answer");
        assert_eq!(
            error.to_string(),
            "cannot ask: virsh has not answered for 2 s (systemctl status libvirtd virtqemud says whether libvirt runs)"
        );
        // On a host with far too much to do it may not even have begun.
        if let Ok(pid) = fs::read_to_string(pid) {
            assert!(!Path::new("/proc").join(pid.trim()).exists());
        }
        let missing = dir.path().join("no virsh");
        let error = Virsh::with_limit(&missing, String::new(), Duration::ZERO);
        assert_eq!(
            error.expect_err("missing").to_string(),
            "cannot run virsh: No such file or directory (install it; Debian: libvirt-clients)"
        );
    }
}
