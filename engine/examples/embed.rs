//! The two ways to embed the engine, each in a few lines.
//!
//! `cargo run -p placer-engine --example embed [DIR]`: on this host, or on a recorded one.

use std::error::Error;
use std::time::Duration;

use placer_engine::{Engine, Request, Snapshot, SysRoot, advise};

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os().nth(1).map_or_else(SysRoot::live, SysRoot::at);
    once(&root)?;
    many_times(root)
}

/// Without threads: one snapshot, one answer.
fn once(root: &SysRoot) -> Result<(), Box<dyn Error>> {
    let snapshot = Snapshot::take(root, Duration::from_millis(100))?;
    let request: Request = "2:100".parse()?;
    let advice = advise(&snapshot, &request)?;
    println!("one question: nodes {}, CPUs {}, fits: {}", advice.nodes, advice.cpus, advice.fits());
    Ok(())
}

/// With an engine: a thread keeps the newest snapshot, and answers take microseconds.
fn many_times(root: SysRoot) -> Result<(), Box<dyn Error>> {
    let engine = Engine::builder(root).start()?;
    for request in ["1", "2:100", "0.5:64M"] {
        let advice = engine.advise(&request.parse::<Request>()?)?;
        println!("snapshot {}: {request} on nodes {}", advice.generation, advice.nodes);
    }
    engine.stop();
    Ok(())
}
