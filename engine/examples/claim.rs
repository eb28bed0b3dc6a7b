//! Claims memory for itself, and touches it later, as a guest does.
//!
//! `cargo run -p placer-engine --example claim 1:200`, then a number of MiB a line: so much is touched
//! in all. It says `claimed ID` and `touched MIB`, and ends with its input. `PLACER_STATE_DIR` is where
//! claims are kept, else `/run/placer`.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use placer_engine::claims::{Claims, For, PATIENCE, Place};
use placer_engine::{Request, Snapshot, SysRoot, advise};

fn main() -> Result<(), Box<dyn Error>> {
    let request: Request = std::env::args().nth(1).ok_or("usage: claim REQUEST")?.parse()?;
    let dir = std::env::var_os("PLACER_STATE_DIR").unwrap_or_else(|| "/run/placer".into());
    let place = Place { own: Some(PathBuf::from(dir)), ..Place::default() };
    let root = SysRoot::live();
    let claims = Claims::open_to_claim(&place, &root)?;

    // Choosing and claiming is one step: nobody else claims anything from here on...
    let (mut decision, view) = claims.begin(PATIENCE)?;
    let snapshot = Snapshot::take(&root, Duration::ZERO)?.with_charges(view.charges);
    let advice = advise(&snapshot, &request)?;
    if !advice.fits() {
        return Err(format!("{request:?} does not fit").into());
    }
    let pid = std::process::id();
    let caller = decision.caller(pid, 0);
    // ...to here.
    let id = decision.claim(&request, &advice, For::Pid(pid), caller, None)?;
    println!("claimed {id} on {}", advice.nodes);

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
