//! `placer balance`: which guests are worth moving. Moves nothing.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use crate::{output, plan};
use placer::args::Balance;
use placer::report::balance::{MovesForm, RoomForm, moves, room};
use placer::report::json;
use placer::service::notes::Notes;
use placer::service::running::{Demand, Observation, observe};
use placer::settings::Settings;
use placer_engine::Request;
use placer_engine::balance::{self, RoomRequest};

pub(crate) fn run(
    args: &Balance,
    set: &Settings,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let demand = match args.window {
        Duration::ZERO => Demand::SinceStart,
        window => Demand::Over(window),
    };
    let seen = observe(&root, set, demand, notes)?;
    let (answer, found) = match &args.make_room {
        Some(request) => make_room(args, request, &seen)?,
        None => (all_moves(args, &seen)?, true),
    };
    output::notes(notes);
    output::answer(&answer)?;
    Ok(ExitCode::from(u8::from(!found)))
}

fn all_moves(args: &Balance, seen: &Observation) -> Result<Vec<u8>, Box<dyn Error>> {
    let guests = seen.plan_guests();
    let plan = balance::plan(&seen.host, &guests, &seen.rules)?;
    let form = MovesForm::of(&plan, &seen.names());
    Ok(if args.json { json::text(&form)? } else { moves(&form).into_bytes() })
}

/// Returns the answer, and whether the request fits after it.
fn make_room(
    args: &Balance,
    asked: &Request,
    seen: &Observation,
) -> Result<(Vec<u8>, bool), Box<dyn Error>> {
    let request = RoomRequest {
        cpus: asked.cpus.as_cpus(),
        memory: asked.memory,
        within: seen.snapshot.topology().node_set(),
    };
    let found = balance::make_room(&seen.host, &seen.plan_guests(), &seen.rules, &request)?;
    let form = RoomForm::of(&request, &found, &seen.names());
    let text = if args.json { json::text(&form)? } else { room(&form).into_bytes() };
    Ok((text, found.plan.is_some()))
}
