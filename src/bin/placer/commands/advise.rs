//! `placer advise`: where should a guest run?

mod drawn;
mod together;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::Request;
use placer_engine::backend::numad_process::NumadProcess;
use placer_engine::claims::{ClaimOwner, Nonce};
use placer_engine::policy::numad::Rules;

use crate::output;
use crate::plan;
use placer::args::{Advise, Emit, Via};
use placer::protocol::client::{self as via, Asked};
use placer::service::advise::{Form, Question, answer};
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings::{PolicyName, Settings};

/// How long the real numad may take: it sleeps two seconds.
const NUMAD_TIME: Duration = Duration::from_secs(10);

pub(crate) fn run(
    args: &Advise,
    set: &Settings,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    if together::is_asked(args)? {
        return together::run(args, set.claims, notes);
    }
    if args.via == Via::Numad {
        return ask_numad(args);
    }
    if args.explain && args.choice.policy != PolicyName::Best {
        let why = "numad's rules do not support it";
        return Err(format!("--explain needs --policy best: {why}").into());
    }
    let root = plan::root(&args.host);
    if args.svg.is_some() || args.html.is_some() {
        return drawn::run(args, set.claims, &root, notes);
    }
    let question = Question {
        request: plan::request(request_of(args)?, &args.choice, &root)?,
        numad: plan::numad_version(&args.choice)?,
        claim: args.hold.map(ClaimOwner::Hold),
        nonce: args.hold.map(|_| Nonce::random()),
        strict: args.strict,
        form: form(args),
    };
    if args.via == Via::Daemon && !root.is_live() {
        let why = "the daemon answers for the machine it runs on";
        return Err(format!("--root and --via daemon exclude each other: {why}").into());
    }
    if root.is_live() && matches!(args.via, Via::Auto | Via::Daemon) {
        match via::advise(&question, set, notes) {
            Asked::Answered(answer) => {
                output::notes(notes);
                output::answer(&answer.text)?;
                suggest(args, answer.status);
                return Ok(ExitCode::from(answer.status));
            }
            Asked::Failed(reason) => return Err(reason.into()),
            Asked::Nobody(why) if args.via == Via::Daemon => {
                let hint = "(--via auto answers without one)";
                return Err(format!("no daemon answers: {why} {hint}").into());
            }
            Asked::Nobody(_) => {}
        }
    }
    let set = set.claims;
    let figures = Local::new(&root, set, Window::Recent(args.host.window)).named(question.nonce);
    let answer = answer(&question, &figures, notes)?;
    output::notes(notes);
    output::answer(&answer.text)?;
    suggest(args, answer.status);
    Ok(ExitCode::from(answer.status))
}

/// Returns the only request.
fn request_of(args: &Advise) -> Result<&Request, Box<dyn Error>> {
    args.requests.first().ok_or_else(|| "expected a request".into())
}

/// On a terminal, prints the command that starts a guest with this request. Not after a hold, since
/// launch claims for itself.
fn suggest(args: &Advise, status: u8) {
    let for_people = matches!(form(args), Form::Nodes | Form::Explain { .. } | Form::Cpus);
    let held = args.hold.is_some_and(|time| !time.is_zero());
    if status == 0 && for_people && !held && std::io::stdout().is_terminal() {
        args.requests.iter().for_each(|request| output::line(&launch_line(args, request)));
    }
}

fn launch_line(args: &Advise, request: &Request) -> String {
    let memory = match request.memory.get() {
        bytes if bytes % (1 << 30) == 0 && bytes > 0 => format!("{}G", bytes >> 30),
        bytes => format!("{}M", bytes.div_ceil(1 << 20)),
    };
    let mut line = format!("start it: placer launch --cpus {} --memory {memory}", request.cpus);
    let choice = &args.choice;
    let given = [
        ("within", choice.within.as_ref().map(ToString::to_string)),
        ("near", choice.near.clone()),
        ("pages", choice.pages.map(|size| format!("{}K", size.get() >> 10))),
        ("root", args.host.root.as_ref().map(|root| root.display().to_string())),
    ];
    for (flag, value) in given {
        if let Some(value) = value {
            line += &format!(" --{flag} {value}");
        }
    }
    if args.host.root.is_some() {
        line += " --dry-run";
    }
    line + " -- COMMAND"
}

fn form(args: &Advise) -> Form {
    match args.emit {
        // Of several guests, which are answered before.
        Some(Emit::Ranks(_)) => Form::Cpus,
        Some(Emit::One(form)) => Form::Emit(form, args.mode),
        None if args.explain => Form::Explain { factors: args.verbose },
        None if args.json => Form::Json,
        None if args.cpus => Form::Cpus,
        None => Form::Nodes,
    }
}

/// Asks the real numad. It answers for the machine it runs on and nothing else.
fn ask_numad(args: &Advise) -> Result<ExitCode, Box<dyn Error>> {
    let refused = [
        (args.host.root.is_some(), "--root"),
        (args.choice.within.is_some(), "--within"),
        (args.json, "--json"),
        (args.cpus, "--cpus"),
        (args.strict, "--strict"),
        (args.hold.is_some(), "--hold"),
        (args.explain, "--explain"),
        (args.emit.is_some(), "--emit"),
        (args.choice.pages.is_some(), "--pages"),
        (args.choice.near.is_some(), "--near"),
    ];
    if let Some((_, flag)) = refused.iter().find(|(given, _)| *given) {
        return Err(format!(
            "{flag} and --via numad exclude each other: numad gives a node list for this machine \
             and nothing more"
        )
        .into());
    }
    let numad = NumadProcess { program: args.numad.clone(), timeout: NUMAD_TIME };
    let request = request_of(args)?;
    let nodes = numad.ask(request.cpus, request.memory, &Rules::default())?;
    output::answer(format!("{nodes}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
