//! `placer advise`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValue};
use clap::{ArgAction, ValueEnum};
use placer_engine::Request;
use placer_launcher::MemoryMode;
use placer_launcher::guest::ThreadPin;

use super::{Choice, HostArgs};
use crate::service::emit::{EmitForm, RankForm};
use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(long_about = "\
Print the NUMA nodes a guest should run on

Examples:
  placer advise 4:500                   nodes for 4 CPUs and 500 MiB
  placer advise 16:64G --strict         exit status 1 if it does not fit
  placer advise 4:8G --cpus             the CPUs of the nodes, such as 0-7
  placer advise 4:8G --explain          why these nodes, and the runners-up
  placer advise 4:8G --explain --svg why.svg
  placer advise 8:16G --pages 1G        count free huge pages of 1 GiB only
  placer advise 4:8G --near eth0        prefer nodes near a network card
  placer advise 4:8G --within 0-1       choose among nodes 0 and 1
  placer advise 4:8G --hold 30s         reserve 8 GiB for 30 s
  placer advise 4:8G --emit qemu        print QEMU options
  placer advise 4:8G 16:64G --together  a line of nodes for each of two guests
  placer advise 2:1G --copies 8 --emit rankfile
  numactl $(placer advise 4:8G --emit numactl) ./solver
  placer advise 4:8G --root DIR         answer for a recorded host")]
#[command(after_long_help = "\
Section advise of /etc/placer.toml sets defaults for this host.
The CPUs and nodes that this process is limited to (taskset, cpusets, Slurm,
containers) bound the answer, unless --machine-wide is given.
Exit status: 0 success; 1 --strict and the request does not fit; 2 usage error
or failure.")]
pub struct Advise {
    /// CPUs and memory, such as 4:500 (MiB) or 2.5:8G.
    ///
    /// Memory is in MiB, or has a suffix K, M, G or T. Several with --together.
    #[arg(required = true, value_name = "REQUEST")]
    pub requests: Vec<Request>,
    /// Print the reasons, the runners-up and numad's answer.
    #[arg(long, conflicts_with_all = ["cpus", "json"])]
    pub explain: bool,
    /// With --explain: also print the factors of each slowdown.
    #[arg(long, short, requires = "explain", hide_short_help = true)]
    pub verbose: bool,
    /// Print the whole answer as JSON.
    #[arg(long, conflicts_with = "cpus")]
    pub json: bool,
    /// Print the CPUs of the nodes instead of the nodes.
    #[arg(long)]
    pub cpus: bool,
    /// Print the placement as settings for another program.
    #[arg(long, value_name = "FORM", conflicts_with_all = ["cpus", "json", "explain"])]
    pub emit: Option<Emit>,
    /// Memory policy in those settings, such as preferred or interleave.
    #[arg(long, value_name = "MODE", default_value = "strict", hide_short_help = true)]
    #[arg(env = "PLACER_MODE", hide_env = true)]
    pub mode: MemoryMode,
    /// Exit with status 1 if the request does not fit.
    #[arg(long, value_name = "yes|no", env = "PLACER_STRICT", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub strict: bool,
    /// Reserve the result for this long, such as 30s.
    ///
    /// 0 disables. Other requests do not get the reserved CPUs and memory in the meantime.
    #[arg(long, value_name = "DURATION", env = "PLACER_HOLD", hide_env = true)]
    #[arg(value_parser = duration::parse_hold_or_zero)]
    pub hold: Option<Duration>,
    /// Place several guests at once, none at the expense of another.
    ///
    /// Prints a line for each guest, in the order given; - for one that does not fit. With --hold
    /// all of them are reserved, or none.
    #[arg(long, hide_short_help = true)]
    pub together: bool,
    /// Place N guests of each request at once, as --together does.
    #[arg(long, value_name = "N", hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub copies: Option<u16>,
    /// With --together and --hold: reserve the guests that fit if not all do.
    #[arg(long, hide_short_help = true)]
    pub some: bool,
    /// With --together: share CPUs (nodes), or one CPU for each vCPU (cores).
    ///
    /// Settings for MPI (--emit rankfile, hydra) have one CPU for each vCPU.
    #[arg(long, value_name = "HOW", env = "PLACER_PIN", hide_env = true)]
    #[arg(hide_short_help = true)]
    pub pin: Option<ThreadPin>,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub host: HostArgs,
    /// With --explain: write a picture of the explanation to FILE; - is stdout.
    #[arg(long, value_name = "FILE", requires = "explain", hide_short_help = true)]
    pub svg: Option<PathBuf>,
    /// With --explain: write a web page to FILE; - is stdout.
    #[arg(long, value_name = "FILE", requires = "explain", hide_short_help = true)]
    pub html: Option<PathBuf>,
    /// The program that answers.
    #[arg(long, env = "PLACER_VIA", hide_env = true, default_value = "auto")]
    #[arg(hide_short_help = true)]
    pub via: Via,
    /// Path of the numad that --via numad runs.
    #[arg(long, value_name = "PATH", env = "PLACER_NUMAD", hide_env = true)]
    #[arg(default_value = "numad", hide_short_help = true)]
    pub numad: PathBuf,
}

/// What settings are printed for: one guest, or the ranks of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    One(EmitForm),
    Ranks(RankForm),
}

impl ValueEnum for Emit {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: &[Emit] = &[
            Emit::One(EmitForm::Numactl),
            Emit::One(EmitForm::Systemd),
            Emit::One(EmitForm::Qemu),
            Emit::One(EmitForm::LibvirtXml),
            Emit::One(EmitForm::Lxc),
            Emit::One(EmitForm::CloudHypervisor),
            Emit::One(EmitForm::Proxmox),
            Emit::Ranks(RankForm::Rankfile),
            Emit::Ranks(RankForm::RankfilePhysical),
            Emit::Ranks(RankForm::Hydra),
        ];
        ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::One(form) => form.to_possible_value(),
            Self::Ranks(form) => form.to_possible_value(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// The daemon if it runs, otherwise this process.
    Auto,
    /// The daemon; fail if it does not run.
    Daemon,
    /// This process.
    Engine,
    /// The real numad, for comparison.
    Numad,
}
