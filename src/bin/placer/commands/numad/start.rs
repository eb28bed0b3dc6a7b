//! `numad -i 15`: becomes the daemon, as numad does and as its unit expects.
//!
//! numad's parent process exits at once, before it is known whether the daemon can run. This one waits
//! for that, and reports it.

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use crate::output;
use placer::daemon::{self, Named};
use placer::numad::queue::places::Places;
use placer::numad::{Options, log};
use placer::settings::variables;
use placer::settings::{Level, Settings};
use placer_engine::policy::numad::Version;

/// How long a daemon may take to be ready, in ms.
const READY: u16 = 30_000;
const DONE: u8 = b'r';

/// Starts the daemon and waits until it is ready.
pub(super) fn start(
    name: &str,
    options: Options,
    mut set: Settings,
    config: Option<PathBuf>,
) -> ExitCode {
    let failed = |error: &dyn Error| {
        output::complain(name, error);
        ExitCode::from(super::FAILED)
    };
    if variables::value("PLACER_ROOT").is_some() {
        let why = "PLACER_ROOT names a recorded machine, and numad's daemon is about this one \
                   (placer daemon --root answers for recorded ones)";
        return failed(&std::io::Error::other(why));
    }
    set.daemon.log = log_level(options.log_level, set.daemon.log);
    // Paths stay what they are when the directory changes.
    let config = config.map(|path| std::path::absolute(&path).unwrap_or(path));
    let (told, tells) = match pipe2(OFlag::O_CLOEXEC) {
        Ok(ends) => ends,
        Err(error) => return failed(&error),
    };
    // SAFETY: this program has one thread until here, so the child may do whatever it likes.
    match unsafe { fork() } {
        Err(error) => failed(&error),
        Ok(ForkResult::Parent { child }) => {
            drop(tells);
            wait(name, told, child)
        }
        Ok(ForkResult::Child) => {
            drop(told);
            let mut named = Started { options, tells: Some(tells) };
            match serve(&mut named, set, config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(error.as_ref()),
            }
        }
    }
}

fn serve(
    named: &mut Started,
    set: Settings,
    config: Option<PathBuf>,
) -> Result<(), Box<dyn Error>> {
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/")?;
    // Who started it may wait for the end of its output.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    drop(null);
    daemon::run_as_numad(set, config, named)
}

/// Waits for the daemon to be ready. When it cannot be it has said why.
fn wait(name: &str, told: OwnedFd, child: Pid) -> ExitCode {
    let mut fds = [PollFd::new(told.as_fd(), PollFlags::POLLIN)];
    if let Ok(0) = poll(&mut fds, PollTimeout::from(READY)) {
        let _ = kill(child, Signal::SIGKILL);
        let why = format!("the daemon was not ready within {} s, and was ended", READY / 1000);
        output::complain(name, &std::io::Error::other(why));
        return ExitCode::from(super::FAILED);
    }
    let mut byte = [0];
    match File::from(told).read(&mut byte) {
        Ok(1) if byte == [DONE] => ExitCode::SUCCESS,
        _ => ExitCode::from(super::FAILED),
    }
}

/// The daemon by numad's name.
#[derive(Debug)]
struct Started {
    options: Options,
    /// The parent waits at the other end.
    tells: Option<OwnedFd>,
}

impl Named for Started {
    fn options(&self) -> &Options {
        &self.options
    }

    fn ready(&mut self, log: &daemon::Log) -> Result<(), Box<dyn Error>> {
        // What went wrong until here, the caller has read. Where the log cannot be opened stderr
        // stays what it is, as with numad.
        if to_log_file(self.options.version)? {
            log.stamp();
        }
        if let Some(tells) = self.tells.take() {
            nix::unistd::write(tells, &[DONE])?;
        }
        Ok(())
    }

    fn reloaded(&mut self) {
        // The file may have been moved away.
        let _ = to_log_file(self.options.version);
    }
}

fn to_log_file(version: Version) -> nix::Result<bool> {
    let path = variables::value("PLACER_NUMAD_LOG").map(PathBuf::from);
    let path = path.as_deref().unwrap_or(Places::of(version).log);
    match log::open(path, version) {
        Some(file) => dup2_stderr(&file).map(|()| true),
        None => Ok(false),
    }
}

/// numad's default is what the settings say; every other level is numad's.
fn log_level(level: i32, set: Level) -> Level {
    match level {
        ..=3 => Level::Error,
        4 => Level::Warning,
        5 => set,
        6 => Level::Info,
        7.. => Level::Debug,
    }
}
