//! Runs an engine and prints a line for each new snapshot, until it is killed or N have come.
//!
//! `cargo run -p placer-engine --example watch [COUNT]`; see it follow `echo 0 >
//! /sys/devices/system/cpu/cpu1/online`.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use placer_engine::{Bytes, Engine, SysRoot};

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map(|text| text.parse()).transpose()?;
    let engine = Engine::builder(SysRoot::live()).interval(Duration::from_millis(200)).start()?;
    let snapshots = engine.subscribe();
    for snapshot in snapshots.take(count.unwrap_or(usize::MAX)) {
        let topology = snapshot.topology();
        let nodes = topology.node_set();
        let memory: Bytes = snapshot.nodes().iter().filter_map(|node| node.memory_total).sum();
        let (number, cpus) = (snapshot.generation(), topology.cpus_of(&nodes));
        let memory = memory.whole_mib();
        println!("generation={number} nodes={nodes} cpus={cpus} memory_total={memory}");
        std::io::stdout().flush()?;
        if let Some(trouble) = engine.last_error() {
            eprintln!("{trouble}");
        }
    }
    Ok(())
}
