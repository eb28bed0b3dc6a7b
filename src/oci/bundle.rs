//! The directory of a container that is started.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::atomic_file;
use crate::error_chain::chain;
use crate::trust;

const NAME: &str = "config.json";
/// No configuration is nearly so long.
const LARGEST: u64 = 16 << 20;

/// A bundle that none but root and the caller can have written.
#[derive(Debug)]
pub struct Bundle {
    /// Its path may lead elsewhere by now.
    directory: File,
    config: PathBuf,
    text: String,
}

impl Bundle {
    /// Reads the configuration of a bundle.
    ///
    /// Errors: it cannot be read; others can write to the directory or the file; the file is none, too long or no
    /// text. A pipe is refused, not waited for.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let config = dir.join(NAME);
        let read = || -> Result<(File, String), String> {
            let why = |errno: nix::Error| errno.desc().to_owned();
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let opened = openat(AT_FDCWD, dir, flags | OFlag::O_DIRECTORY, Mode::empty());
            let directory = File::from(opened.map_err(why)?);
            let meta = |file: &File| file.metadata().map_err(|error| error.to_string());
            trust::check(&meta(&directory)?).map_err(|why| format!("its directory is {why}"))?;
            let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            let opened = openat(&directory, NAME, flags, Mode::empty());
            let file = File::from(opened.map_err(why)?);
            let meta = meta(&file)?;
            if !meta.is_file() {
                return Err("expected an ordinary file".to_owned());
            }
            trust::check(&meta)?;
            let mut text = String::new();
            let read = file.take(LARGEST + 1).read_to_string(&mut text);
            read.map_err(|error| error.to_string())?;
            if text.len() as u64 > LARGEST {
                return Err(format!("expected at most {LARGEST} bytes, found more"));
            }
            Ok((directory, text))
        };
        match read() {
            Ok((directory, text)) => Ok(Self { directory, config, text }),
            Err(fault) => Err(format!("cannot read {}: {fault}", config.display())),
        }
    }

    /// Returns the path of the configuration.
    pub fn path(&self) -> &Path {
        &self.config
    }

    /// Returns the configuration as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the configuration: a reader sees the old one or the new one.
    ///
    /// Errors: it cannot be written. The old one is there then.
    pub fn replace(&self, text: &str) -> Result<(), String> {
        let replaced =
            atomic_file::replace_in(self.directory.as_fd(), &self.config, text.as_bytes());
        replaced.map_err(|error| chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn only_what_others_cannot_write_is_read() {
        let tmp = tempfile::tempdir().expect("a directory");
        let (dir, config) = (tmp.path(), tmp.path().join(NAME));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
        };
        let fault = || {
            let error = Bundle::open(dir).expect_err("refused");
            let start = format!("cannot read {}: ", config.display());
            error.strip_prefix(&start).expect("it names the file").to_owned()
        };
        mode(dir, 0o755);
        assert_eq!(fault(), "No such file or directory");
        fs::write(&config, "{}").expect("written");
        mode(&config, 0o600);
        let bundle = Bundle::open(dir).expect("a bundle");
        assert_eq!(bundle.text(), "{}");
        bundle.replace("{\"a\":1}").expect("replaced");
        assert_eq!(Bundle::open(dir).expect("a bundle").text(), "{\"a\":1}");
        assert_eq!(fs::metadata(&config).expect("there").mode() & 0o777, 0o600);

        // The directory that was checked is written to, wherever its path leads by now.
        let moved = tempfile::tempdir().expect("a directory");
        let moved = moved.path().join("moved");
        fs::rename(dir, &moved).expect("moved");
        fs::create_dir(dir).expect("made");
        bundle.replace("{\"a\":2}").expect("replaced");
        assert_eq!(fs::read_to_string(moved.join(NAME)).expect("there"), "{\"a\":2}");
        assert!(!config.exists(), "nothing is put into the other one");
        fs::remove_dir(dir).expect("removed");
        fs::rename(&moved, dir).expect("moved back");

        let open = "writable by group or others (mode 0620); run chmod go-w";
        mode(&config, 0o620);
        assert_eq!(fault(), open);
        mode(&config, 0o600);
        mode(dir, 0o777);
        let open = "its directory is writable by group or others (mode 0777); run chmod go-w";
        assert_eq!(fault(), open);
        mode(dir, 0o755);
        fs::write(&config, b"\xff").expect("written");
        assert_eq!(fault(), "stream did not contain valid UTF-8");
        File::create(&config).and_then(|file| file.set_len(LARGEST + 1)).expect("written");
        assert_eq!(fault(), format!("expected at most {LARGEST} bytes, found more"));
        fs::remove_file(&config).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", &config).expect("made");
        assert_eq!(fault(), "Too many symbolic links encountered");
        fs::remove_file(&config).expect("removed");
        nix::unistd::mkfifo(&config, Mode::from_bits_truncate(0o600)).expect("made");
        assert_eq!(fault(), "expected an ordinary file");
    }
}
