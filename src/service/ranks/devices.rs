//! The device of each rank: the GPUs that a step may see, and the network interface that its ranks use.

use placer_engine::source::device;
use placer_engine::{CpuId, CpuSet, NodeId, SysRoot};

use crate::service::notes::Notes;

/// The node of each rank's device, as far as one rank can know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// A node for each rank; `None` for one without a device, or with one that is not known.
    pub near: Vec<Option<NodeId>>,
    /// The node of this rank's own device, where only the rank itself sees that.
    pub own: Option<NodeId>,
}

/// The lists of GPUs that programs see, and of network interfaces they use.
const VISIBLE: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"];
const OF_STEP: [&str; 2] = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"];
const INTERFACES: [&str; 2] = ["UCX_NET_DEVICES", "NCCL_IB_HCA"];

impl Devices {
    /// Finds the node of each of `count` ranks' devices. Rank 0 has the first GPU of the list that all see, rank 1 the
    /// second, and so on; after the last GPU it starts again at the first. Slurm's list is divided into equal parts, one
    /// after the other, and a rank's device is the first of its part. Without GPUs, network interfaces count in the same way, and else the device `near`.
    ///
    /// Slurm's list of the step's GPUs goes first: in CUDA_VISIBLE_DEVICES it counts from 0 what its control group
    /// leaves. A list of one GPU in a step of several ranks is the rank's own.
    pub fn find(
        variable: &dyn Fn(&str) -> Option<String>,
        count: usize,
        near: Option<NodeId>,
        root: &SysRoot,
        notes: &mut Notes,
    ) -> Self {
        let step = OF_STEP.iter().find_map(|name| Some((*name, variable(name)?)));
        let of_step = step.map(|(name, text)| (name, numbered(&text)));
        let (name, list) = match of_step.filter(|(_, list)| !list.is_empty()) {
            Some((name, list)) => (name, list),
            None => match visible(variable, root) {
                Some((name, list)) if !list.is_empty() => (name, list),
                _ => interfaces(variable).unwrap_or_default(),
            },
        };
        if list.is_empty() {
            return Self { near: vec![near; count], own: near };
        }
        let mut node = |device: &String| match device::node_of(root, device) {
            Ok(node) => Some(node),
            Err(error) => {
                notes.warn(&format!("{name}: the node of {device} is not known: {error}"));
                None
            }
        };
        // Slurm gives each task as many GPUs as the others, one after the other.
        let block =
            if OF_STEP.contains(&name) && list.len() % count == 0 { list.len() / count } else { 1 };
        let firsts = list.iter().step_by(block).take(count);
        let nodes: Vec<Option<NodeId>> = firsts.map(&mut node).collect();
        if VISIBLE.contains(&name) && list.len() == 1 && count > 1 {
            return Self { near: vec![None; count], own: nodes[0] };
        }
        Self { near: (0..count).map(|rank| nodes[rank % nodes.len()]).collect(), own: None }
    }
}

/// Returns GPUs by their numbers on the host, `0-1,3`.
fn numbered(text: &str) -> Vec<String> {
    let numbers: CpuSet = text.parse().unwrap_or_default();
    numbers.iter().map(|CpuId(number)| format!("gpu{number}")).collect()
}

/// Returns the GPUs that programs see. AMD's lists stand on each other: HIP counts what ROCr leaves. torchrun's ranks
/// see all where no list is set.
fn visible(
    variable: &dyn Fn(&str) -> Option<String>,
    root: &SysRoot,
) -> Option<(&'static str, Vec<String>)> {
    let [cuda, hip, rocr] = VISIBLE;
    let list = |name: &'static str| variable(name).map(|text| (name, entries(&text)));
    let below = list(rocr);
    let above = list(hip).or_else(|| list(cuda));
    match (above, below) {
        (Some((name, above)), Some((_, below))) => {
            let index = |entry: &String| entry.strip_prefix("gpu")?.parse::<usize>().ok();
            let entry = |entry: String| match index(&entry) {
                Some(at) => below.get(at).cloned(),
                None => Some(entry),
            };
            Some((name, above.into_iter().filter_map(entry).collect()))
        }
        (Some(list), None) | (None, Some(list)) => Some(list),
        (None, None) => {
            variable("LOCAL_WORLD_SIZE")?;
            let all = 0..device::gpus(root);
            Some(("GPUs of this host", all.map(|at| format!("gpu{at}")).collect()))
        }
    }
}

/// Returns the GPUs of a list, up to the first entry that names none, as the drivers read it. Parts of a GPU in the
/// old form, `MIG-GPU-.../1/0`, count as the GPU; the new form does not name it.
fn entries(text: &str) -> Vec<String> {
    let entry = |entry: &str| {
        let entry = entry.trim();
        if !entry.is_empty() && entry.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(format!("gpu{entry}"));
        }
        let uuid = entry.strip_prefix("MIG-").unwrap_or(entry);
        let uuid = uuid.split('/').next()?;
        uuid.starts_with("GPU-").then(|| uuid.to_owned())
    };
    text.split(',').map_while(entry).take(4096).collect()
}

fn interfaces(variable: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, Vec<String>)> {
    let (name, text) = INTERFACES.iter().find_map(|name| Some((*name, variable(name)?)))?;
    // NCCL's `=` asks for an exact name, and `^` leaves devices out.
    let text = text.strip_prefix('=').unwrap_or(&text).to_owned();
    if text == "all" || text.starts_with('^') {
        return None;
    }
    let list = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    Some((name, list.map(str::to_owned).take(4096).collect()))
}
