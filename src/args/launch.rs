//! `placer launch`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;
use clap::builder::BoolishValueParser;
use placer_engine::{Bytes, CpuShare, Request};
use placer_launcher::MemoryMode;
use placer_launcher::guest::{CgroupMode, MOST_CPUS, ThreadPin};
use placer_launcher::libvirt::Uri;

use super::{Choice, HostArgs};
use crate::settings::duration;

#[derive(Debug, clap::Args)]
#[command(override_usage = "\
placer launch [OPTIONS] -- COMMAND [ARGS]...
       placer launch [OPTIONS] GUEST.toml | DOMAIN.xml")]
#[command(long_about = "\
Start a guest on the nodes placer chooses, bound from the start

Examples:
  placer launch --cpus 4 --memory 8G -- ./solver input
  placer launch --cpus 2 --memory 1G --mode interleave -- make -j2
  placer launch --cpus 4 --memory 8G --dry-run -- ./solver

  srun placer launch --ranks -- ./solver input
  placer launch -- qemu-system-x86_64 -m 4G -smp 4 -nographic disk.img
  placer launch db1.toml
  placer launch --print-xml db1.xml")]
#[command(after_long_help = "\
A command runs on the CPUs of the chosen nodes and allocates its memory there.
Its CPUs and memory are claimed until it exits: placer ps lists the claim. Use
--cgroup own for a command that starts others, so that their memory counts too.
The CPUs and nodes that this process is limited to bound the choice for a
command. For a guest definition, the whole host is available.
A command line of QEMU keeps its words: its vCPUs and memory are read from it,
and only what binds them is added.
Exit status: that of the guest; 1 the request does not fit and nothing was
started; 2 usage error or failure.")]
pub struct Launch {
    /// Guest definition: TOML, or libvirt domain XML; - is stdin.
    #[arg(value_name = "GUEST", conflicts_with = "command")]
    pub guest: Option<PathBuf>,
    /// CPUs, such as 4 or 2.5 [default: 1].
    ///
    /// For a guest definition, the default is the number of its vCPUs.
    #[arg(long, value_name = "CPUS", value_parser = cpus)]
    #[arg(env = "PLACER_CPUS", hide_env = true)]
    pub cpus: Option<CpuShare>,
    /// Memory in MiB, or with a suffix K, M, G or T.
    #[arg(long, value_name = "MEMORY", value_parser = memory)]
    #[arg(env = "PLACER_MEMORY", hide_env = true)]
    pub memory: Option<Bytes>,
    /// Memory policy [default: strict].
    ///
    /// One of strict, preferred, preferred-many, interleave, weighted-interleave, none.
    #[arg(long, value_name = "MODE")]
    #[arg(env = "PLACER_MODE", hide_env = true)]
    pub mode: Option<MemoryMode>,
    /// Pin vCPU threads to nodes or cores [default: nodes].
    ///
    /// With cores, each vCPU thread has a core of its own.
    #[arg(long, value_name = "HOW")]
    #[arg(env = "PLACER_PIN", hide_env = true)]
    pub pin: Option<ThreadPin>,
    /// Control group of the guest [default: auto].
    ///
    /// none: no group of its own. own: placer creates and removes the group. systemd: systemd creates a scope. auto: none for
    /// commands; for virtual machines and containers own if possible, otherwise systemd if possible.
    #[arg(long, value_name = "MODE", hide_short_help = true)]
    #[arg(env = "PLACER_CGROUP", hide_env = true)]
    pub cgroup: Option<CgroupMode>,
    /// Print the steps without performing them.
    #[arg(long, value_name = "yes|no", env = "PLACER_DRY_RUN", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub dry_run: bool,
    /// Start even if the request does not fit.
    ///
    /// Memory policy strict is replaced by preferred in that case.
    #[arg(long, value_name = "yes|no", env = "PLACER_FORCE", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub force: bool,
    /// This command is one rank of a parallel program.
    ///
    /// srun, mpirun or torchrun starts one placer for each rank. The first of them on this host decides for all: each gets CPUs of its own and memory beside them, near its GPU
    /// if it has one. Without --cpus and --memory each has an equal part of what the job may use. OMP_NUM_THREADS is
    /// set unless it is already.
    #[arg(long, value_name = "yes|no", env = "PLACER_RANKS", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub ranks: bool,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub host: HostArgs,
    /// Time a virtual machine has to shut down after SIGTERM [default: 60s].
    ///
    /// Its operating system is asked to shut down as by a power button. After this time, or at a second SIGTERM,
    /// QEMU ends at once. With 0, the first SIGTERM ends it. In a systemd unit, set KillMode=mixed.
    #[arg(long, value_name = "DURATION", env = "PLACER_STOP_TIMEOUT", hide_env = true)]
    #[arg(value_parser = duration::parse_hold_or_zero, hide_short_help = true)]
    pub stop_timeout: Option<Duration>,
    /// Print why these nodes were chosen, the steps, and the claim.
    ///
    /// On standard output with --dry-run and for libvirt domains; otherwise on standard error, since standard output is
    /// the guest's.
    #[arg(long, hide_short_help = true, conflicts_with_all = ["json", "print_xml"])]
    pub explain: bool,
    /// Print the advice, the steps and the claim as JSON, before the guest runs.
    ///
    /// One line, and printed where --explain prints. placer schema launch describes it.
    #[arg(long, hide_short_help = true, conflicts_with = "print_xml")]
    pub json: bool,
    /// Print the libvirt domain with the placement filled in, and start nothing.
    #[arg(long, hide_short_help = true)]
    pub print_xml: bool,
    /// Define the libvirt domain with the placement filled in, and start nothing.
    #[arg(long, hide_short_help = true, conflicts_with = "print_xml")]
    pub define: bool,
    /// libvirt that starts a domain [default: qemu:///system or lxc:///system].
    #[arg(long, value_name = "URI", hide_short_help = true)]
    #[arg(env = "PLACER_CONNECT", hide_env = true)]
    pub connect: Option<Uri>,
    /// Parent of the control group: a path, or a slice for --cgroup systemd.
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    #[arg(env = "PLACER_CGROUP_PARENT", hide_env = true)]
    pub cgroup_parent: Option<String>,
    /// Use isolated CPUs (isolcpus) for vCPUs, with --pin cores.
    #[arg(long, value_name = "yes|no", env = "PLACER_ISOLATED", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub isolated: bool,
    /// Command to start, with its arguments.
    #[arg(last = true, required_unless_present = "guest", value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
#[command(override_usage = "placer place [OPTIONS] NAME")]
#[command(long_about = "\
Place a domain that libvirt has, from its next start on

Examples:
  placer place web
  placer place --pin cores --dry-run web
  placer place --connect qemu:///session --print-xml web")]
#[command(after_long_help = "\
The persistent definition is read from libvirt, and defined anew with the
placement filled in. Nothing is started, and nothing is claimed. A running
guest keeps its place until it is shut down and started again.
Exit status: 0 success; 1 the guest does not fit and is left as it is; 2 usage
error or failure.")]
pub struct Place {
    /// Name or uuid of the domain.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Memory policy [default: strict].
    ///
    /// One of strict, preferred, interleave.
    #[arg(long, value_name = "MODE")]
    #[arg(env = "PLACER_MODE", hide_env = true)]
    pub mode: Option<MemoryMode>,
    /// Pin vCPU threads to nodes or cores [default: nodes].
    ///
    /// With cores, each vCPU thread has a core of its own.
    #[arg(long, value_name = "HOW")]
    #[arg(env = "PLACER_PIN", hide_env = true)]
    pub pin: Option<ThreadPin>,
    /// Print the placement without changing anything.
    #[arg(long, value_name = "yes|no", env = "PLACER_DRY_RUN", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub dry_run: bool,
    /// Print the definition with the placement filled in, and change nothing.
    #[arg(long)]
    pub print_xml: bool,
    /// Place the guest even if it does not fit.
    ///
    /// Memory policy strict is replaced by preferred in that case.
    #[arg(long, value_name = "yes|no", env = "PLACER_FORCE", hide_env = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub force: bool,
    /// libvirt that has the domain.
    #[arg(long, value_name = "URI", env = "PLACER_CONNECT", hide_env = true)]
    #[arg(default_value = "qemu:///system")]
    pub connect: Uri,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub host: HostArgs,
    /// Use isolated CPUs (isolcpus) for vCPUs, with --pin cores.
    #[arg(long, value_name = "yes|no", env = "PLACER_ISOLATED", hide_env = true)]
    #[arg(hide_short_help = true)]
    #[arg(default_value = "no", default_missing_value = "yes", hide_default_value = true)]
    #[arg(num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub isolated: bool,
}

impl From<Place> for Launch {
    /// Returns the launch that defines the domain and starts nothing.
    fn from(place: Place) -> Self {
        Self {
            guest: None,
            cpus: None,
            memory: None,
            mode: place.mode,
            pin: place.pin,
            cgroup: None,
            dry_run: place.dry_run,
            force: place.force,
            ranks: false,
            choice: place.choice,
            host: place.host,
            stop_timeout: None,
            explain: false,
            json: false,
            print_xml: place.print_xml,
            define: !place.print_xml,
            connect: Some(place.connect),
            cgroup_parent: None,
            isolated: place.isolated,
            command: Vec::new(),
        }
    }
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
