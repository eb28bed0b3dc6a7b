//! `placer advise`: where should a guest run?

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use placer_engine::backend::numad_process::NumadProcess;
use placer_engine::claims::PATIENCE;
use placer_engine::policy::numad::Rules;
use placer_engine::{Advice, Policy, Request, Shortfall, Snapshot, advise, explain};

use crate::args::{Advise, PolicyName, Via};
use crate::claiming::Desk;
use crate::json::{self, AdviceForm};
use crate::sampling::Window;
use crate::{claiming, explain, output, plan, settings};

/// How long the real numad may take: it sleeps two seconds.
const NUMAD_TIME: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Advise, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    if args.via == Via::Numad {
        return ask_numad(args);
    }
    if args.explain && args.choice.policy == PolicyName::Numad {
        let why = "numad's rules know nothing of it";
        return Err(format!("--explain needs --policy best: {why}").into());
    }
    let root = plan::root(&args.host);
    let request = plan::request(&args.request, &args.choice, &root)?;
    let window = Window::Recent(args.host.window);
    // Only who claims opens the ledger to change it, and waits for its lock.
    let desk = args.hold.map(|_| Desk::open(&root, set));
    let (decision, snapshot) = match &desk {
        Some(desk) => desk.begin(&root, window, request.pages, PATIENCE)?,
        None => (None, claiming::snapshot(&root, set, window, request.pages)?),
    };
    let advice = advise(&snapshot, &request)?;

    let notes: Vec<String> = snapshot.notes().iter().chain(&advice.notes).cloned().collect();
    for note in &notes {
        output::warn(note);
    }
    if let Some(short) = advice.shortfall {
        output::warn(&shortage(&request, &advice, short));
    }
    // What takes longer than the advice is made only for those who read it.
    let asked = args.explain || args.json;
    let why = if asked && matches!(request.policy, Policy::Best(_)) {
        Some(explain(&snapshot, &request, &advice)?)
    } else {
        None
    };
    let whole = |claim| AdviceForm::new(&request, &advice, &notes, claim, why.as_ref());
    if args.strict && !advice.fits() {
        if args.json {
            output::answer(&json::text(&whole(None).without_nodes())?)?;
        }
        return Ok(ExitCode::from(1));
    }
    let claim = args
        .hold
        .zip(decision)
        .and_then(|(time, decision)| claiming::hold(decision, &request, &advice, time));
    let answer = match &why {
        _ if args.emit.is_some() => emitted(args, &request, &advice, &snapshot)?.into_bytes(),
        Some(why) if args.explain => explain::text(&request, &advice, why).into_bytes(),
        _ if args.json => json::text(&whole(claim))?,
        _ if args.cpus => format!("{}\n", advice.cpus).into_bytes(),
        _ => format!("{}\n", advice.nodes).into_bytes(),
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn emitted(
    args: &Advise,
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
) -> Result<String, Box<dyn Error>> {
    let Some(form) = args.emit else { return Ok(String::new()) };
    super::emit::text(form, args.mode, request, advice, snapshot)
}

/// Says what is short and by how much.
pub(crate) fn shortage(request: &Request, advice: &Advice, short: Shortfall) -> String {
    let mut parts = Vec::new();
    if short.cpus.hundredths() > 0 {
        parts.push(format!("{} CPUs", short.cpus));
    }
    if short.memory.get() > 0 {
        parts.push(short.memory.to_string());
    }
    let noun = if advice.nodes.len() == 1 { "node" } else { "nodes" };
    let Request { cpus, memory, .. } = request;
    let (nodes, parts) = (&advice.nodes, parts.join(" and "));
    format!("{cpus} CPUs and {memory} do not fit on {noun} {nodes}: {parts} short")
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
