//! `placer adopt ID --pid N`: makes a hold the claim of a guest that has started.

use std::error::Error;
use std::process::ExitCode;

use placer_engine::claims::{Cgroup, Claims, LOCK_TIMEOUT, Processes};

use crate::output;
use crate::plan;
use placer::args::Adopt;
use placer::protocol::client;
use placer::report::claims::Row;
use placer::report::json;
use placer::service::claim_session::process;
use placer::service::counted;
use placer::settings;

use super::release::{amount, changed_by_daemon};

pub(crate) fn run(args: &Adopt, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let by_daemon = || client::adopt(args.id, args.pid, args.cgroup);
    let adopted = match changed_by_daemon(args.id, set, &root, by_daemon)? {
        Some(adopted) => adopted,
        None => {
            let owner = process(args.pid)?;
            let group = || -> Result<Cgroup, Box<dyn Error>> {
                let none = || format!("process {} is in no cgroup (v2) of its own", args.pid);
                Ok(Processes::look()?.own_cgroup(&owner).ok_or_else(none)?)
            };
            let group = args.cgroup.then(group).transpose()?;
            let claims = Claims::open_to_claim(&counted::place(set), &root)?;
            let (decision, view) = claims.begin(LOCK_TIMEOUT)?;
            view.notes.iter().for_each(|note| output::warn(note));
            let claim = decision.adopt(args.id, owner, group)?;
            serde_json::to_value(Row::of(&claim, &mut Processes::look()?))?
        }
    };
    if args.json {
        let form = serde_json::json!({ "version": 1, "adopted": adopted });
        output::answer(&json::text(&form)?)?;
    }
    let (id, pid, amount) = (args.id, args.pid, amount(&adopted));
    let what = if args.cgroup { "the control group of process" } else { "process" };
    output::line(&format!("placer: {id} is the claim of {what} {pid}: {amount}"));
    Ok(ExitCode::SUCCESS)
}
