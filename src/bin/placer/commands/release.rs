//! `placer release ID`: ends a claim.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use placer_engine::claims::{Claim, ClaimId, Claims, LOCK_TIMEOUT, Origin, Processes};
use placer_engine::{Bytes, SysRoot};
use serde_json::Value;

use crate::output;
use crate::plan;
use placer::args::Release;
use placer::protocol::client;
use placer::report::claims::Row;
use placer::report::json;
use placer::service::counted;
use placer::settings;

pub(crate) fn run(args: &Release, set: settings::Claims) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let released = match changed_by_daemon(args.id, set, &root, || client::release(args.id))? {
        Some(released) => released,
        None => {
            let claims = Claims::open_to_claim(&counted::place(set), &root)?;
            let (decision, view) = claims.begin(LOCK_TIMEOUT)?;
            view.notes.iter().for_each(|note| output::warn(note));
            let claim = decision.release(args.id)?;
            Some(serde_json::to_value(Row::of(&claim, &mut Processes::look()?))?)
        }
    };
    if args.json {
        let form = serde_json::json!({ "version": 1, "released": released });
        output::answer(&json::text(&form)?)?;
    }
    // The reply that said how much it was may be lost.
    let amount = released.map_or(String::new(), |row| format!(": {}", amount(&row)));
    output::line(&format!("placer: released {}{amount}", args.id));
    Ok(ExitCode::SUCCESS)
}

/// Has the daemon change a claim of a user's that is in the host's ledger; `None` where it is in the user's own, or
/// of a guest of the user's that was started without placer: only the user's own programs look for those.
///
/// Errors: why the daemon does not.
pub(super) fn changed_by_daemon<T>(
    id: ClaimId,
    set: settings::Claims,
    root: &SysRoot,
    change: impl FnOnce() -> Result<T, String>,
) -> Result<Option<T>, String> {
    if !root.is_live() || !client::hosts_daemon_runs() {
        return Ok(None);
    }
    let own = Claims::open(&counted::place(set), root);
    let uid = nix::unistd::getuid().as_raw();
    let observed = |claim: &Arc<Claim>| {
        claim.id == id && claim.origin == Origin::Observed && claim.caller.uid == uid
    };
    let found = |own: &Claims| own.view().is_ok_and(|view| view.claims.iter().any(observed));
    if own.is_ok_and(|own| own.has(id) || found(&own)) {
        return Ok(None);
    }
    change().map(Some)
}

/// Says how much a claim is of, and where.
pub(super) fn amount(row: &Value) -> String {
    let (cpus, memory) = (row["cpus"].as_f64().unwrap_or(0.0), row["memory"].as_u64().unwrap_or(0));
    let nodes = row["nodes"].as_str().unwrap_or_default();
    let noun = if nodes.contains([',', '-']) { "nodes" } else { "node" };
    format!("{cpus} CPUs and {} on {noun} {nodes}", Bytes::new(memory))
}
