//! Runs virsh.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};

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

/// The most of virsh's words that are kept.
const MOST_WORDS: usize = 4096;

/// A virsh, connected anew for each question.
///
/// It runs in a process group of its own: what a terminal sends placer it is not sent, so that a guest is never
/// left half made. It may take as long as libvirt takes, since huge pages of a large guest are cleared first; a signal
/// that ends the launch kills it.
#[derive(Debug)]
pub(super) struct Virsh {
    program: PathBuf,
    uri: String,
    /// `None`: this kernel or a filter of system calls has none, and signals wait until the guest runs.
    signals: Option<SignalFd>,
    before: SigSet,
}

impl Virsh {
    pub(super) fn find(program: &Path, uri: String) -> Result<Self, LaunchError> {
        // Not by running it: that takes as long as a question to libvirt.
        let there = |file: PathBuf| access(&file, AccessFlags::X_OK).map(|()| file);
        let program = exec::find(program.as_os_str()).and_then(there).map_err(|errno| {
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
        Ok(Self { program, uri, signals: fd, before })
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
    pub(super) fn run(
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
        let mut child = command.spawn().map_err(error)?;
        // Its output stays open here as long as the command does.
        drop(command);
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            // It has ended its words when it has ended.
            let mut part = [0; 1024];
            loop {
                if let Err(interrupted) = self.wait_readable(what, &stderr) {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(interrupted);
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
        Err(LaunchError::seen(what, Errno::EIO, seen))
    }

    /// Waits until there is something to read, or the other end is closed.
    ///
    /// Errors: a signal has come that ends the launch.
    fn wait_readable(&self, what: &str, from: &ChildStderr) -> Result<(), LaunchError> {
        let Some(signals) = &self.signals else { return Ok(()) };
        let mut fds = [from.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Whatever ends the wait is seen by what comes next.
        let _ = poll(&mut fds, PollTimeout::NONE);
        self.interrupted(what)
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
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
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
