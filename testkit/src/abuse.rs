//! What strangers do to the daemon's socket, each in a thread of its own, and what it tells those who
//! ask meanwhile.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Abuses by name, and how often each was committed.
pub struct Abusers(Vec<(&'static str, JoinHandle<u64>)>);

impl Abusers {
    /// Begins all of them, until a moment.
    pub fn start(socket: &Path, end: Instant) -> Self {
        let abuse = |name, work: fn(&mut UnixStream)| {
            let path = socket.to_owned();
            let thread = std::thread::spawn(move || {
                let mut count = 0;
                while Instant::now() < end {
                    let Ok(mut stream) = UnixStream::connect(&path) else { continue };
                    stream.set_write_timeout(Some(Duration::from_millis(50))).expect("set");
                    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
                    work(&mut stream);
                    count += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                count
            });
            (name, thread)
        };
        Self(vec![
            abuse("too long", |stream| {
                let _ = stream.write_all(&[0x5b; 100_000]);
            }),
            abuse("half a call", |stream| {
                let _ = stream.write_all(b"{\"method\":\"org.placer.Dae");
            }),
            abuse("garbage", |stream| {
                let _ = stream.write_all(&[0xff, 0, 0, 0x80, 0]);
            }),
            abuse("questions whose answers are not read", |stream| {
                let call = b"{\"method\":\"org.placer.Daemon.Host\"}\0".repeat(200);
                let _ = stream.write_all(&call);
                std::thread::sleep(Duration::from_millis(50));
            }),
            abuse("watching without looking", |stream| {
                let _ =
                    stream.write_all(b"{\"method\":\"org.placer.Daemon.Watch\",\"more\":true}\0");
                std::thread::sleep(Duration::from_millis(50));
            }),
            abuse("a drip", |stream| {
                for byte in b"GET /metrics HTTP/1.1" {
                    let _ = stream.write_all(&[*byte]);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }),
            abuse("HTTP", |stream| {
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
                let _ = stream.read(&mut [0; 100]);
            }),
            abuse("nothing", |_| {}),
        ])
    }

    /// Waits for their end. Returns how often each abuse was committed.
    pub fn join(self) -> Vec<(&'static str, u64)> {
        let done = |(name, thread): (_, JoinHandle<u64>)| (name, thread.join().expect("it ends"));
        self.0.into_iter().map(done).collect()
    }
}

/// Times in words: how many, the median, all but a hundredth, the last.
pub fn told(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let of = |part: usize| times.get((times.len() * part / 100).min(times.len() - 1));
    let [half, most, all] = [50, 99, 100].map(|part| of(part).copied().unwrap_or_default());
    format!("{} answers, median {half:.1?}, p99 {most:.1?}, slowest {all:.1?}", times.len())
}
