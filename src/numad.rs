//! numad's command line and output, and only that: `-w 4:500` -> `0-1,3`.
//!
//! What is left out on purpose: the message queue of numad's daemon is neither made nor emptied (that
//! is how its clients lose each other's answers).

pub mod beyond;
mod getopt;
pub mod log;
mod number;
pub mod options;
pub mod queue;
mod usage;

use std::error::Error;

use placer_engine::claims::ClaimId;
use placer_engine::policy::numad::{
    Choice, Failure, Machine, NodeFigures, Query, Rules, Step, Version, charge, choose_by_steps,
};
use placer_engine::{CpuSet, NodeSet, SourceError};

use crate::error_chain::chain;
use crate::service::host::{Figures, Taken};
use crate::service::notes::Notes;
use crate::settings::Settings;
pub use log::Log;
pub use options::{Advice, Options};

/// An answer to `-w`.
#[derive(Debug)]
pub struct Chosen {
    pub nodes: NodeSet,
    /// What holds them for the guest, where the settings ask for that.
    pub claim: Option<ClaimId>,
}

/// Answers `-w` by the host's settings.
///
/// Errors: numad has no answer on such a host; the host cannot be read.
pub fn choose_nodes(
    options: &Options,
    advice: Advice,
    set: &Settings,
    figures: &dyn Figures,
    log: &mut Log,
    notes: &mut Notes,
) -> Result<Chosen, Box<dyn Error>> {
    let answer = if beyond::is_asked_for(set) {
        beyond::choose_nodes(options, advice, set, figures, log, notes)
    } else {
        None
    };
    let choice = match answer {
        Some(chosen) => Ok(chosen),
        None => as_numad(options, advice, figures, log, notes)
            .map(|nodes| Chosen { nodes, claim: None }),
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
    notes: &mut Notes,
) -> Result<NodeSet, Box<dyn Error>> {
    let Taken { machine, before, now, charges } = figures.numads(
        &mut |machine| {
            log_reserved(log, options, machine);
            Ok(machine.readable_by_numad()?)
        },
        notes,
    )?;
    let machine = machine.as_ref();
    let rules = rules(options);
    let mut figures = machine.figures(before.as_ref(), &now, &rules)?;
    charge(&mut figures, &charges);
    let rows = machine.distance_rows(&rules)?;
    let query = Query { cpus: advice.cpus_hundredths, megabytes: advice.megabytes };
    log_request(log, advice);
    let choice = choose_and_log(&rules, &figures, &rows, query, log)?;
    if before.is_none() {
        notes.warn("CPU load is unknown: every CPU counts as idle");
    }
    log_choice(log, &choice.all, &choice.nodes);
    Ok(choice.nodes)
}

/// Chooses as numad does, with what the version logs of it between the lines of every choice.
fn choose_and_log<Row: AsRef<[u64]>>(
    rules: &Rules,
    figures: &[NodeFigures],
    rows: &[Row],
    query: Query,
    log: &mut Log,
) -> Result<Choice, Failure> {
    if rules.version == Version::V2025 {
        let Query { cpus, megabytes } = query;
        let text = format!("PICK NODES FOR:  PID: -1,  CPUs {cpus},  MBs {megabytes}");
        log.write(log::DEBUG, &text);
    }
    choose_by_steps(rules.version, figures, rows, query, |step| log_step(log, step))
}

/// Logs a step of a choice, with magnitudes and sums as the signed numbers that numad prints.
fn log_step(log: &mut Log, step: Step) {
    let (level, text) = match step {
        Step::Weighed { position, mbs_free, cpus_free, magnitude } => {
            let magnitude = magnitude.cast_signed();
            let text = format!(
                "Node[{position}]:  MBs_free: {mbs_free}  CPUs_free: {cpus_free}  Magnitude: {magnitude}"
            );
            (log::DEBUG, text)
        }
        Step::Column { position, total } => {
            (log::DEBUG, format!("Totmag[{position}]: {}", total.cast_signed()))
        }
        Step::BestColumn(position) => (log::DEBUG, format!("best_node_ix: {position}")),
        Step::Asked(Query { cpus, megabytes }) => {
            (log::DEBUG, format!("MBs: {megabytes},  CPUs: {cpus}"))
        }
        Step::Taken(node) => (log::DEBUG, format!("Assigning resources from node {node}")),
        Step::NothingTaken => {
            (log::WARNING, "Empty target node list -- using all nodes.".to_owned())
        }
    };
    log.write(level, &text);
}

/// numad's rules with what the options say.
fn rules(options: &Options) -> Rules {
    Rules {
        version: options.version,
        count_inactive_file: options.count_inactive_file,
        thread_percent: u64::from(options.thread_percent),
        reserved: options.reserved.clone(),
        lenient: false,
    }
}

fn log_reserved(log: &mut Log, options: &Options, machine: &Machine) {
    if let Some(list) = &options.reserved {
        let named: CpuSet = machine.reserve(options.version, list).named;
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
    says.unwrap_or_else(|| chain(error))
}

/// The options of a command line, for tests.
#[cfg(test)]
pub(crate) fn options_of(line: &str) -> Options {
    use std::ffi::{OsStr, OsString};

    use options::Outcome;
    let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    match options::parse(Version::V2025, OsStr::new("numad"), &args, false) {
        Outcome::Run(options) => options,
        Outcome::Exit(exit) => unreachable!("{line}: {exit:?}"),
    }
}
