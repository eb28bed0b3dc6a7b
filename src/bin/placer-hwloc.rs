//! Reads a host with hwloc, for the `placer` that started it: `placer show --devices`.
//!
//! A program of its own, for two reasons. hwloc's plugins are kept out, and other roots are chosen,
//! by environment variables alone, and those are the whole process's. And loading libhwloc and what
//! it needs takes a fifth of the time of an advice, which does not ask it.

use std::process::ExitCode;

fn main() -> ExitCode {
    match placer_engine::source::hwloc::serve(std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("placer-hwloc: {error}");
            ExitCode::from(2)
        }
    }
}
