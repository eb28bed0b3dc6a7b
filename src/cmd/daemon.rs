//! `placer daemon`: the service.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::Daemon;
use crate::settings::Settings;
use crate::{daemon, plan};

pub(crate) fn run(
    args: &Daemon,
    set: Settings,
    config: Option<PathBuf>,
) -> Result<ExitCode, Box<dyn Error>> {
    daemon::run(&plan::root_at(args.root.as_ref()), set, config)?;
    Ok(ExitCode::SUCCESS)
}
