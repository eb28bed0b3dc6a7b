//! Flags exactly as typed. No file is opened and nothing is decided here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use placer_engine::{NodeId, NodeSet, Request, parse};

use crate::duration;

/// Answers where on this NUMA host a guest should run.
#[derive(Debug, Parser)]
#[command(name = "placer", version, max_term_width = 80, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  placer advise 4:500            nodes for 4 CPUs and 500 MiB, as in 0-1,3
  placer advise 2.5:8G --json    the whole answer, for programs
  placer show                    the host: nodes, CPUs, memory, distances, load
  placer numad -w 4:500          the same as the program numad would answer

Exit status: 0 answered; 1 --strict and it does not fit; 2 usage or failure.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the nodes where a guest should run, as in 0-1,3.
    Advise(Advise),
    /// Shows the host: nodes, CPUs, memory, distances, load.
    Show(Show),
    /// Saves this machine as a directory that --root reads.
    Record(Record),
    /// Reads a host with hwloc, for the process that started it.
    #[cfg(feature = "hwloc")]
    #[command(hide = true)]
    HwlocFacts,
    /// Takes numad's own command line, and answers with its messages and exit codes.
    ///
    /// The same happens when the program is called by the name numad. The answer is there in a
    /// tenth of a second instead of two; PLACER_WINDOW=2s measures as long as numad does.
    #[command(disable_help_flag = true)]
    Numad {
        /// numad's options, as in -w 4:500; -h lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Which host is asked about, and how it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// Reads the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// How long CPU load is measured when no recent sample is at hand; 0: not at all.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env_values = true)]
    #[arg(default_value = "100ms", value_parser = duration::parse)]
    pub(crate) window: Duration,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer advise 4:500               4 CPUs and 500 MiB
  placer advise 16:64G --strict     exit status 1, and no nodes, if it does not fit
  placer advise 4:8G --cpus         the CPUs of the advised nodes, as in 0-7
  placer advise 4:500 --within 0-1  only nodes 0 and 1 may be named
  placer advise 4:500 --root DIR    for a machine saved with placer record

The nodes and CPUs that this process is limited to (taskset, cpusets, Slurm,
containers) bound the answer, unless --machine-wide is given.
Exit status: 0 answered; 1 --strict and it does not fit; 2 usage or failure.")]
pub(crate) struct Advise {
    /// CPUS[:MEMORY]: CPUs with up to two decimals; MiB, or with K, M, G, T.
    pub(crate) request: Request,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// The rule that chooses.
    #[arg(long, env = "PLACER_POLICY", hide_env_values = true, default_value = "numad")]
    pub(crate) policy: PolicyName,
    /// Who answers.
    #[arg(long, env = "PLACER_VIA", hide_env_values = true, default_value = "auto")]
    pub(crate) via: Via,
    /// The numad that --via numad runs.
    #[arg(long, value_name = "PATH", env = "PLACER_NUMAD", hide_env_values = true)]
    #[arg(default_value = "numad")]
    pub(crate) numad: PathBuf,
    /// Names only these nodes, as in 0-1,3.
    #[arg(long, value_name = "NODES", env = "PLACER_WITHIN", hide_env_values = true)]
    #[arg(value_parser = nodes)]
    pub(crate) within: Option<NodeSet>,
    /// Advises for the whole machine, not only for what this process may use.
    #[arg(long, env = "PLACER_MACHINE_WIDE", hide_env_values = true)]
    pub(crate) machine_wide: bool,
    /// Exits with 1 and prints no nodes if the request does not fit.
    #[arg(long, env = "PLACER_STRICT", hide_env_values = true)]
    pub(crate) strict: bool,
    /// Prints the whole advice as JSON.
    #[arg(long, conflicts_with = "cpus")]
    pub(crate) json: bool,
    /// Prints the CPUs of the advised nodes instead of the nodes.
    #[arg(long)]
    pub(crate) cpus: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// numad 0.5's rules, bit for bit.
    Numad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// Whoever answers soonest: the engine in this process.
    Auto,
    /// The engine in this process.
    Engine,
    /// The real numad as a subprocess, to compare with.
    Numad,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer show
  placer show --json
  placer show --devices      which network card or disk is near which node
  placer show --root sysfs-fixtures/ring-4")]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Shows what hwloc knows beside: devices, caches, memory attributes.
    #[arg(long)]
    pub(crate) devices: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer record /tmp/this-host
  placer record --window 2s /tmp/this-host
  placer advise 4:500 --root /tmp/this-host

The directory must not exist, or be empty. It holds no names of users or hosts.")]
pub(crate) struct Record {
    /// Where the recording goes.
    pub(crate) dir: PathBuf,
    /// Copies the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// The time between the two readings.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env_values = true)]
    #[arg(default_value = "2s", value_parser = duration::parse)]
    pub(crate) window: Duration,
}

fn nodes(text: &str) -> Result<NodeSet, String> {
    let nodes = parse::list::parse::<NodeId>(text.as_bytes()).map_err(|e| e.to_string())?;
    if nodes.is_empty() { Err("expected at least one node".to_owned()) } else { Ok(nodes) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_that_changes_an_answer_has_its_variable() {
        for command in Args::command().get_subcommands() {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let long = flag.get_long().unwrap_or_default();
                // These choose the form of the output, not the answer.
                if matches!(long, "help" | "json" | "cpus" | "devices") {
                    continue;
                }
                let variable = format!("PLACER_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(flag.get_env().and_then(|v| v.to_str()), Some(variable.as_str()));
            }
        }
    }
}
