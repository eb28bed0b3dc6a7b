//! Opens a settings file, whatever may lie under its name.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::error::Fault;
use crate::trust;

/// No settings are nearly so long.
const LARGEST: u64 = 1 << 20;

/// How the file was found, which decides whether it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Named by the caller: it must exist, and the caller is responsible for its permissions.
    Named,
    /// Found in its default place. It need not exist. It applies to every user's guests, root's among
    /// them, so it counts only if none but root or the caller can have written it.
    Found,
}

/// Returns the text of a settings file; `None` when it is not there and need not be.
///
/// Errors: it cannot be opened, is no ordinary file, too large, no text, or not to be trusted. A
/// pipe is refused, not waited for.
pub(super) fn read(path: &Path, trust: Trust) -> Result<Option<String>, Fault> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = File::options().read(true).custom_flags(flags.bits()).open(path);
    let file = match opened {
        Err(e) if e.kind() == ErrorKind::NotFound && trust == Trust::Found => return Ok(None),
        opened => opened?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Fault::of_file(format!("expected an ordinary file, found {}", kind(&meta))));
    }
    if trust == Trust::Found {
        // Links are followed: what counts is who can have written the file they lead to.
        trust::check_in_host(&meta).map_err(Fault::of_file)?;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Fault::of_file(format!("expected at most {LARGEST} bytes, found more")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let byte = e.as_bytes().get(good).copied().unwrap_or_default();
            let text = String::from_utf8_lossy(e.as_bytes().get(..good).unwrap_or_default());
            Err(Fault::at(&text, good, format!("expected UTF-8, found the byte 0x{byte:02x}")))
        }
    }
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error_chain::chain;

    fn told(path: &Path, trust: Trust) -> Result<Option<String>, String> {
        read(path, trust).map_err(|fault| {
            let error = fault.in_file(Path::new("x"));
            chain(&error)
        })
    }

    #[test]
    fn files_are_read_and_other_things_are_refused() {
        let tmp = tempfile::tempdir().expect("a directory");
        let path = tmp.path().join("placer.toml");
        assert_eq!(told(&path, Trust::Found), Ok(None));
        let missing = "cannot read the settings: x: No such file or directory (os error 2)";
        assert_eq!(told(&path, Trust::Named), Err(missing.to_owned()));

        fs::write(&path, "a = 1\n").expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        mode(0o644).expect("set");
        assert_eq!(told(&path, Trust::Found), Ok(Some("a = 1\n".to_owned())));
        mode(0o664).expect("set");
        let open =
            "cannot read the settings: x: writable by group or others (mode 0664); run chmod go-w";
        assert_eq!(told(&path, Trust::Found), Err(open.to_owned()));
        assert_eq!(told(&path, Trust::Named), Ok(Some("a = 1\n".to_owned())));

        fs::write(&path, b"a = 1\nb\xff").expect("written");
        let bad = "cannot read the settings: x:2: expected UTF-8, found the byte 0xff";
        assert_eq!(told(&path, Trust::Named), Err(bad.to_owned()));
        fs::write(&path, vec![b'#'; 1 << 20]).expect("written");
        assert_eq!(told(&path, Trust::Named).map(|text| text.map(|t| t.len())), Ok(Some(1 << 20)));
        fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("written");
        let large = "cannot read the settings: x: expected at most 1048576 bytes, found more";
        assert_eq!(told(&path, Trust::Named), Err(large.to_owned()));

        let pipe = tmp.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("made");
        for (path, kind) in [
            (pipe.as_path(), "a pipe"),
            (tmp.path(), "a directory"),
            (Path::new("/dev/null"), "a device"),
        ] {
            let refused =
                format!("cannot read the settings: x: expected an ordinary file, found {kind}");
            assert_eq!(told(path, Trust::Named), Err(refused));
        }
    }
}
