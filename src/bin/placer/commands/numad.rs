//! numad's command line: run by that name, or as `placer numad`.

mod start;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::output;
use placer::numad::options::{self, Exit, Outcome};
use placer::numad::queue::client;
use placer::numad::{self, Advice, Chosen, Log, Options, choose_nodes};
use placer::protocol::client::{self as via, Asked};
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings::{Hold, Settings, SettingsError, duration, variables};
use placer_engine::claims::Nonce;
use placer_engine::policy::numad::Version;
use placer_engine::{NodeSet, SysRoot};

/// numad ends with 1 whatever is wrong.
const FAILED: u8 = 1;
const DEFAULT_WINDOW: Duration = Duration::from_millis(100);

/// Runs as numad. `name` is what the program was called by, `args` what follows it.
/// `config` is the settings file, if `--config` named one before numad's own options.
pub(crate) fn run(
    name: &OsStr,
    args: &[OsString],
    config: Option<&Path>,
    notes: &mut Notes,
) -> ExitCode {
    let posixly_correct = std::env::var_os("POSIXLY_CORRECT").is_some();
    let read = Settings::read(named(config).as_deref());
    let version = version_in_force(read.as_ref().ok());
    let options = match options::parse(version, name, args, posixly_correct) {
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
        Some(advice) => answer(&options, advice, &usable(read), notes),
        None => match (client::find(version), options.max_interval_s) {
            // As numad does; what placer's own daemon makes of it, it says in its log.
            (Some(daemon), _) => daemon.tell(&options).map_err(|error| {
                let pid = daemon.pid();
                format!("the daemon that runs as process {pid} was not notified: {error}").into()
            }),
            // "numad -i 0" ends a daemon; there is none.
            (None, 0) => Ok(()),
            (None, _) => return start::start(&name, options, usable(read), named(config)),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::notes(notes);
            output::complain(&name, error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

/// Returns the host's settings. A client of numad's cannot be expected to mend them, and libvirt
/// starts no guest without an answer: what is damaged costs one line.
fn usable(read: Result<Settings, SettingsError>) -> Settings {
    if let Err(why) = Settings::default().numad.version.or_variable() {
        output::warn(&format!("ignored: {why}"));
    }
    read.unwrap_or_else(|error| {
        output::warn(&format!("using built-in defaults: {}", placer::error_chain::chain(&error)));
        Settings::default()
    })
}

/// Returns the numad that is stood in for.
fn version_in_force(set: Option<&Settings>) -> Version {
    set.map_or_else(|| Settings::default().numad_version(), Settings::numad_version)
}

/// The settings file that was named, if one was.
fn named(config: Option<&Path>) -> Option<PathBuf> {
    let named = config.map(Path::to_owned);
    named.or_else(|| variables::value("PLACER_CONFIG").map(PathBuf::from))
}

fn answer(
    options: &Options,
    advice: Advice,
    set: &Settings,
    notes: &mut Notes,
) -> Result<(), Box<dyn Error>> {
    let root = variables::value("PLACER_ROOT").map_or_else(SysRoot::live, SysRoot::at);
    let mut log = Log::open(&root, options.version, options.log_level, output::line);
    // Who sets the window wants it measured, as numad would.
    let asked = window().or(set.numad.window);
    if let Some(nodes) = daemons_answer(options, advice, set, &root, asked) {
        output::answer(format!("{nodes}\n").as_bytes())?;
        return Ok(());
    }
    let nonce = (set.numad.hold == Hold::Adopt).then(Nonce::random);
    if root.is_live() && asked.is_none() && may_ask_the_daemon() {
        match via::numad(options, advice, set, nonce, &mut log, notes) {
            Asked::Answered(nodes) => {
                output::notes(notes);
                output::answer(format!("{nodes}\n").as_bytes())?;
                return Ok(());
            }
            Asked::Failed(_) | Asked::Nobody(_) => {}
        }
    }
    let window = asked.map_or(Window::Recent(DEFAULT_WINDOW), Window::Now);
    let figures = Local::new(&root, set.claims, window).named(nonce);
    let Chosen { nodes, .. } = choose_nodes(options, advice, set, &figures, &mut log, notes)?;
    output::notes(notes);
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
    if !root.is_live() || numad::beyond::is_asked_for(set) || own {
        return None;
    }
    let daemon = client::find(options.version).filter(|daemon| !daemon.is_placer())?;
    let answer = daemon.ask(advice);
    let because = |error: &client::NoAnswer| {
        let pid = daemon.pid();
        output::warn(&format!(
            "placer answers in place of the numad that runs as process {pid}: {error}"
        ));
    };
    answer.inspect_err(because).ok()
}

/// `PLACER_VIA=engine` leaves the daemon out. A client of numad's gets an answer in any case.
fn may_ask_the_daemon() -> bool {
    variables::value("PLACER_VIA").is_none_or(|via| via != "engine")
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
