//! `placer replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};
use placer_engine::{Bytes, Request};

use crate::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer replay --host 4x16x128G                 20,000 guests on a host made up
  placer replay --host 8x32x256G --shape mesh --load 1.2 --claims both
  placer replay day.csv --root DIR               a day of yours on a host of yours
  placer replay day.csv --rules best,numad --json
  placer replay --host 4x16x128G --html report.html

STREAM has a header and a line for each guest, times in seconds, whole MiB:
  arrival,departure,cpus,mib
  0,3600,1,1024
  12.5,90,4,8192

Rules, as seen by each: free memory and load as they are when a guest arrives;
with claims also what guests that came before it have not used yet.
  best       placer's own: fastest, then fewest nodes, then most room
  pack       the same, then the fullest
  numad      numad 0.5's
  first-fit  the lowest node that holds the guest
  most-free  the node with most free memory (Nova since release 26)
  narrowest  fewest nodes, then lowest (Kubernetes, Nova before 26)
  xen        fewest nodes, then fewest vCPUs, then most free memory

A guest has not touched its memory and not run for a while after its start. Its
slowdown is policy best's own (crowding times distance), over the work it did.
beyond: memory promised that was not there, other promises counted. hottest:
load of the hottest node over that of the host.

The same stream, host and seed give the same figures, but for decision times.
Exit status: 0 done; 2 usage or failure.")]
pub(crate) struct Replay {
    /// The guests: a CSV file, or - for standard input. Without it they are made up.
    pub(crate) stream: Option<PathBuf>,
    /// Replays on the machine recorded in DIR instead of this one.
    #[arg(long, value_name = "DIR", env = "PLACER_ROOT", hide_env_values = true)]
    #[arg(conflicts_with = "host")]
    pub(crate) root: Option<PathBuf>,
    /// Replays on an idle host made up of equal nodes: NODESxCPUSxMEMORY, as in 4x16x128G.
    #[arg(long, value_name = "SIZE", env = "PLACER_HOST", hide_env_values = true)]
    #[arg(value_parser = host_size)]
    pub(crate) host: Option<HostSize>,
    /// How the nodes of that host are joined.
    #[arg(long, env = "PLACER_SHAPE", hide_env_values = true, default_value = "ring")]
    pub(crate) shape: ShapeName,
    /// How many guests are made up.
    #[arg(long, value_name = "N", env = "PLACER_GUESTS", hide_env_values = true)]
    #[arg(default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) guests: u32,
    /// What all that is random follows from.
    #[arg(long, value_name = "N", env = "PLACER_SEED", hide_env_values = true)]
    #[arg(default_value = "1")]
    pub(crate) seed: u64,
    /// The part of the free memory that guests made up ask for, on the average.
    #[arg(long, value_name = "PART", env = "PLACER_FILL", hide_env_values = true)]
    #[arg(default_value = "0.8", value_parser = positive)]
    pub(crate) fill: f64,
    /// Runnable threads of all guests for each CPU, on the average; above 1 is overcommitted.
    /// [default: 0.7; in a STREAM half of each guest's CPUs is busy]
    #[arg(long, value_name = "N", env = "PLACER_LOAD", hide_env_values = true)]
    #[arg(value_parser = positive)]
    pub(crate) load: Option<f64>,
    /// The part of the guests made up that starts in storms.
    #[arg(long, value_name = "PART", env = "PLACER_STORMS", hide_env_values = true)]
    #[arg(default_value = "0.25", value_parser = super::part)]
    pub(crate) storms: f64,
    /// How many guests start together in a storm.
    #[arg(long, value_name = "N", env = "PLACER_STORM_SIZE", hide_env_values = true)]
    #[arg(default_value = "16", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) storm_size: u32,
    /// What guests made up take for a GiB: less of it for small hosts.
    #[arg(long, value_name = "SIZE", env = "PLACER_UNIT", hide_env_values = true)]
    #[arg(default_value = "1G", value_parser = unit)]
    pub(crate) unit: u32,
    /// How long a guest has not touched its memory after its start, on the average.
    #[arg(long, value_name = "DURATION", env = "PLACER_TOUCH", hide_env_values = true)]
    #[arg(default_value = "20s", value_parser = duration::parse_hold_or_zero)]
    pub(crate) touch: Duration,
    /// The rules, as in best,numad. [default: all]
    #[arg(long, value_name = "LIST", env = "PLACER_RULES", hide_env_values = true)]
    #[arg(value_delimiter = ',')]
    pub(crate) rules: Vec<RuleName>,
    /// Whether the rules see claims.
    #[arg(long, env = "PLACER_CLAIMS", hide_env_values = true, default_value = "both")]
    pub(crate) claims: ClaimsName,
    /// The part of its time that a guest waits for memory, 0 to 1.
    #[arg(long, value_name = "PART", env = "PLACER_MEMORY_BOUND", hide_env_values = true)]
    #[arg(default_value = "0.5", value_parser = super::part)]
    pub(crate) memory_bound: f64,
    /// How many steps a search of policy best may take on hosts with more than 16 nodes; fewer than
    /// an advice may: with more, guests live no better, and a replay takes longer.
    #[arg(long, value_name = "STEPS", env = "PLACER_EFFORT", hide_env_values = true)]
    #[arg(default_value = "20000")]
    pub(crate) effort: u64,
    /// How many rules are replayed at a time; 0: as many as there are CPUs.
    #[arg(long, value_name = "N", env = "PLACER_THREADS", hide_env_values = true)]
    #[arg(default_value = "0")]
    pub(crate) threads: usize,
    /// Tells how long decisions took: the one thing that is never the same twice.
    #[arg(long, value_name = "yes|no", env = "PLACER_TIMES", hide_env_values = true)]
    #[arg(default_value = "yes", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(crate) times: bool,
    /// Prints everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Writes a report with charts to FILE as well: one page that needs no network.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShapeName {
    /// All other nodes are as far.
    Flat,
    /// Two nodes a package.
    Pairs,
    /// Nodes in a ring.
    Ring,
    /// A square grid.
    Mesh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuleName {
    /// Placer's own, most room first.
    Best,
    /// The same, fullest nodes first.
    Pack,
    /// That of numad 0.5.
    Numad,
    /// The lowest node that holds the guest.
    FirstFit,
    /// The node with most free memory.
    MostFree,
    /// Fewest nodes, then lowest.
    Narrowest,
    /// Fewest nodes, then fewest vCPUs, then most free memory.
    Xen,
}

/// The size of a host made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostSize {
    pub(crate) nodes: u32,
    /// Of each node.
    pub(crate) cpus: u32,
    /// Of each node.
    pub(crate) memory: Bytes,
}

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
pub(crate) enum ClaimsName {
    /// Each rule once without and once with them.
    Both,
    /// With claims.
    Yes,
    /// Without: free memory and load alone.
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
