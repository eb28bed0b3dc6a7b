//! Both versions of numad at one daemon: placer's serves the queues of both, and placer's client asks the one
//! that runs. In private namespaces, as `sysv.rs`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common;
use crate::common::inside::{
    Daemon, PID_FILE, Real, inside, our_numad_of, pid_file, put_host, said, stranger, wait_for,
};
use crate::sysv::{every_letter_of, every_letter_to};
use common::text;
use needs::needs;

/// Two nodes, of which the second has more, without idle CPU: 2015 names one of them, 2025 both.
fn put_two_nodes() {
    put_host(&[(16000, 5000, 0), (16000, 1000, 9000)]);
}

const CHOICES: [(&str, &str); 2] = [("2015", "1\n"), ("2025", "0-1\n")];

/// Plays a client of a version, without that version's program. Returns what it printed.
fn client(version: &str, daemon: &Daemon, messages: &[&str]) -> String {
    let pid = daemon.pid().to_string();
    let output = stranger(&[&["--of", version, "ask", pid.as_str()], messages].concat());
    assert!(output.status.success(), "{version} {messages:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// An answer as it comes by the queue: from the daemon, to `w`, without arguments, one NUL byte at its end.
fn answer(nodes: &str) -> String {
    format!("True w 0 0 {} 1\n", nodes.trim_end())
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn each_version_asks_on_its_own_queue_and_gets_its_own_answer() {
    inside("sysv_versions::each_version_asks_on_its_own_queue_and_gets_its_own_answer", || {
        put_two_nodes();
        let mut daemon = Daemon::start();
        for _ in 0..3 {
            for (version, nodes) in CHOICES {
                assert_eq!(client(version, &daemon, &["w:0:500"]), answer(nodes), "{version}");
                assert_eq!(our_numad_of(version, &["-w", "0:500"]).0, nodes, "{version}");
            }
        }
        for (version, _) in CHOICES {
            let answers = daemon.lines(&format!(" version={version}")).len();
            assert_eq!(answers, 6, "the log names the version that answered");
        }
        daemon.signal("TERM");
        wait_for("its end", || daemon.has_ended());
        for (version, _) in CHOICES {
            let gone = text(&stranger(&["--of", version, "count"]).stderr);
            assert_eq!(gone, "ENOENT\n", "the queue of {version} is removed");
        }
    });
}

/// Each letter of the protocol, on the queue of either version, by a client that is not numad.
#[needs(root, namespaces, numad, python3)]
#[test]
fn every_letter_on_both_queues() {
    inside("sysv_versions::every_letter_on_both_queues", || {
        put_two_nodes();
        for (version, nodes) in CHOICES {
            let mut daemon = Daemon::start();
            let rows = [
                ("C:0:0", "what=\"not to count inactive file cache as free\" value=-"),
                ("C:1:0", "what=\"to count inactive file cache as free\" value=-"),
                ("t:50:0", "what=\"to value hardware threads otherwise\" value=50"),
                ("l:6:0", "what=\"to log otherwise\" value=6"),
                ("H:500:0", "option=H"),
                ("i:7:9", "option=i"),
                ("K:1:0", "option=K"),
                ("m:80:0", "option=m"),
                ("u:90:0", "option=u"),
                ("p:1:0", "option=p"),
                ("r:1:0", "option=r"),
                ("x:1:0", "option=x"),
                ("S:0:0", "option=S"),
                ("z:1:2", "numad has no command z with 1 and 2"),
                ("i:5:0", "what=\"to end\" value=-"),
            ];
            for (message, says) in rows {
                assert_eq!(client(version, &daemon, &[message]), "", "{version} {message}");
                wait_for(says, || daemon.lines(says).len() == 1);
                if !message.starts_with('i') {
                    assert!(!client(version, &daemon, &["w:0:500"]).is_empty());
                }
            }
            wait_for("its end", || daemon.has_ended());
            assert_eq!(pid_file(), None, "{version}");
            let mut daemon = Daemon::start();
            // Beside a question an option is that question's own.
            let by_itself = client(version, &daemon, &["C:0:0", "w:0:500"]);
            let expected = if version == "2015" { "0" } else { "0-1" };
            assert_eq!(by_itself, answer(expected), "{version}");
            assert_eq!(client(version, &daemon, &["w:0:500"]), answer(nodes), "{version}");
            daemon.signal("TERM");
            wait_for("its end", || daemon.has_ended());
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn what_one_version_sets_counts_for_the_clients_of_both() {
    inside("sysv_versions::what_one_version_sets_counts_for_the_clients_of_both", || {
        put_two_nodes();
        let daemon = Daemon::start();
        assert_eq!(client("2025", &daemon, &["C:0:0"]), "");
        wait_for("the change", || daemon.lines("options received from a numad client").len() == 1);
        assert_eq!(client("2015", &daemon, &["w:0:500"]), answer("0"));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn without_a_queue_that_the_host_needs_no_client_finds_the_daemon() {
    inside("sysv_versions::without_a_queue_that_the_host_needs_no_client_finds_the_daemon", || {
        for (version, key) in [("2015", "0xdeadbeef"), ("2025", "0xaddaadda")] {
            let make = ["--of", version, "--uid", "1000", "make", "666"];
            assert!(stranger(&make).status.success());
            let mut daemon = Daemon::spawn("");
            let says = format!("remove it: ipcrm -Q {key}");
            wait_for("its word", || daemon.lines(&says).len() == 1);
            wait_for("its socket", || !daemon.lines("ready").is_empty());
            assert_eq!(pid_file(), None, "{version}");
            for (version, _) in CHOICES {
                assert_eq!(our_numad_of(version, &["-w", "1:1"]).2, Some(0), "{version}");
            }
            // It is tried again.
            assert!(stranger(&["--of", version, "remove"]).status.success(), "it was not ours");
            wait_for("the pid file", || pid_file().is_some());
            for (version, _) in CHOICES {
                let told = client(version, &daemon, &["w:0:1"]);
                assert!(told.starts_with("True w 0 0 "), "{version}: {told}");
            }
            daemon.signal("TERM");
            wait_for("its end", || daemon.has_ended());
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn a_queue_that_changes_hands_hides_the_daemon_from_both_versions() {
    inside("sysv_versions::a_queue_that_changes_hands_hides_the_daemon_from_both_versions", || {
        let daemon = Daemon::start();
        assert!(stranger(&["--of", "2025", "give", "1000"]).status.success());
        wait_for("its word", || !daemon.lines("no longer served").is_empty());
        wait_for("no pid file", || pid_file().is_none());
        // A client of the other version that has found it before is still answered.
        assert!(client("2015", &daemon, &["w:0:1"]).starts_with("True w 0 0 "));
        assert!(stranger(&["--of", "2025", "give", "0"]).status.success());
        wait_for("the pid file", || pid_file().is_some());
        assert!(client("2025", &daemon, &["w:0:1"]).starts_with("True w 0 0 "));
    });
}

/// This host has the numad of 2015 alone: clients of 2025 cannot ask in vain.
#[needs(root, namespaces, numad, python3)]
#[test]
fn a_strangers_queue_of_the_other_version_does_not_hide_the_daemon() {
    inside(
        "sysv_versions::a_strangers_queue_of_the_other_version_does_not_hide_the_daemon",
        || {
            put_two_nodes();
            assert!(stranger(&["--of", "2025", "--uid", "1000", "make", "666"]).status.success());
            let daemon = Daemon::start_with("[numad]\nversion = \"2015\"\n");
            assert_eq!(daemon.lines("remove it: ipcrm -Q 0xaddaadda").len(), 1);
            let [(_, of_2015), (_, of_2025)] = CHOICES;
            assert_eq!(client("2015", &daemon, &["w:0:500"]), answer(of_2015));
            assert_eq!(our_numad_of("2015", &["-w", "0:500"]).0, of_2015);
            assert_eq!(our_numad_of("2025", &["-w", "0:500"]).0, of_2025, "by placer's socket");
            assert!(stranger(&["--of", "2025", "remove"]).status.success());
            wait_for("another queue", || daemon.lines("was made anew").len() == 1);
            assert_eq!(client("2025", &daemon, &["w:0:500"]), answer(of_2025));
        },
    );
}

#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn forty_clients_of_each_version_at_once_three_times() {
    inside("sysv_versions::forty_clients_of_each_version_at_once_three_times", || {
        put_two_nodes();
        let daemon = Daemon::start();
        let versions = [Real::of_2015(), Real::of_2025()];
        let rounds = std::env::var("PLACER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
        for round in 0..rounds {
            let clients: Vec<_> = (0..80)
                .map(|n| {
                    let mut command = versions[n % 2].command(&["-w", "0:500"]);
                    command.stdout(Stdio::piped()).stderr(Stdio::null());
                    command.spawn().expect("it starts")
                })
                .collect();
            for (n, client) in clients.into_iter().enumerate() {
                let output = client.wait_with_output().expect("it ends");
                let answered = (text(&output.stdout), output.status.code());
                assert_eq!(answered, (CHOICES[n % 2].1.to_owned(), Some(0)), "round {round}, {n}");
            }
        }
        wait_for("a line for each", || daemon.lines("way=queue").len() == 80 * rounds);
        for (version, _) in CHOICES {
            let left = || text(&stranger(&["--of", version, "count"]).stdout);
            wait_for("an empty queue", || left() == "0\n");
        }
    });
}

#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn every_letter_of_a_real_client_of_2025() {
    inside("sysv_versions::every_letter_of_a_real_client_of_2025", || {
        every_letter_of(&Real::of_2025());
    });
}

#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn every_letter_to_the_daemon_of_2025() {
    inside("sysv_versions::every_letter_to_the_daemon_of_2025", || {
        every_letter_to(&Real::of_2025(), "2025");
    });
}

/// The version in force here is not the one of the daemon that runs.
#[needs(root, namespaces, numad, python3)]
#[test]
fn our_client_as_2025_asks_the_daemon_of_2015() {
    inside("sysv_versions::our_client_as_2025_asks_the_daemon_of_2015", || {
        every_letter_to(&Real::of_2015(), "2025");
    });
}

#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn our_client_as_2015_asks_the_daemon_of_2025() {
    inside("sysv_versions::our_client_as_2015_asks_the_daemon_of_2025", || {
        every_letter_to(&Real::of_2025(), "2015");
    });
}

/// It is run as `tests/parity/numad-oracle` runs it: the process has the loader's name.
#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn a_daemon_that_a_loader_runs_is_found() {
    inside("sysv_versions::a_daemon_that_a_loader_runs_is_found", || {
        let root = common::root_of_2025();
        let library = root.join("usr/lib/x86_64-linux-gnu");
        let path = |path: &std::path::Path| path.to_str().expect("a path").to_owned();
        let loader = path(&library.join("ld-linux-x86-64.so.2"));
        let (library, program) = (path(&library), path(&root.join("usr/bin/numad")));
        let words = ["--library-path", &library, "--argv0", "numad", &program, "-i", "15"];
        said(&loader, &words);
        wait_for("numad", || pid_file().is_some_and(|text| text.ends_with('\n')));
        wait_for("its queue", || stranger(&["--of", "2025", "count"]).status.success());
        let (nodes, errors, status) = our_numad_of("2015", &["-w", "1:7"]);
        assert_eq!((nodes.is_empty(), errors.as_str(), status), (false, "", Some(0)));
        let log = std::fs::read_to_string("/var/log/numad.log").expect("a log");
        assert!(log.contains("advice for 100 CPUs and 7 MBs"), "numad has answered: {log}");
        assert_eq!(our_numad_of("2015", &["-i", "0"]).2, Some(0));
        wait_for("its end", || pid_file().is_none());
    });
}

#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn clients_of_2025_are_released_when_the_daemon_ends_or_is_killed() {
    inside("sysv_versions::clients_of_2025_are_released_when_the_daemon_ends_or_is_killed", || {
        let real = Real::of_2025();
        for signal in ["KILL", "TERM"] {
            let mut daemon = Daemon::start();
            daemon.signal("STOP");
            let mut client = real.waiting(&["-w", "1:1"]);
            daemon.signal(signal);
            daemon.signal("CONT");
            wait_for("its end", || daemon.has_ended());
            // A killed daemon's clients are released by the next one.
            let _next = (signal == "KILL").then(Daemon::start);
            wait_for("the client's end", || client.try_wait().expect("a child").is_some());
            assert!(matches!(client.wait().expect("ended").code(), Some(0 | 1)), "{signal}");
        }
    });
}

/// A client that finds a daemon that does not answer, or that has no queue, answers itself in time.
#[needs(root, namespaces, numad, numad_2025, python3)]
#[test]
fn no_client_of_ours_waits_for_ever() {
    inside("sysv_versions::no_client_of_ours_waits_for_ever", || {
        let real = Real::of_2025();
        assert_eq!(real.numad(&["-i", "15"]).1, Some(0));
        wait_for("numad", || pid_file().is_some_and(|text| text.ends_with('\n')));
        wait_for("its queue", || stranger(&["--of", "2025", "count"]).status.success());
        let pid = std::fs::read_to_string(PID_FILE).expect("a pid");
        said("kill", &["-STOP", pid.trim()]);
        for (version, _) in CHOICES {
            let since = Instant::now();
            let (nodes, errors, status) = our_numad_of(version, &["-w", "1:1"]);
            assert_eq!((nodes.is_empty(), status), (false, Some(0)), "{version}");
            assert!(errors.contains("no answer came within 2 s"), "{version}: {errors}");
            assert!(since.elapsed() < Duration::from_secs(60));
        }
        stranger(&["--of", "2025", "remove"]);
        let (nodes, errors, status) = our_numad_of("2015", &["-w", "1:1"]);
        assert_eq!((nodes.is_empty(), status), (false, Some(0)));
        assert!(errors.contains("there is no message queue 0xaddaadda to ask it on"), "{errors}");
    });
}

/// An ordinary user inside: a sticky `/tmp` of the test's own, and a copy of the program that the user can run.
struct User;

impl User {
    fn new() -> Self {
        for (place, mode) in [("/run", "mode=755"), ("/var/log", "mode=755"), ("/mnt", "mode=755")]
        {
            said("mount", &["-t", "tmpfs", "-o", mode, "none", place]);
        }
        // An empty /tmp, but for what is tested where that lies there.
        let program = Path::new(env!("CARGO_BIN_EXE_placer")).parent().expect("a directory");
        let ours = [common::project(), program].map(|path| path.to_str().expect("a path"));
        let in_tmp = || {
            ours.into_iter().zip(["/mnt/a", "/mnt/b"]).filter(|(path, _)| path.starts_with("/tmp/"))
        };
        for (path, kept) in in_tmp() {
            std::fs::create_dir(kept).expect("made");
            said("mount", &["--bind", path, kept]);
        }
        said("mount", &["-t", "tmpfs", "-o", "mode=1777", "none", "/tmp"]);
        for (path, kept) in in_tmp() {
            said("mkdir", &["-p", path]);
            said("mount", &["--bind", kept, path]);
        }
        std::fs::create_dir("/run/program").expect("made");
        testkit::command::copy_program(env!("CARGO_BIN_EXE_placer"), "/run/program/placer");
        std::fs::copy(common::SHIPPED, "/run/placer.toml").expect("copied");
        said("install", &["-d", "-o", "1000", "-g", "1000", "-m", "700", "/run/of-1000"]);
        Self
    }

    /// Runs placer by numad's name. Returns stdout, stderr and the status.
    fn numad(&self, version: &str, args: &[&str]) -> (String, String, Option<i32>) {
        self.numad_of_group(1000, version, args)
    }

    /// The same, with the rights of a group.
    fn numad_of_group(
        &self,
        group: u32,
        version: &str,
        args: &[&str],
    ) -> (String, String, Option<i32>) {
        let mut command = Command::new("timeout");
        let group = format!("--regid={group}");
        command.args(["60", "setpriv", "--reuid=1000", &group, "--clear-groups", "--"]);
        command.args(["/run/program/placer", "numad"]).args(args).env_remove("PLACER_STATE_DIR");
        command.env("PLACER_CONFIG", "/run/placer.toml").env("PLACER_NUMAD_VERSION", version);
        let output = common::run(command.env("XDG_RUNTIME_DIR", "/run/of-1000"));
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }
}

/// Returns owner, mode and length of a file.
fn facts(path: &str) -> (u32, u32, u64) {
    let meta = std::fs::symlink_metadata(path).expect(path);
    (meta.uid(), meta.mode() & 0o7777, meta.len())
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn a_users_log_of_2025_is_in_tmp_and_never_followed() {
    inside("sysv_versions::a_users_log_of_2025_is_in_tmp_and_never_followed", || {
        let user = User::new();
        let log = "/tmp/numad.log";
        let answered = |(nodes, errors, status): (String, String, Option<i32>)| {
            assert_eq!((nodes.is_empty(), errors.as_str(), status), (false, "", Some(0)));
        };
        answered(user.numad("2015", &["-w", "1:1"]));
        assert!(!Path::new(log).exists());
        answered(user.numad("2025", &["-w", "1:1"]));
        let (owner, mode, length) = facts(log);
        assert_eq!((owner, mode, length > 0), (1000, 0o660, true));
        // Root's is where it always was.
        assert_eq!(our_numad_of("2025", &["-w", "1:1"]).2, Some(0));
        assert_eq!(facts("/var/log/numad.log").1, 0o660);
        assert_eq!(facts(log).2, length);
        // Links to the user's own file, and a file of another user, open to all.
        std::fs::write("/tmp/own", "precious").expect("written");
        said("chown", &["1000", "/tmp/own"]);
        let own = facts("/tmp/own");
        for plant in [["ln", "-s", "/tmp/own", log], ["ln", "/tmp/own", log, "-v"]] {
            std::fs::remove_file(log).expect("removed");
            said(plant[0], &plant[1..]);
            answered(user.numad("2025", &["-w", "1:1"]));
            assert_eq!(facts("/tmp/own"), own, "{plant:?}");
        }
        std::fs::remove_file(log).expect("removed");
        said("install", &["-o", "1001", "-m", "666", "/dev/null", log]);
        answered(user.numad("2025", &["-w", "1:1"]));
        assert_eq!(facts(log), (1001, 0o666, 0));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn a_user_can_be_the_daemon_of_2025_for_itself() {
    inside("sysv_versions::a_user_can_be_the_daemon_of_2025_for_itself", || {
        let user = User::new();
        let file = "/tmp/numad.pid";
        let nothing = (String::new(), String::new(), Some(0));
        // Another user's file is neither replaced nor believed, nor is a link.
        said("install", &["-o", "1001", "-m", "666", "/dev/null", file]);
        let (nodes, errors, status) = user.numad("2025", &["-i", "15"]);
        assert_eq!((nodes.as_str(), status), ("", Some(1)));
        assert!(errors.contains("cannot write /tmp/numad.pid: "), "{errors}");
        assert_eq!(facts(file), (1001, 0o666, 0));
        std::fs::remove_file(file).expect("removed");

        assert_eq!(user.numad("2025", &["-i", "15"]), nothing);
        assert_eq!((facts(file).0, facts(file).1), (1000, 0o644));
        assert_eq!(pid_file(), None);
        let pid = std::fs::read_to_string(file).expect("a pid").trim().to_owned();
        let asks = ["--of", "2025", "--gid", "1000", "--uid", "1000", "ask", &pid, "w:0:1"];
        let told = text(&stranger(&asks).stdout);
        assert!(told.starts_with("True w 0 0 "), "{told}");
        assert_eq!(text(&stranger(&["count"]).stderr), "ENOENT\n", "2015 looks for no user's");
        assert_eq!(user.numad("2025", &["-w", "1:1"]).2, Some(0));
        // Named by a file of another user, it is not found; nor by root.
        assert_eq!(our_numad_of("2025", &["-i", "0"]), nothing);
        said("chown", &["1001", file]);
        assert_eq!(user.numad("2025", &["-i", "0"]), nothing);
        std::thread::sleep(Duration::from_millis(500));
        assert!(Path::new("/proc").join(&pid).exists(), "it was not meant");
        said("chown", &["1000", file]);
        assert_eq!(user.numad("2025", &["-i", "0"]), nothing);
        wait_for("its end", || !Path::new(file).exists());

        // That of 2015 looks for root's alone.
        let (_, errors, status) = user.numad("2015", &["-i", "15"]);
        assert!(errors.contains("they look for a daemon of root"), "{errors}");
        assert_eq!(status, Some(1));
    });
}

/// Of root's process a member of group root may not read the program, and may use the queue.
#[needs(root, namespaces, numad, numad_2025, python3, setpriv)]
#[test]
fn a_client_of_group_root_finds_the_queue_of_either_version() {
    inside("sysv_versions::a_client_of_group_root_finds_the_queue_of_either_version", || {
        let user = User::new();
        for (runs, other) in [("2015", "2025"), ("2025", "2015")] {
            let real = if runs == "2015" { Real::of_2015() } else { Real::of_2025() };
            assert_eq!(real.numad(&["-i", "15"]).1, Some(0), "{runs}");
            wait_for("numad", || pid_file().is_some_and(|text| text.ends_with('\n')));
            wait_for("its queue", || stranger(&["--of", runs, "count"]).status.success());
            let log = || std::fs::read_to_string("/var/log/numad.log").unwrap_or_default();
            let answers = || log().matches("advice for 0 CPUs and 7 MBs").count();
            // Without a queue of the other version, and with one that a daemon has left.
            for left in [false, true] {
                if left {
                    assert!(stranger(&["--of", other, "make", "660"]).status.success());
                }
                for version in [runs, other] {
                    let before = answers();
                    let (nodes, errors, status) = user.numad_of_group(0, version, &["-w", "0:7"]);
                    let answered = (nodes.is_empty(), errors.as_str(), status);
                    assert_eq!(answered, (false, "", Some(0)), "{runs} {left} {version}");
                    assert_eq!(answers(), before + 1, "{runs} {left} {version}: {}", log());
                }
            }
            assert_eq!(user.numad_of_group(0, other, &["-i", "0"]).2, Some(0));
            wait_for("its end", || pid_file().is_none());
            for version in [runs, other] {
                stranger(&["--of", version, "remove"]);
            }
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn a_pid_file_of_another_user_is_not_believed() {
    inside("sysv_versions::a_pid_file_of_another_user_is_not_believed", || {
        let mut daemon = Daemon::start();
        said("chown", &["1000", PID_FILE]);
        assert_eq!(our_numad_of("2025", &["-i", "0"]), (String::new(), String::new(), Some(0)));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!daemon.has_ended());
        said("chown", &["0", PID_FILE]);
        assert_eq!(our_numad_of("2025", &["-i", "0"]).2, Some(0));
        wait_for("its end", || daemon.has_ended());
    });
}
