//! numad's System V message queue, both ways, in private namespaces: real clients of numad's against
//! our daemon, our client against numad's daemon, and strangers against both.
//!
//! The faults of numad 0.5 that concern a daemon or its clients, by their numbers in the project's
//! description of it, and where each is tried here; or why it cannot occur.
//!
//! | fault | here |
//! |---|---|
//! | 3, advice is not remembered | `d03_guests_that_start_together_are_told_apart` |
//! | 4, a long answer ends the daemon | `d04_a_long_answer_is_made_to_fit` |
//! | 5, 6 CPU ids and distances past a count | tables are looked up by id, of any length; `tests/it/damaged.rs`, golden and parity answers |
//! | 7, long lists overflow a stack | lists are strings that grow; `d07_long_lists_break_nothing` |
//! | 8, 9, 10, 11, 12, 14 the rule itself | kept for parity by policy `numad`, mended by policy `best` (`tests/it/best.rs`); the daemon asks the same engine |
//! | 13, node ids past 64 are dropped | as 8 by policy `numad`; the queue takes any id that fits (`fit.rs`) |
//! | 15, a load of 80 ms | the daemon's engine measures over a second whoever asks (`engine/src/sampler.rs`): no query begins a new measurement |
//! | 16, clients that start together hang | `d16_forty_clients_at_once_three_times`, `d16_stopped_clients_get_their_answer_later` |
//! | 17, a stale pid file | `d17_a_stale_pid_file_holds_up_nobody`, `d17_after_a_kill_the_next_daemon_takes_over`, `d17_clients_of_a_killed_daemon_are_released_when_the_next_one_starts` |
//! | 18, a message of more than 128 bytes | `d18_long_messages_hold_up_nobody`, `d18_a_queue_that_is_removed_is_made_anew` |
//! | 19, hotplug ends the daemon | the engine reads the host again (`tests/vm/hotplug`); here `d19_a_node_that_goes_ends_nothing` |
//! | 20, topology is ten minutes old | the same: looked for at each reading, four times a second |
//! | 21, texts of other files | each text is a value of its own with its length; there is no shared buffer to search on |
//! | 22, an unlocked second reading | a snapshot is made once and never changed; answers hold the one they began with |
//! | 23, a queue that anybody may own | `d23_a_queue_of_a_strangers_is_not_served`, `d23_a_queue_that_changes_hands_is_left`, `d23_only_root_changes_what_counts_for_all` |
//! | 24, the log | only a file of the daemon's own, never through a link (`src/numad/log.rs`); `d25_a_start_that_fails_says_so` reads it |
//! | 25, failures without a word | `d25_a_start_that_fails_says_so`, `d25_an_empty_pid_file_is_replaced` |
//! | 26, options beside a query stay | `d26_options_beside_a_question_are_its_own` |
//! | 27, huge pages | `d27_huge_pages_are_left_alone` |
//! | 28, two seconds for each query | `d28_an_answer_takes_no_two_seconds` |

use crate::common;
use crate::common::inside;
use needs::needs;

use std::process::{Command, Stdio};
use std::time::Instant;

use common::{placer, text};
use inside::{
    Daemon, PID_FILE, Real, call, inside, numad, our_numad, our_numad_of, pid_file, put_host, said,
    stranger, wait_for,
};

/// Begins some real clients at once. Returns what each printed, and its status.
fn at_once(count: usize) -> Vec<(String, Option<i32>)> {
    let clients: Vec<_> = (0..count)
        .map(|_| {
            let mut command = Command::new("timeout");
            command.args(["-k", "1", "30", "numad", "-w", "1:1"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
        })
        .collect();
    let ended = clients.into_iter().map(|child| child.wait_with_output().expect("it ends"));
    ended.map(|output| (text(&output.stdout), output.status.code())).collect()
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d16_forty_clients_at_once_three_times() {
    inside("sysv::d16_forty_clients_at_once_three_times", || {
        let daemon = Daemon::start();
        let rounds = std::env::var("PLACER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
        let node = our_numad(&["-w", "1:1"]).0;
        for round in 0..rounds {
            let answers = at_once(40);
            assert_eq!(answers, vec![(node.clone(), Some(0)); 40], "round {round}");
        }
        wait_for("a line for each", || daemon.lines("way=queue").len() == 40 * rounds);
        // What was repeated for them is taken out again.
        wait_for("an empty queue", || text(&stranger(&["count"]).stdout) == "0\n");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d16_stopped_clients_get_their_answer_later() {
    inside("sysv::d16_stopped_clients_get_their_answer_later", || {
        let mut daemon = Daemon::start();
        // Stopped by its own parent as soon as the daemon has its question.
        let script = "numad -w 1:1 & n=$!; while ! grep -q way=queue /run/daemon.log; do :; done; \
                      kill -STOP $n; sleep 0.3; kill -CONT $n; wait $n";
        assert_eq!(call("timeout", &["60", "sh", "-c", script]).status.code(), Some(0));
        daemon.answers();
        // One that waits for its answer while the daemon ends is answered, or told by the kernel.
        // (One that is still emptying the queue goes round for ever: fault 18, its own.)
        daemon.signal("STOP");
        let mut client = Command::new("numad");
        let client = client.args(["-w", "1:1"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut client = client.spawn().expect("it starts");
        let stat = format!("/proc/{}/stat", client.id());
        let waits = || std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(" (numad) S "));
        wait_for("a client that waits", waits);
        daemon.signal("TERM");
        daemon.signal("CONT");
        wait_for("the client's end", || client.try_wait().expect("a child").is_some());
        let ended = client.wait().expect("ended").code();
        assert!(matches!(ended, Some(0 | 1)), "{ended:?}");
        wait_for("its end", || pid_file().is_none());
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d04_a_long_answer_is_made_to_fit() {
    inside("sysv::d04_a_long_answer_is_made_to_fit", || {
        // Every other node of 80 has room: 40 of them hold 40 times 900 MB.
        let nodes: Vec<_> =
            (0..80).map(|id| (1000, if id % 2 == 0 { 1000 } else { 100 }, 0)).collect();
        put_host(&nodes);
        let mut daemon = Daemon::start();
        let (answer, status) = numad(&["-w", "0:36000"]);
        let told = "0-18,20,22,24,26,28,30,32,34,36,38,40,42,44,46,48,50,52,54,56,58,60,62,64,66,\
                    68,70,72,74,76,78\n";
        assert_eq!((answer.as_str(), status), (told, Some(0)));
        // It is told after the answer is given.
        wait_for("its word", || daemon.lines("too long for numad").len() == 1);
        // Nobody else's answer is cut.
        let chosen: Vec<String> = (0..80).step_by(2).map(|id| id.to_string()).collect();
        assert_eq!(our_numad(&["-w", "0:36000", "-t", "20"]).0, chosen.join(",") + "\n");
        daemon.answers();
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d03_guests_that_start_together_are_told_apart() {
    inside("sysv::d03_guests_that_start_together_are_told_apart", || {
        put_host(&[(8000, 8000, 0), (8000, 8000, 0)]);
        let _daemon = Daemon::start_with("[numad]\npolicy = \"best\"\nhold = \"adopt\"\n");
        let mut answers = [numad(&["-w", "0:5000"]).0, numad(&["-w", "0:5000"]).0];
        answers.sort();
        assert_eq!(answers, ["0\n", "1\n"]);
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d07_long_lists_break_nothing() {
    inside("sysv::d07_long_lists_break_nothing", || {
        let list: Vec<String> = (0..2048).map(|id| (2 * id).to_string()).collect();
        let (answer, errors, status) = our_numad(&["-d", "-R", &list.join(","), "-w", "0:1"]);
        assert_eq!((answer.is_empty(), status), (false, Some(0)), "{errors}");
        assert_eq!(stop_after(&["-i", "15", "-R", &list.join(",")]), Some(0));
    });
}

/// Becomes the daemon, asks it once, and ends it.
fn stop_after(args: &[&str]) -> Option<i32> {
    let (_, errors, status) = our_numad(args);
    assert_eq!((errors.as_str(), numad(&["-w", "1:1"]).1), ("", Some(0)));
    let pid = pid_file().expect("a pid");
    assert_eq!(numad(&["-i", "0"]).1, Some(0));
    wait_for("its end", || has_ended(pid.trim()));
    assert_eq!(pid_file(), None);
    status
}

fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.contains(") Z "))
        || !std::path::Path::new("/proc").join(pid).exists()
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d17_a_stale_pid_file_holds_up_nobody() {
    inside("sysv::d17_a_stale_pid_file_holds_up_nobody", || {
        let mut other = Command::new("sleep").arg("60").spawn().expect("it starts");
        for text in [format!("{}\n", other.id()), "4194300\n".to_owned(), "hello".to_owned()] {
            std::fs::write(PID_FILE, &text).expect("written");
            let (answer, errors, status) = our_numad(&["-w", "1:1"]);
            assert_eq!((errors.as_str(), status), ("", Some(0)), "{answer}");
            // Whoever else's it is, it is in nobody's way.
            let mut daemon = Daemon::start();
            daemon.answers();
            daemon.signal("TERM");
            wait_for("its end", || pid_file().is_none());
        }
        other.kill().and_then(|()| other.wait()).expect("ended");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d17_after_a_kill_the_next_daemon_takes_over() {
    inside("sysv::d17_after_a_kill_the_next_daemon_takes_over", || {
        for _ in 0..3 {
            let mut daemon = Daemon::start();
            daemon.answers();
            daemon.signal("KILL");
            wait_for("its end", || call("ipcs", &["-q"]).status.success());
            drop(daemon);
            assert!(pid_file().is_some(), "it could not clean up");
            assert_eq!(our_numad(&["-w", "1:1"]).2, Some(0));
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d17_clients_of_a_killed_daemon_are_released_when_the_next_one_starts() {
    inside("sysv::d17_clients_of_a_killed_daemon_are_released_when_the_next_one_starts", || {
        for _ in 0..3 {
            let daemon = Daemon::start();
            daemon.signal("STOP");
            let mut client = Command::new("numad");
            let client = client.args(["-w", "1:1"]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut client = client.spawn().expect("it starts");
            let stat = format!("/proc/{}/stat", client.id());
            let waits = || std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(" (numad) S "));
            wait_for("a client that waits", waits);
            daemon.signal("KILL");
            drop(daemon);
            let mut next = Daemon::start();
            next.answers();
            wait_for("the client's end", || client.try_wait().expect("a child").is_some());
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d18_long_messages_hold_up_nobody() {
    inside("sysv::d18_long_messages_hold_up_nobody", || {
        let mut daemon = Daemon::start();
        let pid = daemon.pid().to_string();
        // To the daemon, and to nobody: such a message makes every real client go round for ever.
        for to in [pid.as_str(), "1", "77777"] {
            for bytes in ["0", "1", "32", "129", "8192"] {
                assert_eq!(text(&stranger(&["bytes", to, bytes]).stderr), "", "{to} {bytes}");
            }
            daemon.answers();
        }
        wait_for("an empty queue", || text(&stranger(&["count"]).stdout) == "0\n");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d18_a_queue_that_is_removed_is_made_anew() {
    inside("sysv::d18_a_queue_that_is_removed_is_made_anew", || {
        let mut daemon = Daemon::start();
        for _ in 0..3 {
            stranger(&["remove"]);
            wait_for("a queue", || stranger(&["count"]).status.success());
            daemon.answers();
        }
        wait_for("three words", || daemon.lines("was made anew").len() == 3);
        // One that is open to all is as good as none.
        stranger(&["remove"]);
        stranger(&["make", "666"]);
        wait_for("rights", || said("ipcs", &["-q"]).contains(" 660 "));
        daemon.answers();
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d19_a_node_that_goes_ends_nothing() {
    inside("sysv::d19_a_node_that_goes_ends_nothing", || {
        put_host(&[(8000, 8000, 0), (8000, 8000, 0), (8000, 8000, 0)]);
        let mut daemon = Daemon::start();
        for file in ["online", "has_cpu", "has_memory"] {
            std::fs::write(format!("/run/host/node/{file}"), "0-1\n").expect("written");
        }
        std::fs::write("/run/host/cpu/online", "0-1\n").expect("written");
        for (node, row) in [(0, "10 20\n"), (1, "20 10\n")] {
            let file = format!("/run/host/node/node{node}/distance");
            std::fs::write(file, row).expect("written");
        }
        std::fs::remove_dir_all("/run/host/node/node2").expect("removed");
        for _ in 0..5 {
            daemon.answers();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d23_a_queue_of_a_strangers_is_not_served() {
    inside("sysv::d23_a_queue_of_a_strangers_is_not_served", || {
        assert!(stranger(&["--uid", "1000", "make", "666"]).status.success());
        let daemon = Daemon::spawn("");
        wait_for("its word", || !daemon.lines("belongs to user 1000").is_empty());
        wait_for("its word", || daemon.lines("numad clients are not served").len() == 1);
        assert_eq!(pid_file(), None);
        // The rest of it works, and so does the answer by numad's name.
        wait_for("its socket", || !daemon.lines("ready").is_empty());
        assert_eq!(our_numad(&["-w", "1:1"]).2, Some(0));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d23_a_queue_that_changes_hands_is_left() {
    inside("sysv::d23_a_queue_that_changes_hands_is_left", || {
        let mut daemon = Daemon::start();
        daemon.answers();
        assert!(stranger(&["give", "1000"]).status.success());
        wait_for("its word", || !daemon.lines("no longer served").is_empty());
        wait_for("no pid file", || pid_file().is_none());
        // What comes on it is not heard.
        let pid = daemon.pid().to_string();
        stranger(&["--uid", "1000", "send", &pid, "self", "i", "0", "0"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!daemon.has_ended());
        daemon.signal("TERM");
        wait_for("its end", || pid_file().is_none());
        assert_eq!(daemon.child.wait().expect("ended").code(), Some(0));
        // And it is not ours to remove.
        assert!(stranger(&["--uid", "1000", "remove"]).status.success());
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d23_only_root_changes_what_counts_for_all() {
    inside("sysv::d23_only_root_changes_what_counts_for_all", || {
        let mut daemon = Daemon::start();
        let pid = daemon.pid().to_string();
        // Each is there to be looked at until what it was told is so.
        let end = |who: &[&str], sender: &str, told: &dyn Fn() -> bool| {
            let words = [who, &["send", &pid, sender, "i", "5", "0"]].concat();
            let mut child = Command::new(common::project().join("tests/sysv/queue"));
            let child = child.args(words).stdin(Stdio::piped()).stderr(Stdio::piped());
            let child = child.spawn().expect("it starts");
            wait_for("what came of it", told);
            text(&child.wait_with_output().expect("it ends").stderr)
        };
        let refused = |count: usize| daemon.lines("a message was refused").len() == count;
        // The kernel lets nobody but root and its group send.
        assert_eq!(end(&["--gid", "1000", "--uid", "1000"], "self", &|| true), "EACCES\n");
        // One of that group, in its own name, and in init's; root in another's name.
        assert_eq!(end(&["--gid", "0", "--uid", "1000"], "self", &|| refused(1)), "");
        assert_eq!(end(&["--gid", "0", "--uid", "1000"], "1", &|| refused(2)), "");
        assert_eq!(end(&[], "1", &|| refused(3)), "");
        assert_eq!(daemon.lines("options received from a numad client"), [""; 0]);
        // Root in its own.
        assert_eq!(end(&[], "self", &|| pid_file().is_none()), "");
        assert_eq!(daemon.child.wait().expect("ended").code(), Some(0));
        assert_eq!(text(&stranger(&["count"]).stderr), "ENOENT\n", "the queue is removed");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn garbage_and_floods_hold_up_no_client() {
    inside("sysv::garbage_and_floods_hold_up_no_client", || {
        let mut daemon = Daemon::start();
        let pid = daemon.pid().to_string();
        let seconds = std::env::var("PLACER_FLOOD_S").unwrap_or_else(|_| "4".to_owned());
        let mut floods: Vec<_> = ["1", "2"]
            .iter()
            .map(|seed| {
                let queue = common::project().join("tests/sysv/queue");
                let words = ["flood", &seconds, seed, &pid];
                Command::new(queue).args(words).stdout(Stdio::piped()).spawn().expect("it starts")
            })
            .collect();
        let (mut asked, mut answered) = (0, 0);
        while floods[0].try_wait().expect("a child").is_none() {
            for (answer, status) in at_once(8) {
                asked += 1;
                answered += usize::from(status == Some(0) && answer.len() > 1);
            }
        }
        let sent = floods.into_iter().map(|flood| flood.wait_with_output().expect("it ends"));
        let sent: usize = sent.map(|o| text(&o.stdout).trim().parse().unwrap_or(0)).sum();
        eprintln!("{sent} messages of garbage, {asked} clients asked, {answered} answered");
        assert!(sent > 100 && asked >= 8, "{sent} {asked}");
        // Garbage is taken for questions and answered, also in the name of a client's pid: an
        // answer that was not asked for is still one. A client that finds the queue full fails.
        assert!(answered * 100 >= asked * 98, "{answered} of {asked}");
        daemon.answers();
        wait_for("an empty queue", || text(&stranger(&["count"]).stdout) == "0\n");
        wait_for("its word", || !daemon.lines("unclaimed messages were removed").is_empty());
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn without_descriptors_real_clients_are_answered() {
    inside("sysv::without_descriptors_real_clients_are_answered", || {
        let mut daemon = Daemon::start();
        daemon.answers();
        let pid = daemon.pid();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
        said("prlimit", &[&format!("--pid={pid}"), &format!("--nofile={open}:4096")]);
        for _ in 0..10 {
            daemon.answers();
        }
        said("prlimit", &[&format!("--pid={pid}"), "--nofile=4096:4096"]);
        daemon.answers();
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d25_a_start_that_fails_says_so() {
    inside("sysv::d25_a_start_that_fails_says_so", || {
        assert!(stranger(&["--uid", "1000", "make", "666"]).status.success());
        let (answer, errors, status) = our_numad(&["-i", "15"]);
        let why = "numad: numad's message queue belongs to user 1000: answers could be \
                   forged; remove it: ipcrm -Q 0xdeadbeef\n";
        assert_eq!((answer.as_str(), errors.as_str(), status), ("", why, Some(1)));
        assert_eq!(pid_file(), None);
        stranger(&["remove"]);
        // And one that succeeds says so when it answers.
        assert_eq!(our_numad(&["-i", "15"]), (String::new(), String::new(), Some(0)));
        assert!(pid_file().is_some());
        assert_eq!(numad(&["-w", "1:1"]).1, Some(0));
        // A second one does nothing, whoever is asked for it.
        assert_eq!(our_numad(&["-i", "15"]).2, Some(0));
        assert_eq!(numad(&["-i", "15"]).1, Some(0));
        let pid = pid_file().expect("a pid");
        assert_eq!(numad(&["-i", "0"]).1, Some(0));
        wait_for("its end", || has_ended(pid.trim()));
        let log = std::fs::read_to_string("/var/log/numad.log").expect("a log");
        assert_eq!(log.lines().filter(|line| line.contains(": ready version=")).count(), 1);
        assert_eq!(log.lines().filter(|line| line.contains(" way=queue ")).count(), 1);
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d25_an_empty_pid_file_is_replaced() {
    inside("sysv::d25_an_empty_pid_file_is_replaced", || {
        std::fs::write(PID_FILE, "").expect("written");
        assert_eq!(stop_after(&["-i", "15"]), Some(0));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d26_options_beside_a_question_are_its_own() {
    inside("sysv::d26_options_beside_a_question_are_its_own", || {
        // With file cache node 1 has more, without node 0.
        put_host(&[(16000, 5000, 0), (16000, 1000, 9000)]);
        let daemon = Daemon::start();
        let ask = |options: &[&str]| numad(&[options, &["-w", "0:500"]].concat()).0;
        assert_eq!(ask(&[]), "1\n");
        for _ in 0..10 {
            assert_eq!(ask(&["-C", "0", "-i", "0", "-l", "7", "-t", "50"]), "0\n");
            assert_eq!(ask(&[]), "1\n");
        }
        assert_eq!(daemon.lines("options received from a numad client"), [""; 0]);
        // Without a question they are meant for all.
        assert_eq!(numad(&["-C", "0"]).1, Some(0));
        wait_for("the change", || daemon.lines("options received from a numad client").len() == 1);
        assert_eq!(ask(&[]), "0\n");
        assert_eq!(ask(&["-C", "1"]), "1\n");
        assert_eq!(numad(&["-C", "1"]).1, Some(0));
        wait_for("the change", || daemon.lines("options received from a numad client").len() == 2);
        assert_eq!(ask(&[]), "1\n");
    });
}

const SCAN: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs";

#[needs(root, namespaces, numad, python3)]
#[test]
fn d27_huge_pages_are_left_alone() {
    inside("sysv::d27_huge_pages_are_left_alone", || {
        let Ok(before) = std::fs::read_to_string(SCAN) else {
            testkit::require::does_not_apply("this kernel has no transparent huge pages");
            return;
        };
        assert_eq!(stop_after(&["-i", "15", "-H", "777"]), Some(0));
        let daemon = Daemon::start();
        assert_eq!(numad(&["-H", "778"]).1, Some(0));
        wait_for("its word", || !daemon.lines("option=H").is_empty());
        assert_eq!(std::fs::read_to_string(SCAN).ok(), Some(before));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn d28_an_answer_takes_no_two_seconds() {
    inside("sysv::d28_an_answer_takes_no_two_seconds", || {
        let time = || {
            let since = Instant::now();
            assert_eq!(numad(&["-w", "1:1"]).1, Some(0));
            since.elapsed()
        };
        let without = time();
        let _daemon = Daemon::start();
        let with = (0..5).map(|_| time()).min().expect("a time");
        assert!(with * 5 < without, "{with:?} with a daemon, {without:?} without");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn every_letter_of_a_real_client() {
    inside("sysv::every_letter_of_a_real_client", || every_letter_of(&Real::of_2015()));
}

/// A real client's letters, and what our daemon says of each.
pub(crate) fn every_letter_of(real: &Real) {
    let daemon = Daemon::start();
    let rows = [
        ("-C 0", "what=\"not to count inactive file cache as free\" value=-"),
        ("-C 1", "what=\"to count inactive file cache as free\" value=-"),
        ("-t 50", "what=\"to value hardware threads otherwise\" value=50"),
        ("-v", "what=\"to log otherwise\" value=6"),
        ("-d", "what=\"to log otherwise\" value=7"),
        ("-H 500", "option=H why=\"placer does not set the kernel's scan for huge pages\""),
        (
            "-i 20",
            "option=i why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        ("-K 1", "option=K why=\"memory that is bound stays as it is\""),
        ("-m 80", "option=m why=\"guests are moved as a whole\""),
        (
            "-u 90",
            "option=u why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        (
            "-p 1",
            "option=p why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        (
            "-r 1",
            "option=r why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        (
            "-x 1",
            "option=x why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        (
            "-S 0",
            "option=S why=\"the daemon moves no guests: see enabled in [manage] of the settings\"",
        ),
        ("-w 4:500", "way=queue uid=0"),
        ("-i 0", "what=\"to end\" value=-"),
    ];
    for (line, says) in rows {
        assert!(daemon.lines(says).is_empty(), "{line}");
        let words: Vec<&str> = line.split(' ').collect();
        let (answer, status) = real.numad(&words);
        assert_eq!((answer.is_empty(), status), (!line.contains('w'), Some(0)), "{line}");
        wait_for(says, || daemon.lines(says).len() == 1);
    }
    wait_for("its end", || pid_file().is_none());
}

#[needs(root, namespaces, numad, python3, setpriv)]
#[test]
fn without_the_right_to_move_guests_options_about_them_have_no_effect() {
    inside("sysv::without_the_right_to_move_guests_options_about_them_have_no_effect", || {
        let (config, log) = ("/run/placer.toml", "/run/daemon.log");
        std::fs::write(config, "[manage]\nenabled = true\n").expect("written");
        let mut daemon = Command::new("setpriv");
        daemon.args(["--bounding-set", "-sys_nice"]).arg(placer().get_program()).arg("daemon");
        daemon.env_clear().env("PLACER_CONFIG", config);
        let file = std::fs::File::create(log).expect("a file");
        let mut daemon = daemon.stderr(file).spawn().expect("it starts");
        let says = |text: &str| std::fs::read_to_string(log).is_ok_and(|log| log.contains(text));
        wait_for("the daemon", || says("ready"));
        assert!(says("guests are not moved why=\"CAP_SYS_NICE is missing"));
        assert_eq!(Real::of_2015().numad(&["-x", "1"]).1, Some(0));
        let why = "option=x why=\"the daemon cannot move guests, as its log says\"";
        wait_for(why, || says(why));
        assert!(!says("to leave this process alone"));
        daemon.kill().expect("killed");
        daemon.wait().expect("ended");
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn every_letter_to_numads_own_daemon() {
    inside("sysv::every_letter_to_numads_own_daemon", || {
        every_letter_to(&Real::of_2015(), "2015");
    });
}

/// Our client in the place of a version, and what numad's own daemon says of each letter.
pub(crate) fn every_letter_to(real: &Real, ours: &str) {
    let our_numad = |args: &[&str]| our_numad_of(ours, args);
    let log = || std::fs::read_to_string("/var/log/numad.log").unwrap_or_default();
    let says = |text: &str| log().lines().any(|line| line.ends_with(text));
    assert_eq!(real.numad(&["-i", "15"]).1, Some(0));
    wait_for("numad", || says(&format!("PID {}", pid_file().unwrap_or_default().trim())));
    let rows = [
        ("-C 0", ": Counting inactive file cache as unavailable"),
        ("-H 500", "to 500 ms."),
        ("-i 7:9", ": Changing interval to 7:9"),
        ("-K 1", ": Keeping interleaved memory spread across nodes"),
        ("-v", ": Changing log level to 6"),
        ("-m 95", ": Changing target memory locality to 95"),
        ("-p 1", ": Adding PID 1 to inclusion PID list"),
        ("-r 1", ": Removing PID 1 from explicit PID lists"),
        ("-S 0", ": Scanning only explicit PID list processes"),
        ("-t 50", ": Changing logical CPU thread percent to 50"),
        ("-u 90", ": Changing target utilization to 90"),
        ("-x 1", ": Adding PID 1 to exclusion PID list"),
    ];
    // The one that would change this machine is put back below.
    let scan = std::fs::read_to_string(SCAN).ok();
    for (line, text) in rows {
        if line.starts_with("-H") && scan.is_none() {
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(our_numad(&words), (String::new(), String::new(), Some(0)), "{line}");
        wait_for(text, || says(text));
    }
    if let Some(scan) = scan {
        assert_eq!(our_numad(&["-H", scan.trim()]).2, Some(0));
    }
    // Its answers, and that they are its own.
    for cpus in ["4:500", "1", "0.5:7"] {
        let (answer, errors, status) = our_numad(&["-w", cpus]);
        assert_eq!((errors.as_str(), status, answer.is_empty()), ("", Some(0), false));
    }
    assert!(says(": Getting NUMA pre-placement advice for 50 CPUs and 7 MBs"), "{}", log());
    // What would count for everybody is not sent beside a question.
    assert_eq!(our_numad(&["-C", "1", "-w", "3:33"]).2, Some(0));
    assert!(!says(": Counting inactive file cache as available"), "{}", log());
    // One that does not answer is waited for, and not for ever.
    let pid = pid_file().expect("a pid");
    said("kill", &["-STOP", pid.trim()]);
    let (answer, errors, status) = our_numad(&["-w", "2:10"]);
    let why = format!(
        "placer: warning: placer answers in place of the numad that runs as process {}: no \
         answer came within 2 s\n",
        pid.trim()
    );
    assert_eq!((answer.is_empty(), errors, status), (false, why, Some(0)));
    said("kill", &["-CONT", pid.trim()]);
    // Another daemon keeps off.
    let mut second = Daemon::spawn("");
    wait_for("its word", || !second.lines(&format!("process {}", pid.trim())).is_empty());
    assert!(!second.has_ended());
    assert_eq!(pid_file(), Some(pid));
    drop(second);
    assert_eq!(our_numad(&["-i", "0"]).2, Some(0));
    wait_for("its end", || pid_file().is_none());
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn a_real_daemons_queue_is_left_as_it_is() {
    inside("sysv::a_real_daemons_queue_is_left_as_it_is", || {
        assert_eq!(numad(&["-i", "15"]).1, Some(0));
        wait_for("numad", || pid_file().is_some_and(|text| text.ends_with('\n')));
        wait_for("its queue", || stranger(&["count"]).status.success());
        assert_eq!(text(&stranger(&["send", "77777", "1", "w", "0", "0", "0"]).stderr), "");
        assert_eq!(our_numad(&["-w", "1:1"]).2, Some(0));
        assert_eq!(our_numad(&["-u", "90"]).2, Some(0));
        assert_eq!(text(&stranger(&["count"]).stdout), "1\n", "another's message is still there");
        // A queue of a stranger's is not believed.
        stranger(&["give", "1000"]);
        let (answer, errors, status) = our_numad(&["-w", "1:1"]);
        assert!(errors.contains("belongs to user 1000"), "{errors}");
        assert_eq!((answer.is_empty(), status), (false, Some(0)));
    });
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn settings_of_the_hosts_own_are_not_numads_to_answer() {
    inside("sysv::settings_of_the_hosts_own_are_not_numads_to_answer", || {
        assert_eq!(numad(&["-i", "15"]).1, Some(0));
        wait_for("numad", || pid_file().is_some_and(|text| text.ends_with('\n')));
        let config = "/run/best.toml";
        std::fs::write(config, "[numad]\npolicy = \"best\"\n").expect("written");
        let ours = common::run(placer().args(["numad", "-w", "1:1"]).env("PLACER_CONFIG", config));
        assert_eq!((text(&ours.stderr).as_str(), ours.status.code()), ("", Some(0)));
        let log = std::fs::read_to_string("/var/log/numad.log").unwrap_or_default();
        let numads: Vec<&str> = log.lines().filter(|line| line.contains("Getting")).collect();
        assert_eq!(numads.len(), 1, "logged once, by ours: {numads:?}");
    });
}
