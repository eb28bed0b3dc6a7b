//! Threads of the kernel that carry a guest's devices.

use std::fs;
use std::path::Path;

use crate::sys;

/// Returns the threads of the kernel that work for the vhost devices (network, vsock, SCSI) of a process. There are
/// none from Linux 6.4: they are threads of the process itself. `proc` is the host's `/proc`.
pub(crate) fn threads(proc: &Path, pid: u32) -> Vec<u32> {
    let is_device = |fd: fs::DirEntry| {
        let file = fs::read_link(fd.path());
        file.is_ok_and(|file| file.to_string_lossy().starts_with("/dev/vhost-"))
    };
    // All of /proc is read for those alone that have such a device, or do not show what they have.
    let files = fs::read_dir(proc.join(pid.to_string()).join("fd"));
    if files.is_ok_and(|mut files| !files.any(|fd| fd.is_ok_and(is_device))) {
        return Vec::new();
    }
    let name = format!("vhost-{pid}");
    let Ok(all) = fs::read_dir(proc) else { return Vec::new() };
    let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let works_for_it = |id: &u32| {
        let dir = proc.join(id.to_string());
        // Any process can give itself this name.
        fs::read_to_string(dir.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            && sys::flags(&dir).is_some_and(|flags| flags & sys::PF_KTHREAD != 0)
    };
    ids.filter(works_for_it).collect()
}
