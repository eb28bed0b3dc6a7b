//! Flags exactly as typed, a file for each command. No file is opened and nothing is decided here.

mod advise;
mod claims;
mod daemon;
mod idle;
mod launch;
mod lazily;
mod record;
mod replay;
mod schema;
mod show;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use placer_engine::policy::best::Prefer;
use placer_engine::{Bytes, NodeId, NodeSet, parse};

use crate::duration;

pub(crate) use advise::{Advise, EmitForm, Via};
pub(crate) use claims::{Ps, Release};
pub(crate) use daemon::Daemon;
pub(crate) use idle::refuse as refuse_idle;
pub(crate) use launch::Launch;
use lazily::Lazily;
pub(crate) use lazily::without_empty;
pub(crate) use record::Record;
pub(crate) use replay::{ClaimsName, Replay, RuleName, ShapeName};
pub(crate) use schema::{Form, Schema};
pub(crate) use show::Show;
pub(crate) use top::Top;

/// Answers where on this NUMA host a guest should run.
#[derive(Debug, Parser)]
#[command(name = "placer", version, max_term_width = 80, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  placer advise 4:500            nodes for 4 CPUs and 500 MiB, as in 0-1,3
  placer advise 2.5:8G --json    the whole answer, for programs
  placer show                    the host: nodes, CPUs, memory, claims, load
  placer numad -w 4:500          the same as the program numad would answer

Settings, weakest first: /etc/placer.toml (--config), variables, flags.
Each flag has its variable: --root is PLACER_ROOT, --config is PLACER_CONFIG.
Exit status: 0 answered; 1 --strict and it does not fit; 2 usage or failure.")]
pub(crate) struct Args {
    /// Reads the host's settings from FILE instead of /etc/placer.toml.
    #[arg(long, value_name = "FILE", env = "PLACER_CONFIG", hide_env_values = true, global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the nodes where a guest should run, as in 0-1,3.
    Advise(Lazily<Advise>),
    /// Starts a guest where the advice says, bound from its first instruction.
    Launch(Lazily<Launch>),
    /// Shows the host: nodes, CPUs, memory, claims, distances, load.
    Show(Lazily<Show>),
    /// Shows the same live in the terminal, and where a guest would run.
    Top(Lazily<Top>),
    /// Lists guests and their claims, and where their memory is now.
    Ps(Lazily<Ps>),
    /// Ends a claim.
    Release(Lazily<Release>),
    /// Saves this machine as a directory that --root reads.
    Record(Lazily<Record>),
    /// Plays guests that come and go over a host, by several rules side by side.
    Replay(Lazily<Replay>),
    /// Keeps the host's figures warm and answers on a socket, for everybody.
    Daemon(Lazily<Daemon>),
    /// Prints the JSON Schema of what a command prints with --json.
    Schema(Lazily<Schema>),
    /// Takes numad's own command line, and answers with its messages and exit codes.
    ///
    /// The same happens when the program is called by the name numad. The answer is there in a
    /// tenth of a second instead of two; PLACER_WINDOW=2s measures as long as numad does.
    /// /etc/placer.toml may ask for more by that name, in its section numad: policy best, huge
    /// pages, holding what was advised.
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

/// How a place is chosen, and among what.
#[derive(Debug, clap::Args)]
pub(crate) struct Choice {
    /// The rule that chooses.
    #[arg(long, env = "PLACER_POLICY", hide_env_values = true, default_value = "best")]
    pub(crate) policy: PolicyName,
    /// Names only these nodes, as in 0-1,3.
    #[arg(long, value_name = "NODES", env = "PLACER_WITHIN", hide_env_values = true)]
    #[arg(value_parser = nodes)]
    pub(crate) within: Option<NodeSet>,
    /// Puts the guest near a device, as in 0000:45:00.0, eth0, nvme0n1, card0.
    #[arg(long, value_name = "DEV", env = "PLACER_NEAR", hide_env_values = true)]
    pub(crate) near: Option<String>,
    /// The memory has to be free huge pages of this size, as in 2M, 1G.
    #[arg(long, value_name = "SIZE", env = "PLACER_PAGES", hide_env_values = true)]
    #[arg(value_parser = pages)]
    pub(crate) pages: Option<Bytes>,
    /// The part of its time that the guest waits for memory, 0 to 1.
    #[arg(long, value_name = "PART", env = "PLACER_MEMORY_BOUND", hide_env_values = true)]
    #[arg(default_value = "0.5", value_parser = part)]
    pub(crate) memory_bound: f64,
    /// What a further hardware thread of a core is worth, in percent of a CPU.
    #[arg(long, value_name = "N", env = "PLACER_SMT_PERCENT", hide_env_values = true)]
    #[arg(default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) smt_percent: u32,
    /// Which of equally fast places: the one with most room, or the fullest.
    #[arg(long, env = "PLACER_PREFER", hide_env_values = true, default_value = "room")]
    pub(crate) prefer: PreferName,
    /// How many steps a search may take on hosts with more than 16 nodes.
    #[arg(long, value_name = "STEPS", env = "PLACER_EFFORT", hide_env_values = true)]
    pub(crate) effort: Option<u64>,
    /// Advises for the whole machine, not only for what this process may use.
    #[arg(long, value_name = "yes|no", env = "PLACER_MACHINE_WIDE", hide_env_values = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) machine_wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Ours: exact, explained, for huge pages, devices and limits.
    Best,
    /// numad 0.5's rules, bit for bit.
    Numad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreferName {
    /// The one with most room left.
    Room,
    /// The fullest, so that others stay empty.
    Pack,
}

impl From<PreferName> for Prefer {
    fn from(name: PreferName) -> Self {
        match name {
            PreferName::Room => Self::Room,
            PreferName::Pack => Self::Pack,
        }
    }
}

/// Reads the size of a huge page: as large as a kernel has them, and a power of two.
pub(crate) fn pages(text: &str) -> Result<Bytes, String> {
    let wanted = || format!("expected a size of huge pages, as in 2M or 1G, found {text:?}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(wanted()),
    };
    let size: u64 = number.parse().map_err(|_| wanted())?;
    let size = size.checked_mul(1 << shift).filter(|size| size.is_power_of_two());
    size.filter(|size| (1 << 14..=1 << 40).contains(size)).map(Bytes::new).ok_or_else(wanted)
}

fn part(text: &str) -> Result<f64, String> {
    let wanted = || format!("expected a number from 0 to 1, found {text:?}");
    let part: f64 = text.parse().map_err(|_| wanted())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err(wanted()) }
}

pub(crate) fn nodes(text: &str) -> Result<NodeSet, String> {
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
        let mut all = Args::command();
        all.build();
        let flags = all.get_subcommands().flat_map(clap::Command::get_arguments);
        assert!(flags.count() > 60, "each command's flags are there");
        for command in all.get_subcommands() {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let long = flag.get_long().unwrap_or_default();
                // These choose the form of the output, not the answer.
                if matches!(
                    long,
                    "help"
                        | "json"
                        | "cpus"
                        | "devices"
                        | "explain"
                        | "emit"
                        | "print-xml"
                        | "svg"
                        | "html"
                ) {
                    continue;
                }
                let variable = format!("PLACER_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(flag.get_env().and_then(|v| v.to_str()), Some(variable.as_str()));
            }
        }
    }
}
