//! `placer nri`: the plugin of container runtimes.

use std::error::Error;
use std::process::ExitCode;

use crate::plan;
use placer::args::Nri;
use placer::nri::{self, Options};
use placer::settings::Settings;

pub(crate) fn run(args: &Nri, set: Settings) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    nri::run(Options { root, socket: args.socket.clone(), index: args.index, set })?;
    Ok(ExitCode::SUCCESS)
}
