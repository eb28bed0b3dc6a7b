//! `placer record DIR`: this machine, as a directory that `--root` reads.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::SysRoot;
use placer_engine::source::record::record;

use crate::output;
use placer::args::Record;

pub(crate) fn run(args: &Record) -> Result<ExitCode, Box<dyn Error>> {
    let root = args.root.as_ref().map_or_else(SysRoot::live, SysRoot::at);
    record(&root, &args.dir, args.window)?;
    output::line(&format!("placer: recorded in {}", args.dir.display()));
    Ok(ExitCode::SUCCESS)
}
