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

/// Choose the NUMA nodes a guest should run on, and start it there.
#[derive(Debug, Parser)]
#[command(name = "placer", version, max_term_width = 80, arg_required_else_help = true)]
#[command(long_about = "\
Choose the NUMA nodes a guest should run on, and start it there

Examples:
  placer advise 4:8G              nodes for 4 CPUs and 8 GiB, such as 0-1
  placer advise 4:8G --explain    why these nodes, and the runners-up
  placer launch --cpus 4 --memory 8G -- ./solver input
  placer show                     nodes, CPUs, memory, claims, load
  placer numad -w 4:8192          the answer of the program numad")]
#[command(after_long_help = "\
Settings come from /etc/placer.toml, the environment and flags; a later one
wins. Each flag has a variable: --root is PLACER_ROOT, --config PLACER_CONFIG.
Exit status: 0 success; 1 the request does not fit (--strict, launch); 2 usage
error or failure.")]
pub(crate) struct Args {
    /// Read settings from FILE [default: /etc/placer.toml].
    #[arg(long, value_name = "FILE", env = "PLACER_CONFIG", hide_env = true, global = true)]
    #[arg(display_order = 900, hide_short_help = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the NUMA nodes a guest should run on.
    Advise(Lazily<Advise>),
    /// Start a guest on the nodes placer chooses, bound from the start.
    Launch(Lazily<Launch>),
    /// Print the host: nodes, CPUs, memory, claims, distances, load.
    Show(Lazily<Show>),
    /// Show the host live, and where a guest would run.
    Top(Lazily<Top>),
    /// List guests, their claims, and where their memory is.
    Ps(Lazily<Ps>),
    /// End a claim.
    Release(Lazily<Release>),
    /// Record this host in a directory that --root reads.
    Record(Lazily<Record>),
    /// Simulate guests on a host under several placement rules.
    Replay(Lazily<Replay>),
    /// Run the placement daemon.
    Daemon(Lazily<Daemon>),
    /// Print the JSON Schema of a command's --json output.
    Schema(Lazily<Schema>),
    /// Accept numad's command line, with its messages and exit codes.
    ///
    /// The program does the same when it is invoked as numad. It measures CPU load for 100 ms
    /// instead of 2 s; PLACER_WINDOW=2s measures as long as numad does. Section numad of
    /// /etc/placer.toml can add policy best, huge pages and reservations to its answers.
    #[command(disable_help_flag = true)]
    Numad {
        /// numad's options, such as -w 4:500; -h lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

// Not a doc comment: clap would make it the first sentence of each command's help.
// Which host is read, and how its load is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// Read the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub(crate) root: Option<PathBuf>,
    /// Measure CPU load for this long if there is no recent sample; 0 disables.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "100ms", value_parser = duration::parse)]
    pub(crate) window: Duration,
}

// Not a doc comment, see above. How nodes are chosen, and among which.
#[derive(Debug, clap::Args)]
pub(crate) struct Choice {
    /// Placement policy.
    #[arg(long, env = "PLACER_POLICY", hide_env = true, default_value = "best")]
    pub(crate) policy: PolicyName,
    /// Choose among these nodes only, such as 0-1,3.
    #[arg(long, value_name = "NODES", env = "PLACER_WITHIN", hide_env = true)]
    #[arg(value_parser = nodes)]
    pub(crate) within: Option<NodeSet>,
    /// Prefer nodes near a device, such as eth0 or nvme0n1.
    ///
    /// A PCI address (0000:45:00.0), or the name of a network interface, disk or graphics card.
    #[arg(long, value_name = "DEV", env = "PLACER_NEAR", hide_env = true)]
    pub(crate) near: Option<String>,
    /// Use huge pages of this size, such as 2M or 1G.
    #[arg(long, value_name = "SIZE", env = "PLACER_PAGES", hide_env = true)]
    #[arg(value_parser = pages)]
    pub(crate) pages: Option<Bytes>,
    /// Fraction of run time the guest is stalled on memory, 0 to 1.
    #[arg(long, value_name = "PART", env = "PLACER_MEMORY_BOUND", hide_env = true)]
    #[arg(default_value = "0.5", value_parser = part, hide_short_help = true)]
    pub(crate) memory_bound: f64,
    /// Capacity of each additional SMT thread of a core, in percent of a CPU.
    #[arg(long, value_name = "N", env = "PLACER_SMT_PERCENT", hide_env = true)]
    #[arg(default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100))]
    #[arg(hide_short_help = true)]
    pub(crate) smt_percent: u32,
    /// Tie-break among equally fast node sets.
    #[arg(long, env = "PLACER_PREFER", hide_env = true, default_value = "room")]
    #[arg(hide_short_help = true)]
    pub(crate) prefer: PreferName,
    /// Limit of search steps on hosts with more than 16 nodes.
    #[arg(long, value_name = "STEPS", env = "PLACER_EFFORT", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub(crate) effort: Option<u64>,
    /// Choose among all nodes and CPUs, not only those this process may use.
    #[arg(long, value_name = "yes|no", env = "PLACER_MACHINE_WIDE", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) machine_wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyName {
    /// Exact and explained; knows huge pages, devices and limits.
    Best,
    /// The rules of numad 0.5, bit for bit.
    Numad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreferName {
    /// The set with the most free capacity.
    Room,
    /// The fullest set, so that other nodes stay empty.
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
