//! Flags exactly as typed, a file for each command. No file is opened and nothing is decided here.

mod advise;
mod balance;
mod claims;
mod daemon;
mod doctor;
mod fill;
mod fit;
mod idle;
mod launch;
mod lazily;
mod nri;
mod record;
mod replay;
mod schema;
mod show;
mod status;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use placer_engine::{Bytes, NodeSet};

use crate::settings::{
    CacheName, CoresName, NumadVersion, PolicyName, PreferName, duration, nodes, pages,
};

pub use advise::{Advise, Emit, Via};
pub use balance::Balance;
pub use claims::{Adopt, Ps, Release};
pub use daemon::Daemon;
pub use doctor::Doctor;
pub use fit::Fit;
pub use idle::refuse as refuse_idle;
pub use launch::{Launch, Place};
use lazily::Lazily;
pub use lazily::without_empty;
pub use nri::Nri;
pub use record::Record;
pub use replay::{
    ClaimsName, HostSize, MOST_MANAGED_NODES, ManagerName, PinName, Replay, RuleName, ShapeName,
    StartName,
};
pub use schema::{Form, Schema};
pub use show::Show;
pub use status::Status;
pub use top::Top;

/// Returns the command line; a command's own flags are added when it is named.
pub fn command() -> clap::Command {
    without_empty(Args::command())
}

/// Choose the NUMA nodes a guest should run on, and start it there.
#[derive(Debug, Parser)]
#[command(name = "placer", version, disable_version_flag = true, max_term_width = 80)]
// Without empty lines around usage and commands: -h fits 24 lines.
#[command(
    help_template = "{about-with-newline}{usage-heading} {usage}\nCommands:\n{subcommands}\nOptions:\n{options}{after-help}"
)]
#[command(long_about = "\
Choose the NUMA nodes a guest should run on, and start it there

Examples:
  placer                          the host, its guests, and what to do next
  placer 4:8G                     nodes for 4 CPUs and 8 GiB, such as 0-1
  placer advise 4:8G --explain    why these nodes, and the runners-up
  placer launch --cpus 4 --memory 8G -- ./solver input
  placer show                     nodes, CPUs, memory, claims, load
  placer numad -w 4:8192          the answer of the program numad")]
#[command(after_long_help = "\
Settings come from /etc/placer.toml, the environment and flags; a later one
wins. Each flag has a variable: --root is PLACER_ROOT, --config PLACER_CONFIG.
Exit status: 0 success; 1 the request does not fit (--strict, launch); 2 usage
error or failure.")]
pub struct Args {
    /// Read settings from FILE [default: /etc/placer.toml].
    #[arg(long, value_name = "FILE", env = "PLACER_CONFIG", hide_env = true, global = true)]
    #[arg(display_order = 900, hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// Print version.
    #[arg(short = 'V', long, action = ArgAction::Version, hide_short_help = true)]
    #[arg(display_order = 901)]
    version: Option<bool>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the host, its guests, what is odd, and what to do next.
    Status(Lazily<Status>),
    /// Print the NUMA nodes a guest should run on.
    Advise(Lazily<Advise>),
    /// Print how many more guests of a size fit.
    Fit(Lazily<Fit>),
    /// Start a guest on the nodes placer chooses, bound from the start.
    Launch(Lazily<Launch>),
    /// Place a domain that libvirt has, from its next start on.
    Place(Lazily<Place>),
    /// Print the host: nodes, CPUs, memory, claims, distances, load.
    Show(Lazily<Show>),
    /// Show the host live, and where a guest would run.
    Top(Lazily<Top>),
    /// List guests, their claims, and where their memory is.
    Ps(Lazily<Ps>),
    /// Print which guests are worth moving, and move them.
    Balance(Lazily<Balance>),
    /// Make a claim that of a running process.
    Adopt(Lazily<Adopt>),
    /// End a claim.
    Release(Lazily<Release>),
    /// Find what makes guests slow on this host, and how to change it.
    Doctor(Lazily<Doctor>),
    /// Record this host in a directory that --root reads.
    Record(Lazily<Record>),
    /// Simulate guests on a host under several placement rules.
    Replay(Lazily<Replay>),
    /// Run the placement daemon.
    Daemon(Lazily<Daemon>),
    /// Place containers of containerd or CRI-O as an NRI plugin.
    Nri(Lazily<Nri>),
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
pub struct HostArgs {
    /// Read the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Measure CPU load for this long if there is no recent sample; 0 disables.
    #[arg(long, value_name = "DURATION", env = "PLACER_WINDOW", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "100ms", value_parser = duration::parse)]
    pub window: Duration,
}

// Not a doc comment, see above. How nodes are chosen, and among which.
#[derive(Debug, clap::Args)]
pub struct Choice {
    /// Placement policy.
    #[arg(long, env = "PLACER_POLICY", hide_env = true, default_value = "best")]
    pub policy: PolicyName,
    /// The version of numad that the settings name.
    #[arg(skip)]
    pub numad: NumadVersion,
    /// Choose among these nodes only, such as 0-1,3.
    #[arg(long, value_name = "NODES", env = "PLACER_WITHIN", hide_env = true)]
    #[arg(value_parser = nodes)]
    pub within: Option<NodeSet>,
    /// Prefer nodes near a device, such as eth0 or nvme0n1.
    ///
    /// A PCI address (0000:45:00.0), or the name of a network interface, disk or graphics card.
    #[arg(long, value_name = "DEV", env = "PLACER_NEAR", hide_env = true)]
    pub near: Option<String>,
    /// Use huge pages of this size, such as 2M or 1G.
    #[arg(long, value_name = "SIZE", env = "PLACER_PAGES", hide_env = true)]
    #[arg(value_parser = pages)]
    pub pages: Option<Bytes>,
    /// Fraction of run time the guest is stalled on memory, 0 to 1.
    #[arg(long, value_name = "PART", env = "PLACER_MEMORY_BOUND", hide_env = true)]
    #[arg(default_value = "0.5", value_parser = part, hide_short_help = true)]
    pub memory_bound: f64,
    /// Capacity of each additional SMT thread of a core, in percent of a CPU.
    #[arg(long, value_name = "N", env = "PLACER_SMT_PERCENT", hide_env = true)]
    #[arg(default_value = "20", value_parser = clap::value_parser!(u32).range(0..=100))]
    #[arg(hide_short_help = true)]
    pub smt_percent: u32,
    /// Tie-break among equally fast node sets.
    #[arg(long, env = "PLACER_PREFER", hide_env = true, default_value = "room")]
    #[arg(hide_short_help = true)]
    pub prefer: PreferName,
    /// How strictly the guest's CPUs share one last-level cache.
    #[arg(long, value_name = "MODE", env = "PLACER_CACHE", hide_env = true)]
    #[arg(default_value = "prefer", hide_short_help = true)]
    pub cache: CacheName,
    /// Cost of sharing data across caches, in percent; 0 ignores caches.
    #[arg(long, value_name = "N", env = "PLACER_CACHE_PENALTY", hide_env = true)]
    #[arg(default_value = "20", value_parser = clap::value_parser!(u32).range(0..=1000))]
    #[arg(hide_short_help = true)]
    pub cache_penalty: u32,
    /// Kind of cores to use on hybrid CPUs.
    #[arg(long, value_name = "KIND", env = "PLACER_CORES", hide_env = true)]
    #[arg(default_value = "any", hide_short_help = true)]
    pub cores: CoresName,
    /// Limit of search steps on hosts with more than 16 nodes.
    #[arg(long, value_name = "STEPS", env = "PLACER_EFFORT", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub effort: Option<u64>,
    /// Choose among all nodes and CPUs, not only those this process may use.
    #[arg(long, value_name = "yes|no", env = "PLACER_MACHINE_WIDE", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_missing_value = "yes", num_args = 0..=1, require_equals = true)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub machine_wide: Option<bool>,
}

fn part(text: &str) -> Result<f64, String> {
    let wanted = || format!("expected a number from 0 to 1, found {text:?}");
    let part: f64 = text.parse().map_err(|_| wanted())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
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
                // What an order or a question is about is said where it is given.
                if matches!(
                    (command.get_name(), long),
                    ("adopt", "pid" | "cgroup")
                        | ("advise", "together" | "copies" | "some")
                        | ("balance", "apply" | "undo")
                        | ("daemon", "manage")
                ) {
                    continue;
                }
                // These choose the form of the output, not the answer.
                if matches!(
                    long,
                    "help"
                        | "json"
                        | "version"
                        | "cpus"
                        | "devices"
                        | "explain"
                        | "verbose"
                        | "emit"
                        | "print-xml"
                        | "define"
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
