//! Steps as buffers, ready for a process in which nothing may be allocated.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, c_char};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::LaunchError;
use crate::signals;
use crate::step::Step;
use crate::sys::{self, Mask, Policy};

/// Binds the calling process and makes it the guest: as `exec`, this returns only if it failed.
///
/// What was bound stays bound then, as the process is about to end.
/// Errors: the step that was refused, and why.
pub fn exec_in_place(steps: &[Step]) -> Result<Infallible, LaunchError> {
    let prepared = prepare(steps)?;
    match perform(&prepared) {
        Ok(()) => Err(LaunchError::new("start a guest without a program", Errno::EINVAL)),
        Err((at, errno)) => Err(steps[at].refused(errno)),
    }
}

/// A step with all its buffers made.
pub(crate) enum Prepared {
    Affinity(Mask),
    Memory(Policy),
    CloseOthers,
    Keep(RawFd),
    User(Account),
    /// Known to the program that is executed.
    Variable,
    Exec(Program),
}

/// A user with its groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// A program and its arguments as the kernel takes them.
pub(crate) struct Program {
    path: CString,
    /// Owns what `pointers` points to.
    _argv: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// Its environment, where that is not the process' own.
    environment: Option<Environment>,
}

/// An environment as the kernel takes it.
struct Environment {
    /// Owns what `pointers` points to.
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Environment {
    /// Makes this process' environment with some variables set; `None` where there are none.
    fn with(set: &[(&str, String)]) -> Option<Self> {
        if set.is_empty() {
            return None;
        }
        let own =
            std::env::vars_os().filter(|(name, _)| set.iter().all(|(other, _)| name != other));
        let own = own.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        let set = set.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
        // What the kernel gave has no NUL byte, and what is set here is a number.
        let texts: Vec<CString> = own.chain(set).flat_map(CString::new).collect();
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Some(Self { _texts: texts, pointers })
    }
}

/// Makes the buffers of all steps. What can be refused without trying is refused here.
pub(crate) fn prepare(steps: &[Step]) -> Result<Vec<Prepared>, LaunchError> {
    let variable = |step: &Step| match step {
        Step::Variable { name, value } => Some((*name, value.clone())),
        _ => None,
    };
    let variables: Vec<(&str, String)> = steps.iter().filter_map(variable).collect();
    let one = |step: &Step| match step {
        Step::Affinity { cpus } => Ok(Prepared::Affinity(Mask::of_cpus(cpus))),
        Step::Memory { mode, nodes } => Ok(Prepared::Memory(Policy::new(*mode, nodes))),
        Step::CloseOthers => Ok(Prepared::CloseOthers),
        Step::Keep { fd, .. } => Ok(Prepared::Keep(*fd)),
        Step::User { name } => {
            let text = |file| std::fs::read_to_string(file).unwrap_or_default();
            let account = Account::find(name, &text("/etc/passwd"), &text("/etc/group"));
            account.map(Prepared::User).ok_or_else(|| step.refused(Errno::ENOENT))
        }
        Step::Variable { .. } => Ok(Prepared::Variable),
        // Nothing that a process does to itself.
        Step::Group(_) | Step::Pin { .. } | Step::Balloon { .. } | Step::Continue => {
            Err(step.refused(Errno::EINVAL))
        }
        Step::Exec { argv } => {
            let text = |arg: &std::ffi::OsString| CString::new(arg.as_bytes());
            let args: Result<Vec<CString>, _> = argv.iter().map(text).collect();
            let args = args.map_err(|_| step.refused(Errno::EINVAL))?;
            let name = argv.first().ok_or_else(|| step.refused(Errno::ENOENT))?;
            let path = find(name).map_err(|errno| step.refused(errno))?;
            let path = CString::new(path.into_os_string().as_bytes());
            let path = path.map_err(|_| step.refused(Errno::EINVAL))?;
            let pointers = args.iter().map(|arg| arg.as_ptr());
            let pointers = pointers.chain([std::ptr::null()]).collect();
            let environment = Environment::with(&variables);
            Ok(Prepared::Exec(Program { path, _argv: args, pointers, environment }))
        }
    };
    steps.iter().map(one).collect()
}

/// Performs steps in the calling process. Only system calls: nothing is allocated, no lock taken.
///
/// Errors: which step, by its place in the list, and the kernel's answer.
pub(crate) fn perform(steps: &[Prepared]) -> Result<(), (usize, Errno)> {
    for (at, step) in steps.iter().enumerate() {
        let result = match step {
            Prepared::Affinity(mask) => sys::set_affinity(0, mask),
            Prepared::Memory(policy) => sys::set_memory_policy(policy),
            Prepared::CloseOthers => sys::close_on_exec_from(3),
            Prepared::Keep(fd) => sys::keep_on_exec(*fd),
            Prepared::User(Account { uid, gid, groups }) => sys::become_user(*uid, *gid, groups),
            Prepared::Variable => Ok(()),
            Prepared::Exec(program) => Err(program.exec()),
        };
        result.map_err(|errno| (at, errno))?;
    }
    Ok(())
}

impl Account {
    /// Finds a user by name or number, in texts of the form of `/etc/passwd` and `/etc/group`: a static program
    /// cannot ask the C library.
    fn find(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user =
            users.find(|fields| fields.len() > 3 && (fields[0] == name || fields[2] == name))?;
        let (uid, gid) = (user[2].parse().ok()?, user[3].parse().ok()?);
        let of = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let member = fields.get(3)?.split(',').any(|member| member == user[0]);
            fields[2].parse().ok().filter(|_| member)
        };
        let mut groups: Vec<u32> = group.lines().filter_map(of).collect();
        groups.push(gid);
        Some(Self { uid, gid, groups })
    }
}

impl Program {
    fn exec(&self) -> Errno {
        signals::restore();
        let made = self.environment.as_ref().map(|environment| environment.pointers.as_ptr());
        // SAFETY: the path, each argument and each variable end with a NUL byte, the lists of pointers
        // with null; all live as long as `self`. The process' own environment is not changed by any thread.
        unsafe {
            let variables = made.unwrap_or(environ);
            libc::execve(self.path.as_ptr(), self.pointers.as_ptr(), variables)
        };
        Errno::last()
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Looks a program up as execvp does, before anything is bound: a name with a slash is a path.
pub(crate) fn find(name: &OsStr) -> Result<PathBuf, Errno> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut last = Errno::ENOENT;
    for dir in std::env::split_paths(&path) {
        let file =
            if dir.as_os_str().is_empty() { Path::new(".").join(name) } else { dir.join(name) };
        match nix::unistd::access(&file, nix::unistd::AccessFlags::X_OK) {
            Ok(()) if file.is_file() => return Ok(file),
            Err(Errno::EACCES) => last = Errno::EACCES,
            _ => {}
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn users_are_found_by_name_or_number_with_their_groups() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nbad\nqemu:x:107:36:,:/:/bin/false\n9:x:12:1::/:\n";
        let group = "root:x:0:\nkvm:x:36:qemu\ndisk:x:6:web,qemu\nbad:x\nqemus:x:7:aqemu\n";
        let qemu = Some(Account { uid: 107, gid: 36, groups: vec![36, 6, 36] });
        assert_eq!(Account::find("qemu", passwd, group), qemu);
        assert_eq!(Account::find("107", passwd, group), qemu);
        for name in ["web", "", "36", "bad", "x"] {
            assert_eq!(Account::find(name, passwd, group), None, "{name}");
        }
    }
}
