//! An answer in other programs: by libplacer beside the Rust call, and by clients of the daemon in C and Python.
//!
//! `make bench-embedding` builds the library and the program first. Each program is run several times in turn, and the
//! lowest of its medians counts: other work on the machine only adds. The bounds are those of the guide's table; the
//! exit status is 1 if one is exceeded.

#![allow(clippy::panic, reason = "what cannot be measured says why")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use placer_engine::claims::ClaimDirs;
use placer_engine::{Engine, EngineBuilder, Request, SysRoot};

const QUESTION: &str = "4:500";
/// The same on the socket.
const QUESTION_JSON: &str = r#"{"cpus":4,"memory":524288000}"#;
const ANSWERS: usize = 5000;
const QUESTIONS: usize = 100_000;
const ROUNDS: usize = 5;

/// Microseconds.
const THREADLESS_LIMIT: f64 = 60.0;
const SAMPLER_LIMIT: f64 = 15.0;
const PYTHON_RATIO_LIMIT: f64 = 2.0;
/// Allocators keep some pages; a leak of one byte a question would be 88 KiB.
const GROWTH_LIMIT_KIB: f64 = 64.0;

/// What was measured, in microseconds: lowest and median.
#[derive(Clone, Copy)]
struct Time {
    lowest: f64,
    median: f64,
}

impl Time {
    const NONE: Self = Self { lowest: f64::INFINITY, median: f64::INFINITY };

    fn least(self, other: Self) -> Self {
        Self { lowest: self.lowest.min(other.lowest), median: self.median.min(other.median) }
    }

    fn of_nanoseconds(lowest: f64, median: f64) -> Self {
        Self { lowest: lowest / 1000.0, median: median / 1000.0 }
    }
}

fn project() -> &'static Path {
    // Of libplacer, two levels below.
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn compile(source: &str, program: PathBuf, more: &[String]) -> PathBuf {
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-o"]).arg(&program).arg(project().join(source));
    output(cc.args(more));
    program
}

/// Installs libplacer below a directory, and compiles the program that asks it.
fn compile_ask(dir: &Path) -> PathBuf {
    let mut install = Command::new(project().join("packaging/install-lib"));
    output(install.arg(project().join("target/package/capi")).env("PREFIX", dir));
    let dir_text = dir.display();
    let flags = [
        format!("-I{dir_text}/include"),
        format!("-L{dir_text}/lib"),
        format!("-Wl,-rpath,{dir_text}/lib"),
        "-lplacer".to_owned(),
    ];
    compile("bindings/c/examples/ask.c", dir.join("ask"), &flags)
}

/// The numbers of a line, from word `skip` on.
fn numbers(line: &str, skip: usize) -> Vec<f64> {
    line.split_whitespace().skip(skip).map(|word| word.parse().expect("a number")).collect()
}

/// One way to ask in this process: its name, and what libplacer is called with for the same.
struct Way {
    name: &'static str,
    arguments: Vec<String>,
    engine: EngineBuilder,
    limit: Option<f64>,
}

fn ways(claims: &Path) -> Vec<Way> {
    let recorded = project().join("sysfs-fixtures/ring-4-busy");
    let live = || Engine::builder(SysRoot::live());
    let way = |name, arguments: &[&str], engine, limit| {
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Way { name, arguments, engine, limit }
    };
    let claims_dir = claims.to_str().expect("a plain name");
    let dirs = || ClaimDirs::on_top_of_roots(Some(claims.to_owned()));
    let ring = recorded.to_str().expect("a plain name");
    vec![
        way("this host, no thread", &[], live().without_thread(), Some(THREADLESS_LIMIT)),
        way("this host, sampler", &["-s"], live(), Some(SAMPLER_LIMIT)),
        way(
            "this host, no thread, claims count",
            &["-c", claims_dir],
            live().without_thread().claims(dirs()),
            None,
        ),
        way(
            "this host, sampler, claims count",
            &["-s", "-c", claims_dir],
            live().claims(dirs()),
            None,
        ),
        way(
            "ring-4-busy, no thread",
            &["-r", ring],
            Engine::builder(SysRoot::at(&recorded)).without_thread(),
            None,
        ),
        way(
            "ring-4-busy, sampler",
            &["-s", "-r", ring],
            Engine::builder(SysRoot::at(&recorded)),
            None,
        ),
    ]
}

/// The time of the Rust call.
fn in_rust(engine: EngineBuilder) -> Time {
    let engine = engine.start().expect("a host");
    let request: Request = QUESTION.parse().expect("a request");
    let mut times: Vec<f64> = (0..=ANSWERS)
        .map(|_| {
            let start = Instant::now();
            drop(engine.advise(&request).expect("an advice"));
            start.elapsed().as_secs_f64() * 1e9
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    Time::of_nanoseconds(times[0], times[ANSWERS / 2])
}

fn in_c(ask: &Path, way: &Way) -> Time {
    let count = ANSWERS.to_string();
    let line = output(Command::new(ask).args(&way.arguments).args(["-n", &count, QUESTION]));
    let [lowest, median] = numbers(&line, 0)[..] else { panic!("{line}") };
    Time::of_nanoseconds(lowest, median)
}

/// A daemon of this host in a directory of its own.
struct Daemon(Child);

impl Daemon {
    fn start(state: &Path) -> Self {
        let mut command = Command::new(project().join("target/package/placer"));
        command.arg("daemon").env("PLACER_STATE_DIR", state).stderr(Stdio::null());
        command.env("PLACER_CONFIG", project().join("src/settings/placer.toml"));
        let daemon = Self(command.spawn().expect("make static builds it"));
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(state.join("placer.sock")).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Compares the clients; returns whether Python's is within the bounds.
fn clients(state: &Path) -> bool {
    let _daemon = Daemon::start(state);
    let socket = state.join("placer.sock");
    let (c, count) =
        (compile("benches/embedding/socket.c", state.join("socket"), &[]), QUESTIONS.to_string());
    let (mut in_c, mut in_python) = (Time::NONE, Time::NONE);
    let mut grown = [f64::NEG_INFINITY; 3];
    for _ in 0..ROUNDS {
        let line = output(Command::new(&c).arg(&socket).args([&count, QUESTION_JSON]));
        let [lowest, median] = numbers(&line, 1)[..] else { panic!("{line}") };
        in_c = in_c.least(Time::of_nanoseconds(lowest, median));
        let mut python = Command::new("python3");
        python.arg(project().join("benches/embedding/client.py")).arg(&socket);
        python.env("PYTHONPATH", project().join("bindings/python"));
        let line = output(python.env("PYTHONDONTWRITEBYTECODE", "1").args([&count, QUESTION]));
        let [lowest, median, rest @ ..] = &numbers(&line, 1)[..] else { panic!("{line}") };
        in_python = in_python.least(Time::of_nanoseconds(*lowest, *median));
        for (most, now) in grown.iter_mut().zip(rest) {
            *most = most.max(*now);
        }
    }
    let ratio = in_python.median / in_c.median;
    println!("\n{QUESTIONS} questions on one connection (us)   lowest  median");
    println!("C client of the daemon                  {:8.1}{:8.1}", in_c.lowest, in_c.median);
    println!(
        "Python client of the daemon             {:8.1}{:8.1}",
        in_python.lowest, in_python.median
    );
    let [descriptors, objects, kib] = grown;
    println!(
        "Python / C: {ratio:.2} (limit {PYTHON_RATIO_LIMIT}); more after the first tenth: {descriptors} descriptors, {objects} objects, {kib} KiB (limit {GROWTH_LIMIT_KIB})"
    );
    // One object is the tuple that counts them.
    ratio <= PYTHON_RATIO_LIMIT && descriptors <= 0.0 && objects <= 10.0 && kib <= GROWTH_LIMIT_KIB
}

fn main() -> ExitCode {
    let dir =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let ask = compile_ask(dir.path());
    let claims = dir.path().join("claims");
    std::fs::create_dir(&claims).expect("made");
    println!(
        "an answer (us)                         C: lowest  median  Rust: lowest  median   ratio   limit"
    );
    let mut within = true;
    for way in ways(&claims) {
        let (mut c, mut rust) = (Time::NONE, Time::NONE);
        for _ in 0..ROUNDS {
            c = c.least(in_c(&ask, &way));
            rust = rust.least(in_rust(way.engine.clone()));
        }
        let limit = way.limit.map_or("-".to_owned(), |limit| limit.to_string());
        println!(
            "{:38}{:10.1}{:8.1}{:14.1}{:8.1}{:8.2}{limit:>8}",
            way.name,
            c.lowest,
            c.median,
            rust.lowest,
            rust.median,
            c.median / rust.median
        );
        within &= way.limit.is_none_or(|limit| c.median <= limit);
    }
    within &= clients(dir.path());
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
