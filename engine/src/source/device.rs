//! Where a device is: the node it is attached to, from sysfs.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file;
use super::root::SysRoot;
use crate::error::SourceError;
use crate::ids::NodeId;
use crate::parse;

/// Why a device was not found.
#[derive(Debug)]
pub enum DeviceError {
    /// The name cannot be one of a device.
    Name(String),
    /// There is no such device.
    Unknown {
        /// The name.
        name: String,
        /// The devices of the host, each with its node where the kernel knows it; at most 32.
        known: Vec<(String, Option<NodeId>)>,
    },
    /// The kernel does not tell its node.
    NotTold {
        /// The device.
        path: PathBuf,
    },
    /// A file of it could not be read.
    Source(SourceError),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "device {name:?}: expected a PCI address, a network interface, a disk or a GPU, as \
                 in 0000:45:00.0, eth0, nvme0n1, card0"
            ),
            Self::Unknown { name, known } => {
                write!(f, "no device {name:?} on this host")?;
                for (at, (name, node)) in known.iter().enumerate() {
                    f.write_str(if at == 0 { "; devices: " } else { ", " })?;
                    match node {
                        Some(node) => write!(f, "{name} (node {node})")?,
                        None => write!(f, "{name} (node not known)")?,
                    }
                }
                Ok(())
            }
            Self::NotTold { path } => write!(
                f,
                "{}: the kernel does not tell the node of this device (numa_node is -1): leave it \
                 out, or name the nodes with --within",
                path.display()
            ),
            Self::Source(_) => f.write_str("cannot read where the device is"),
        }
    }
}

impl std::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(error),
            _ => None,
        }
    }
}

/// Where the kernel keeps devices by their names.
const CLASSES: [&str; 5] = ["net", "block", "drm", "infiniband", "nvme"];

/// Returns the node of a device: a PCI address (`0000:45:00.0`, `45:00.0`), a network interface, a
/// block device (`nvme0n1`, `/dev/nvme0n1`), a GPU (`card0`, `renderD128`), an InfiniBand adapter.
///
/// Source: the first `numa_node` on the way from the device up to its bus, below `/sys/devices`.
/// Errors: no such device; the kernel does not know its node.
///
/// ```no_run
/// use placer_engine::{SysRoot, source::device};
/// println!("{}", device::node_of(&SysRoot::live(), "eth0")?);
/// # Ok::<(), device::DeviceError>(())
/// ```
pub fn node_of(root: &SysRoot, name: &str) -> Result<NodeId, DeviceError> {
    let short = name.strip_prefix("/dev/").unwrap_or(name);
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-' | '!' | '@');
    if short.is_empty() || short.len() > 64 || short.starts_with('.') || !short.chars().all(plain) {
        return Err(DeviceError::Name(name.to_owned()));
    }
    let mut looked = Vec::new();
    let pci = |address: &str| format!("sys/bus/pci/devices/{}", address.to_ascii_lowercase());
    looked.push(root.path(&pci(short)));
    // lspci leaves out the domain where there is only one.
    looked.push(root.path(&pci(&format!("0000:{short}"))));
    looked.extend(CLASSES.iter().map(|class| root.path(&format!("sys/class/{class}/{short}"))));
    let sys = root.path("sys");
    let sys = sys.canonicalize().unwrap_or(sys);
    let Some(found) = looked.iter().find_map(|path| path.canonicalize().ok()) else {
        return Err(DeviceError::Unknown { name: name.to_owned(), known: known(root, &sys) });
    };
    match node_from(&found, &sys)? {
        Some(node) => Ok(node),
        None => Err(DeviceError::NotTold { path: found }),
    }
}

/// The most devices that are listed.
const MAX_LISTED: usize = 32;

/// Lists the network interfaces, disks and other named devices of a host, sorted.
fn known(root: &SysRoot, sys: &Path) -> Vec<(String, Option<NodeId>)> {
    let mut names = std::collections::BTreeMap::new();
    for class in CLASSES {
        let Ok(entries) = std::fs::read_dir(root.path(&format!("sys/class/{class}"))) else {
            continue;
        };
        for entry in entries.flatten().take(1024) {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(found) = entry.path().canonicalize() else { continue };
            // Loopback, bridges and the like belong to no hardware.
            if !found.components().any(|part| part.as_os_str() == "virtual") {
                names.insert(name, node_from(&found, sys).ok().flatten());
            }
        }
    }
    names.into_iter().take(MAX_LISTED).collect()
}

/// Returns the node of a device by its directory; `None` where the kernel does not know it.
fn node_from(found: &Path, sys: &Path) -> Result<Option<NodeId>, DeviceError> {
    let mut told = None;
    // A link of a recording may lead anywhere: nothing outside its own sys is read.
    for dir in found.ancestors().take_while(|dir| dir.starts_with(sys) && *dir != sys) {
        for dir in [dir.to_owned(), dir.join("device")] {
            if told.is_none() {
                told = numa_node(&dir, sys)?;
            }
        }
    }
    Ok(told.flatten())
}

/// Reads a device's `numa_node`. The outer `None`: no such file; the inner: it is -1.
fn numa_node(dir: &Path, sys: &Path) -> Result<Option<Option<NodeId>>, DeviceError> {
    let Ok(path) = dir.join("numa_node").canonicalize() else { return Ok(None) };
    if !path.starts_with(sys) {
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
