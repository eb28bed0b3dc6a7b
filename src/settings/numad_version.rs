//! The version of numad that placer replaces.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use clap::ValueEnum;
use nix::fcntl::OFlag;
use placer_engine::policy::numad::Version;

use super::variables;

/// The variable that wins over the settings.
const VARIABLE: &str = "PLACER_NUMAD_VERSION";
/// Where the package puts the program that it stands in for.
const DIVERTED: &str = "/usr/bin/numad.distrib";
/// Where it is without the package.
const INSTALLED: &str = "/usr/bin/numad";
/// The programs have 60 KiB; a larger one is none of them.
const LONGEST_PROGRAM: u64 = 1 << 20;
/// Programs from this day on answer as that of 2025 does.
const NEWER: u32 = 20_250_101;

/// The version that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NumadVersion {
    /// The version of the numad that placer's package has diverted; 2025 where there is none.
    #[default]
    Auto,
    /// 20150602.
    #[value(name = "2015")]
    V2015,
    /// 20251104.
    #[value(name = "2025")]
    V2025,
}

impl NumadVersion {
    /// Returns what the variable asks for, else this.
    ///
    /// Errors: the variable has another value.
    pub fn or_variable(self) -> Result<Self, String> {
        let Some(text) = variables::value(VARIABLE) else { return Ok(self) };
        let text = text.to_string_lossy();
        Self::from_str(&text, false)
            .map_err(|_| format!("{VARIABLE}: expected auto, 2015 or 2025, found {text:?}"))
    }

    /// Returns the version in force. `auto` reads the diverted program, and never runs it.
    pub fn in_force(self) -> Version {
        match self {
            Self::V2015 => Version::V2015,
            Self::V2025 => Version::V2025,
            Self::Auto => version_of(Path::new(DIVERTED)).unwrap_or_default(),
        }
    }
}

/// Returns the version of the real numad that is installed beside placer under its own name.
pub(crate) fn installed() -> Option<Version> {
    version_of(Path::new(INSTALLED))
}

/// Returns the version of a numad's program file; `None`: there is none, or it is not a file that only
/// root can have written.
fn version_of(path: &Path) -> Option<Version> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let meta = file.metadata().ok()?;
    let trusted = meta.uid() == 0 && meta.mode() & 0o022 == 0;
    if trusted { version_in_file(file).ok()? } else { None }
}

/// Returns the version of the program that a process runs, whose file it can be trusted to have chosen. `None`:
/// it is not a numad.
///
/// Errors: the file cannot be read, which takes the rights of the process's user.
pub(crate) fn version_of_program(path: &Path) -> io::Result<Option<Version>> {
    let flags = OFlag::O_NONBLOCK;
    version_in_file(File::options().read(true).custom_flags(flags.bits()).open(path)?)
}

fn version_in_file(file: File) -> io::Result<Option<Version>> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > LONGEST_PROGRAM {
        return Ok(None);
    }
    let mut program = Vec::new();
    file.take(LONGEST_PROGRAM).read_to_end(&mut program)?;
    Ok(version_in(&program))
}

/// Finds the text that a numad prints as its version: a date between NUL bytes, in the newer program
/// with its name before it.
fn version_in(program: &[u8]) -> Option<Version> {
    let date = |text: &[u8]| -> Option<u32> {
        let digits = text.strip_prefix(b"numad ").unwrap_or(text);
        let is_date = digits.len() == 8 && digits.starts_with(b"20");
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_date)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let date = program.split(|&byte| byte == 0).find_map(date)?;
    Some(if date < NEWER { Version::V2015 } else { Version::V2025 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_a_date_in_the_program() {
        for (program, version) in [
            (b"\x7fELF\0%s version: %s\x0020150602\0x".as_slice(), Some(Version::V2015)),
            (b"\x7fELF\0numad 20251104\0", Some(Version::V2025)),
            // Older and newer ones than those that are known.
            (b"\x0020130814\0", Some(Version::V2015)),
            (b"\0numad 20270101\0", Some(Version::V2025)),
            (b"\x7fELF\0placer\0", None),
            (b"20150602 is a date\0", None),
            (b"\0numad 2015060\0", None),
            (b"\0numad 20\xff50602\0", None),
            (b"", None),
        ] {
            assert_eq!(version_in(program), version, "{}", program.escape_ascii());
        }
    }

    #[test]
    fn a_program_that_others_can_write_is_not_believed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("numad");
        std::fs::write(&path, b"\x0020150602\0").expect("written");
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode));
        mode(0o755).expect("set");
        // Of another user's files nothing is believed either.
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(version_of(&path), root.then_some(Version::V2015));
        mode(0o775).expect("set");
        assert_eq!(version_of(&path), None);
        mode(0o755).expect("set");
        let link = dir.path().join("link");
        symlink(&path, &link).expect("linked");
        assert_eq!(version_of(&link), None);
        assert_eq!(version_of(&dir.path().join("none")), None);
    }
}
