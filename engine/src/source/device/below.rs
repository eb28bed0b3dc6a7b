//! From a device to the hardware that it stands on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::DeviceError;
use crate::error::SourceError;
use crate::ids::NodeId;
use crate::parse;
use crate::source::file;
use crate::source::root::SysRoot;

/// More devices than anything stands on. Links of a recording may go round in circles.
const MOST_DEVICES: usize = 4096;

/// The hardware below some devices.
pub(super) struct Hardware {
    /// Nothing outside is read: a link of a recording may lead anywhere.
    sys: PathBuf,
    seen: BTreeSet<PathBuf>,
    /// What has a node, by its name.
    pub(super) nodes: Vec<(String, NodeId)>,
    /// What is hardware, and of which the kernel does not know the node.
    pub(super) unknown: Vec<PathBuf>,
}

impl Hardware {
    pub(super) fn new(root: &SysRoot) -> Self {
        let sys = root.path("sys");
        let sys = sys.canonicalize().unwrap_or(sys);
        Self { sys, seen: BTreeSet::new(), nodes: Vec::new(), unknown: Vec::new() }
    }

    /// Adds the hardware below a device, which may be that itself.
    pub(super) fn add(&mut self, dir: &Path) -> Result<(), DeviceError> {
        let mut left = vec![dir.to_owned()];
        while let Some(dir) = left.pop() {
            let Ok(dir) = dir.canonicalize() else { continue };
            let new = dir.starts_with(&self.sys) && self.seen.len() < MOST_DEVICES;
            if !new || !self.seen.insert(dir.clone()) {
                continue;
            }
            match self.own(&dir)? {
                Some(Some(node)) => self.nodes.push((name(&dir), node)),
                own => {
                    let below = self.below(&dir);
                    if below.is_empty() && own.is_some() {
                        self.unknown.push(dir);
                    }
                    left.extend(below);
                }
            }
        }
        Ok(())
    }

    /// Returns the first `numa_node` on the way up. The outer `None`: there is none; the inner: it
    /// is -1.
    fn own(&self, dir: &Path) -> Result<Option<Option<NodeId>>, DeviceError> {
        for dir in dir.ancestors().take_while(|dir| *dir != self.sys) {
            for dir in [dir.to_owned(), dir.join("device")] {
                if let Some(node) = self.numa_node(&dir)? {
                    return Ok(Some(node));
                }
            }
        }
        Ok(None)
    }

    fn numa_node(&self, dir: &Path) -> Result<Option<Option<NodeId>>, DeviceError> {
        let Ok(path) = dir.join("numa_node").canonicalize() else { return Ok(None) };
        if !path.starts_with(&self.sys) {
            return Ok(None);
        }
        let Some(text) = file::read(&path).map_err(DeviceError::Source)? else { return Ok(None) };
        let body = parse::trim_end(&text);
        if body == b"-1" {
            return Ok(Some(None));
        }
        match parse::number(body).and_then(|(id, n)| Some((u32::try_from(id).ok()?, n))) {
            Some((id, digits)) if digits == body.len() => Ok(Some(Some(NodeId(id)))),
            _ => {
                let error = parse::ParseError::at(&text, 0, "a node id or -1");
                Err(DeviceError::Source(SourceError::parse(&path, error)))
            }
        }
    }

    /// Returns the devices directly below one that has no node itself.
    fn below(&self, dir: &Path) -> Vec<PathBuf> {
        // A bond, bridge or VLAN; an array or volume; the paths of a namespace.
        let mut below = entries(dir, |name| name.starts_with("lower_"));
        below.extend(entries(&dir.join("slaves"), |_| true));
        below.extend(entries(&dir.join("multipath"), |_| true));
        let parent = dir.parent().filter(|parent| *parent != self.sys);
        if let Some(parent) = parent {
            // A namespace that several controllers reach lies in the directory of their subsystem.
            let subsystem = [dir, parent].into_iter().find(|dir| is_subsystem(dir));
            if let Some(subsystem) = subsystem {
                below.extend(entries(subsystem, is_controller));
            }
            if dir.join("partition").exists() {
                below.push(parent.to_owned());
            }
        }
        below
    }
}

fn is_subsystem(dir: &Path) -> bool {
    dir.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with("nvme-subsys"))
}

/// Returns whether this is `nvme` and a number: not a namespace, `nvme0n1`.
fn is_controller(name: &str) -> bool {
    let digits = name.strip_prefix("nvme");
    digits.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

fn name(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the entries of a directory whose names are wanted, sorted.
fn entries(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_wanted =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(is_wanted).take(MOST_DEVICES).collect();
    paths.sort_unstable();
    paths
}
