//! `placer advise`: where should a guest run?

mod drawn;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::backend::numad_process::NumadProcess;
use placer_engine::claims::{ClaimId, For, PATIENCE};
use placer_engine::policy::numad::Rules;
use placer_engine::{Advice, Policy, Request, Shortfall, advise, explain};
use placer_launcher::MemoryMode;

use crate::args::{Advise, EmitForm, PolicyName, Via};
use crate::claiming::Desk;
use crate::figures::{Figures, Local};
use crate::json::{self, AdviceForm};
use crate::sampling::Window;
use crate::settings::Settings;
use crate::via::{self, Asked};
use crate::{claiming, explain, output, plan};

/// How long the real numad may take: it sleeps two seconds.
const NUMAD_TIME: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Advise, set: &Settings) -> Result<ExitCode, Box<dyn Error>> {
    if args.via == Via::Numad {
        return ask_numad(args);
    }
    if args.explain && args.choice.policy == PolicyName::Numad {
        let why = "numad's rules know nothing of it";
        return Err(format!("--explain needs --policy best: {why}").into());
    }
    let root = plan::root(&args.host);
    if args.svg.is_some() || args.html.is_some() {
        return drawn::run(args, set.claims, &root);
    }
    let question = Question {
        request: plan::request(&args.request, &args.choice, &root)?,
        claim: args.hold.map(For::Hold),
        strict: args.strict,
        form: form(args),
    };
    if args.via == Via::Daemon && !root.is_live() {
        let why = "the daemon answers for the machine it runs on";
        return Err(format!("--root and --via daemon exclude each other: {why}").into());
    }
    if root.is_live() && matches!(args.via, Via::Auto | Via::Daemon) {
        match via::advise(&question, set) {
            Asked::Answered(answer) => {
                output::answer(&answer.text)?;
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
    let figures = Local::new(&root, set, Window::Recent(args.host.window));
    let answer = answer(&question, &figures)?;
    output::answer(&answer.text)?;
    Ok(ExitCode::from(answer.status))
}

/// All that an answer depends on beside the host.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    /// Whether it is claimed, and for whom.
    pub(crate) claim: Option<For>,
    pub(crate) strict: bool,
    pub(crate) form: Form,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Nodes,
    Cpus,
    Json,
    Explain,
    Emit(EmitForm, MemoryMode),
    /// The JSON form on one line, for a program that did not start this one.
    Compact {
        /// With what came second, and what numad would say.
        explain: bool,
    },
}

fn form(args: &Advise) -> Form {
    match args.emit {
        Some(form) => Form::Emit(form, args.mode),
        None if args.explain => Form::Explain,
        None if args.json => Form::Json,
        None if args.cpus => Form::Cpus,
        None => Form::Nodes,
    }
}

/// What goes to stdout, and how the program ends.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: Vec<u8>,
    pub(crate) status: u8,
    /// `None` where there is none on which the request fits, and it had to.
    pub(crate) advice: Option<Advice>,
    pub(crate) claim: Option<ClaimId>,
}

/// Answers a question. What should be known beside it goes to stderr.
///
/// Errors: the host cannot be read, or nothing can be said about it.
pub(crate) fn answer(question: &Question, figures: &dyn Figures) -> Result<Answer, Box<dyn Error>> {
    let Question { request, claim: who, strict, form } = question;
    // Only who claims opens the ledger to change it, and waits for its lock.
    let desk = who.as_ref().map(|_| Desk::open(figures.root(), figures.claims()));
    let (decision, snapshot) = match &desk {
        Some(desk) => desk.begin_with(figures, request.pages, PATIENCE)?,
        None => (None, figures.counted(request.pages)?),
    };
    let advice = advise(&snapshot, request)?;

    let notes: Vec<String> = snapshot.notes().iter().chain(&advice.notes).cloned().collect();
    for note in &notes {
        output::warn(note);
    }
    let holds = matches!(who, Some(For::Hold(_)));
    if let Some(short) = advice.shortfall {
        output::warn(&shortage_of(holds && !strict, request, &advice, short));
    }
    // What takes longer than the advice is made only for those who read it.
    let asked = matches!(form, Form::Explain | Form::Json | Form::Compact { explain: true });
    let why = if asked && matches!(request.policy, Policy::Best(_)) {
        Some(explain(&snapshot, request, &advice)?)
    } else {
        None
    };
    let whole = |claim| AdviceForm::new(request, &advice, &notes, claim, why.as_ref());
    if *strict && !advice.fits() {
        let text = match form {
            Form::Json => json::text(&whole(None).without_nodes())?,
            _ => Vec::new(),
        };
        return Ok(Answer { text, status: 1, advice: None, claim: None });
    }
    // What does not fit is not held: it would take what is left from guests that fit.
    let who = who.clone().filter(|_| advice.fits() || !holds);
    let claim = who.zip(decision).and_then(|(who, decision)| {
        claiming::claim_as_asked(decision, request, &advice, who, figures)
    });
    let text = match (form, &why) {
        (Form::Emit(form, mode), _) => {
            super::emit::text(*form, *mode, request, &advice, &snapshot)?.into_bytes()
        }
        (Form::Explain, Some(why)) => explain::text(request, &advice, why).into_bytes(),
        (Form::Json, _) => json::text(&whole(claim))?,
        (Form::Compact { .. }, _) => serde_json::to_vec(&whole(claim))?,
        (Form::Cpus, _) => format!("{}\n", advice.cpus).into_bytes(),
        (Form::Nodes | Form::Explain, _) => format!("{}\n", advice.nodes).into_bytes(),
    };
    Ok(Answer { text, status: 0, advice: Some(advice), claim })
}

/// Says what is short and by how much, and where it was to be held, that it is not.
pub(crate) fn shortage_of(
    holds: bool,
    request: &Request,
    advice: &Advice,
    short: Shortfall,
) -> String {
    let what = shortage(request, advice, short);
    if holds { format!("nothing is held: {what}") } else { what }
}

/// Says what is short and by how much.
pub(crate) fn shortage(request: &Request, advice: &Advice, short: Shortfall) -> String {
    let mut parts = Vec::new();
    if short.cpus.hundredths() > 0 {
        parts.push(explain::cpus(short.cpus));
    }
    if short.memory.get() > 0 {
        parts.push(short.memory.to_string());
    }
    let noun = if advice.nodes.len() == 1 { "node" } else { "nodes" };
    let (cpus, memory) = (explain::cpus(request.cpus), request.memory);
    let (nodes, parts) = (&advice.nodes, parts.join(" and "));
    format!("{cpus} and {memory} do not fit on {noun} {nodes}: {parts} short")
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
    let nodes = numad.ask(args.request.cpus, args.request.memory, &Rules::default())?;
    output::answer(format!("{nodes}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
