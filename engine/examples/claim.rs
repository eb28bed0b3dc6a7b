//! Claims memory for itself, and touches it later, as a guest does.
//!
//! `cargo run -p placer-engine --example claim 1:200`, then a number of MiB a line: so much is touched
//! in all. It says `claimed ID` and `touched MIB`, and ends with its input. `PLACER_STATE_DIR` is where
//! claims are kept, else `/run/placer`.

use std::error::Error;
use std::io::{BufRead, Write};

use placer_engine::claims::{ClaimDirs, ClaimOwner};
use placer_engine::{Engine, Request, SysRoot};

fn main() -> Result<(), Box<dyn Error>> {
    let request: Request = std::env::args().nth(1).ok_or("usage: claim REQUEST")?.parse()?;
    let dir = std::env::var_os("PLACER_STATE_DIR").unwrap_or_else(|| "/run/placer".into());
    // Waits for the second reading: until then the load is unknown.
    let engine = Engine::builder(SysRoot::live()).claims(ClaimDirs::at(dir)).start()?;
    let _ = engine.subscribe().next();
    let placement = engine.place(&request, ClaimOwner::Pid(std::process::id()))?;
    println!("claimed {} on {}", placement.claim, placement.advice.nodes);

    let mut memory: Vec<Vec<u8>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let mib: usize = line?.trim().parse()?;
        while memory.len() < mib {
            memory.push(vec![1; 1 << 20]);
        }
        println!("touched {}", memory.len());
        std::io::stdout().flush()?;
    }
    Ok(())
}
