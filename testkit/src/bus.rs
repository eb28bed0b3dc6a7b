//! A message bus that is made up: it takes one client, and does what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

/// What the bus does when it is asked to make a scope.
pub type Turn = fn(&mut UnixStream);

/// The greeting of a bus that lets its client in.
pub const OK: &[u8] = b"OK 0123456789abcdef0123456789abcdef\r\n";

/// The part of a header that tells how long the rest is.
const PROLOGUE: usize = 16;

/// A bus in a directory of its own, which ends with its client.
pub struct Bus {
    dir: tempfile::TempDir,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Bus {
    /// A bus that greets with `greeting`, answers the first two calls (Hello, AddMatch), and at the
    /// third has its turn.
    pub fn new(greeting: &'static [u8], turn: Turn) -> Self {
        Self::answering(greeting, 2, turn)
    }

    /// As [`new`](Self::new), but answers so many calls before it has its turn.
    pub fn answering(greeting: &'static [u8], answered: u32, turn: Turn) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("bus")).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            converse(stream, greeting, answered, turn)
        });
        Self { dir, thread }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("bus")
    }

    /// Waits until the client has gone. Returns the calls it made.
    pub fn heard(self) -> Vec<Vec<u8>> {
        self.thread.join().unwrap()
    }
}

fn converse(mut stream: UnixStream, greeting: &[u8], answered: u32, turn: Turn) -> Vec<Vec<u8>> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
        return Vec::new();
    }
    let uid = nix::unistd::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(line, format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes());
    say(&mut stream, greeting);
    let mut calls = Vec::new();
    let mut begin = [0; 7];
    if reader.read_exact(&mut begin).is_err() {
        return calls;
    }
    assert_eq!(&begin, b"BEGIN\r\n");
    for serial in 1..=answered + 1 {
        let mut call = vec![0; PROLOGUE];
        if reader.read_exact(&mut call).is_err() {
            return calls;
        }
        let number = |at: usize| u32::from_le_bytes(*call[at..].first_chunk().unwrap()) as usize;
        let whole = PROLOGUE + number(12).next_multiple_of(8) + number(4);
        call.resize(whole, 0);
        reader.read_exact(&mut call[PROLOGUE..]).unwrap();
        calls.push(call);
        if serial > answered {
            turn(&mut stream);
        } else {
            say(&mut stream, &message(2, &[], serial, Vec::new()));
        }
    }
    // Until the client has gone.
    let _ = reader.read_to_end(&mut Vec::new());
    calls
}

/// Sends what may be the last that the client hears: it may have given up.
pub fn say(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Tells that a job has been queued.
pub fn job(stream: &mut UnixStream) {
    say(stream, &message(2, &[(8, "o")], 3, texts(&["/job/1"])));
}

/// Tells that a job has ended.
pub fn removed(stream: &mut UnixStream, job: &str, result: &str) {
    removed_by(stream, &[], job, result);
}

/// As [`removed`], with what else is in the header.
pub fn removed_by(stream: &mut UnixStream, more: &[(u8, &str)], job: &str, result: &str) {
    let mut body = 1_u32.to_le_bytes().to_vec();
    body.extend(texts(&[job, "placer-g-7.scope", result]));
    let fields = [&[(3, "JobRemoved"), (8, "uoss")], more].concat();
    say(stream, &message(4, &fields, 0, body));
}

/// Refuses a call.
pub fn error(stream: &mut UnixStream, name: &str, words: &str) {
    say(stream, &message(3, &[(4, name), (8, "s")], 3, texts(&[words])));
}

/// A message as a bus sends it: `fields` are those of its header.
pub fn message(kind: u8, fields: &[(u8, &str)], reply_to: u32, body: Vec<u8>) -> Vec<u8> {
    let mut header = Vec::new();
    for &(field, text) in fields {
        pad(&mut header, 8);
        if field == 8 {
            header.extend([field, 1, b'g', 0, u8::try_from(text.len()).unwrap()]);
            header.extend(text.as_bytes());
            header.push(0);
        } else {
            header.extend([field, 1, b's', 0]);
            header.extend(texts(&[text]));
        }
    }
    if reply_to != 0 {
        pad(&mut header, 8);
        header.extend([5, 1, b'u', 0]);
        header.extend(reply_to.to_le_bytes());
    }
    let mut bytes = vec![b'l', kind, 1, 1];
    bytes.extend(length(&body));
    bytes.extend(77_u32.to_le_bytes());
    bytes.extend(length(&header));
    bytes.extend(header);
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

/// Texts one after the other, from a place that is a multiple of 4 on.
fn texts(all: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in all {
        pad(&mut bytes, 4);
        bytes.extend(length(text.as_bytes()));
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}
