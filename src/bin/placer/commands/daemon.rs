//! `placer daemon`: the service.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::plan;
use placer::args::Daemon;
use placer::daemon;
use placer::settings::Settings;

pub(crate) fn run(
    args: &Daemon,
    set: Settings,
    config: Option<PathBuf>,
) -> Result<ExitCode, Box<dyn Error>> {
    daemon::run(&plan::root_at(args.root.as_ref()), set, config, args.manage)?;
    Ok(ExitCode::SUCCESS)
}
