//! Writes a placement into the text of a definition.

use nix::errno::Errno;

use super::Domain;
use super::edit::{Content, Edits, New};
use super::placement::Placement;
use super::tree::Element;
use crate::error::LaunchError;
use crate::guest::NodeChoice;

impl Domain {
    /// Returns the definition with a placement in `<vcpu>`, `<numatune>` and `<cputune>`. All other bytes are
    /// those that were read: comments, order, entities, line ends, what no schema knows.
    ///
    /// What the definition fixes stays as it is written; what it leaves to advice becomes CPUs and nodes. The
    /// proposal's `<cpu required_cpus=...>` stays, so that the next launch asks again.
    pub fn placed(&self, placement: &Placement) -> Vec<u8> {
        self.with(placement, false, None)
    }

    /// Returns the same for libvirt to start, and the uuid in it: the definition's own, or one that is put in.
    /// libvirt would put one in as well; this one is known to name no other domain. The proposal's `<cpu>`,
    /// which libvirt does not know, is left out.
    pub(crate) fn for_libvirt(
        &self,
        placement: &Placement,
    ) -> Result<(Vec<u8>, String), LaunchError> {
        match self.uuid() {
            Some(uuid) => Ok((self.with(placement, true, None), uuid)),
            None => {
                let uuid = random_uuid()?;
                Ok((self.with(placement, true, Some(&uuid)), uuid))
            }
        }
    }

    /// Returns the definition's own uuid as libvirt prints it. virsh takes no other spelling for a uuid.
    pub(crate) fn uuid(&self) -> Option<String> {
        let text = self.root.child("uuid")?.text.trim();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let others = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-' || c == ' ');
        if digits.len() != 32 || !others {
            return Some(text.to_owned());
        }
        let digits = digits.to_ascii_lowercase();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
        Some(parts.join("-"))
    }

    /// Returns the same for libvirt to keep, with no uuid put in: a domain that it has keeps its own.
    pub(crate) fn for_define(&self, placement: &Placement) -> Vec<u8> {
        self.with(placement, true, None)
    }

    fn with(&self, placement: &Placement, for_libvirt: bool, uuid: Option<&str>) -> Vec<u8> {
        let mut edits = Edits::new(&self.text, &self.root);
        if let Some(uuid) = uuid {
            let content = Content::Text(uuid.to_owned());
            let new = New { name: "uuid", attributes: Vec::new(), content };
            insert(&mut edits, &self.root, &["name"], &new);
        }
        let vcpu = self.root.child("vcpu");
        let cputune = self.root.child("cputune");
        let numatune = self.root.child("numatune");
        match vcpu {
            Some(vcpu) => {
                if self.place.cpuset.is_none() {
                    if vcpu.attribute("placement") == Some("auto") {
                        edits.set(vcpu, "placement", "static");
                    }
                    edits.set(vcpu, "cpuset", &placement.cpus.to_string());
                }
            }
            None => {
                let attributes = vec![
                    ("placement", "static".to_owned()),
                    ("cpuset", placement.cpus.to_string()),
                ];
                let content = Content::Text(self.place.cpus.maximum.to_string());
                let new = New { name: "vcpu", attributes, content };
                insert(&mut edits, &self.root, &["currentMemory", "memory", "name"], &new);
            }
        }
        let pins = self.pins(placement);
        match cputune {
            _ if pins.is_empty() => {}
            Some(cputune) => edits.append(cputune, &pins),
            None => {
                let content = Content::Children(pins);
                let new = New { name: "cputune", attributes: Vec::new(), content };
                insert(&mut edits, &self.root, ANCHORS, &new);
            }
        }
        let memory = self.memory_element(placement);
        let cells = self.memnodes(placement);
        match numatune {
            Some(numatune) => {
                self.change_memory(&mut edits, numatune, placement);
                let new: Vec<New> = match numatune.child("memory") {
                    Some(_) => cells,
                    None => memory.into_iter().chain(cells).collect(),
                };
                if !new.is_empty() {
                    edits.append(numatune, &new);
                }
                if let Some(cpu) = numatune.child("cpu").filter(|_| for_libvirt) {
                    edits.delete(cpu);
                }
            }
            None => {
                let children: Vec<New> = memory.into_iter().chain(cells).collect();
                if !children.is_empty() {
                    let content = Content::Children(children);
                    let new = New { name: "numatune", attributes: Vec::new(), content };
                    insert(&mut edits, &self.root, ANCHORS, &new);
                }
            }
        }
        let mark = if self.marked { "\u{feff}" } else { "" };
        [mark.as_bytes(), edits.finish().as_bytes()].concat()
    }

    /// Returns the pins that the definition does not have.
    fn pins(&self, placement: &Placement) -> Vec<New> {
        let own = &self.place.pins;
        let mut new = Vec::new();
        for (vcpu, cpus) in placement.vcpus.iter().filter(|(id, _)| !own.vcpus.contains_key(id)) {
            let attributes = vec![("vcpu", vcpu.to_string()), ("cpuset", cpus.to_string())];
            new.push(New::empty("vcpupin", attributes));
        }
        if let (None, Some(cpus)) = (&own.emulator, &placement.emulator) {
            new.push(New::empty("emulatorpin", vec![("cpuset", cpus.to_string())]));
        }
        let others = placement.iothreads.iter().filter(|(id, _)| !own.iothreads.contains_key(id));
        for (id, cpus) in others {
            let attributes = vec![("iothread", id.to_string()), ("cpuset", cpus.to_string())];
            new.push(New::empty("iothreadpin", attributes));
        }
        new
    }

    fn memory_element(&self, placement: &Placement) -> Option<New> {
        let mode = placement.mode?;
        let attributes = vec![("mode", mode.to_string()), ("nodeset", placement.nodes.to_string())];
        Some(New::empty("memory", attributes))
    }

    /// Returns the nodes of cells that the definition does not name them for.
    fn memnodes(&self, placement: &Placement) -> Vec<New> {
        let Some(mode) = placement.mode else { return Vec::new() };
        let cells = placement.cells.iter();
        let cells = cells.filter(|(id, _)| !self.place.memnodes.contains_key(id));
        let element = |(id, nodes): (&u32, &placer_engine::NodeSet)| {
            let attributes = vec![
                ("cellid", id.to_string()),
                ("mode", mode.to_string()),
                ("nodeset", nodes.to_string()),
            ];
            New::empty("memnode", attributes)
        };
        cells.map(element).collect()
    }

    /// Changes what is left to advice in the `<memory>` and the modes of a `<numatune>`.
    fn change_memory(&self, edits: &mut Edits<'_>, numatune: &Element, placement: &Placement) {
        let (Some(mode), Some((said, nodes))) = (placement.mode, &self.place.memory) else {
            return;
        };
        let Some(memory) = numatune.child("memory") else { return };
        if mode != *said {
            edits.set(memory, "mode", mode.word());
            for memnode in numatune.children.iter().filter(|child| child.name == "memnode") {
                edits.set(memnode, "mode", mode.word());
            }
        }
        if *nodes == NodeChoice::Advised {
            edits.remove(memory, "placement");
            edits.set(memory, "nodeset", &placement.nodes.to_string());
        }
    }
}

/// Returns a uuid of the kernel's making.
fn random_uuid() -> Result<String, LaunchError> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        LaunchError::new(format!("make a uuid: read {path}"), errno)
    })?;
    Ok(text.trim().to_owned())
}

/// What `<cputune>` and `<numatune>` stand behind.
const ANCHORS: &[&str] = &[
    "cputune",
    "defaultiothread",
    "iothreadids",
    "iothreads",
    "vcpus",
    "vcpu",
    "currentMemory",
    "memory",
    "name",
];

/// Puts an element behind the first of these that is there. `<name>` always is.
fn insert(edits: &mut Edits<'_>, root: &Element, anchors: &[&str], new: &New) {
    if let Some(anchor) = anchors.iter().find_map(|name| root.child(name)) {
        edits.insert_after(anchor, new);
    }
}
