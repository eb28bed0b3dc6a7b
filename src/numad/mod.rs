//! numad's command line and output, and only that: `-w 4:500` -> `0-1,3`.
//!
//! What is left out on purpose: the message queue of numad's daemon is neither made nor emptied (that
//! is how its clients lose each other's answers).

mod beyond;
mod getopt;
mod log;
mod number;
mod options;
mod start;
mod usage;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use placer_engine::claims::ClaimId;
use placer_engine::policy::numad::{Failure, Machine, Query, Rules, charge, choose};
use placer_engine::source::{HostReader, two_samples};
use placer_engine::{Charges, CpuSet, CpuTimes, Host, NodeSet, Sample, SourceError, SysRoot};

use crate::daemon::sysv::client;
use crate::figures::{Figures, Local};
use crate::sampling::{Saved, Window};
use crate::settings::Settings;
use crate::via::{self, Asked};
use crate::{claiming, duration, output, variables};
pub(crate) use log::Log;
pub(crate) use options::{Advice, Options};
use options::{Exit, Outcome};

/// numad ends with 1 whatever is wrong.
const FAILED: u8 = 1;
const DEFAULT_WINDOW: Duration = Duration::from_millis(100);

/// Runs as numad. `name` is what the program was called by, `args` what follows it.
/// `config` is the settings file, if `--config` named one before numad's own options.
pub(crate) fn run(name: &OsStr, args: &[OsString], config: Option<&Path>) -> ExitCode {
    let posixly_correct = std::env::var_os("POSIXLY_CORRECT").is_some();
    let options = match options::parse(name, args, posixly_correct) {
        Outcome::Exit(Exit { status, stdout, stderr }) => {
            use std::io::Write;
            let _ = std::io::stderr().lock().write_all(&stderr);
            return match output::answer(&stdout) {
                Ok(()) => ExitCode::from(status),
                Err(_) => ExitCode::from(FAILED),
            };
        }
        Outcome::Run(options) => options,
    };
    let name = name.to_string_lossy();
    let outcome = match options.advice {
        Some(advice) => answer(&options, advice, &settings(config)),
        None => match (client::find(), options.max_interval_s) {
            // As numad does; what placer's own daemon makes of it, it says in its log.
            (Some(daemon), _) => daemon.tell(&options).map_err(|error| {
                let pid = daemon.pid();
                format!("the daemon that runs as process {pid} was not told: {error}").into()
            }),
            // "numad -i 0" ends a daemon; there is none.
            (None, 0) => Ok(()),
            (None, _) => {
                let set = settings(config);
                return start::start(&name, options, set, named(config));
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&name, error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

/// Reads the host's settings. A client of numad's cannot be expected to mend them, and libvirt
/// starts no guest without an answer: what is damaged costs one line.
fn settings(config: Option<&Path>) -> Settings {
    Settings::read(named(config).as_deref()).unwrap_or_else(|error| {
        output::warn(&format!("the built-in settings count: {}", output::chain(&error)));
        Settings::default()
    })
}

/// The settings file that was named, if one was.
fn named(config: Option<&Path>) -> Option<PathBuf> {
    let named = config.map(Path::to_owned);
    named.or_else(|| variables::value("PLACER_CONFIG").map(PathBuf::from))
}

fn answer(options: &Options, advice: Advice, set: &Settings) -> Result<(), Box<dyn Error>> {
    let root = variables::value("PLACER_ROOT").map_or_else(SysRoot::live, SysRoot::at);
    let mut log = Log::open(&root, options.log_level);
    // Who sets the window wants it measured, as numad would.
    let asked = window().or(set.numad.window);
    if let Some(nodes) = daemons_answer(options, advice, set, &root, asked) {
        output::answer(format!("{nodes}\n").as_bytes())?;
        return Ok(());
    }
    if root.is_live() && asked.is_none() && may_ask_the_daemon() {
        match via::numad(options, advice, set, &mut log) {
            Asked::Answered(nodes) => {
                output::answer(format!("{nodes}\n").as_bytes())?;
                return Ok(());
            }
            Asked::Failed(_) | Asked::Nobody(_) => {}
        }
    }
    let window = asked.map_or(Window::Recent(DEFAULT_WINDOW), Window::Now);
    let figures = Local::new(&root, set.claims, window);
    let Chosen { nodes, .. } = choose_nodes(options, advice, set, &figures, &mut log)?;
    output::answer(format!("{nodes}\n").as_bytes())?;
    Ok(())
}

/// Asks numad's own daemon, if one runs: it measures the load all the time, and knows what it is
/// about to move. `None`, and one line, when it does not answer: libvirt starts no guest without.
///
/// Not asked where its answer would be another than the one that is wanted: by the settings of this
/// host, within so long a time, or with options that it would let count for everybody.
fn daemons_answer(
    options: &Options,
    advice: Advice,
    set: &Settings,
    root: &SysRoot,
    window: Option<Duration>,
) -> Option<NodeSet> {
    let own = [b'C', b't'].iter().any(|letter| options.given.contains(letter));
    let own = own || options.reserved.is_some() || window.is_some();
    if !root.is_live() || beyond::is_asked_for(set) || own {
        return None;
    }
    let daemon = client::find().filter(|daemon| !daemon.is_placer())?;
    let answer = daemon.ask(advice);
    let because = |error: &client::NoAnswer| {
        let pid = daemon.pid();
        output::warn(&format!(
            "placer answers in place of the numad that runs as process {pid}: {error}"
        ));
    };
    answer.inspect_err(because).ok()
}

/// An answer to `-w`.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) nodes: NodeSet,
    /// What holds them for the guest, where the settings ask for that.
    pub(crate) claim: Option<ClaimId>,
}

/// Answers `-w` by the host's settings.
///
/// Errors: numad has no answer on such a host; the host cannot be read.
pub(crate) fn choose_nodes(
    options: &Options,
    advice: Advice,
    set: &Settings,
    figures: &dyn Figures,
    log: &mut Log,
) -> Result<Chosen, Box<dyn Error>> {
    let answer = if beyond::is_asked_for(set) {
        beyond::choose_nodes(options, advice, set, figures, log)
    } else {
        None
    };
    let choice = match answer {
        Some(chosen) => Ok(chosen),
        None => as_numad(options, advice, figures, log).map(|nodes| Chosen { nodes, claim: None }),
    };
    if let Err(error) = &choice {
        log.write(log::CRITICAL, &numads_words(error.as_ref()));
    }
    choice
}

fn as_numad(
    options: &Options,
    advice: Advice,
    figures: &dyn Figures,
    log: &mut Log,
) -> Result<NodeSet, Box<dyn Error>> {
    let Taken { machine, before, now, charges } = figures.numads(&mut |machine| {
        log_reserved(log, options, machine);
        Ok(machine.readable_by_numad()?)
    })?;
    let machine = machine.as_ref();
    let rules = rules(options);
    let mut figures = machine.figures(before.as_ref(), &now, &rules)?;
    charge(&mut figures, &charges);
    let rows = machine.distance_rows(&rules)?;
    let query = Query { cpus: advice.cpus_hundredths, megabytes: advice.megabytes };
    log_request(log, advice);
    let choice = choose(&figures, &rows, query)?;
    if before.is_none() {
        output::warn("CPU load is unknown: every CPU counts as idle");
    }
    log_choice(log, &choice.all, &choice.nodes);
    Ok(choice.nodes)
}

/// What numad's own rules decide on.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) machine: MachineOf,
    pub(crate) before: Option<CpuTimes>,
    pub(crate) now: Sample,
    pub(crate) charges: Charges,
}

/// numad's view of a machine, read for one answer or shared by all.
#[derive(Debug)]
pub(crate) enum MachineOf {
    Answer(Box<Machine>),
    Host(Arc<Host>),
}

impl AsRef<Machine> for MachineOf {
    fn as_ref(&self) -> &Machine {
        match self {
            Self::Answer(machine) => machine,
            Self::Host(host) => &host.numad,
        }
    }
}

/// Says whether numad could read a machine, and logs what is reserved of it.
pub(crate) type Begin<'a> = dyn FnMut(&Machine) -> Result<(), Box<dyn Error>> + 'a;

/// Reads what numad's own rules decide on. `begin` has its say before anything is measured.
pub(crate) fn read(local: &Local<'_>, begin: &mut Begin<'_>) -> Result<Taken, Box<dyn Error>> {
    let mut reader = HostReader::open(local.root)?;
    let machine = Machine::from_files(reader.files());
    begin(&machine)?;

    let mut saved = Saved::open(local.root);
    let (earlier, window) = match local.window {
        Window::Recent(window) => (saved.as_ref().and_then(Saved::usable), window),
        Window::Now(window) => (None, window),
    };
    let measured = earlier.is_none();
    let (before, mut now) = two_samples(&mut reader, earlier, window)?;
    if let Some(saved) = &mut saved {
        let first = before.as_ref().filter(|_| measured);
        saved.keep(first.into_iter().chain([&now.cpu]));
    }
    // What placer has promised to others counts as used. Read before the memory, see there.
    let view = claiming::view_of_asked(local.root, local.set);
    let anybody = view.as_ref().is_some_and(|view| !view.claims.is_empty());
    let charges = view.map(|view| view.charges).unwrap_or_default();
    if anybody || !charges.is_empty() {
        reader.memory(&mut now.memory)?;
    }
    Ok(Taken { machine: MachineOf::Answer(Box::new(machine)), before, now, charges })
}

/// `PLACER_VIA=engine` leaves the daemon out. A client of numad's gets an answer in any case.
fn may_ask_the_daemon() -> bool {
    variables::value("PLACER_VIA").is_none_or(|via| via != "engine")
}

/// numad's rules with what the options say.
fn rules(options: &Options) -> Rules {
    Rules {
        count_inactive_file: options.count_inactive_file,
        thread_percent: u64::from(options.thread_percent),
        reserved: options.reserved.clone(),
        lenient: false,
    }
}

fn log_reserved(log: &mut Log, options: &Options, machine: &Machine) {
    if let Some(list) = &options.reserved {
        let named: CpuSet = machine.reserve(list).named;
        let count = named.len();
        log.write(log::NOTICE, &format!("Reserving {count} CPUs ({named}) for non-numad use"));
    }
}

fn log_request(log: &mut Log, advice: Advice) {
    let Advice { cpus_hundredths: cpus, megabytes } = advice;
    let text = format!("Getting NUMA pre-placement advice for {cpus} CPUs and {megabytes} MBs");
    log.write(log::NOTICE, &text);
}

fn log_choice(log: &mut Log, all: &NodeSet, nodes: &NodeSet) {
    let text = format!("Advising pid -1 (unknown) move from nodes ({all}) to nodes ({nodes})");
    log.write(log::NOTICE, &text);
}

/// Returns the window that the environment asks for.
fn window() -> Option<Duration> {
    let text = variables::value("PLACER_WINDOW")?;
    match duration::parse(&text.to_string_lossy()) {
        Ok(window) => Some(window),
        Err(error) => {
            // A client of numad's cannot be expected to mend placer's settings.
            output::warn(&format!("PLACER_WINDOW is ignored: {error}"));
            None
        }
    }
}

/// Returns what numad would write to its log about a failure.
fn numads_words(error: &(dyn Error + 'static)) -> String {
    let says = if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.numad_says()
    } else {
        match error.downcast_ref::<SourceError>() {
            Some(SourceError::NoNodes { .. }) => Some("Could not get NUMA node info".to_owned()),
            _ => None,
        }
    };
    says.unwrap_or_else(|| output::chain(error))
}

/// The options of a command line, for tests.
#[cfg(test)]
pub(crate) fn options_of(line: &str) -> Options {
    let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    match options::parse(OsStr::new("numad"), &args, false) {
        Outcome::Run(options) => options,
        Outcome::Exit(exit) => unreachable!("{line}: {exit:?}"),
    }
}
