//! Has systemd make a scope, and looks that it did.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::{Scope, ScopeStep};
use crate::error::{LaunchError, words};
use crate::sys::Mask;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB: &str = "org.freedesktop.systemd1.Job";
const OBJECT: &str = "/org/freedesktop/systemd1";

/// How long between two looks whether something has happened: a part of the time waited so far, so that many
/// launchers on a busy host leave its CPUs to systemd.
const PAUSE_PART: u32 = 16;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// After which time systemd is asked whether it still has the job; then after twice that, and so on.
const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// The most of busctl's words that are kept.
const MOST_WORDS: u64 = 4096;

/// Has systemd put a process that waits into a scope, and returns when it is in there and held. `stopped`: the
/// signal that ends the launch, if one has come.
///
/// Errors: busctl cannot be run, systemd does not want to, it does not answer in time, a signal, or the scope is
/// not held as was asked for. The process is to be ended then, and the scope ends with it.
pub(crate) fn make(
    step: &ScopeStep,
    pid: u32,
    stopped: &dyn Fn() -> Option<Signal>,
) -> Result<Scope, LaunchError> {
    let asking = Asking { step, begun: Instant::now(), stopped };
    let said = asking.busctl("call", &transient(step, pid))?;
    // As in o "/org/freedesktop/systemd1/job/7".
    let job = said.split('"').nth(1).unwrap_or_default().to_owned();
    let mut ask = ASKED_AGAIN;
    let mut runs = true;
    loop {
        let made = dir_of(step, pid).and_then(|dir| hold(step, &dir).map(|()| dir));
        match made {
            Ok(dir) => {
                if step.inner {
                    enter_inner(step, &dir, pid)?;
                }
                let inode = dir.metadata().map_or(0, |meta| meta.ino());
                return Ok(Scope { dir, inode });
            }
            Err(error) if !runs => return Err(error),
            Err(_) => asking.pause()?,
        }
        if asking.begun.elapsed() >= ask {
            let state = [SYSTEMD, &job, JOB, "State"].map(str::to_owned);
            runs = match asking.busctl("get-property", &state) {
                Ok(_) => true,
                // A job that is not known any more is done, or has failed.
                Err(error) if error.errno() == Errno::EIO => false,
                Err(error) => return Err(error),
            };
            ask = asking.begun.elapsed() * 2;
        }
    }
}

/// A conversation with systemd.
struct Asking<'a> {
    step: &'a ScopeStep,
    begun: Instant,
    stopped: &'a dyn Fn() -> Option<Signal>,
}

impl Asking<'_> {
    /// Asks over the bus, and returns the answer.
    fn busctl(&self, verb: &str, arguments: &[String]) -> Result<String, LaunchError> {
        let error = |error: io::Error| {
            let errno = error.raw_os_error().map_or(Errno::ENOEXEC, Errno::from_raw);
            let program = self.step.busctl.display();
            LaunchError::new(format!("{}: run {program}", attempted(self.step)), errno)
                .hint("busctl is part of systemd; --cgroup none needs no systemd")
        };
        let bus = if self.step.system { "--system" } else { "--user" };
        let mut command = Command::new(&self.step.busctl);
        // This process has the time limit.
        command.args([bus, "--timeout=1h", "--no-pager"]);
        command.args(["--allow-interactive-authorization=no", verb, "--"]);
        // Its words are read, so they are in one language. Its own group: what a terminal sends ends the launch here.
        command.args(arguments).env("LC_ALL", "C").env("LANGUAGE", "C").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(error)?;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(error)? {
                break status;
            }
            if let Err(late) = self.pause() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(late);
            }
        };
        let (stdout, stderr) = (child.stdout.as_mut(), child.stderr.as_mut());
        let text = |from: Option<&mut dyn Read>| {
            let mut text = Vec::new();
            // It has ended: what it said is there.
            let read = from.map_or(Ok(0), |from| from.take(MOST_WORDS).read_to_end(&mut text));
            read.map(|_| String::from_utf8_lossy(&text).into_owned())
        };
        let said = text(stdout.map(|out| out as &mut dyn Read)).map_err(error)?;
        if status.success() {
            return Ok(said);
        }
        let said = text(stderr.map(|out| out as &mut dyn Read)).map_err(error)?;
        Err(refused(self.step, said.trim()))
    }

    /// Waits a little.
    ///
    /// Errors: there is no more time, or a signal has come.
    fn pause(&self) -> Result<(), LaunchError> {
        let what = attempted(self.step);
        if let Some(signal) = (self.stopped)() {
            return Err(LaunchError::seen(what, Errno::EINTR, format!("{signal} came before")));
        }
        let waited = self.begun.elapsed();
        if waited >= self.step.limit {
            let seen = format!("no answer within {} s", self.step.limit.as_secs_f32());
            let late = LaunchError::seen(what, Errno::ETIMEDOUT, seen);
            return Err(late.hint("systemd or the host does not respond"));
        }
        std::thread::sleep((waited / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX));
        Ok(())
    }
}

fn attempted(step: &ScopeStep) -> String {
    format!("make the systemd scope {}", step.unit)
}

/// The call that makes the scope, as busctl takes it.
///
/// Source: org.freedesktop.systemd1(5); StartTransientUnit(in s name, in s mode, in a(sv) properties,
/// in a(sa(sv)) aux, out o job). Sets of CPUs and nodes are bytes, lowest first, since systemd 244.
fn transient(step: &ScopeStep, pid: u32) -> Vec<String> {
    let mut properties: Vec<(&str, &str, Vec<String>)> = vec![
        ("Description", "s", vec![step.description.clone()]),
        ("PIDs", "au", vec!["1".to_owned(), pid.to_string()]),
        ("Delegate", "b", vec!["true".to_owned()]),
        ("CollectMode", "s", vec!["inactive-or-failed".to_owned()]),
    ];
    properties.extend(step.slice.iter().map(|slice| ("Slice", "s", vec![slice.clone()])));
    let masks = [
        ("AllowedCPUs", !step.cpus.is_empty(), Mask::of_cpus(&step.cpus)),
        ("AllowedMemoryNodes", !step.nodes.is_empty(), Mask::of_nodes(&step.nodes)),
    ];
    for (name, _, mask) in masks.into_iter().filter(|(_, held, _)| *held) {
        let bytes: Vec<u8> = mask.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        let count = std::iter::once(bytes.len().to_string());
        properties.push((name, "ay", count.chain(bytes.iter().map(u8::to_string)).collect()));
    }
    let call = [SYSTEMD, OBJECT, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))"];
    let mut words: Vec<String> = call.map(str::to_owned).into();
    // Never in place of another.
    words.extend([step.unit.clone(), "fail".to_owned(), properties.len().to_string()]);
    for (name, kind, value) in properties {
        words.extend([name.to_owned(), kind.to_owned()]);
        words.extend(value);
    }
    words.push("0".to_owned());
    words
}

/// Returns the error for words of busctl's.
fn refused(step: &ScopeStep, said: &str) -> LaunchError {
    let hints = [
        (
            "already exists",
            "processes of an earlier guest of this name run there: systemctl stop ends them; \
             start this one again to get another name",
        ),
        ("property Allowed", "AllowedCPUs and AllowedMemoryNodes need systemd 244"),
        ("connect to bus", "is D-Bus running? --cgroup none needs no systemd"),
        ("set bus address", "is D-Bus running? --cgroup none needs no systemd"),
        ("not provided by any", "systemd is not on this bus"),
        ("denied", "only root may create scopes of the system"),
        ("uthentication required", "only root may create scopes of the system"),
    ];
    let error = LaunchError::seen(attempted(step), Errno::EIO, words(said));
    match hints.iter().find(|(part, _)| said.contains(part)) {
        Some((_, hint)) => error.hint(*hint),
        None => error,
    }
}

/// Returns the group that a process was put in.
fn dir_of(step: &ScopeStep, pid: u32) -> Result<PathBuf, LaunchError> {
    let file = format!("/proc/{pid}/cgroup");
    let text = read(Path::new(&file)).map_err(|errno| failed(step, &file, errno))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let name = Path::new(own).file_name().and_then(|name| name.to_str());
    if name != Some(step.unit.as_str()) {
        let seen = format!("systemd left the guest in /{own}");
        return Err(LaunchError::seen(attempted(step), Errno::ESRCH, seen));
    }
    Ok(step.mount.join(own))
}

/// Looks that the scope is as it was asked for.
fn hold(step: &ScopeStep, dir: &Path) -> Result<(), LaunchError> {
    held(step).iter().try_for_each(|(file, wanted)| look(step, dir, file, wanted))
}

/// Returns what of the group is held to what.
fn held(step: &ScopeStep) -> Vec<(&'static str, String)> {
    let mut held = Vec::new();
    if !step.cpus.is_empty() {
        held.push(("cpuset.cpus", step.cpus.to_string()));
    }
    if !step.nodes.is_empty() {
        held.push(("cpuset.mems", step.nodes.to_string()));
    }
    held
}

/// Asked for are wishes: a slice around the scope may allow less, and a user's systemd may have no
/// cpusets to give.
fn look(step: &ScopeStep, dir: &Path, file: &str, wanted: &str) -> Result<(), LaunchError> {
    let path = dir.join(format!("{file}.effective"));
    let attempted = || format!("hold the systemd scope {} to {file} {wanted}", step.unit);
    match read(&path) {
        Ok(found) if found.trim() == wanted => Ok(()),
        Ok(found) => {
            let seen = format!("the groups around it allow only {:?} of these", found.trim());
            Err(LaunchError::seen(attempted(), Errno::ERANGE, seen))
        }
        Err(Errno::ENOENT) => {
            let seen = "this systemd has no cpusets to give";
            Err(LaunchError::seen(attempted(), Errno::ENOENT, seen)
                .hint("root can delegate them: Delegate=cpuset in user@.service"))
        }
        Err(errno) => Err(failed(step, &path.display().to_string(), errno)),
    }
}

/// Puts the process into a group without controllers, see `cgroup::plan`.
fn enter_inner(step: &ScopeStep, dir: &Path, pid: u32) -> Result<(), LaunchError> {
    let inner = dir.join("lxc");
    let done = std::fs::create_dir(&inner)
        .and_then(|()| std::fs::write(inner.join("cgroup.procs"), pid.to_string()));
    done.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        failed(step, &inner.display().to_string(), errno)
    })
}

fn failed(step: &ScopeStep, what: &str, errno: Errno) -> LaunchError {
    LaunchError::new(format!("use the systemd scope {}: {what}", step.unit), errno)
}

fn read(path: &Path) -> Result<String, Errno> {
    const MOST: u64 = 1 << 16;
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MOST).read_to_string(&mut text))
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
