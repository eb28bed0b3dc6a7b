//! numad's command line and output, and only that: `-w 4:500` -> `0-1,3`.
//!
//! What is left out on purpose: numad's message queue is neither made nor emptied (that is how its
//! clients lose each other's answers), and its pid file is not looked at.

mod beyond;
mod getopt;
mod log;
mod number;
mod options;
mod usage;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::policy::numad::{Failure, Machine, Query, Rules, charge, choose};
use placer_engine::source::{HostReader, two_samples};
use placer_engine::{CpuSet, NodeSet, SourceError, SysRoot};

use crate::sampling::{Saved, Window};
use crate::settings::Settings;
use crate::{claiming, duration, output, variables};
use log::Log;
use options::{Advice, Exit, Options, Outcome};

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
        // "numad -i 0" ends a daemon; there is none.
        None if options.max_interval_s == 0 => Ok(()),
        None => Err("placer does not run as numad's daemon, it only answers -w; \
                     for that, ask with: numad -w CPUS[:MB]"
            .into()),
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
    let named = config.map(Path::to_owned);
    let named = named.or_else(|| variables::value("PLACER_CONFIG").map(PathBuf::from));
    Settings::read(named.as_deref()).unwrap_or_else(|error| {
        output::warn(&format!("the built-in settings count: {}", output::chain(&error)));
        Settings::default()
    })
}

fn answer(options: &Options, advice: Advice, set: &Settings) -> Result<(), Box<dyn Error>> {
    let root = variables::value("PLACER_ROOT").map_or_else(SysRoot::live, SysRoot::at);
    let mut log = Log::open(&root, options.log_level);
    let asked = window().or(set.numad.window);
    let answer = if beyond::is_asked_for(set) {
        let window = asked.map_or(Window::Recent(DEFAULT_WINDOW), Window::Now);
        beyond::choose_nodes(options, advice, &root, set, window, &mut log)
    } else {
        None
    };
    let choice = match answer {
        Some(nodes) => Ok(nodes),
        None => choose_nodes(options, advice, &root, set, asked, &mut log),
    };
    if let Err(error) = &choice {
        log.write(log::CRITICAL, &numads_words(error.as_ref()));
    }
    output::answer(format!("{}\n", choice?).as_bytes())?;
    Ok(())
}

fn choose_nodes(
    options: &Options,
    advice: Advice,
    root: &SysRoot,
    set: &Settings,
    asked: Option<Duration>,
    log: &mut Log,
) -> Result<String, Box<dyn Error>> {
    let mut reader = HostReader::open(root)?;
    let machine = Machine::from_files(reader.files());
    log_reserved(log, options, &machine);
    machine.readable_by_numad()?;

    let mut saved = Saved::open(root);
    // Who sets the window wants it measured, as numad would.
    let earlier = match (&saved, asked) {
        (Some(saved), None) => saved.usable(),
        _ => None,
    };
    let measured = earlier.is_none();
    let window = asked.unwrap_or(DEFAULT_WINDOW);
    let (before, mut now) = two_samples(&mut reader, earlier, window)?;
    if let Some(saved) = &mut saved {
        let first = before.as_ref().filter(|_| measured);
        saved.keep(first.into_iter().chain([&now.cpu]));
    }
    let rules = rules(options);
    // What placer has promised to others counts as used. Read before the memory, see there.
    let view = claiming::view_of_asked(root, set.claims);
    let anybody = view.as_ref().is_some_and(|view| !view.claims.is_empty());
    let charges = view.map(|view| view.charges).unwrap_or_default();
    if anybody || !charges.is_empty() {
        reader.memory(&mut now.memory)?;
    }
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
    Ok(choice.nodes.to_string())
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
