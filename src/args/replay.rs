//! `placer replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};
use placer_engine::{Bytes, Request};

use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Simulate guests on a host under several placement rules

Examples:
  placer replay --host 4x16x128G                 20,000 generated guests
  placer replay --host 8x32x256G --shape mesh --load 1.2 --claims both
  placer replay day.csv --root DIR               recorded guests and host
  placer replay day.csv --rules best,numad --json
  placer replay --host 4x16x128G --html report.html
  placer replay --manage none,numad-2015,placer --nodes 2,4 --hours 100")]
#[command(after_long_help = "\
STREAM has a header and one line per guest; times in seconds, memory in MiB:
  arrival,departure,cpus,mib
  0,3600,1,1024
  12.5,90,4,8192

Rules. Each sees free memory and load at the time a guest arrives; with claims,
also what earlier guests have reserved and not used yet.
  best       fastest set, then fewest nodes, then most free capacity
  pack       fastest set, then fewest nodes, then the fullest
  numad      the rules of numad 0.5 of 2015
  numad-2025 the rules of numad 0.5 of 2025
  first-fit  the lowest node that holds the guest
  most-free  the node with most free memory (Nova since release 26)
  narrowest  fewest nodes, then lowest (Kubernetes, Nova before 26)
  xen        fewest nodes, then fewest vCPUs, then most free memory
With --pin cores each vCPU owns a CPU. Then best and pack choose CPUs by
last-level caches, the rules above by idle cores, and there are two more:
  kubelet      nodes as narrowest; whole free caches first, the lowest ones
  lowest-idle  nodes as first-fit; the lowest idle CPUs

A guest does not touch its memory or run for a while after its start. Its
slowdown is that of policy best (CPU contention times distance), averaged over
its work. beyond: memory promised that was not available, other promises
counted. hottest: load of the hottest node divided by that of the host.

With --manage, guests run for hours, change what they want, and are moved. Each
of these managers has the same guests:
  none        guests stay where they started
  numad-2015  the daemon of numad 0.5 of 2015
  numad-2025  the daemon of numad 0.5 of 2025
  kernel      NUMA balancing, which moves only guests that are unbound
  placer      a manager that runs all the time and plans every minute
placer is not the command placer balance. It plans as that does, and has these
rules on top: a guest does not return to nodes it left in the last week; a plan
with such a return is made again, up to 4 plans in all; a move that left its
guest slower is undone only if going back pays.
worse and better: the work of guests that are more than 2 % slower or faster
than under none. returns: moves to nodes a guest had been moved away from.

The same stream, host and seed give the same results, except decision times.
Exit status: 0 success; 2 usage error or failure.")]
pub struct Replay {
    /// CSV file of guests, or - for stdin [default: generated].
    pub stream: Option<PathBuf>,
    /// Simulate the host recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env = true)]
    #[arg(conflicts_with = "host")]
    pub root: Option<PathBuf>,
    /// Simulate NODESxCPUSxMEMORY, such as 4x16x128G.
    #[arg(long, value_name = "SIZE", env = "PLACER_HOST", hide_env = true)]
    #[arg(value_parser = host_size)]
    pub host: Option<HostSize>,
    /// Distances between the nodes of --host.
    #[arg(long, env = "PLACER_SHAPE", hide_env = true, default_value = "ring")]
    pub shape: ShapeName,
    /// Last-level caches of each node of --host.
    #[arg(long, value_name = "N", env = "PLACER_CACHES", hide_env = true, requires = "host")]
    #[arg(default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    #[arg(hide_short_help = true)]
    pub caches: u32,
    /// Number of generated guests.
    #[arg(long, value_name = "N", env = "PLACER_GUESTS", hide_env = true)]
    #[arg(default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub guests: u32,
    /// Random seed.
    #[arg(long, value_name = "N", env = "PLACER_SEED", hide_env = true)]
    #[arg(default_value = "1")]
    pub seed: u64,
    /// Fraction of free memory that generated guests request, on average.
    #[arg(long, value_name = "PART", env = "PLACER_FILL", hide_env = true)]
    #[arg(default_value = "0.8", value_parser = positive, hide_short_help = true)]
    pub fill: f64,
    /// Average runnable threads per CPU [default: 0.7].
    ///
    /// Above 1, the host is overcommitted. With a STREAM, the default is half the guests' CPUs.
    #[arg(long, value_name = "N", env = "PLACER_LOAD", hide_env = true)]
    #[arg(value_parser = positive)]
    pub load: Option<f64>,
    /// Fraction of generated guests that start in storms.
    #[arg(long, value_name = "PART", env = "PLACER_STORMS", hide_env = true)]
    #[arg(default_value = "0.25", value_parser = super::part, hide_short_help = true)]
    pub storms: f64,
    /// Number of guests that start together in a storm.
    #[arg(long, value_name = "N", env = "PLACER_STORM_SIZE", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "16", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub storm_size: u32,
    /// Memory scale of generated guests: what counts as 1 GiB.
    #[arg(long, value_name = "SIZE", env = "PLACER_UNIT", hide_env = true)]
    #[arg(default_value = "1G", value_parser = unit, hide_short_help = true)]
    pub unit: u32,
    /// Average time before a guest touches its memory.
    #[arg(long, value_name = "DURATION", env = "PLACER_TOUCH", hide_env = true)]
    #[arg(default_value = "20s", value_parser = duration::parse_hold_or_zero)]
    #[arg(hide_short_help = true)]
    pub touch: Duration,
    /// Rules, such as best,numad [default: all].
    #[arg(long, value_name = "LIST", env = "PLACER_RULES", hide_env = true)]
    #[arg(value_delimiter = ',')]
    pub rules: Vec<RuleName>,
    /// Move running guests, by rules such as none,placer.
    #[arg(long, value_name = "LIST", env = "PLACER_MANAGE", hide_env = true)]
    #[arg(value_delimiter = ',', hide_possible_values = true)]
    #[arg(conflicts_with_all = ["guests", "touch", "rules", "pin", "claims", "caches", "html"])]
    pub manage: Vec<ManagerName>,
    /// With --manage: simulate hosts of that many nodes, one after the other.
    ///
    /// Each node is as large as those of --host [default: 32 CPUs and 128 GiB].
    #[arg(long, value_name = "LIST", env = "PLACER_NODES", hide_env = true)]
    #[arg(value_delimiter = ',', hide_short_help = true, requires = "manage")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_MANAGED_NODES)))]
    #[arg(conflicts_with = "root")]
    pub nodes: Vec<u32>,
    /// With --manage: simulated hours [default: 24, or all of a STREAM].
    #[arg(long, value_name = "HOURS", env = "PLACER_HOURS", hide_env = true)]
    #[arg(value_parser = positive, hide_short_help = true, requires = "manage")]
    pub hours: Option<f64>,
    /// With --manage: average time after which a guest wants more CPU or less.
    #[arg(long, value_name = "DURATION", env = "PLACER_CHANGE", hide_env = true)]
    #[arg(default_value = "15m", value_parser = duration::parse, hide_short_help = true)]
    #[arg(requires = "manage")]
    pub change: Duration,
    /// With --manage: fraction of guests whose memory cannot be moved.
    #[arg(long, value_name = "PART", env = "PLACER_PINNED", hide_env = true)]
    #[arg(default_value = "0.02", value_parser = super::part, hide_short_help = true)]
    #[arg(requires = "manage")]
    pub pinned: f64,
    /// With --manage: how guests start.
    #[arg(long, env = "PLACER_START", hide_env = true, default_value = "best")]
    #[arg(hide_short_help = true, requires = "manage")]
    pub start: StartName,
    /// Let threads roam over nodes, or give each vCPU a CPU of its own.
    #[arg(long, env = "PLACER_PIN", hide_env = true, default_value = "nodes")]
    #[arg(hide_short_help = true)]
    pub pin: PinName,
    /// Run rules with claims, without, or both.
    #[arg(long, env = "PLACER_CLAIMS", hide_env = true, default_value = "both")]
    pub claims: ClaimsName,
    /// Fraction of run time guests are stalled on memory, 0 to 1.
    #[arg(long, value_name = "PART", env = "PLACER_MEMORY_BOUND", hide_env = true)]
    #[arg(default_value = "0.5", value_parser = super::part, hide_short_help = true)]
    pub memory_bound: f64,
    /// Limit of search steps on hosts with more than 16 nodes.
    ///
    /// It is lower than that of placer advise: more steps take longer and change no result.
    #[arg(long, value_name = "STEPS", env = "PLACER_EFFORT", hide_env = true)]
    #[arg(default_value = "20000", hide_short_help = true)]
    pub effort: u64,
    /// Rules simulated in parallel; 0: one per CPU.
    #[arg(long, value_name = "N", env = "PLACER_THREADS", hide_env = true)]
    #[arg(default_value = "0", hide_short_help = true)]
    pub threads: usize,
    /// Report decision times, which differ between runs [default: yes].
    #[arg(long, value_name = "yes|no", env = "PLACER_TIMES", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "yes", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub times: bool,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
    /// Also write a report with charts to FILE; - is stdout.
    ///
    /// The page needs no network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShapeName {
    /// All remote nodes at equal distance.
    Flat,
    /// Two nodes per package.
    Pairs,
    /// A ring of nodes.
    Ring,
    /// A square grid.
    Mesh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuleName {
    /// Policy best, most free capacity first.
    Best,
    /// Policy best, fullest nodes first.
    Pack,
    /// The rules of numad 0.5 of 2015.
    Numad,
    /// The rules of numad 0.5 of 2025.
    #[value(name = "numad-2025")]
    Numad2025,
    /// The lowest node that holds the guest.
    FirstFit,
    /// The node with most free memory.
    MostFree,
    /// Fewest nodes, then lowest.
    Narrowest,
    /// Fewest nodes, then fewest vCPUs, then most free memory.
    Xen,
    /// With --pin cores: fewest nodes, then the lowest free caches.
    Kubelet,
    /// With --pin cores: the lowest node, then its lowest idle CPUs.
    LowestIdle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum ManagerName {
    /// No manager: guests stay.
    None,
    /// The daemon of numad 0.5 of 2015.
    #[value(name = "numad-2015")]
    Numad2015,
    /// The daemon of numad 0.5 of 2025.
    #[value(name = "numad-2025")]
    Numad2025,
    /// The kernel's NUMA balancing.
    Kernel,
    /// A manager that plans as placer balance does, all the time.
    Placer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartName {
    /// On the nodes that policy best names.
    Best,
    /// On all nodes, as guests without a placement.
    Unbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PinName {
    /// Threads roam over the nodes of their guest.
    Nodes,
    /// Each vCPU owns a CPU.
    Cores,
}

/// The size of a host made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSize {
    pub nodes: u32,
    /// Of each node.
    pub cpus: u32,
    /// Of each node.
    pub memory: Bytes,
}

/// The most nodes of a host whose running guests are managed.
pub const MOST_MANAGED_NODES: u32 = 64;

/// The most nodes, and CPUs of each: a table of more distances is of no use.
const MOST: u32 = 1_024;

/// Reads the size of a host.
fn host_size(text: &str) -> Result<HostSize, String> {
    let wanted = || {
        format!(
            "expected NODESxCPUSxMEMORY, as in 4x16x128G, with up to {MOST} nodes of up to {MOST} \
             CPUs, found {text:?}"
        )
    };
    let mut parts = text.split('x');
    let (Some(nodes), Some(cpus), Some(memory), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wanted());
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let read = digits.then(|| text.parse::<u32>().ok()).flatten();
        read.filter(|number| (1..=MOST).contains(number)).ok_or_else(wanted)
    };
    let (nodes, cpus) = (number(nodes)?, number(cpus)?);
    let memory = amount(memory).ok_or_else(wanted)?;
    // A tebibyte of mebibytes adds up in 64 bits with all the others.
    let good = (1..1 << 40).contains(&memory.whole_mib());
    if good { Ok(HostSize { nodes, cpus, memory }) } else { Err(wanted()) }
}

/// Reads an amount of memory as requests have it.
fn amount(text: &str) -> Option<Bytes> {
    let request = format!("1:{text}").parse::<Request>().ok()?;
    (!text.is_empty()).then_some(request.memory)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClaimsName {
    /// Each rule once without and once with claims.
    Both,
    /// With claims.
    Yes,
    /// Without claims: free memory and load only.
    No,
}

/// Reads a number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let wanted = || format!("expected a number above 0 and at most 1000, found {text:?}");
    let number: f64 = text.parse().map_err(|_| wanted())?;
    if number > 0.0 && number <= 1_000.0 { Ok(number) } else { Err(wanted()) }
}

/// Reads an amount of memory in MiB.
fn unit(text: &str) -> Result<u32, String> {
    let wanted = || format!("expected an amount of memory from 1M to 64G, found {text:?}");
    let mib = amount(text).and_then(|amount| u32::try_from(amount.whole_mib()).ok());
    let mib = mib.ok_or_else(wanted)?;
    if (1..=64 << 10).contains(&mib) { Ok(mib) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        let size = HostSize { nodes: 4, cpus: 16, memory: Bytes::new(128 << 30) };
        assert_eq!(host_size("4x16x128G"), Ok(size));
        for text in [
            "",
            "4",
            "4x16",
            "4x16x",
            "x16x1G",
            "0x16x1G",
            "4x0x1G",
            "4x16x0",
            "4x16x1GB",
            "+4x1x1G",
            "4x16x1Gx2",
            "1025x1x1G",
            "4x99999x1G",
            "4x16x-1",
            "4x16x1:1",
            "4 x16x1G",
        ] {
            let error = host_size(text).expect_err(text);
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!((positive("1.25"), unit("512M")), (Ok(1.25), Ok(512)));
        for text in ["", "0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(positive(text).is_err(), "{text}");
        }
        for text in ["", "0", "1K", "65G", "1T", "G", "1x"] {
            assert!(unit(text).is_err(), "{text}");
        }
    }
}
