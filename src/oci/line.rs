//! The command line of an OCI runtime, as far as it matters here: the verb, the log, the bundle and the id.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Flags before the verb that have a value, of runc and crun.
const GLOBAL: &[&str] = &["cgroup-manager", "criu", "log", "log-format", "root", "rootless"];
/// Flags of `create` and `run` that have a value, of both.
const OF_START: &[&str] =
    &["b", "bundle", "config", "console-socket", "f", "pid-file", "pidfd-socket", "preserve-fds"];

/// What is read of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The file that engines read errors from.
    pub log: Option<OsString>,
    pub log_format: Option<OsString>,
    /// Where the runtime keeps its state.
    pub root: Option<OsString>,
    pub verb: Option<OsString>,
    /// `create` or `run`, with what they start.
    pub start: Option<Start>,
}

/// What is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Its directory; `None`: the working directory.
    pub bundle: Option<PathBuf>,
    pub id: OsString,
    /// Another file in place of `config.json`.
    pub config: Option<OsString>,
}

impl Line {
    /// Reads what follows the name of the program. What a runtime does not know it refuses itself.
    pub fn parse(args: &[OsString]) -> Self {
        let mut line = Self::default();
        let mut words = Words { left: args, valued: GLOBAL };
        let verb = loop {
            match words.next() {
                None => return line,
                Some(Word::Flag("log", value)) => line.log = value,
                Some(Word::Flag("log-format", value)) => line.log_format = value,
                Some(Word::Flag("root", value)) => line.root = value,
                Some(Word::Flag(..)) => {}
                Some(Word::Operand(verb)) => break verb,
            }
        };
        line.verb = Some(verb.to_owned());
        if verb != "create" && verb != "run" {
            return line;
        }
        let (mut start, mut id) = (Start::default(), None);
        words.valued = OF_START;
        for word in words {
            match word {
                Word::Flag("b" | "bundle", value) => start.bundle = value.map(PathBuf::from),
                Word::Flag("f" | "config", value) => start.config = value,
                Word::Flag(..) => {}
                Word::Operand(operand) => id = id.or(Some(operand)),
            }
        }
        line.start = id.map(|id| Start { id: id.to_owned(), ..start });
        line
    }
}

enum Word<'a> {
    /// The name of a flag without its dashes, empty where it is not UTF-8, and its value, if it has one.
    Flag(&'a str, Option<OsString>),
    Operand(&'a OsStr),
}

struct Words<'a> {
    left: &'a [OsString],
    /// Flags whose value is the next word.
    valued: &'static [&'static str],
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.take()?;
        let bytes = word.as_bytes();
        // runc takes one dash for two. A dash alone is an operand.
        let name = match bytes {
            b"--" => return self.take().map(Word::Operand),
            [b'-', b'-', name @ ..] | [b'-', name @ ..] if !name.is_empty() => name,
            _ => return Some(Word::Operand(word)),
        };
        let (name, joined) = match name.iter().position(|&b| b == b'=') {
            Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]).to_owned())),
            None => (name, None),
        };
        let name = std::str::from_utf8(name).unwrap_or_default();
        let value = match joined {
            None if self.valued.contains(&name) => self.take().map(OsStr::to_owned),
            joined => joined,
        };
        Some(Word::Flag(name, value))
    }
}

impl<'a> Words<'a> {
    fn take(&mut self) -> Option<&'a OsStr> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Line {
        Line::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn start(line: &str) -> Option<(String, String)> {
        let Start { bundle, id, .. } = parse(line).start?;
        let bundle = bundle.map_or(String::new(), |bundle| bundle.display().to_string());
        Some((bundle, id.to_string_lossy().into_owned()))
    }

    #[test]
    fn lines_of_engines() {
        let of = |bundle: &str, id: &str| Some((bundle.to_owned(), id.to_owned()));
        for (line, wanted) in [
            // conmon, containerd-shim, by hand.
            (
                "--cgroup-manager=systemd --log-format=json --log=/b/oci-log create --bundle /b --pid-file /p 9f",
                of("/b", "9f"),
            ),
            (
                "--root /run/runc --log /b/log.json --log-format json --systemd-cgroup create \
                 --bundle /b --pid-file /b/init.pid --console-socket /s 9f",
                of("/b", "9f"),
            ),
            ("--root=/r run -b /b -d 9f", of("/b", "9f")),
            ("-root /r run -b=/b 9f", of("/b", "9f")),
            ("create 9f --bundle=/b", of("/b", "9f")),
            ("run --preserve-fds 2 -- -9f", of("", "-9f")),
            // The last one counts.
            ("create --bundle /a --bundle /b 9f", of("/b", "9f")),
            ("create 9f second", of("", "9f")),
            // Nothing that is started, or not by a line that can be read.
            ("create --bundle /b", None),
            ("create --bundle", None),
            ("--root create start 9f", None),
            ("start create", None),
            ("--log create", None),
            ("", None),
            ("--version", None),
        ] {
            assert_eq!(start(line), wanted, "{line}");
        }
        let line = parse("--log /l --debug --log-format=json --root /r --unknown features");
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!((line.log, line.log_format), (text("/l"), text("json")));
        assert_eq!((line.root, line.verb, line.start), (text("/r"), text("features"), None));
        let config = parse("create -f other.json -b /b 9f").start.and_then(|start| start.config);
        assert_eq!(config, text("other.json"));
    }

    #[test]
    fn names_that_are_not_utf_8() {
        let args = ["create", "--bundle"].map(OsString::from).into_iter();
        let odd = OsStr::from_bytes(b"/b\xff").to_owned();
        let args: Vec<OsString> = args.chain([odd.clone(), odd.clone()]).collect();
        let start = Line::parse(&args).start.expect("started");
        assert_eq!((start.bundle, start.id), (Some(PathBuf::from(&odd)), odd));
    }
}
