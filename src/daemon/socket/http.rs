//! Metrics for those who speak HTTP and nothing else: one request a connection.

use std::io::{Read, Write};
use std::os::fd::AsFd;

use crate::daemon::core::Core;
use crate::protocol::wire::{Lost, Patience, Wire};

/// No scraper sends a longer head.
const LONGEST: usize = 8 << 10;

/// Answers one request.
pub(in crate::daemon) fn serve<S: Read + Write + AsFd>(
    wire: &mut Wire<S>,
    core: &Core,
    patience: Patience,
    is_ours: impl Fn(&str) -> bool,
) -> Result<(), Lost> {
    let head = wire.until(b"\r\n\r\n", LONGEST, patience)?;
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    let (method, path) = (words.next(), words.next());
    let text = match (method, path) {
        _ if !host_of(head).is_none_or(|host| is_ours(&host)) => {
            response("421 Misdirected Request", "there is no such host here\n")
        }
        (Some(b"GET"), Some(b"/metrics")) => match super::metrics_text(core) {
            Ok(text) => response("200 OK", &text),
            Err(why) => response("503 Service Unavailable", &format!("{why}\n")),
        },
        (Some(b"GET"), _) => response("404 Not Found", "there is /metrics\n"),
        _ => response("405 Method Not Allowed", "there is GET\n"),
    };
    wire.send(text.as_bytes(), patience.message)
}

/// Tells a client that it asks too much at once.
pub(in crate::daemon) fn busy<S: Read + Write + AsFd>(
    wire: &mut Wire<S>,
    patience: Patience,
) -> Result<(), Lost> {
    let _ = wire.until(b"\r\n\r\n", LONGEST, patience)?;
    let text = response("503 Service Unavailable", "too many requests at once\n");
    wire.send(text.as_bytes(), patience.message)
}

/// Returns the host that a request names, without its port.
fn host_of(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    let (_, host) = lines.find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
    let host = host.trim();
    let port = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    Some(port.map_or(host, |(host, _)| host).to_owned())
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
