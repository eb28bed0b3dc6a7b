//! What the real runtime can do, by its own word.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

/// How long it may take to say so.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Its answer has some kilobytes.
const MOST: usize = 1 << 20;

#[derive(Default, Deserialize)]
struct Features {
    #[serde(default)]
    linux: Linux,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    memory_policy: Option<MemoryPolicy>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MemoryPolicy {
    modes: Vec<String>,
}

/// Returns whether a runtime sets `linux.memoryPolicy`. Those that do not ignore it without a word. It is asked each
/// time: the program may be another one by now.
pub(super) fn has_memory_policy(real: &Path) -> bool {
    let text = ask(real).unwrap_or_default();
    let features = serde_json::from_slice::<Features>(&text).unwrap_or_default();
    let policy = features.linux.memory_policy;
    policy.is_some_and(|policy| policy.modes.iter().any(|mode| mode == "MPOL_PREFERRED_MANY"))
}

fn ask(real: &Path) -> std::io::Result<Vec<u8>> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(real);
    command.arg("features").stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // Its writing end is the child's alone from here on.
    drop(command);
    let text = read(reader, Instant::now() + TIMEOUT);
    let _ = child.kill();
    let _ = child.wait();
    text
}

fn read(mut from: PipeReader, until: Instant) -> std::io::Result<Vec<u8>> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], left)? == 0 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        match from.read(&mut part)? {
            0 => return Ok(text),
            _ if text.len() > MOST => return Err(std::io::ErrorKind::FileTooLarge.into()),
            read => text.extend(&part[..read]),
        }
    }
}
