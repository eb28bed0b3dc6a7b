//! The memory of a machine: its size, and the backends it is from.

use std::path::PathBuf;

use placer_engine::{Bytes, NodeSet};

use super::values::{Properties, range, size};
use super::{Backend, LineCell, Parts, Ram, machine};
use crate::guest::Pages;

const MIB: u64 = 1 << 20;

/// Reads a memory backend.
///
/// Errors: no size; host nodes that are no numbers.
pub(super) fn backend(
    object: &Properties,
    id: String,
    at: usize,
    json: bool,
) -> Result<Backend, String> {
    let size = size(object.last("size").ok_or("expected size=")?, 1)?;
    let mut host_nodes = NodeSet::new();
    let mut none = false;
    for nodes in object.list("host-nodes") {
        none = json && nodes.is_empty();
        if !none {
            let nodes = range(nodes).map_err(|why| format!("host-nodes: {why}"))?;
            host_nodes = host_nodes.union(&nodes);
        }
    }
    let pages = match (object.is_on("hugetlb"), object.last("hugetlbsize")) {
        (false, _) => Pages::Ordinary,
        (true, Some(page)) => Pages::Huge(super::values::size(page, 1)?),
        (true, None) => Pages::HugeDefault,
    };
    let path = object.last("mem-path").map(PathBuf::from);
    // Memory that is on no node by its own word is bound by none.
    let policy = object.last("policy").or(none.then_some("default")).map(str::to_owned);
    Ok(Backend { at, json, id, size, host_nodes, policy, pages, path, cell: None })
}

/// Returns how a machine's own memory is made, and how much it is.
///
/// Errors: a size that is none.
pub(super) fn ram(parts: &Parts, cells: &[LineCell]) -> Result<(Ram, Bytes), String> {
    // QEMU takes 0 for nothing said, and rounds up.
    let said = parts.memory.last("size").map(|text| size(text, MIB)).transpose()?;
    let said = said.filter(|size| *size > Bytes::ZERO);
    let said =
        said.map(|size| Bytes::new(size.get().checked_next_multiple_of(8192).unwrap_or(u64::MAX)));
    let kind = parts.machine.last("type");
    let default = || said.unwrap_or_else(|| machine::default_memory(&parts.arch, kind));
    if let Some(id) = parts.machine.last("memory-backend") {
        return Ok(match parts.backends.iter().find(|backend| backend.id == id) {
            Some(backend) => (Ram::Backend(id.to_owned()), backend.size),
            None => (Ram::Other, default()),
        });
    }
    if cells.iter().any(|cell| cell.backend.is_some()) {
        let sum = cells.iter().map(|cell| cell.memory);
        return Ok((Ram::Cells, sum.fold(Bytes::ZERO, Bytes::saturating_add)));
    }
    let xen = parts.xen || parts.machine.last("accel") == Some("xen");
    let id = machine::ram_name(&parts.arch, kind)
        .filter(|_| parts.file_ram.is_none() && !xen && parts.numa.is_empty());
    let id = id.filter(|id| parts.backends.iter().all(|backend| backend.id != *id));
    Ok(match (id, said) {
        (Some(id), Some(size)) => (Ram::Plain(size, id), size),
        _ => (Ram::Other, default()),
    })
}
