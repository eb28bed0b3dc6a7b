//! Flags exactly as typed. No file is opened and nothing is decided here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use placer_engine::claims::ClaimId;
use placer_engine::policy::best::Prefer;
use placer_engine::{Bytes, CpuShare, NodeId, NodeSet, Request, parse};
use placer_launcher::MemoryMode;
use placer_launcher::guest::{CgroupMode, ThreadPin};

use crate::duration;

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
    Advise(Box<Advise>),
    /// Starts a guest where the advice says, bound from its first instruction.
    Launch(Box<Launch>),
    /// Shows the host: nodes, CPUs, memory, claims, distances, load.
    Show(Show),
    /// Lists guests and their claims, and where their memory is now.
    Ps(Ps),
    /// Ends a claim.
    Release(Release),
    /// Saves this machine as a directory that --root reads.
    Record(Record),
    /// Prints the JSON Schema of what a command prints with --json.
    Schema(Schema),
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

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer advise 4:500               4 CPUs and 500 MiB
  placer advise 16:64G --strict     exit status 1, and no nodes, if it does not fit
  placer advise 4:8G --cpus         the CPUs of the advised nodes, as in 0-7
  placer advise 4:500 --explain     why these nodes, and what came second
  placer advise 8:16G --pages 1G    only free huge pages of 1 GiB count
  placer advise 4:8G --near eth0    as near to that network card as it fits
  placer advise 4:500 --within 0-1  only nodes 0 and 1 may be named
  placer advise 4:8G --hold 30s     8 GiB that nobody else is promised for 30 s
  placer advise 4:8G --emit qemu    the same as options for QEMU
  numactl $(placer advise 4:8G --emit numactl) ./solver
  placer advise 4:500 --root DIR    for a machine saved with placer record

Defaults for this host may be set in /etc/placer.toml, section advise.
The nodes and CPUs that this process is limited to (taskset, cpusets, Slurm,
containers) bound the answer, unless --machine-wide is given.
Exit status: 0 answered; 1 --strict and it does not fit; 2 usage or failure.")]
pub(crate) struct Advise {
    /// CPUs and memory, as in 4:500, 2.5:8G: MiB, or with K, M, G, T.
    pub(crate) request: Request,
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Who answers.
    #[arg(long, env = "PLACER_VIA", hide_env_values = true, default_value = "auto")]
    pub(crate) via: Via,
    /// The numad that --via numad runs.
    #[arg(long, value_name = "PATH", env = "PLACER_NUMAD", hide_env_values = true)]
    #[arg(default_value = "numad")]
    pub(crate) numad: PathBuf,
    /// Keeps what is advised claimed for so long, as in 30s; 0: not at all. Nobody else is promised it meanwhile.
    #[arg(long, value_name = "DURATION", env = "PLACER_HOLD", hide_env_values = true)]
    #[arg(value_parser = duration::parse_hold_or_zero)]
    pub(crate) hold: Option<Duration>,
    /// Exits with 1 and prints no nodes if the request does not fit.
    #[arg(long, value_name = "yes|no", env = "PLACER_STRICT", hide_env_values = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) strict: bool,
    /// Prints the whole advice as JSON.
    #[arg(long, conflicts_with = "cpus")]
    pub(crate) json: bool,
    /// Prints why: what each node has, what came second, what numad would say.
    #[arg(long, conflicts_with_all = ["cpus", "json"])]
    pub(crate) explain: bool,
    /// Prints the CPUs of the advised nodes instead of the nodes.
    #[arg(long)]
    pub(crate) cpus: bool,
    /// Prints the decision as settings for another program.
    #[arg(long, value_name = "FORM", conflicts_with_all = ["cpus", "json", "explain"])]
    pub(crate) emit: Option<EmitForm>,
    /// How those settings bind memory: strict, preferred, interleave, ...
    #[arg(long, value_name = "MODE", default_value = "strict")]
    #[arg(env = "PLACER_MODE", hide_env_values = true)]
    pub(crate) mode: MemoryMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmitForm {
    /// Options of numactl, on one line.
    Numactl,
    /// Lines for the section Service of a unit.
    Systemd,
    /// Options of QEMU, a line each.
    Qemu,
    /// The elements vcpu and numatune of a domain.
    LibvirtXml,
    /// Lines of a container's configuration.
    Lxc,
}

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
    /// The control group it runs in: none; own, a group that is made for it and removed; or auto,
    /// which is own for containers where that can be had.
    #[arg(long, value_name = "MODE")]
    #[arg(env = "PLACER_CGROUP", hide_env_values = true)]
    pub(crate) cgroup: Option<CgroupMode>,
    /// The group to make that in, as a path below the control groups.
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
    text.parse().map(|request: Request| request.cpus).map_err(|e| e.to_string())
}

fn memory(text: &str) -> Result<Bytes, String> {
    Request::memory_of(text).map_err(|e| e.to_string())
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

impl From<PreferName> for Prefer {
    fn from(name: PreferName) -> Self {
        match name {
            PreferName::Room => Self::Room,
            PreferName::Pack => Self::Pack,
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer schema advise
  placer schema show")]
pub(crate) struct Schema {
    /// The command.
    pub(crate) of: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// placer advise --json.
    Advise,
    /// placer show --json.
    Show,
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

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer ps
  placer ps --json

used: the part of the promised memory that the guest has by now; the rest is
still claimed. there: how much of its memory is on the nodes it was advised;
with ! it is less than 90 % (numastat -p PID says where the rest is). Only root
sees where other users' memory is. by: the user and the program that asked.")]
pub(crate) struct Ps {
    /// Lists the claims of the machine recorded in DIR instead of this one's.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer release 5f3a9c01           the claim is free for others at once
  placer release 5f3a9c01 --json    and is printed, as placer ps --json lists it

placer ps lists claims and their ids. The guest runs on; what it has not touched
yet may be promised to others.")]
pub(crate) struct Release {
    /// The claim.
    pub(crate) id: ClaimId,
    /// Ends a claim on the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,
    /// Prints the claim that was ended as JSON.
    #[arg(long)]
    pub(crate) json: bool,
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
        for command in Args::command().get_subcommands() {
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let long = flag.get_long().unwrap_or_default();
                // These choose the form of the output, not the answer.
                if matches!(
                    long,
                    "help" | "json" | "cpus" | "devices" | "explain" | "emit" | "print-xml"
                ) {
                    continue;
                }
                let variable = format!("PLACER_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(flag.get_env().and_then(|v| v.to_str()), Some(variable.as_str()));
            }
        }
    }
}
