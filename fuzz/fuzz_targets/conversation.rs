//! A connection to the daemon, and what is wrong with its replies.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use serde_json::Value;
use testkit::varlink::Interface;

use super::machine;

static INTERFACE: OnceLock<Interface> = OnceLock::new();
static SERVER: OnceLock<SyncSender<UnixStream>> = OnceLock::new();

/// Serves one stream after the other.
fn server() -> SyncSender<UnixStream> {
    let daemon = machine::daemon();
    let (send, streams) = sync_channel::<UnixStream>(0);
    std::thread::spawn(move || streams.iter().for_each(|stream| daemon.serve(stream)));
    send
}

/// Reads to the end; who watches is told something for ever, and here once.
fn answer(mut stream: UnixStream) -> Option<Vec<u8>> {
    let (mut answer, mut room) = (Vec::new(), [0; 1 << 16]);
    loop {
        let count = stream.read(&mut room).ok()?;
        answer.extend_from_slice(&room[..count]);
        let watches = answer.windows(13).any(|text| text == b"\"continues\":t");
        if count == 0 || watches {
            let end = answer.iter().rposition(|byte| *byte == 0).map_or(0, |at| at + 1);
            answer.truncate(if watches { end } else { answer.len() });
            return Some(answer);
        }
    }
}

/// Returns the interface of the daemon.
pub(crate) fn interface() -> &'static Interface {
    INTERFACE.get_or_init(|| {
        Interface::parse(include_str!("../../src/protocol/org.placer.Daemon.varlink"))
    })
}

/// Sends what a client says, and looks at the replies.
pub(crate) fn check(input: &[u8]) {
    let server = SERVER.get_or_init(server);
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("set");
    server.send(ours).expect("it serves");
    // Shorter than what the kernel keeps, so this does not wait.
    let input = &input[..input.len().min(100_000)];
    // Where it is not understood the daemon closes before all is sent.
    if theirs.write_all(input).is_err() || theirs.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let Some(answer) = answer(theirs) else { return };
    if input.starts_with(b"GET ") {
        return;
    }
    let interface = interface();
    let calls = input.split(|byte| *byte == 0).map_while(|c| serde_json::from_slice(c).ok());
    let calls = calls.filter(|call: &Value| call["oneway"] != true);
    let replies = answer.split(|byte| *byte == 0).filter(|reply| !reply.is_empty());
    for (call, reply) in calls.zip(replies) {
        let reply: Value = serde_json::from_slice(reply).expect("JSON");
        assert!(reply["parameters"].is_object(), "{reply}");
        let method = call["method"].as_str().unwrap_or_default();
        if reply.get("error").is_none() {
            assert_eq!(interface.broken(method, None, &reply), [""; 0], "{call}: {reply}");
        }
    }
}
