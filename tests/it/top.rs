//! `placer top` in a real terminal: what is typed, what is seen, and how the terminal is left.
#![cfg(feature = "top")]

use crate::common;
use needs::needs;
use testkit::machine;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{fixture, placer, project, run, text};

/// Long enough for a machine that is busy with other things; a test that passes never waits for it.
const LONGEST: Duration = Duration::from_secs(30);

/// A tmux of the test's own, of 80 by 24, with a shell in it.
struct Tmux {
    dir: tempfile::TempDir,
}

impl Tmux {
    fn start() -> Self {
        let tmux = Self { dir: tempfile::tempdir().expect("a directory") };
        let size = ["-x", "80", "-y", "24"];
        let new = tmux.call(&[&["new-session", "-d"], &size[..], &["sh"]].concat());
        assert!(new.status.success(), "{}", text(&new.stderr));
        // Trapped, so that the shell of a command that dies of SIGINT goes on, and drops nothing typed.
        tmux.line("PS1=; set +o vi; trap : INT; echo ready");
        tmux.wait("ready");
        tmux
    }

    fn call(&self, args: &[&str]) -> Output {
        let socket = self.dir.path().join("socket");
        let mut command = Command::new("tmux");
        command.arg("-S").arg(socket).args(["-f", "/dev/null"]).args(args);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").env_remove("NO_COLOR");
        run(&mut command)
    }

    fn keys(&self, keys: &[&str]) {
        self.call(&[&["send-keys"], keys].concat());
    }

    fn line(&self, line: &str) {
        self.call(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        text(&self.call(&["capture-pane", "-p"]).stdout)
    }

    /// Waits until the screen shows something. Returns the screen.
    fn wait(&self, wanted: &str) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(wanted) {
                return screen;
            }
            assert!(start.elapsed() < LONGEST, "no {wanted:?} on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The terminal's modes as stty tells them, in a file.
    fn modes(&self, name: &str) -> String {
        let file = self.dir.path().join(name);
        self.line(&format!("stty -a >{}; echo told {name}", file.display()));
        self.wait(&format!("\ntold {name}"));
        std::fs::read_to_string(file).expect("modes")
    }

    /// Whether the alternate screen is shown, and whether the cursor is.
    fn flags(&self) -> String {
        let told = self.call(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        text(&told.stdout).trim().to_owned()
    }

    fn wait_for_flags(&self, wanted: &str) {
        let start = Instant::now();
        while self.flags() != wanted {
            assert!(start.elapsed() < LONGEST, "flags {}:\n{}", self.flags(), self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts placer top on a recorded machine, and waits until it is drawn. Its pid is in a file.
    fn top(&self, then: &str) -> PathBuf {
        let pid = self.dir.path().join("pid");
        let _ = std::fs::remove_file(&pid);
        let (program, root) = (env!("CARGO_BIN_EXE_placer"), fixture("ring-4-busy"));
        let config = common::SHIPPED;
        let line = format!(
            "sh -c 'echo $$ >{}; exec {program} --config {config} top --root {}'; {then}",
            pid.display(),
            root.display()
        );
        self.line(&line);
        self.wait("type a request");
        pid
    }
}

/// Waits until a process has ended: what is typed sooner may still be taken by it.
fn wait_for_end(pid: &str) {
    let (start, process) = (Instant::now(), Path::new("/proc").join(pid.trim()));
    while process.exists() {
        assert!(start.elapsed() < LONGEST, "{} is still there", process.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.call(&["kill-server"]);
    }
}

#[needs(tmux)]
#[test]
fn a_request_is_typed_and_the_terminal_is_left_as_it_was() {
    let tmux = Tmux::start();
    let before = tmux.modes("before");
    tmux.top("echo left $?");
    assert_eq!(tmux.flags(), "1 0");
    tmux.keys(&["2", ":", "2", "0", "0"]);
    let screen = tmux.wait("on node 0: 2.00 CPUs 200.0 MiB");
    for seen in
        ["●node 0", "○node 1", "advised: nothing is faster by 2 %", "numad 2025 chooses 0,3"]
    {
        assert!(screen.contains(seen), "{seen}:\n{screen}");
    }
    tmux.keys(&["Enter", "q"]);
    tmux.wait("left 0");
    assert_eq!(tmux.flags(), "0 1");
    assert_eq!(tmux.modes("after"), before);
}

/// The screens that `src/bin/placer-top/screens.rs` draws without a terminal, seen in one.
#[needs(tmux)]
#[test]
fn hosts_of_1_2_8_and_64_nodes_are_shown_as_expected() {
    let tmux = Tmux::start();
    let hosts = tmux.dir.path().join("hosts");
    for name in ["one-node-busy", "two-nodes", "uneven-8-busy"] {
        std::fs::create_dir_all(&hosts).expect("made");
        std::os::unix::fs::symlink(fixture(name), hosts.join(name)).expect("a link");
    }
    machine::sixty_four(&hosts.join("64 nodes"));
    let state = tmux.dir.path().join("state");
    tmux.line(&format!("cd {}; export PLACER_STATE_DIR={}", hosts.display(), state.display()));
    let (program, config) = (env!("CARGO_BIN_EXE_placer"), common::SHIPPED);
    for (name, host, plain, request, kept) in [
        ("one-asked", "one-node-busy", "1", "1:100", false),
        ("two-idle", "two-nodes", "1", "2:300", true),
        ("eight", "uneven-8-busy", "", "2:200", true),
        ("many", "64 nodes", "", "24:40G", true),
    ] {
        let path = format!("src/bin/placer-top/screens/{name}.txt");
        let file = std::fs::read_to_string(project().join(path)).expect("a screen");
        let wanted = file.split("\nstyles:").next().unwrap_or_default().trim_end();
        tmux.line(&format!(
            "clear; NO_COLOR={plain} {program} --config {config} top --root '{host}'; \
             echo left {name} $?"
        ));
        tmux.wait("type a request");
        tmux.call(&["send-keys", "-l", request]);
        if kept {
            tmux.keys(&["Enter"]);
        }
        let start = Instant::now();
        while tmux.screen().trim_end() != wanted {
            let screen = tmux.screen();
            assert!(start.elapsed() < LONGEST, "{name} is\n{screen}\nnot\n{wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
        tmux.keys(if kept { &["q"] } else { &["Enter", "q"] });
        tmux.wait(&format!("left {name} 0"));
    }
}

#[needs(tmux)]
#[test]
fn whatever_signal_ends_it_the_terminal_is_left_as_it_was() {
    let tmux = Tmux::start();
    let before = tmux.modes("before");
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let pid = tmux.top(&format!("echo ended {signal} $?"));
        let pid = std::fs::read_to_string(pid).expect("a pid");
        assert_eq!(tmux.flags(), "1 0", "{signal}");
        run(Command::new("kill").arg(format!("-{signal}")).arg(pid.trim()));
        tmux.wait(&format!("ended {signal} {}", 128 + number));
        tmux.wait_for_flags("0 1");
        wait_for_end(&pid);
        assert_eq!(tmux.modes(signal), before, "{signal}");
        tmux.line("clear");
    }
}

#[needs(tmux)]
#[test]
fn stopped_it_gives_the_terminal_back_and_takes_it_again() {
    let tmux = Tmux::start();
    tmux.line("set -m");
    let before = tmux.modes("before");
    let pid = std::fs::read_to_string(tmux.top("echo left")).expect("a pid");
    tmux.keys(&["C-z"]);
    tmux.wait("Stopped");
    assert_eq!(tmux.flags(), "0 1");
    assert_eq!(tmux.modes("stopped"), before);
    tmux.line("fg");
    tmux.wait("type a request");
    assert_eq!(tmux.flags(), "1 0");
    // Drawn anew, and at other sizes, it still hears keys.
    tmux.keys(&["C-l"]);
    tmux.call(&["resize-window", "-x", "70", "-y", "20"]);
    tmux.wait("this terminal has 70 and 20");
    tmux.call(&["resize-window", "-x", "120", "-y", "40"]);
    tmux.keys(&["2", ":", "2", "0", "0"]);
    tmux.wait("numad 2025 chooses 0,3");
    tmux.keys(&["Enter", "q"]);
    tmux.wait_for_flags("0 1");
    wait_for_end(&pid);
    assert_eq!(
        tmux.modes("after").replace("rows 40; columns 120", ""),
        before.replace("rows 24; columns 80", "")
    );
}

#[needs(tmux)]
#[test]
fn a_panic_gives_the_terminal_back_before_it_speaks() {
    let tmux = Tmux::start();
    let before = tmux.modes("before");
    let options = format!(
        r#"{{"version":"{}","root":"{}","interval_ms":1000,"claims":null,"below":false,
        "overcommit":1.0,"request":null,"choice":{{"by_numad":false,"numad_version":"2025","memory_bound":0.5,"pack":false,
        "effort":null,"smt_percent":20,"cpus":null,"nodes":null,"within":null,"pages":null,
        "near":null,"cache_penalty":20,"cache":"prefer","cores":"any"}},"panic_after_ms":300}}"#,
        env!("CARGO_PKG_VERSION"),
        fixture("ring-4").display()
    );
    let file = tmux.dir.path().join("options");
    std::fs::write(&file, options.replace('\n', " ")).expect("written");
    // As it is shipped it aborts, and runs no destructor: make test runs both builds.
    let installed = std::env::var("PLACER_TOP_INSTALLED").ok();
    let status = if installed.is_some() { 128 + 6 } else { 101 };
    let program = installed.as_deref().unwrap_or(env!("CARGO_BIN_EXE_placer-top"));
    tmux.line(&format!(
        "clear; RUST_BACKTRACE=0 {program} \"$(cat {})\"; echo ended $?",
        file.display()
    ));
    let screen = tmux.wait(&format!("ended {status}"));
    assert!(screen.contains("asked to panic"), "{screen}");
    assert_eq!(tmux.flags(), "0 1");
    assert_eq!(tmux.modes("after"), before);
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = run(placer().arg("top").env("TERM", "xterm").current_dir(project()));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "placer: top: expected a terminal as standard output, found a file or a pipe; placer show \
         prints the host once\n"
    );
}
