//! `placer balance`: which guests are worth moving, and moves them with `--apply`.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::process::ExitCode;
use std::time::Duration;

use crate::{output, plan};
use placer::args::Balance;
use placer::report::balance::{MovesForm, RoomForm, moves, room};
use placer::report::json;
use placer::report::moved::{MovedForm, moved};
use placer::service::moving::{Moved, Mover, Session, note_kernel_balancing, room_plan};
use placer::service::notes::Notes;
use placer::service::running::{Demand, Observation, observe};
use placer::settings::Settings;
use placer_engine::balance::{self, Plan, RoomRequest};
use placer_engine::{Bytes, Request};
use placer_launcher::mover::{Direction, Progress};

pub(crate) fn run(
    args: &Balance,
    set: &Settings,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    if args.apply || args.undo {
        return change(args, set, notes);
    }
    let root = plan::root_at(args.root.as_ref());
    let seen = observe(&root, set, demand(args), notes)?;
    let (answer, found) = match &args.make_room {
        Some(request) => make_room(args, request, &seen)?,
        None => {
            let form = MovesForm::of(&plan_of(&seen)?, &seen.names());
            let text = if args.json { json::text(&form)? } else { moves(&form).into_bytes() };
            (text, true)
        }
    };
    output::notes(notes);
    output::answer(&answer)?;
    Ok(ExitCode::from(u8::from(!found)))
}

fn demand(args: &Balance) -> Demand {
    match args.window {
        Duration::ZERO => Demand::SinceStart,
        window => Demand::Over(window),
    }
}

fn plan_of(seen: &Observation) -> Result<Plan, Box<dyn Error>> {
    Ok(balance::plan(&seen.host, &seen.plan_guests(), &seen.rules)?)
}

fn room_request(asked: &Request, seen: &Observation) -> RoomRequest {
    RoomRequest {
        cpus: asked.cpus.as_cpus(),
        memory: asked.memory,
        within: seen.snapshot.topology().node_set(),
    }
}

/// Returns the answer, and whether the request fits after it.
fn make_room(
    args: &Balance,
    asked: &Request,
    seen: &Observation,
) -> Result<(Vec<u8>, bool), Box<dyn Error>> {
    let request = room_request(asked, seen);
    let found = balance::make_room(&seen.host, &seen.plan_guests(), &seen.rules, &request)?;
    let form = RoomForm::of(&request, &found, &seen.names());
    let text = if args.json { json::text(&form)? } else { room(&form).into_bytes() };
    Ok((text, found.plan.is_some()))
}

/// Moves guests, or puts them back.
fn change(args: &Balance, set: &Settings, notes: &mut Notes) -> Result<ExitCode, Box<dyn Error>> {
    let terminal = stderr().is_terminal();
    let mut show = |progress: &Progress<'_>| {
        if terminal {
            show(progress);
        }
    };
    let demand = demand(args);
    // Room is made for others: whoever makes it may become slower.
    let verify = args.make_room.is_none().then_some(demand);
    let mover = Mover { settings: set, rate: args.rate, verify, progress: &mut show };
    let mut session = Session::open(mover)?;
    note_kernel_balancing(notes);
    output::notes(notes);
    if args.undo {
        let undone = session.undo(notes)?;
        return match undone {
            Some(undone) => say(args, &undone, None, notes),
            None => {
                output::line("placer: no moves to take back");
                Ok(ExitCode::from(1))
            }
        };
    }
    if let Some(resumed) = session.resume(notes)? {
        return say(args, &resumed, None, notes);
    }
    let root = plan::root_at(None);
    let seen = observe(&root, set, demand, notes)?;
    let plan = match &args.make_room {
        None => plan_of(&seen)?,
        Some(asked) => {
            let request = room_request(asked, &seen);
            let guests = seen.plan_guests();
            let found = balance::make_room(&seen.host, &guests, &seen.rules, &request)?;
            let form = RoomForm::of(&request, &found, &seen.names());
            let Some(plan) = found.plan else {
                let text = if args.json { json::text(&form)? } else { room(&form).into_bytes() };
                output::answer(&text)?;
                return Ok(ExitCode::from(1));
            };
            room_plan(&seen, &plan)
        }
    };
    let form = MovesForm::of(&plan, &seen.names());
    if plan.steps.is_empty() && !args.json {
        output::notes(notes);
        output::answer(moves(&form).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let applied = session.apply(&seen, &plan, notes)?;
    say(args, &applied, Some(form), notes)
}

fn say(
    args: &Balance,
    what: &Moved,
    plan: Option<MovesForm>,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let complete = what.is_complete();
    if stderr().is_terminal() {
        // The line of progress.
        let _ = stderr().lock().write_all(b"\r\x1b[K");
    }
    let text = match args.json {
        true => json::text(&MovedForm::of(what.action, complete, plan, &what.guests))?,
        false => moved(what.action, &what.guests).into_bytes(),
    };
    output::notes(notes);
    output::answer(&text)?;
    Ok(ExitCode::from(u8::from(!complete)))
}

/// Shows how far a guest is, on one line of a terminal.
fn show(progress: &Progress<'_>) {
    let record = progress.record;
    let what = match progress.direction {
        Direction::There => format!("to nodes {}", record.to),
        Direction::Back => format!("back to nodes {}", record.from),
    };
    let (moved, all) = (Bytes::new(progress.moved), Bytes::new(record.memory));
    let line = format!("\rplacer: process {} {what}: {moved} of {all}\x1b[K", record.guest.pid);
    let _ = stderr().lock().write_all(line.as_bytes());
}
