//! `placer advise --together`: where should several guests run beside each other?

use std::error::Error;
use std::process::ExitCode;

use nix::unistd::geteuid;
use placer_engine::Guest;
use placer_engine::claims::ClaimOwner;
use placer_launcher::guest::ThreadPin;

use super::request_of;
use crate::output;
use crate::plan;
use placer::args::{Advise, Emit, Via};
use placer::service::emit::EmitForm;
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::service::together::{JointForms, JointQuestion, answer};
use placer::settings;

/// Returns whether several guests are asked about.
///
/// Errors: several requests without `--together`; a flag of several guests without several.
pub(super) fn is_asked(args: &Advise) -> Result<bool, Box<dyn Error>> {
    if args.together || args.copies.is_some() {
        return Ok(true);
    }
    if args.requests.len() > 1 {
        return Err("several requests are placed with --together".into());
    }
    if matches!(args.emit, Some(Emit::Ranks(_))) {
        return Err("this --emit needs --together or --copies: it describes several ranks".into());
    }
    if args.some {
        return Err("--some needs --together or --copies".into());
    }
    Ok(false)
}

pub(super) fn run(
    args: &Advise,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    refuse_for_one(args)?;
    let root = plan::root(&args.host);
    let hold = args.hold.filter(|time| !time.is_zero());
    if args.some && hold.is_none() && !args.strict {
        return Err("--some needs --hold or --strict".into());
    }
    if hold.is_some() && root.is_live() && args.via != Via::Engine && !geteuid().is_root() {
        let why = "the daemon holds one guest at a time for users";
        return Err(format!(
            "--hold of several guests needs root: {why} (--via engine keeps them in your own ledger)"
        )
        .into());
    }
    let like = plan::request(request_of(args)?, &args.choice, &root)?;
    let copies = usize::from(args.copies.unwrap_or(1));
    let guests = args.requests.iter().map(Guest::of);
    let ranks = matches!(args.emit, Some(Emit::Ranks(_)));
    let question = JointQuestion {
        like,
        guests: guests.flat_map(|guest| std::iter::repeat_n(guest, copies)).collect(),
        own_cpus: ranks || args.pin == Some(ThreadPin::Cores),
        claim: hold.map(ClaimOwner::Hold),
        some: args.some,
        strict: args.strict,
        form: match args.emit {
            Some(Emit::Ranks(form)) => JointForms::Ranks(form),
            Some(Emit::One(EmitForm::Numactl)) => JointForms::Numactl(args.mode),
            Some(Emit::One(_)) => {
                let forms = "numactl, rankfile, rankfile-physical or hydra";
                return Err(format!("--together needs --emit {forms}").into());
            }
            None if args.explain => JointForms::Explain,
            None if args.json => JointForms::Json,
            None if args.cpus => JointForms::Cpus,
            None => JointForms::Nodes,
        },
    };
    let figures = Local::new(&root, set, Window::Recent(args.host.window));
    let answer = answer(&question, &figures, notes)?;
    output::notes(notes);
    output::answer(&answer.text)?;
    Ok(ExitCode::from(answer.status))
}

/// Refuses flags that several guests do not have.
fn refuse_for_one(args: &Advise) -> Result<(), Box<dyn Error>> {
    let refused = [
        (args.svg.is_some(), "--svg"),
        (args.html.is_some(), "--html"),
        (args.verbose, "--verbose"),
        (matches!(args.via, Via::Numad), "--via numad"),
        (matches!(args.via, Via::Daemon), "--via daemon"),
        (args.choice.near.is_some(), "--near"),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, flag)) => Err(format!("{flag} is for one guest: omit --together").into()),
        None => Ok(()),
    }
}
