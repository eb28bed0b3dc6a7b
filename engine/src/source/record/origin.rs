//! ORIGIN.md: what machine a recording is of, and how it was taken.

use super::gather::{NODES, is_numbered};
use super::tree::{Entry, Tree};
use crate::files::HostFiles;
use crate::idset::NodeSet;
use crate::parse;
use crate::units::Bytes;

/// Returns the page. Why the recording is kept is left to a person. `gap` is the time between the
/// readings, in hundredths of a second, `None` when there is one reading.
pub(super) fn text(tree: &Tree, files: &HostFiles, live: bool, gap: Option<u64>) -> String {
    let nodes: NodeSet = files.nodes.iter().map(|node| node.id).collect();
    let cpus = files.cpu_online.as_ref().map(|file| file.text.as_slice());
    let from = if live { "on the machine itself" } else { "from another recording" };
    let readings = match gap {
        Some(gap) => format!("two readings, {}.{:02} s apart", gap / 100, gap % 100),
        None => "one reading, so its CPU load is unknown".to_owned(),
    };
    format!(
        "# A recorded machine\n\n\
         | what | found |\n|---|---|\n\
         | CPU | {} |\n| kernel | {} |\n| nodes | {nodes} |\n| CPUs online | {} |\n\
         | memory | {} |\n\n\
         How captured: `placer record`, {from}; {readings}.\n\n\
         Why it is here: to be written.\n",
        model(tree).unwrap_or_else(unknown),
        kernel(tree).unwrap_or_else(unknown),
        cpus.map_or_else(unknown, shown),
        memory(tree).map_or_else(unknown, |bytes| bytes.to_string()),
    )
}

fn unknown() -> String {
    "not told".to_owned()
}

fn model(tree: &Tree) -> Option<String> {
    let text = tree.text("proc/cpuinfo")?;
    let value = |wanted: &[u8]| {
        text.split(|&b| b == b'\n').find_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            (line[..colon].trim_ascii_end() == wanted).then(|| shown(&line[colon + 1..]))
        })
    };
    value(b"model name").or_else(|| value(b"cpu")).or_else(|| {
        let (by, part) = (value(b"CPU implementer")?, value(b"CPU part")?);
        Some(format!("implementer {by}, part {part}"))
    })
}

fn kernel(tree: &Tree) -> Option<String> {
    let release = tree.text("proc/version")?.strip_prefix(b"Linux version ")?;
    release.split(|&b| b == b' ').next().map(shown)
}

/// Returns the memory of all nodes, if each reports it.
fn memory(tree: &Tree) -> Option<Bytes> {
    let nodes = tree.below(NODES).filter_map(|(path, entry)| {
        let (dir, name) = path[NODES.len() + 1..].split_once('/')?;
        match entry {
            Entry::Text(text) if name == "meminfo" && is_numbered(dir, "node") => Some(text),
            _ => None,
        }
    });
    nodes.map(|text| parse::meminfo::parse(text).ok()?.total).sum()
}

/// Returns a value as it may stand in a table.
fn shown(value: &[u8]) -> String {
    const LONGEST: usize = 120;
    let value = value.trim_ascii();
    let text = value[..value.len().min(LONGEST)].escape_ascii().to_string();
    text.replace('|', "/")
}
