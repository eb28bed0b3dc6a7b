//! libvirt's own files about the guests that run (`/run/libvirt/qemu/NAME.xml`). Pure.
//!
//! Read by roxmltree: entities and DTDs are refused, so that nothing grows, and a text without them
//! is no larger as a tree than some 40 bytes a node. It takes about 0.1 ms for the 60 KiB of a
//! usual file, which is read once for each guest and again when libvirt has changed it.

use roxmltree::{Document, Node, ParsingOptions};

use super::guest::{Part, Spec};
use crate::ids::NodeId;
use crate::idset::NodeSet;
use crate::parse::{list, number};

/// A file is refused beyond this: a guest with a thousand disks has less.
pub(super) const LARGEST: usize = 1 << 20;
/// Elements and texts in it, at most.
const MOST_NODES: u32 = 100_000;
/// How deep elements may lie in one another: libvirt's own go to 10, and readers of trees call
/// themselves for each.
const DEEPEST: usize = 64;

/// Reads a file: the pid of the guest's process, and what it was given. `None` when it tells of no
/// guest that runs, or is no such file.
pub(super) fn parse(text: &str) -> Option<(u32, Spec)> {
    if text.len() > LARGEST || is_deep(text) {
        return None;
    }
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MOST_NODES, ..Default::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    let status = document.root_element();
    if !status.has_tag_name("domstatus") {
        return None;
    }
    let pid = u32::try_from(whole(status.attribute("pid")?)?).ok().filter(|&pid| pid > 0)?;
    let domain = child(status, "domain")?;
    let advised = child(status, "numad").and_then(|numad| nodes(numad.attribute("nodeset")?));
    let memory = size(child(domain, "memory")?, "KiB")?;
    let vcpu = child(domain, "vcpu");
    let cpus = vcpu.and_then(|vcpu| {
        vcpu.attribute("current").and_then(whole).or_else(|| whole(vcpu.text()?.trim()))
    });
    let tune = child(domain, "numatune");
    let bound = tune.and_then(|tune| child(tune, "memory")).and_then(|memory| {
        match memory.attribute("nodeset") {
            Some(list) => nodes(list),
            None => advised.clone(),
        }
    });
    let page = page(domain);
    let whole_guest = Part { memory, page, nodes: bound.clone() };
    let parts = cells(domain, tune, page, bound.as_ref())
        // Cells may leave out what was plugged in later.
        .filter(|cells| cells.iter().map(|cell| cell.memory).sum::<u64>() <= memory)
        .map(|mut cells| {
            let rest = memory - cells.iter().map(|cell| cell.memory).sum::<u64>();
            if rest > 0 {
                cells.push(Part { memory: rest, ..whole_guest.clone() });
            }
            cells
        });
    let mut parts = parts.unwrap_or_else(|| vec![whole_guest]);
    let backing = child(domain, "memoryBacking").and_then(|backing| child(backing, "source"));
    if page.is_none() && backing.is_some_and(|source| source.attribute("type") == Some("file")) {
        // In a file, by default on a disk: pages of the cache, which nobody promises.
        parts.clear();
    }
    Some((pid, Spec { cpus: cpus.unwrap_or(1), memory, parts, advised }))
}

/// Returns the guest's own nodes, where each of them is bound apart.
fn cells(
    domain: Node<'_, '_>,
    tune: Option<Node<'_, '_>>,
    page: Option<u64>,
    bound: Option<&Vec<u32>>,
) -> Option<Vec<Part>> {
    let numa = child(child(domain, "cpu")?, "numa")?;
    let apart: Vec<_> = tune?.children().filter(|node| node.has_tag_name("memnode")).collect();
    if apart.is_empty() {
        return None;
    }
    let cells = numa.children().filter(|node| node.has_tag_name("cell")).map(|cell| {
        let id = cell.attribute("id");
        let own = apart.iter().find(|node| id.is_some() && node.attribute("cellid") == id);
        let memory = whole(cell.attribute("memory")?)?;
        let memory = memory.checked_mul(unit(cell.attribute("unit").unwrap_or("KiB"))?)?;
        let nodes = own.and_then(|node| nodes(node.attribute("nodeset")?));
        Some(Part { memory, page, nodes: nodes.or_else(|| bound.cloned()) })
    });
    cells.collect()
}

/// Returns the size of the huge pages that a guest is in. The first of several: guests that mix
/// sizes are rare, and counted in one.
fn page(domain: Node<'_, '_>) -> Option<u64> {
    let huge = child(child(domain, "memoryBacking")?, "hugepages")?;
    let Some(page) = child(huge, "page") else { return Some(DEFAULT_PAGE) };
    let size = whole(page.attribute("size")?)?;
    size.checked_mul(unit(page.attribute("unit").unwrap_or("KiB"))?)
}

/// Where no size is named libvirt takes the host's default, which is this but on few machines.
const DEFAULT_PAGE: u64 = 2 << 20;

fn size(node: Node<'_, '_>, default: &str) -> Option<u64> {
    let amount = whole(node.text()?.trim())?;
    amount.checked_mul(unit(node.attribute("unit").unwrap_or(default))?)
}

fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "b" | "bytes" => 1,
        "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    })
}

fn nodes(text: &str) -> Option<Vec<u32>> {
    const MOST: u64 = 4096;
    let set: NodeSet = list::parse(text.as_bytes()).ok()?;
    let few = !set.is_empty() && set.last().is_some_and(|NodeId(last)| u64::from(last) < MOST);
    few.then(|| set.iter().map(|node| node.0).collect())
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn whole(text: &str) -> Option<u64> {
    number(text.as_bytes()).filter(|(_, digits)| *digits == text.len()).map(|(value, _)| value)
}

/// Returns whether more elements are open at once than in any file of libvirt's.
fn is_deep(text: &str) -> bool {
    let (mut open, mut deepest) = (0_usize, 0);
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'<') {
        match bytes.get(at + 1) {
            Some(b'/') => open = open.saturating_sub(1),
            Some(b'!' | b'?') | None => {}
            Some(_) => {
                // Its end: an element that is closed in itself opens nothing.
                let end = bytes[at..].iter().position(|&b| b == b'>');
                if end.is_none_or(|end| bytes[at + end - 1] != b'/') {
                    open += 1;
                    deepest = deepest.max(open);
                }
            }
        }
        if deepest > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const AUTO: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\
        <domstatus state='running' reason='booted' pid='4711'>\n\
          <monitor path='/var/lib/libvirt/qemu/domain-1-a/monitor.sock' type='unix'/>\n\
          <vcpus>\n    <vcpu id='0' pid='4715'/>\n  </vcpus>\n\
          <numad nodeset='0-1' cpuset='0-7'/>\n\
          <domain type='kvm' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n\
            <name>a</name>\n    <memory unit='KiB'>70000</memory>\n\
            <currentMemory unit='KiB'>60000</currentMemory>\n\
            <vcpu placement='auto' current='2'>4</vcpu>\n\
            <numatune>\n      <memory mode='strict' placement='auto'/>\n    </numatune>\n\
            <os><type arch='x86_64'>hvm</type></os>\n  </domain>\n</domstatus>\n";

    #[test]
    fn a_guest_placed_by_advice() {
        let part = Part { memory: 70_000 << 10, page: None, nodes: Some(vec![0, 1]) };
        let advised = Some(vec![0, 1]);
        let spec = Spec { cpus: 2, memory: 70_000 << 10, parts: vec![part], advised };
        assert_eq!(parse(AUTO), Some((4711, spec)));
    }

    #[test]
    fn a_guest_with_nodes_of_its_own_and_huge_pages() {
        let text = "<domstatus state='running' pid='9'><domain type='kvm'>\
            <memory unit='MiB'>3072</memory><vcpu placement='static'>8</vcpu>\
            <memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>\
            <cpu><numa><cell id='0' cpus='0-3' memory='1048576' unit='KiB'/>\
            <cell id='1' cpus='4-7' memory='1048576' unit='KiB'/></numa></cpu>\
            <numatune><memory mode='strict' nodeset='0,2-3'/>\
            <memnode cellid='1' mode='strict' nodeset='3'/></numatune></domain></domstatus>";
        let (pid, spec) = parse(text).expect("a guest");
        let part = |nodes: &[u32]| Part {
            memory: 1 << 30,
            page: Some(1 << 30),
            nodes: Some(nodes.to_vec()),
        };
        assert_eq!((pid, spec.cpus, spec.memory, spec.advised), (9, 8, 3 << 30, None));
        // What was plugged in later is bound as the whole guest is.
        assert_eq!(spec.parts, [part(&[0, 2, 3]), part(&[3]), part(&[0, 2, 3])]);
    }

    #[test]
    fn what_is_no_such_file_tells_of_no_guest() {
        let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'>]>\
            <domstatus pid='1'><domain><memory>1</memory><name>&b;</name></domain></domstatus>";
        let plain = "<domstatus pid='1'><domain><memory>1</memory></domain></domstatus>";
        assert!(parse(plain).is_some());
        for text in [
            "",
            "x",
            bomb,
            "<domain><memory>1</memory></domain>",
            "<domstatus><domain><memory>1</memory></domain></domstatus>",
            "<domstatus pid='0'><domain><memory>1</memory></domain></domstatus>",
            "<domstatus pid='-1'><domain><memory>1</memory></domain></domstatus>",
            "<domstatus pid='1'><domain></domain></domstatus>",
            "<domstatus pid='1'><domain><memory unit='pony'>1</memory></domain></domstatus>",
            "<domstatus pid='1'><domain><memory unit='TiB'>99999999999</memory></domain></domstatus>",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        for end in 0..AUTO.len() - 13 {
            assert_eq!(parse(&AUTO[..end]), None, "{end}");
        }
        let deep = "<a>".repeat(300_000);
        assert_eq!(parse(&deep), None);
        let deep = format!("<domstatus pid='1'>{}", "<a x='>'>".repeat(100_000));
        assert_eq!(parse(&deep), None);
        let wide = format!("<domstatus pid='1'>{}</domstatus>", "<a/>".repeat(200_000));
        assert_eq!(parse(&wide), None, "more elements than any guest has");
        assert_eq!(parse(&" ".repeat(LARGEST + 1)), None);
    }

    proptest! {
        #[test]
        fn near_files_are_answered(at in 0..AUTO.len(), with in any::<char>()) {
            let mut text = AUTO.to_owned();
            if text.is_char_boundary(at) {
                text.insert(at, with);
            }
            let _ = parse(&text);
        }
    }
}
