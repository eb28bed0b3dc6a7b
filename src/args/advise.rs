//! `placer advise`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};
use placer_engine::Request;
use placer_launcher::MemoryMode;

use super::{Choice, HostArgs};
use crate::duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  placer advise 4:500               4 CPUs and 500 MiB
  placer advise 16:64G --strict     exit status 1, and no nodes, if it does not fit
  placer advise 4:8G --cpus         the CPUs of the advised nodes, as in 0-7
  placer advise 4:500 --explain     why these nodes, and what came second
  placer advise 4:500 --explain --svg why.svg    the same as a picture
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
    /// With --explain: writes a picture to FILE, the advised nodes and the runners-up marked; - is stdout.
    #[arg(long, value_name = "FILE", requires = "explain")]
    pub(crate) svg: Option<PathBuf>,
    /// The same as a page.
    #[arg(long, value_name = "FILE", requires = "explain")]
    pub(crate) html: Option<PathBuf>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// Whoever answers soonest: the engine in this process.
    Auto,
    /// The engine in this process.
    Engine,
    /// The real numad as a subprocess, to compare with.
    Numad,
}
