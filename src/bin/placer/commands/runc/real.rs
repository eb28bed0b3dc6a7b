//! The runtime that starts the containers, and this program itself.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Searched after PATH, which services may lack.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program by its path or its name.
///
/// Errors: there is none, or it is this program, which would start itself for ever.
pub(super) fn find(name: &str) -> Result<PathBuf, String> {
    let set = "set [runtime] real in /etc/placer.toml";
    let found = if name.contains('/') {
        Some(PathBuf::from(name)).filter(|path| is_program(path))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let absolute = dirs.into_iter().filter(|dir| dir.is_absolute());
        let mut dirs = absolute.chain(std::env::split_paths(USUAL));
        dirs.find_map(|dir| Some(dir.join(name)).filter(|path| is_program(path)))
    };
    let found = found.ok_or_else(|| format!("cannot run {name}: no such program; {set}"))?;
    let file = |meta: Metadata| (meta.dev(), meta.ino());
    let itself = std::fs::metadata("/proc/self/exe").map(file).ok();
    if itself.is_some() && std::fs::metadata(&found).map(file).ok() == itself {
        return Err(format!("cannot run {}: it is placer itself; {set}", found.display()));
    }
    Ok(found)
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// Returns the path of this program.
///
/// Errors: it is not where it was started, or its path is not UTF-8.
pub(super) fn own_program() -> Result<String, String> {
    let why = |why: String| format!("cannot find this program: {why}");
    let path = std::env::current_exe().map_err(|error| why(error.to_string()))?;
    let path = path.into_os_string().into_string().map_err(|_| why("not UTF-8".to_owned()))?;
    // A package has been upgraded meanwhile: the new program is in its place.
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    if is_program(Path::new(path)) {
        Ok(path.to_owned())
    } else {
        Err(why(format!("{path} is no program")))
    }
}
