//! A process that outlives a killed launcher, and destroys the guest that libvirt has created paused for it.
//!
//! It waits at a pipe, whose other end this process has, and virsh while it creates the guest. When both are gone, the
//! pipe ends. A libvirtd that was killed meanwhile needs some time to be back, so it asks more than once.

use std::io::{PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;

use crate::error::LaunchError;
use crate::guest_lock::GuestLock;

/// `$1`: virsh, `$2`: the libvirt, `$3`: the guest's uuid, `$4`: its name, `$5`: for how many seconds it is asked, one
/// each second. A virsh that takes 10 s is killed: SIGTERM is blocked here, as in placer.
/// What virsh says goes through the same pipe. `destroy`: the guest was created. Nothing: it may have been, and is paused
/// then; a guest of that uuid with another name was there before. Status 1: it may be left.
const SCRIPT: &str = r#"
while read -r what; do
    case $what in keep) exit 0 ;; destroy) break ;; esac
done
ask() { timeout -s KILL 10 "$virsh" -q -k 0 -c "$libvirt" "$@"; }
virsh=$1 libvirt=$2
seconds() { IFS=. read -r up _ </proc/uptime && echo "$up"; }
end=$(($(seconds) + $5))
while :; do
    state=paused
    [ "$what" = destroy ] || state=$(ask domstate "$3" 2>/dev/null) || state=
    case $state in
    paused*)
        [ "$what" = destroy ] || [ "$(ask domname "$3" 2>/dev/null)" = "$4" ] || exit 0
        said=$(ask destroy "$3" 2>&1) && exit 0
        case $said in *"failed to get domain"* | *"domain is not running"*) exit 0 ;; esac
        ;;
    # Not yet started, or refused.
    "shut off"*) ;;
    ?*) exit 0 ;;
    esac
    [ "$(seconds)" -lt "$end" ] || break
    sleep 1
done
[ "$what" != destroy ]
"#;

/// For how many seconds libvirt is asked: it may have to be started again, and to find its guests.
const SECONDS: &str = "20";

/// Such a process. Dropped without a word, it destroys a guest that is paused.
#[derive(Debug)]
pub(super) struct Guard {
    pipe: Option<PipeWriter>,
    child: Child,
}

impl Guard {
    pub(super) fn start(
        virsh: &Path,
        uri: &str,
        uuid: &str,
        name: &str,
        lock: Option<&GuestLock>,
    ) -> Result<Self, LaunchError> {
        let error = |error: std::io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            LaunchError::new("start a process that destroys the guest if placer is killed", errno)
        };
        let (reader, writer) = std::io::pipe().map_err(error)?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "placer-guard"]).arg(virsh).args([uri, uuid, name, SECONDS]);
        command.env("LC_ALL", "C").env("LANGUAGE", "C").process_group(0);
        // It prints nothing: the lock lasts as long as it does.
        let lock = lock.map(GuestLock::shared).transpose().map_err(error)?;
        command.stdin(reader).stdout(lock.map_or_else(Stdio::null, Stdio::from));
        let child = command.spawn().map_err(error)?;
        Ok(Self { pipe: Some(writer), child })
    }

    /// Returns what virsh writes to while it creates the guest: the pipe does not end before it does.
    pub(super) fn output(&self) -> Option<Stdio> {
        self.pipe.as_ref()?.try_clone().ok().map(Stdio::from)
    }

    /// Lets the guest be: it runs, or libvirt has refused it.
    pub(super) fn keep(mut self) {
        self.end("keep\n");
    }

    /// Destroys the guest. Returns whether it is gone.
    pub(super) fn destroy(mut self) -> bool {
        self.end("destroy\n")
    }

    fn end(&mut self, what: &str) -> bool {
        let Some(mut pipe) = self.pipe.take() else { return true };
        // A guard that is gone does nothing.
        let _ = pipe.write_all(what.as_bytes());
        drop(pipe);
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end("");
    }
}
