//! The real numad as a subprocess, kept for parity tests.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::idset::NodeSet;
use crate::parse::{self, ParseError};
use crate::policy::numad::Rules;
use crate::units::{Bytes, CpuShare};

/// How much of an answer or a complaint is read. numad's longest line has a few hundred bytes.
const OUTPUT_LIMIT: usize = 64 << 10;
/// Time limits longer than this are cut to it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A program that answers as numad does, asked with `PROGRAM -w CPUS:MB`.
///
/// No shell is involved. The program runs in a process group of its own, with nothing to read and
/// `LC_ALL=C`; what is left of the group when the answer is there, or the time is up, is killed.
/// The real numad measures for two seconds, opens its log and empties its message queue.
///
/// ```
/// use placer_engine::backend::numad_process::{Fault, NumadProcess};
/// use placer_engine::{Bytes, CpuShare, policy::numad::Rules};
/// let numad = NumadProcess { program: "/no/such/numad".into(), ..NumadProcess::default() };
/// let memory = Bytes::from_mib(500).unwrap_or_default();
/// let error = numad.ask(CpuShare::from_hundredths(250), memory, &Rules::default()).unwrap_err();
/// assert!(matches!(error.fault, Fault::Missing));
/// assert_eq!(
///     error.to_string(),
///     "cannot ask /no/such/numad -w 2.5:500: there is no such program (install the package \
///      numad, name it with --numad PATH, or leave out --via numad)",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumadProcess {
    /// The program: a path, or a name that is looked up in `PATH`.
    pub program: PathBuf,
    /// How long it may take, at most a day. Default 10 s.
    pub timeout: Duration,
}

/// Looks up `numad` in `PATH` and gives it 10 s.
impl Default for NumadProcess {
    fn default() -> Self {
        Self { program: PathBuf::from("numad"), timeout: Duration::from_secs(10) }
    }
}

/// Why a program that should answer as numad did not. Names the program and what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub struct NumadProcessError {
    /// The program as it was given.
    pub program: PathBuf,
    /// The value of `-w`: `4:500`.
    pub request: String,
    /// What went wrong.
    pub fault: Fault,
}

/// What went wrong with a program that should answer as numad.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// More CPUs or memory than numad can count: both are signed 32-bit numbers to it.
    TooLarge,
    /// There is no such program.
    Missing,
    /// The file is there and cannot be executed: its mode, its format or its interpreter.
    NotExecutable(io::Error),
    /// The system could not start it, or follow what it does.
    System(io::Error),
    /// It ended with an exit status other than 0.
    Failed {
        /// The exit status.
        status: i32,
        /// The first line on stderr, printable; empty when there was none.
        said: String,
    },
    /// A signal ended it.
    Killed {
        /// The signal's number.
        signal: i32,
        /// The first line on stderr, printable; empty when there was none.
        said: String,
    },
    /// It ended with exit status 0 and printed nothing.
    Silent {
        /// The first line on stderr, printable; empty when there was none.
        said: String,
    },
    /// It had not ended when the time was up, and was killed.
    Slow {
        /// How long it had.
        limit: Duration,
    },
    /// It wrote more than any answer has, and was killed.
    Babbling {
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// How many bytes were accepted.
        limit: usize,
    },
    /// It printed something other than one node list and one line end.
    NotAList(ParseError),
}

impl fmt::Display for NumadProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INSTEAD: &str = "leave out --via numad to be answered without it";
        let Self { program, request, fault } = self;
        write!(f, "cannot ask {} -w {request}: ", program.display())?;
        match fault {
            Fault::TooLarge => {
                write!(f, "expected at most {} CPUs and {} MiB", i32::MAX / 100, i32::MAX)?;
            }
            Fault::Missing => {
                return f.write_str(
                    "there is no such program (install the package numad, name it with \
                     --numad PATH, or leave out --via numad)",
                );
            }
            Fault::NotExecutable(_) => {
                return f.write_str(
                    "expected a program that can be executed (name another with --numad PATH, or \
                     leave out --via numad)",
                );
            }
            Fault::System(_) => f.write_str("the system could not run it")?,
            Fault::Failed { status, said } => {
                write!(f, "expected a node list, found exit status {status} and ")?;
                complaint(f, said)?;
            }
            Fault::Killed { signal, said } => {
                let name = Signal::try_from(*signal).map_or("an unknown one", Signal::as_str);
                write!(f, "expected a node list, found it ended by signal {signal} ({name}) and ")?;
                complaint(f, said)?;
            }
            Fault::Silent { said } => {
                f.write_str("expected a node list, found exit status 0, no output and ")?;
                complaint(f, said)?;
            }
            Fault::Slow { limit } => {
                write!(f, "expected an answer within {limit:?}, found none, and killed it")?;
            }
            Fault::Babbling { stream, limit } => {
                write!(f, "expected at most {limit} bytes on {stream}, found more, and killed it")?;
            }
            Fault::NotAList(error) => write!(f, "its answer: {error}")?,
        }
        write!(f, " ({INSTEAD})")
    }
}

fn complaint(f: &mut fmt::Formatter<'_>, said: &str) -> fmt::Result {
    match said {
        "" => f.write_str("no word on stderr"),
        said => write!(f, "\"{said}\" on stderr"),
    }
}

impl std::error::Error for NumadProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::NotExecutable(error) | Fault::System(error) => Some(error),
            _ => None,
        }
    }
}

impl NumadProcess {
    /// Asks the program where a guest should run, and returns the nodes it names.
    ///
    /// CPUs are given with up to two decimals, memory in MiB, rounded up; the rules as `-C`, `-t`
    /// and `-R` where they differ from numad's own. Waits for the answer, at most `timeout`.
    /// Errors: see [`Fault`]; in every case nothing of the program is left running, but for what
    /// left its process group.
    pub fn ask(
        &self,
        cpus: CpuShare,
        memory: Bytes,
        rules: &Rules,
    ) -> Result<NodeSet, NumadProcessError> {
        let request = format!("{cpus}:{}", memory.mib_rounded_up());
        let answer = if fits(cpus.hundredths()) && fits(memory.mib_rounded_up()) {
            self.run(&arguments(&request, rules)).and_then(Output::understood)
        } else {
            Err(Fault::TooLarge)
        };
        answer.map_err(|fault| NumadProcessError { program: self.program.clone(), request, fault })
    }

    fn run(&self, arguments: &[OsString]) -> Result<Output, Fault> {
        let limit = self.timeout.min(LONGEST);
        let deadline = Instant::now() + limit;
        let mut running = Running::start(&self.program, arguments)?;
        let mut stdout = Stream::new("stdout", running.child.stdout.take().map(OwnedFd::from))?;
        let mut stderr = Stream::new("stderr", running.child.stderr.take().map(OwnedFd::from))?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Slow { limit });
            }
            let ended = wait(&running.ended, [&stdout, &stderr], left).map_err(Fault::System)?;
            // When it has ended, everything it wrote is in the pipes. Their end is not waited for:
            // a process it started may hold them open.
            stdout.read()?;
            stderr.read()?;
            if ended {
                let status = running.end().map_err(Fault::System)?;
                return Ok(Output { status, stdout: stdout.text, stderr: stderr.text });
            }
        }
    }
}

fn fits(amount: u64) -> bool {
    i32::try_from(amount).is_ok()
}

fn arguments(request: &str, rules: &Rules) -> Vec<OsString> {
    let usual = Rules::default();
    let mut all: Vec<OsString> = Vec::new();
    if rules.count_inactive_file != usual.count_inactive_file {
        all.extend(["-C".into(), u8::from(rules.count_inactive_file).to_string().into()]);
    }
    if rules.thread_percent != usual.thread_percent {
        all.extend(["-t".into(), rules.thread_percent.to_string().into()]);
    }
    if let Some(reserved) = &rules.reserved {
        all.extend(["-R".into(), OsString::from_vec(reserved.clone())]);
    }
    all.extend(["-w".into(), request.into()]);
    all
}

/// A program that was started. Whatever happens, it is killed and reaped, with its group.
struct Running {
    child: Child,
    group: Pid,
    /// Readable once the program has ended.
    ended: PipeReader,
    /// Waits for the end and leaves the reaping to [`end`](Self::end), so that the number of the
    /// group cannot come to mean another one while it may still be killed.
    watcher: Option<JoinHandle<bool>>,
    reaped: bool,
}

impl Running {
    fn start(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<Self, Fault> {
        let (ended, mut alive) = io::pipe().map_err(Fault::System)?;
        let child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| not_started(program, e))?;
        let group = Pid::from_raw(i32::try_from(child.id()).expect("pids are below 2^22"));
        let mut running = Self { child, group, ended, watcher: None, reaped: false };
        let watch = move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let result = loop {
                match waitid(Id::Pid(group), flags) {
                    Err(Errno::EINTR) => {}
                    other => break other,
                }
            };
            // A byte, not just the closing: a fork elsewhere in this program may hold a copy. The
            // reader may have given up already; then nobody needs to be told.
            let _ = alive.write_all(b"!");
            result.is_ok()
        };
        let watcher = std::thread::Builder::new().name("numad-exit".to_owned()).spawn(watch);
        running.watcher = Some(watcher.map_err(Fault::System)?);
        Ok(running)
    }

    /// Ends the program and its group, and reaps it. Called once.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.reaped = true;
        match self.watcher.take() {
            // In a program that ignores SIGCHLD the kernel has reaped it, and its number is free.
            Some(watcher) if watcher.is_finished() => {
                if watcher.join().unwrap_or(false) {
                    self.kill();
                }
            }
            Some(watcher) => {
                self.kill();
                let _ = watcher.join();
            }
            None => self.kill(),
        }
        self.child.wait()
    }

    /// Kills the group of a program that is not reaped yet, so that the number still means it.
    fn kill(&self) {
        // The only error is a group that is empty.
        let _ = killpg(self.group, Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.end();
        }
    }
}

fn not_started(program: &Path, error: io::Error) -> Fault {
    match error.kind() {
        // A script whose interpreter is missing answers the same.
        io::ErrorKind::NotFound if program.is_file() => Fault::NotExecutable(error),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Fault::Missing,
        io::ErrorKind::PermissionDenied => Fault::NotExecutable(error),
        _ if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => Fault::NotExecutable(error),
        _ => Fault::System(error),
    }
}

/// What a program writes on one stream, up to the limit.
struct Stream {
    name: &'static str,
    /// `None` from its end on.
    pipe: Option<PipeReader>,
    text: Vec<u8>,
}

impl Stream {
    fn new(name: &'static str, pipe: Option<OwnedFd>) -> Result<Self, Fault> {
        if let Some(pipe) = &pipe {
            // The flag is of our end alone.
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .map_err(|e| Fault::System(e.into()))?;
        }
        Ok(Self { name, pipe: pipe.map(PipeReader::from), text: Vec::new() })
    }

    /// Reads what is there, without waiting.
    fn read(&mut self) -> Result<(), Fault> {
        let mut piece = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut piece) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.text.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Fault::System(e)),
            }
            if self.text.len() > OUTPUT_LIMIT {
                return Err(Fault::Babbling { stream: self.name, limit: OUTPUT_LIMIT });
            }
        }
        Ok(())
    }
}

/// Sleeps until the program ends, writes or the time is up. Returns whether it has ended.
fn wait(ended: &PipeReader, streams: [&Stream; 2], left: Duration) -> io::Result<bool> {
    let mut watched = vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    for pipe in streams.into_iter().filter_map(|stream| stream.pipe.as_ref()) {
        watched.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
    }
    // Rounded up: the last fraction of a millisecond is slept too, not spun away.
    let left = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, left) {
        Ok(_) => Ok(watched[0].any().unwrap_or(true)),
        Err(Errno::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What a program left behind.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Output {
    fn understood(self) -> Result<NodeSet, Fault> {
        let said = first_line(&self.stderr);
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) if self.stdout.is_empty() => Err(Fault::Silent { said }),
            (Some(0), _) => node_list(&self.stdout).map_err(Fault::NotAList),
            (Some(status), _) => Err(Fault::Failed { status, said }),
            (None, signal) => Err(Fault::Killed { signal: signal.unwrap_or_default(), said }),
        }
    }
}

/// Reads one node list and one line end, and nothing else.
fn node_list(text: &[u8]) -> Result<NodeSet, ParseError> {
    let in_list = |b: &u8| b.is_ascii_digit() || matches!(b, b',' | b'-');
    let end = text.iter().position(|b| !in_list(b)).unwrap_or(text.len());
    match (end, &text[end..]) {
        (0, _) => Err(ParseError::at(text, 0, "a list of nodes")),
        (_, b"\n") => parse::list::parse(&text[..end]),
        _ => Err(ParseError::at(text, end, "one list of nodes and one line end")),
    }
}

/// Returns the first line that is not empty, printable and at most 200 bytes of it.
fn first_line(text: &[u8]) -> String {
    const SHOWN: usize = 200;
    let line = text.split(|&b| b == b'\n').find(|line| !line.trim_ascii().is_empty());
    let line = line.unwrap_or_default().trim_ascii();
    line[..line.len().min(SHOWN)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    use nix::sys::signal::kill;
    use nix::sys::stat::Mode;

    use super::*;
    use needs::needs;

    /// Far longer than any script here should take, on however slow a machine.
    const PATIENCE: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);

    struct Script {
        dir: tempfile::TempDir,
        program: PathBuf,
    }

    impl Script {
        /// Each script first writes its process id beside itself.
        fn new(body: &str) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let program = dir.path().join("numad");
            let text = format!("#!/bin/sh\ncd '{}'\necho $$ > pid\n{body}\n", dir.path().display());
            fs::write(&program, text).expect("written");
            fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
            Self { dir, program }
        }

        fn ask_within(&self, timeout: Duration) -> Result<String, Fault> {
            let numad = NumadProcess { program: self.program.clone(), timeout };
            let memory = Bytes::from_mib(500).expect("fits");
            let before = Instant::now();
            loop {
                let cpus = CpuShare::from_hundredths(400);
                match numad.ask(cpus, memory, &Rules::default()) {
                    // Another test forked while the script was open for writing.
                    Err(NumadProcessError { fault: Fault::System(e), .. })
                        if e.kind() == io::ErrorKind::ExecutableFileBusy => {}
                    answer => {
                        assert!(before.elapsed() < PATIENCE, "it took {:?}", before.elapsed());
                        self.assert_gone();
                        return answer.map(|nodes| nodes.to_string()).map_err(|e| e.fault);
                    }
                }
            }
        }

        fn ask(&self) -> Result<String, Fault> {
            self.ask_within(PATIENCE)
        }

        /// Neither running nor a zombie.
        fn assert_gone(&self) {
            let pid = fs::read_to_string(self.dir.path().join("pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                assert_eq!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH));
            }
        }
    }

    fn shown(body: &str) -> String {
        let fault = Script::new(body).ask().expect_err("a failure");
        let (program, request) = (PathBuf::from("numad"), "4:500".to_owned());
        let text = NumadProcessError { program, request, fault }.to_string();
        let text = text.strip_prefix("cannot ask numad -w 4:500: ").expect("the program first");
        let instead = " (leave out --via numad to be answered without it)";
        text.strip_suffix(instead).expect("what to do last").to_owned()
    }

    #[test]
    fn the_question_is_put_as_numad_expects_it_and_the_answer_read() {
        let body = r#"[ "$LC_ALL $*" = "C -w 4:500" ] && [ -z "$(cat)" ] && echo 0-1,3"#;
        assert_eq!(Script::new(body).ask().expect("an answer"), "0-1,3");

        let rules = Rules {
            count_inactive_file: false,
            thread_percent: 50,
            reserved: Some(b"0-1".into()),
            ..Rules::default()
        };
        let given = arguments("2.5:1", &rules);
        assert_eq!(given, ["-C", "0", "-t", "50", "-R", "0-1", "-w", "2.5:1"]);
    }

    #[test]
    fn memory_is_rounded_up_and_what_numad_cannot_count_is_refused() {
        let numad = NumadProcess { program: "/no/such".into(), ..NumadProcess::default() };
        let ask = |cpus, memory| {
            let error = numad
                .ask(CpuShare::from_hundredths(cpus), Bytes::new(memory), &Rules::default())
                .expect_err("no program");
            (error.request.clone(), !matches!(error.fault, Fault::TooLarge))
        };
        assert_eq!(ask(225, (3 << 20) + 1), ("2.25:4".to_owned(), true));
        assert!(ask(2_147_483_647, 2_147_483_647 << 20).1);
        assert_eq!(ask(2_147_483_648, 0), ("21474836.48:0".to_owned(), false));
        assert_eq!(ask(100, 2_147_483_648 << 20), ("1:2147483648".to_owned(), false));
    }

    #[needs(own_kernel)]
    #[test]
    fn a_program_that_is_missing_or_cannot_be_executed() {
        let script = Script::new("echo 0");
        fs::set_permissions(&script.program, PermissionsExt::from_mode(0o644)).expect("set");
        assert!(matches!(script.ask(), Err(Fault::NotExecutable(_))));
        let no_interpreter = Script::new("");
        fs::write(&no_interpreter.program, "#!/no/such/interpreter\n").expect("written");
        assert!(matches!(no_interpreter.ask(), Err(Fault::NotExecutable(_))));
        let no_format = Script::new("");
        fs::write(&no_format.program, b"\x7fELF and then nothing").expect("written");
        assert!(matches!(no_format.ask(), Err(Fault::NotExecutable(_))));
        let below_a_file = Script { program: script.program.join("numad"), dir: script.dir };
        assert!(matches!(below_a_file.ask(), Err(Fault::Missing)));
    }

    #[test]
    fn a_program_that_fails() {
        assert_eq!(
            shown("echo; printf 'no \\033 nodes\\nmore\\n' >&2; echo 0; exit 3"),
            r#"expected a node list, found exit status 3 and "no \x1b nodes" on stderr"#
        );
        assert_eq!(
            shown("exit 1"),
            "expected a node list, found exit status 1 and no word on stderr"
        );
        assert_eq!(
            shown("echo 0; kill -SEGV $$"),
            "expected a node list, found it ended by signal 11 (SIGSEGV) and no word on stderr"
        );
        assert_eq!(
            shown("echo hm >&2"),
            "expected a node list, found exit status 0, no output and \"hm\" on stderr"
        );
    }

    #[test]
    fn answers_that_are_no_node_list() {
        let list = "one list of nodes and one line end";
        for (body, error) in [
            ("echo", "1:1: expected a list of nodes, found the end of the line".to_owned()),
            ("echo ' 0'", "1:1: expected a list of nodes, found \" 0\"".to_owned()),
            ("echo 0-1 2", format!("1:4: expected {list}, found \" 2\"")),
            ("echo 0; echo 1", format!("1:2: expected {list}, found the end of the line")),
            ("printf 0", format!("1:2: expected {list}, found nothing")),
            ("printf '0\\r\\n'", format!("1:2: expected {list}, found \"\\r\"")),
            ("printf '0\\000\\n'", format!("1:2: expected {list}, found \"\\x00\"")),
            ("echo 3-", "1:3: expected a number, found nothing".to_owned()),
            ("echo Segfault", "1:1: expected a list of nodes, found \"Segfault\"".to_owned()),
        ] {
            assert_eq!(shown(body), format!("its answer: {error}"), "{body}");
        }
    }

    #[test]
    fn a_slow_program_is_killed() {
        for body in ["sleep 300", "trap '' TERM INT; exec >&- 2>&-; sleep 300", "echo 0; sleep 300"]
        {
            let answer = Script::new(body).ask_within(SHORT);
            assert!(matches!(answer, Err(Fault::Slow { limit: SHORT })), "{body}: {answer:?}");
        }
        assert!(matches!(
            Script::new("echo 0").ask_within(Duration::ZERO),
            Err(Fault::Slow { .. })
        ));
    }

    /// What a program started holds its pipes open: the answer is not held up, and nothing stays.
    #[test]
    fn a_grandchild_that_holds_the_pipes_is_killed_too() {
        for (body, timeout) in [
            ("sleep 300 9> held & echo 0-1", PATIENCE),
            // Not before the grandchild has it open.
            ("(echo there; exec sleep 300) > held & sleep 300", SHORT),
        ] {
            let script = Script::new(body);
            let held = script.dir.path().join("held");
            nix::unistd::mkfifo(&held, Mode::S_IRWXU).expect("a pipe");
            let flags = OFlag::O_NONBLOCK.bits();
            let mut reader =
                fs::File::options().read(true).custom_flags(flags).open(&held).expect("opened");
            let answer = script.ask_within(timeout);
            match timeout {
                PATIENCE => assert_eq!(answer.expect("an answer"), "0-1"),
                _ => assert!(matches!(answer, Err(Fault::Slow { .. })), "{answer:?}"),
            }
            // At its end once nobody has it open for writing any more.
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(100_u16));
            let before = Instant::now();
            let mut text = Vec::new();
            while let Err(e) = reader.read_to_end(&mut text) {
                assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                assert!(before.elapsed() < PATIENCE, "a grandchild is left");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn a_babbling_program_is_killed() {
        for (body, name) in [
            ("while :; do echo 0123456789012345678901234567890123456789; done", "stdout"),
            ("while :; do echo 0123456789012345678901234567890123456789 >&2; done", "stderr"),
            ("echo 0; head -c 65537 /dev/zero >&2", "stderr"),
        ] {
            match Script::new(body).ask() {
                Err(Fault::Babbling { stream, limit: OUTPUT_LIMIT }) => assert_eq!(stream, name),
                other => panic!("{body}: {other:?}"),
            }
        }
        let most = "echo 0; head -c 65536 /dev/zero >&2";
        assert_eq!(Script::new(most).ask().expect("an answer"), "0");
    }
}
