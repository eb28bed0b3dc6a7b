//! libvirt's domain definition: what it says about its guest's place, and the same text with that place
//! written into it.
//!
//! ```xml
//! <domain type='kvm'>
//!   <name>db1</name>
//!   <memory unit='GiB'>8</memory>
//!   <vcpu placement='auto'>4</vcpu>
//! </domain>
//! ```
//!
//! placer reads the size of the guest, its NUMA cells, its host devices and what the definition fixes
//! about its place. [`Domain::asks`] says what to ask the engine, [`Placement`] is the decision, and
//! [`Domain::placed`] writes it into `<vcpu>`, `<numatune>` and `<cputune>`. Every other byte of the text is
//! kept: libvirt starts the guest, and knows the rest. [`SCHEMA`] describes what is read.

mod amount;
mod asks;
mod cursor;
mod edit;
mod place;
mod placement;
mod sizes;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use placer_engine::{Bytes, NodeSet, Read};

use self::cursor::Source;
use self::place::Place;
use self::sizes::Sizes;
use self::tree::Element;
use crate::cells::Cell;
use crate::definition::{self, DefinitionError, quoted};
use crate::guest::{CpuCount, GuestName, MemoryMode, NodeChoice};

pub use asks::Ask;
pub use placement::{Options, Placement};

/// The RELAX NG schema of what [`Domain::parse`] reads, with the elements that libvirt's own lacks.
pub const SCHEMA: &str = include_str!("../schema/domain.rng");

/// The most bytes of a domain definition. Those of real guests have a hundredth of it.
pub const MAX_BYTES: usize = 1 << 20;

/// A domain definition: its text, and what it says about the guest's size and place.
///
/// ```
/// use std::time::Duration;
/// use placer_engine::{Request, Snapshot, SysRoot, advise};
/// use placer_launcher::domain::{Domain, Options, Placement};
/// # let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
/// # if !std::path::Path::new(dir).exists() { return Ok(()); }
/// let text = b"<domain type='kvm'>
///   <name>web</name>
///   <memory unit='MiB'>200</memory>
///   <vcpu placement='auto'>2</vcpu> <!-- two are enough -->
/// </domain>";
/// let domain = Domain::parse("web.xml", text)?.value;
/// let snapshot = Snapshot::take(&SysRoot::at(dir), Duration::ZERO)?;
/// let ask = domain.asks(&snapshot, None)?.remove(0);
/// let advice = advise(&snapshot, &Request::new(ask.cpus, ask.memory))?;
/// let placement = Placement::of(&domain, &snapshot, &advice, &Options::default())?;
/// let placed = String::from_utf8(domain.placed(&placement))?;
/// assert!(placed.contains("<vcpu placement='static' cpuset='"), "{placed}");
/// assert!(placed.contains(">2</vcpu> <!-- two are enough -->\n  <numatune>\n"), "{placed}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Domain {
    file: String,
    text: String,
    /// Whether the text began with a byte order mark.
    marked: bool,
    root: Element,
    name: GuestName,
    kind: String,
    sizes: Sizes,
    place: Place,
    devices: Vec<String>,
    /// Host nodes that memory devices name.
    device_nodes: NodeSet,
}

impl Domain {
    /// Reads a domain definition. `file` is what errors and notes call it.
    ///
    /// Errors: text that is no XML, has a document type or entities of its own, is longer than
    /// [`MAX_BYTES`] or nested deeper than 32 elements; a missing name or type; what is not understood
    /// about the guest's place, or contradicts itself.
    ///
    /// ```
    /// use placer_launcher::domain::Domain;
    /// let error = Domain::parse("web.xml", b"<domain type='lxc'>\n <vcpu place='auto'/>\n</domain>");
    /// assert_eq!(
    ///     error.unwrap_err().to_string(),
    ///     "web.xml:2:2: <vcpu>: unknown attribute \"place\"; known here: placement, cpuset, current",
    /// );
    /// ```
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Read<Self>, DefinitionError> {
        let text = definition::text(file, bytes, MAX_BYTES)?;
        let root = tree::parse(file, text)?;
        let source = Source::new(file, text);
        if root.name != "domain" {
            return Err(source.error(&root, "expected <domain>"));
        }
        let kind = source.wanted(&root, "type")?.to_owned();
        let count = place::count(&source, &root)?;
        let sizes = Sizes::parse(&source, &root, count.maximum)?;
        let place = Place::parse(&source, &root, count, &sizes)?;
        let Some(name) = source.only(&root, "name")? else {
            return Err(source.error(&root, "expected <name>, found none"));
        };
        let name: GuestName =
            name.text.trim().parse().map_err(|error| source.error(name, format!("{error}")))?;
        if sizes.memory == Bytes::ZERO && kind != "lxc" {
            return Err(source.error(&root, "expected <memory>, found none"));
        }
        let devices = sizes::host_devices(&source, &root)?;
        let device_nodes = sizes::memory_device_nodes(&source, &root)?;
        let notes = source.into_notes();
        let marked = bytes.starts_with(b"\xef\xbb\xbf");
        let (file, text) = (file.to_owned(), text.to_owned());
        let value =
            Self { file, text, marked, root, name, kind, sizes, place, devices, device_nodes };
        Ok(Read { value, notes })
    }

    /// Returns how the guest is called.
    pub fn name(&self) -> &GuestName {
        &self.name
    }

    /// Returns the type of hypervisor, as the definition has it: `kvm`, `qemu`, `lxc`, ...
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns how many vCPUs the guest has.
    pub fn cpus(&self) -> CpuCount {
        self.place.cpus
    }

    /// Returns all its memory, with what memory devices add.
    pub fn memory(&self) -> Bytes {
        self.sizes.memory
    }

    /// Returns the pages of its memory: those of most of it where its cells differ.
    pub fn pages(&self) -> crate::guest::Pages {
        self.sizes.pages
    }

    /// Returns how its memory is bound, where the definition says so.
    pub fn mode(&self) -> Option<NumaMode> {
        self.place.memory.as_ref().map(|(mode, _)| *mode)
    }

    /// Returns the host devices that the guest gets, as [`placer_engine::source::device`] takes them: PCI
    /// addresses and names of network interfaces.
    pub fn devices(&self) -> &[String] {
        &self.devices
    }

    /// Returns why the memory of a guest that runs by this definition cannot be moved through libvirt, if so.
    pub(crate) fn stays(&self) -> Option<String> {
        match self.mode() {
            _ if !self.place.memnodes.is_empty() => {
                Some("its NUMA cells are bound one by one (memnode)".to_owned())
            }
            _ if !self.device_nodes.is_empty() => {
                Some("a memory device of it names its nodes".to_owned())
            }
            Some(mode @ (NumaMode::Preferred | NumaMode::Interleave)) => Some(format!(
                "the mode of its memory is {mode}, and libvirt changes the nodes of guests that run in mode restrictive alone"
            )),
            None | Some(NumaMode::Strict | NumaMode::Restrictive) => None,
        }
    }

    /// Returns whether its user chose a part of its place: pins of single threads, or nodes without CPUs. placer fixes
    /// both, or CPUs alone. Pins in the definition of a guest that is not persistent may be placer's, of an earlier move.
    pub(crate) fn is_fixed_by_hand(&self, persistent: bool) -> bool {
        let has_pins = !self.place.pins.is_empty();
        let memory = self.place.memory.as_ref();
        let fixed = memory.map(|(_, nodes)| matches!(nodes, NodeChoice::Fixed(_)));
        let in_part = fixed.is_some_and(|fixed| fixed != self.place.cpuset.is_some());
        if has_pins { persistent } else { in_part }
    }

    fn source(&self) -> Source<'_> {
        Source::new(&self.file, &self.text)
    }

    /// Makes the error for the element at a path, or for the domain where there is no such element.
    fn error(&self, path: &[&str], what: impl AsRef<str>) -> DefinitionError {
        let element = self.root.at(path).unwrap_or(&self.root);
        self.source().error(element, what)
    }

    fn cells(&self) -> &[Cell] {
        &self.sizes.cells
    }

    fn iothreads(&self) -> &BTreeSet<u32> {
        &self.sizes.iothreads
    }
}

/// How libvirt binds the memory of a guest to nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NumaMode {
    /// On these nodes or not at all.
    #[default]
    Strict,
    /// On one node while that has room.
    Preferred,
    /// On these nodes in turn.
    Interleave,
    /// By a control group alone; the guest's pages may be moved later.
    Restrictive,
}

impl NumaMode {
    const ALL: [Self; 4] = [Self::Strict, Self::Preferred, Self::Interleave, Self::Restrictive];

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Preferred => "preferred",
            Self::Interleave => "interleave",
            Self::Restrictive => "restrictive",
        }
    }

    /// Returns the mode that does the same as placer's. `None`: libvirt has none.
    pub fn of(mode: MemoryMode) -> Option<Self> {
        match mode {
            MemoryMode::Strict => Some(Self::Strict),
            MemoryMode::Preferred => Some(Self::Preferred),
            MemoryMode::Interleave => Some(Self::Interleave),
            MemoryMode::PreferredMany | MemoryMode::WeightedInterleave | MemoryMode::None => None,
        }
    }
}

impl fmt::Display for NumaMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for NumaMode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.word() == word).ok_or_else(|| {
            let found = quoted(word);
            format!("expected strict, preferred, interleave or restrictive, found {found}")
        })
    }
}
