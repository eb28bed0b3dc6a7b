//! `placer launch`: starts a guest where the advice says.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::claims::For;
use placer_engine::{Request, advise};
use placer_launcher::{Binding, MemoryMode, exec_in_place};

use crate::args::Launch;
use crate::claiming::{self, Desk};
use crate::sampling::Window;
use crate::{cmd, output, plan, settings, trouble};

/// Nothing was started, since it does not fit.
const UNFIT: u8 = 1;

pub(crate) fn run(args: &Launch, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    if args.host.root.is_some() && !args.dry_run {
        return Err("--root needs --dry-run: a guest runs on this machine and no other".into());
    }
    let root = plan::root(&args.host);
    let request = plan::request(&Request::new(args.cpus, args.memory), &args.choice, &root)?;
    let window = Window::Recent(args.host.window);
    // A dry run leaves the ledger alone, and waits for no lock.
    let desk = (!args.dry_run).then(|| Desk::open(&root, set));
    let (decision, snapshot) = match &desk {
        Some(desk) => desk.begin(&root, window, request.pages)?,
        None => (None, claiming::snapshot(&root, set, window, request.pages)?),
    };
    let advice = advise(&snapshot, &request)?;
    snapshot.notes().iter().chain(&advice.notes).for_each(|note| output::warn(note));

    let mut mode = args.mode;
    if let Some(short) = advice.shortfall {
        let what = cmd::advise::shortage(&request, &advice, short);
        if !args.force {
            output::line(&format!(
                "placer: nothing is started: {what}; --force starts it all the same"
            ));
            return Ok(ExitCode::from(UNFIT));
        }
        output::warn(&what);
        if mode == MemoryMode::Strict {
            // Bound to a full node the kernel would end it.
            mode = MemoryMode::Preferred;
        }
    }
    let steps = Binding::of(&snapshot, &advice, mode).steps(args.command.clone());
    if args.dry_run {
        let lines: String = steps.iter().map(|step| format!("{step}\n")).collect();
        output::answer(lines.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let who = For::Pid(std::process::id());
    let claim = decision.and_then(|decision| claiming::claim_for(decision, &request, &advice, who));
    // From here on stderr is the command's.
    trouble::tell();
    let Err(error) = exec_in_place(&steps);
    if let (Some(desk), Some(claim)) = (&desk, claim) {
        desk.release(claim);
    }
    Err(error.into())
}
