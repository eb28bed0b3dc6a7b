//! How long `placer show` takes for the picture of a host of 64 nodes and 1,024 CPUs, and for the page
//! around it: the whole program, from its start to the last byte. Budget: 200 ms and 1 MiB.
//!
//!     cargo bench --bench picture

use testkit::wide as common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::machine::Machine;

const ROUNDS: usize = 50;

fn main() {
    let machine = Machine { nodes: 64, cpus: 1024 };
    let host = machine.write();
    println!("{}, {ROUNDS} runs each:", machine.name());
    println!("{:<20} {:>9} {:>7} {:>7} {:>10}", "placer show", "median ms", "min", "max", "bytes");
    for form in [&["--json"][..], &["--svg", "-"], &["--html", "-"]] {
        let mut times = Vec::with_capacity(ROUNDS);
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let mut show = Command::new(env!("CARGO_BIN_EXE_placer"));
            show.env_clear().arg("show").args(form).arg("--root").arg(host.path());
            let start = Instant::now();
            let output = show.output().expect("the program starts");
            times.push(start.elapsed());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            bytes = output.stdout.len();
        }
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, min, max) = (times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
        println!(
            "{:<20} {:>9.1} {:>7.1} {:>7.1} {bytes:>10}",
            form.join(" "),
            ms(median),
            ms(min),
            ms(max)
        );
    }
}
