//! `placer launch`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgAction;
use clap::builder::BoolishValueParser;
use placer_engine::{Bytes, CpuShare, Request};
use placer_launcher::MemoryMode;
use placer_launcher::guest::{CgroupMode, MOST_CPUS, ThreadPin};

use super::{Choice, HostArgs};

#[derive(Debug, clap::Args)]
#[command(override_usage = "\
placer launch [OPTIONS] -- COMMAND [ARGS]...
       placer launch [OPTIONS] GUEST.toml | DOMAIN.xml")]
#[command(after_help = "\
Examples:
  placer launch --cpus 4 --memory 8G -- ./solver input
  placer launch --cpus 2 --memory 1G --mode interleave -- make -j2
  placer launch --cpus 4 --memory 8G --dry-run -- ./solver

  placer launch db1.toml
  placer launch --print-xml db1.xml

A command runs on the CPUs of the advised nodes and takes its memory there.
What it was promised is claimed for it until it ends: placer ps lists it. A
command that starts others wants --cgroup own, so that their memory counts as its.
The nodes and CPUs that this process is limited to bound the choice for a
command; for a guest's definition the whole machine counts.
Exit status: the guest's; 1 it does not fit, and nothing is started; 2 usage
or failure.")]
pub(crate) struct Launch {
    /// The guest's definition: TOML, or a libvirt domain in XML; - reads standard input.
    #[arg(value_name = "GUEST", conflicts_with = "command")]
    pub(crate) guest: Option<PathBuf>,
    /// CPUs, to 1/100, as in 4 or 2.5; for a command 1 if nothing is said.
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    #[arg(env = "PLACER_CPUS", hide_env_values = true)]
    pub(crate) cpus: Option<CpuShare>,
    /// Memory: MiB, or with K, M, G, T, as in 8G.
    #[arg(long, value_name = "MEMORY", value_parser = memory)]
    #[arg(env = "PLACER_MEMORY", hide_env_values = true)]
    pub(crate) memory: Option<Bytes>,
    /// How memory is bound: strict (if nothing is said), preferred, preferred-many, interleave,
    /// weighted-interleave, none.
    #[arg(long, value_name = "MODE")]
    #[arg(env = "PLACER_MODE", hide_env_values = true)]
    pub(crate) mode: Option<MemoryMode>,
    /// The control group it runs in: none; own, which placer makes and removes; systemd, a scope that
    /// systemd makes; or auto (if nothing is said): none for commands and machines, whose threads and
    /// memory are bound one by one; for containers own where that can be had, else systemd.
    #[arg(long, value_name = "MODE")]
    #[arg(env = "PLACER_CGROUP", hide_env_values = true)]
    pub(crate) cgroup: Option<CgroupMode>,
    /// What to make that in: a path below the control groups; for systemd a slice.
    #[arg(long, value_name = "PATH")]
    #[arg(env = "PLACER_CGROUP_PARENT", hide_env_values = true)]
    pub(crate) cgroup_parent: Option<String>,
    /// How a machine's threads are held: nodes (if nothing is said), or cores, a core each.
    #[arg(long, value_name = "HOW")]
    #[arg(env = "PLACER_PIN", hide_env_values = true)]
    pub(crate) pin: Option<ThreadPin>,
    /// Lets a machine's vCPUs have isolated CPUs (isolcpus), with --pin cores.
    #[arg(long, value_name = "yes|no", env = "PLACER_ISOLATED", hide_env_values = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) isolated: bool,
    /// Starts what does not fit too, in mode preferred where strict was meant.
    #[arg(long, value_name = "yes|no", env = "PLACER_FORCE", hide_env_values = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) force: bool,
    /// Prints what would be done, and does nothing.
    #[arg(long, value_name = "yes|no", env = "PLACER_DRY_RUN", hide_env_values = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Prints the domain definition with what came of the advice, and starts nothing.
    #[arg(long)]
    pub(crate) print_xml: bool,
    /// The command and its arguments.
    #[arg(last = true, required_unless_present = "guest", value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

fn cpus(text: &str) -> Result<CpuShare, String> {
    if text.contains(':') {
        return Err("expected a number of CPUs; the memory goes to --memory".to_owned());
    }
    let cpus = text.parse().map(|request: Request| request.cpus).map_err(|e| e.to_string())?;
    if cpus.hundredths() > u64::from(MOST_CPUS) * 100 {
        return Err(format!("expected at most {MOST_CPUS} CPUs"));
    }
    Ok(cpus)
}

fn memory(text: &str) -> Result<Bytes, String> {
    Request::memory_of(text).map_err(|e| e.to_string())
}
