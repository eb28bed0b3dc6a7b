//! Socket and queue abused at once, in private namespaces, while clients of both are answered. For
//! `PLACER_SOAK_SECONDS` (at most 60), as `make test-daemon` does.

use crate::common;
use crate::common::inside;
use needs::needs;
use testkit::abuse;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use abuse::Abusers;
use common::{project, run, text};
use inside::{Daemon, call, inside, stranger, wait_for};

const SOCKET: &str = "/run/placer/placer.sock";
/// Real clients that run at once.
const AT_ONCE: usize = 4;

/// Strangers on the queue: garbage and half messages, a flood in the name of one that never reads, and
/// a question that is asked as fast as it goes.
fn strangers(seconds: u64, pid: u32) -> Vec<Child> {
    let (seconds, pid) = (seconds.to_string(), pid.to_string());
    let rows: [&[&str]; 3] = [
        &["flood", &seconds, "1", &pid],
        &["flood", &seconds, "2", &pid],
        &["fill", &seconds, &pid, "1"],
    ];
    let start = |words: &&[&str]| {
        let mut queue = Command::new(project().join("tests/sysv/queue"));
        queue.args(*words).stdout(Stdio::piped()).spawn().expect("it starts")
    };
    rows.iter().map(start).collect()
}

/// Real clients that stop as soon as they have asked, and read their answer a second later.
fn slow_reader() -> Child {
    let script = "numad -w 1:1 & n=$!; sleep 0.1; kill -STOP $n; sleep 1; kill -CONT $n; wait $n";
    let mut shell = Command::new("timeout");
    shell.args(["-k", "1", "30", "sh", "-c", script]).stdout(Stdio::piped());
    shell.stderr(Stdio::null()).spawn().expect("it starts")
}

/// A real client, from its start to its end: how long it took, and whether it was answered.
fn real_client() -> (Duration, bool) {
    let since = Instant::now();
    let output = call("timeout", &["-k", "1", "30", "numad", "-w", "1:1"]);
    (since.elapsed(), output.status.success() && output.stdout.len() > 1)
}

fn ask(stream: &mut UnixStream) -> bool {
    let call = b"{\"method\":\"org.placer.Daemon.Advise\",\"parameters\":{\"request\":{\"cpus\":1,\"memory\":1048576}}}\0";
    stream.write_all(call).expect("sent");
    let (mut reply, mut room) = (Vec::new(), [0; 4096]);
    while reply.last() != Some(&0) {
        let count = stream.read(&mut room).expect("a reply");
        assert!(count > 0, "it has closed");
        reply.extend_from_slice(&room[..count]);
    }
    text(&reply).contains("\"fits\":true")
}

#[needs(root, namespaces, numad, python3)]
#[test]
fn socket_and_queue_abused_at_once() {
    inside("abuse::socket_and_queue_abused_at_once", || {
        let mut daemon = Daemon::start();
        wait_for("its socket", || UnixStream::connect(SOCKET).is_ok());
        let seconds = std::env::var("PLACER_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
        let seconds: u64 = seconds.unwrap_or(4).min(60);
        let end = Instant::now() + Duration::from_secs(seconds);
        let strangers = strangers(seconds, daemon.pid());
        let abusers = Abusers::start(Path::new(SOCKET), end);
        let slow: Vec<Child> = (0..4).map(|_| slow_reader()).collect();
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut seen = Vec::new();
                    while Instant::now() < end {
                        seen.push(real_client());
                    }
                    seen
                })
            })
            .collect();
        let mut stream = UnixStream::connect(SOCKET).expect("it answers");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut times = Vec::new();
        while Instant::now() < end {
            let since = Instant::now();
            assert!(ask(&mut stream), "no advice");
            times.push(since.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        let done = abusers.join();
        let sent = strangers.into_iter().map(|child| child.wait_with_output().expect("it ends"));
        let sent: Vec<u64> = sent.map(|o| text(&o.stdout).trim().parse().unwrap_or(0)).collect();
        let seen = clients.into_iter().flat_map(|thread| thread.join().expect("it ends"));
        let (mut real, answered): (Vec<_>, Vec<_>) = seen.unzip();
        let answered = answered.iter().filter(|answered| **answered).count();
        eprintln!("socket: {}", abuse::told(&mut times));
        eprintln!("queue:  {}, {answered} with nodes", abuse::told(&mut real));
        eprintln!("beside {done:?} on the socket, {sent:?} messages on the queue");
        assert!(times.len() > 20 && done.iter().all(|(_, count)| *count > 2), "{done:?}");
        assert!(sent.iter().all(|count| *count > 100), "{sent:?}");
        // An answer that was not asked for is still one. All were answered on an idle machine (9,934 of 9,934); on
        // one with six times more to do than it can 1 of 6,062, 2 of 7,816 and 2 of 417 were not. What is supposed, and was
        // not traced: while strangers keep all receivers at work a question may lie in the queue for an instant,
        // and another real client that starts then throws it away. Without strangers none may be lost (`d16_...`
        // in tests/it/sysv.rs).
        assert!(real.len() - answered <= 1 + real.len() / 1000, "{answered} of {}", real.len());
        for child in slow {
            assert!(child.wait_with_output().expect("it ends").stdout.len() > 1, "a slow reader");
        }
        assert!(!daemon.has_ended());
        daemon.answers();
        wait_for("an empty queue", || text(&stranger(&["count"]).stdout) == "0\n");
        // A client of placer's own waits 50 ms: on a busy machine one try may miss them.
        wait_for("an answer in time", || {
            let quiet = run(common::placer().args(["advise", "1:1", "--via", "daemon"]));
            quiet.status.success() && quiet.stderr.is_empty()
        });
    });
}
