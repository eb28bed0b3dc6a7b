//! `placer doctor`: what makes guests slow on a host, and what placer itself lacks there.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use placer_engine::claims::{Claim, Owner, Processes};
use placer_engine::{CpuSet, SysRoot};
use serde::Serialize;

use crate::output;
use crate::plan;
use placer::args::Doctor;
use placer::protocol::client as via;
use placer::report::claims::Row;
use placer::report::doctor::{self, Finding};
use placer::report::json;
use placer::report::view::{View, odd};
use placer::service::look::Look;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings;

/// `placer doctor --json`.
#[derive(Serialize)]
struct Form<'a> {
    version: u32,
    findings: &'a [Finding],
}

pub(crate) fn run(
    args: &Doctor,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let root = plan::root_at(args.root.as_ref());
    let look = Look::at(&root, set, Window::Recent(Duration::ZERO), None, notes)?;
    let view = look.view();
    let mut findings = doctor::of_host(&view);
    if root.is_live() {
        let mut processes = Processes::look()?;
        let allowed = allowed(&look, &mut processes);
        findings.extend(doctor::across(&view, |guest| allowed.get(&guest.id).cloned()));
        findings.extend(remote_memory(&look, &mut processes));
    } else {
        findings.extend(doctor::across(&view, doctor::recorded));
    }
    findings.extend(of_installation(&root, &view));
    let answer = if args.json {
        json::text(&Form { version: 1, findings: &findings })?
    } else {
        doctor::text(&findings).into_bytes()
    };
    output::notes(notes);
    output::answer(&answer)?;
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

/// Returns the CPUs that guests may use, by claim. Only of guests whose threads may all use the same: where some are
/// bound to CPUs of their own, nothing is to be changed for all of them.
fn allowed(look: &Look, processes: &mut Processes) -> BTreeMap<String, CpuSet> {
    // The first process of a control group is not the whole guest.
    let is_one = |claim: &&Arc<Claim>| matches!(claim.owner, Owner::Process(_));
    let without = look.claims().iter().filter(is_one).filter(|claim| claim.pinned.is_empty());
    let common =
        |claim: &Arc<Claim>| Some((claim.id.to_string(), processes.cpus_of_all_threads(claim)?));
    without.filter_map(common).collect()
}

/// Finds guests with memory away from the nodes that were chosen for them.
fn remote_memory(look: &Look, processes: &mut Processes) -> Vec<Finding> {
    let rows = look.claims().iter().map(|claim| Row::of(claim, processes));
    let finding = |row: Row| {
        let (pid, percent, away) = row.misplaced()?;
        let nodes = row.nodes();
        Some(Finding {
            kind: odd::MISPLACED,
            text: format!("guest {pid} has {percent} % of its memory on its nodes ({nodes})"),
            cost: format!("{} % of its memory is remote", 100 - percent.min(100)),
            mend: Some(format!("migratepages {pid} {away} {nodes}")),
            undo: Some(format!("migratepages {pid} {nodes} {away}")),
        })
    };
    rows.filter_map(finding).collect()
}

/// Finds what keeps placer from doing all that it can on this host.
fn of_installation(root: &SysRoot, view: &View) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |kind, text: &str, cost: &str, mend: &str, undo: Option<&str>| {
        findings.push(Finding {
            kind,
            text: text.to_owned(),
            cost: cost.to_owned(),
            mend: Some(mend.to_owned()),
            undo: undo.map(str::to_owned),
        });
    };
    if view.guests.is_none() {
        found(
            "no-claims",
            "there is no directory for claims",
            "memory of guests that have just started can be promised twice",
            "export PLACER_STATE_DIR=\"$HOME/.placer\"",
            Some("unset PLACER_STATE_DIR"),
        );
    }
    if root.is_live() && !via::daemon_runs() {
        found(
            "no-daemon",
            "placer daemon does not run",
            "answers take up to 100 ms, and users other than root claim in directories of their own",
            "systemctl enable --now placer",
            Some("systemctl disable --now placer"),
        );
    }
    if root.is_live() && !geteuid().is_root() {
        found(
            "not-root",
            "placer runs without root's rights",
            "guests of other users are not examined",
            "sudo placer doctor",
            None,
        );
    }
    findings
}
