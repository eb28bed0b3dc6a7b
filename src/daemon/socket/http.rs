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
) -> Result<(), Lost> {
    let head = wire.until(b"\r\n\r\n", LONGEST, patience)?;
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&b| b == b' ');
    let (method, path) = (words.next(), words.next());
    let text = match (method, path) {
        (Some(b"GET"), Some(b"/metrics")) => match super::metrics_text(core) {
            Ok(text) => response("200 OK", &text),
            Err(why) => response("503 Service Unavailable", &format!("{why}\n")),
        },
        (Some(b"GET"), _) => response("404 Not Found", "there is /metrics\n"),
        _ => response("405 Method Not Allowed", "there is GET\n"),
    };
    wire.send(text.as_bytes(), patience.message)
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
