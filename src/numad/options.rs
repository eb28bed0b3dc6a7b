//! numad's command line, read the way numad reads it: what it prints and stops at, and the options
//! that are left.

use super::getopt::{Getopt, Item};
use super::number::{atoi, atol, parse_amounts, parse_intervals};
use super::usage::{usage, version_line};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use placer_engine::policy::numad::Version;

/// What a command line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program has nothing more to do.
    Exit(Exit),
    /// The program does what the options say.
    Run(Options),
}

/// How the program ends when the command line alone decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit status: 0 for `-V`, else 1.
    pub status: u8,
    /// What goes to stdout, to the byte.
    pub stdout: Vec<u8>,
    /// What goes to stderr, to the byte; outside text stands in it as it came.
    pub stderr: Vec<u8>,
}

/// The options that were given, and numad's defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose options these are.
    pub version: Version,
    /// Whether `Inactive(file)` counts as free memory (`-C`); default yes.
    pub count_inactive_file: bool,
    /// The highest syslog level that is logged (`-l`, `-d`, `-v`), any number; default 5.
    pub log_level: i32,
    /// The sleep between two scans for huge pages (`-H`), in ms: 0 (leave alone) or 10..=1000000;
    /// default 1000.
    pub thp_scan_ms: u32,
    /// The shortest time between two passes of a daemon (`-i`), in s, below 2³¹; default 5.
    pub min_interval_s: u32,
    /// The longest time between two passes of a daemon (`-i`), in s, below 2³¹, never below the
    /// shortest unless it is 0 (no daemon is wanted); default 15.
    pub max_interval_s: u32,
    /// Whether interleaved memory stays spread over the nodes (`-K`); default no.
    pub keep_interleaved: bool,
    /// The share of a process's memory to have on its nodes (`-m`), in %, 50..=100; default 90.
    pub memory_locality: u8,
    /// The processes to manage in any case (`-p`); numbers as given, so not all need be process
    /// ids.
    pub inclusion_pids: BTreeSet<i64>,
    /// The processes to leave alone (`-x`); none is in `inclusion_pids` as well.
    pub exclusion_pids: BTreeSet<i64>,
    /// The value of the last `-p`, `-r` or `-x`: numad sends a daemon only this one, with each of
    /// the three given.
    pub last_pid: Option<i64>,
    /// The CPUs kept from guests (`-R`): the raw text of the last one, which may be no list at all.
    pub reserved: Option<Vec<u8>>,
    /// Whether a daemon looks at all processes, not only at the listed ones (`-S`); default yes.
    pub scan_all: bool,
    /// What an extra hardware thread is worth (`-t`), in % of a core, 0..=100; default 20.
    pub thread_percent: u8,
    /// How far a node is to be used (`-u`), in %, 10..=130; default 85 (2015) or 90 (2025).
    pub target_utilisation: u8,
    /// The request for advice (`-w`).
    pub advice: Option<Advice>,
    /// The letters of the options that are sent to a running daemon: those of `CHiKlmprStuwx` that
    /// were given and whose value was not ignored. `-d` and `-v` count as `l`.
    pub given: BTreeSet<u8>,
}

/// How much a guest needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Hundredths of a CPU; negative where numad's arithmetic wraps.
    pub cpus_hundredths: i32,
    /// MiB, 0 or more.
    pub megabytes: i32,
}

/// Returns what `args`, the arguments after the program name `argv0`, come to with a version of numad.
///
/// Options take effect from left to right and several end the program on the spot, so the first of
/// them decides. The checks of the whole line follow: a left-over operand, then the order of the
/// intervals. `posixly_correct` is whether the environment has `POSIXLY_CORRECT`; then no option
/// may follow an operand.
/// Example: `-vw 2.5:4096` → log level 6, 250 hundredths of a CPU, 4096 MiB.
pub fn parse(version: Version, argv0: &OsStr, args: &[OsString], posixly_correct: bool) -> Outcome {
    match read(version, argv0.as_bytes(), args, posixly_correct) {
        Ok(options) => Outcome::Run(options),
        Err(exit) => Outcome::Exit(exit),
    }
}

impl Options {
    /// Returns the defaults of a version.
    pub fn of(version: Version) -> Self {
        Self {
            version,
            count_inactive_file: true,
            log_level: 5,
            thp_scan_ms: 1000,
            min_interval_s: 5,
            max_interval_s: 15,
            keep_interleaved: false,
            memory_locality: 90,
            inclusion_pids: BTreeSet::new(),
            exclusion_pids: BTreeSet::new(),
            last_pid: None,
            reserved: None,
            scan_all: true,
            thread_percent: 20,
            target_utilisation: match version {
                Version::V2015 => 85,
                Version::V2025 => 90,
            },
            advice: None,
            given: BTreeSet::new(),
        }
    }
}

/// numad's options in getopt's form: a colon follows those that take a value.
const LETTERS: &str = "C:dD:hH:i:K:l:m:p:r:R:S:t:u:vVw:x:";

fn read(
    version: Version,
    argv0: &[u8],
    args: &[OsString],
    posixly_correct: bool,
) -> Result<Options, Exit> {
    let mut options = Options::of(version);
    let mut items = Getopt::new(LETTERS, args, posixly_correct);
    for item in items.by_ref() {
        match item {
            Item::Flag(b'h') => return Err(failure(usage(version, argv0))),
            Item::Flag(b'V') => {
                return Err(Exit {
                    status: 0,
                    stdout: version_line(version, argv0),
                    stderr: Vec::new(),
                });
            }
            Item::Flag(letter) => options.set(letter, b"")?,
            Item::Value(letter, value) => options.set(letter, value)?,
            Item::Unknown(letter) => return Err(misuse(version, argv0, "invalid option", letter)),
            Item::MissingValue(letter) => {
                return Err(misuse(version, argv0, "option requires an argument", letter));
            }
        }
    }
    if let Some(operand) = items.first_operand() {
        return Err(failure([b"Unexpected arg = ".as_slice(), operand, b"\n"].concat()));
    }
    let (min, max) = (options.min_interval_s, options.max_interval_s);
    if max < min && max != 0 {
        let text = format!("Max interval ({max}) must be greater than min interval ({min})\n");
        return Err(failure(text.into_bytes()));
    }
    Ok(options)
}

impl Options {
    /// Lets one option take effect; `value` is empty for an option that takes none.
    fn set(&mut self, letter: u8, value: &[u8]) -> Result<(), Exit> {
        match letter {
            b'C' => self.count_inactive_file = atoi(value) != 0,
            b'd' => return self.set(b'l', b"7"),
            b'H' => self.thp_scan_ms = parse_thp_scan_ms(value)?,
            b'i' => {
                let intervals = parse_intervals(value).ok_or_else(|| unreadable(value))?;
                self.min_interval_s = intervals.min_s.unwrap_or(self.min_interval_s);
                self.max_interval_s = intervals.max_s;
            }
            b'K' => self.keep_interleaved = atoi(value) != 0,
            b'l' => self.log_level = atoi(value),
            // -m, -t and -u pass over a value out of range: an earlier one stays, and a daemon is
            // told nothing.
            b'm' => match parse_percent(value, 50..=100) {
                Some(percent) => self.memory_locality = percent,
                None => return Ok(()),
            },
            b'p' | b'r' | b'x' => self.list_pid(letter, atol(value)),
            b'R' => {
                self.reserved = Some(value.to_vec());
                return Ok(());
            }
            b'S' => self.scan_all = atoi(value) != 0,
            b't' => match parse_percent(value, 0..=100) {
                Some(percent) => self.thread_percent = percent,
                None => return Ok(()),
            },
            b'u' => match parse_percent(value, 10..=130) {
                Some(percent) => self.target_utilisation = percent,
                None => return Ok(()),
            },
            b'v' => return self.set(b'l', b"6"),
            b'w' => {
                let amounts = parse_amounts(value).ok_or_else(|| unreadable(value))?;
                let advice = self.advice.get_or_insert_default();
                advice.cpus_hundredths = amounts.cpus_hundredths;
                // A `-w` without an amount of memory leaves that of an earlier one.
                advice.megabytes = amounts.megabytes.unwrap_or(advice.megabytes);
            }
            // -D, which numad accepts and does nothing with.
            _ => return Ok(()),
        }
        self.given.insert(letter);
        Ok(())
    }

    fn list_pid(&mut self, letter: u8, pid: i64) {
        self.inclusion_pids.remove(&pid);
        self.exclusion_pids.remove(&pid);
        match letter {
            b'p' => _ = self.inclusion_pids.insert(pid),
            b'x' => _ = self.exclusion_pids.insert(pid),
            _ => {}
        }
        self.last_pid = Some(pid);
    }
}

fn parse_thp_scan_ms(value: &[u8]) -> Result<u32, Exit> {
    let ms = u32::try_from(atoi(value)).ok();
    ms.filter(|ms| matches!(ms, 0 | 10..=1_000_000))
        .ok_or_else(|| failure(b"THP scan_sleep_ms must be > 9 and < 1000001\n".to_vec()))
}

fn parse_percent(value: &[u8], allowed: RangeInclusive<u8>) -> Option<u8> {
    u8::try_from(atoi(value)).ok().filter(|percent| allowed.contains(percent))
}

fn unreadable(value: &[u8]) -> Exit {
    failure([b"Can't parse arg value(s): ".as_slice(), value, b"\n"].concat())
}

fn misuse(version: Version, argv0: &[u8], complaint: &str, letter: u8) -> Exit {
    let complaint = complaint.as_bytes();
    let usage = usage(version, argv0);
    failure([argv0, b": ", complaint, b" -- '", &[letter], b"'\n", &usage].concat())
}

fn failure(stderr: Vec<u8>) -> Exit {
    Exit { status: 1, stdout: Vec::new(), stderr }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(args: &[&[u8]]) -> Outcome {
        let args: Vec<OsString> = args.iter().map(|arg| OsStr::from_bytes(arg).into()).collect();
        parse(Version::V2025, OsStr::new("numad"), &args, false)
    }

    /// Splits `line` at blanks and checks that numad would run, with `given` to tell a daemon.
    fn run(line: &str, given: &str) -> Options {
        let args: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        match outcome(&args) {
            Outcome::Run(options) => {
                assert_eq!(options.given, given.bytes().collect(), "{line}");
                options
            }
            Outcome::Exit(exit) => panic!("{line}: {exit:?}"),
        }
    }

    /// A command line, the letters in `given`, and what else differs from the defaults.
    type Row = (&'static str, &'static str, fn(&mut Options));

    #[test]
    fn each_option_sets_its_field() {
        let rows: &[Row] = &[
            ("", "", |_| {}),
            ("-C 0", "C", |o| o.count_inactive_file = false),
            ("-C x", "C", |o| o.count_inactive_file = false),
            ("-C 0 -C -7", "C", |_| {}),
            ("-d", "l", |o| o.log_level = 7),
            ("-dv", "l", |o| o.log_level = 6),
            ("-l -3x", "l", |o| o.log_level = -3),
            ("-l 4294967300 -D x", "l", |o| o.log_level = 4),
            ("-H 0", "H", |o| o.thp_scan_ms = 0),
            ("-H x", "H", |o| o.thp_scan_ms = 0),
            ("-H 10", "H", |o| o.thp_scan_ms = 10),
            ("-H 1000000", "H", |o| o.thp_scan_ms = 1_000_000),
            ("-H 4294967306", "H", |o| o.thp_scan_ms = 10),
            ("-i 20", "i", |o| o.max_interval_s = 20),
            ("-i 5", "i", |o| o.max_interval_s = 5),
            ("-i 0", "i", |o| o.max_interval_s = 0),
            ("-i 20:0", "i", |o| (o.min_interval_s, o.max_interval_s) = (20, 0)),
            ("-i 7:20 -i 9", "i", |o| (o.min_interval_s, o.max_interval_s) = (7, 9)),
            // Only the intervals left in the end are compared.
            ("-i 3 -i 2:3", "i", |o| (o.min_interval_s, o.max_interval_s) = (2, 3)),
            ("-K 1", "K", |o| o.keep_interleaved = true),
            ("-m 50", "m", |o| o.memory_locality = 50),
            ("-m 49 -m 101", "", |_| {}),
            ("-m 60 -m 300", "m", |o| o.memory_locality = 60),
            ("-S 0", "S", |o| o.scan_all = false),
            ("-t 0", "t", |o| o.thread_percent = 0),
            ("-t 100 -t -1 -t 101", "t", |o| o.thread_percent = 100),
            ("-u 10", "u", |o| o.target_utilisation = 10),
            ("-u 130", "u", |o| o.target_utilisation = 130),
            ("-u 9 -u 131 -u 266", "", |_| {}),
            ("-R 0-3 -R,x", "", |o| o.reserved = Some(b",x".to_vec())),
            ("-p 7 -x 8 -p 9", "px", |o| {
                (o.inclusion_pids, o.exclusion_pids) = ([7, 9].into(), [8].into());
                o.last_pid = Some(9);
            }),
            ("-p7 -p8 -x7", "px", |o| {
                (o.inclusion_pids, o.exclusion_pids) = ([8].into(), [7].into());
                o.last_pid = Some(7);
            }),
            ("-x7 -p7 -x 99999999999999999999 -r 8", "prx", |o| {
                (o.inclusion_pids, o.exclusion_pids) = ([7].into(), [i64::MAX].into());
                o.last_pid = Some(8);
            }),
        ];
        for (line, given, change) in rows {
            let mut expected =
                Options { given: given.bytes().collect(), ..Options::of(Version::V2025) };
            change(&mut expected);
            assert_eq!(run(line, given), expected, "{line}");
        }
    }

    #[test]
    fn the_last_cpus_and_the_last_memory_count() {
        let rows = [
            ("-w 2.5:4096", 250, 4096),
            ("-vw4", 400, 0),
            ("-w 4:500 -w 2", 200, 500),
            ("-w 4:500 -w 2:0", 200, 0),
            ("-w 21474837", -2_147_483_596, 0),
        ];
        for (line, cpus_hundredths, megabytes) in rows {
            let given = if line.starts_with("-v") { "lw" } else { "w" };
            let advice = Some(Advice { cpus_hundredths, megabytes });
            assert_eq!(run(line, given).advice, advice, "{line}");
        }
    }

    #[test]
    fn the_first_that_ends_the_program_wins() {
        let help = usage(Version::V2025, b"numad");
        let bad = |text: &[u8]| [b"numad: ", text, &help].concat();
        let thp = b"THP scan_sleep_ms must be > 9 and < 1000001\n";
        let rows: &[(&[&[u8]], &[u8])] = &[
            (&[b"-h"], &help),
            (&[b"-h", b"-w", b"x"], &help),
            (&[b"a", b"-h"], &help),
            (&[b"-w", b"x", b"-h"], b"Can't parse arg value(s): x\n"),
            (&[b"-w", b""], b"Can't parse arg value(s): \n"),
            (&[b"-w", b"-h"], b"Can't parse arg value(s): -h\n"),
            (&[b"-i7:", b"-V"], b"Can't parse arg value(s): 7:\n"),
            (&[b"-w\xff\n"], b"Can't parse arg value(s): \xff\n\n"),
            (&[b"-H9"], thp),
            (&[b"-H", b"-10"], thp),
            (&[b"-H", b"1000001", b"-z"], thp),
            (&[b"-z"], &bad(b"invalid option -- 'z'\n")),
            (&[b"--help"], &bad(b"invalid option -- '-'\n")),
            (&[b"-d\xff"], &bad(b"invalid option -- '\xff'\n")),
            (&[b"-w"], &bad(b"option requires an argument -- 'w'\n")),
            (&[b"a", b"-dR"], &bad(b"option requires an argument -- 'R'\n")),
            (&[b"-w", b"4", b"a\xff", b"b"], b"Unexpected arg = a\xff\n"),
            (&[b"-i", b"3", b"--", b"-h"], b"Unexpected arg = -h\n"),
            (&[b"-i", b"3"], b"Max interval (3) must be greater than min interval (5)\n"),
            (&[b"-i10:9"], b"Max interval (9) must be greater than min interval (10)\n"),
        ];
        for (args, stderr) in rows {
            let expected = Outcome::Exit(failure(stderr.to_vec()));
            assert_eq!(outcome(args), expected, "{}", args.join(&b' ').escape_ascii());
        }
        let expected =
            Exit { status: 0, stdout: version_line(Version::V2025, b"numad"), stderr: Vec::new() };
        assert_eq!(outcome(&[b"a", b"-w1", b"-V", b"-z"]), Outcome::Exit(expected));
    }
}
