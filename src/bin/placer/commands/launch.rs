//! `placer launch`: starts a guest where the advice says.

mod clients;
mod definition;
mod domain;
mod ledger;
mod near;
mod ranks;
mod shown;
mod start;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use placer_engine::claims::Nonce;
use placer_engine::source::{default_huge_page, device};
use placer_engine::store::StateDir;
use placer_engine::{Advice, Bytes, Limits, Request, SourceError, SysRoot};
use placer_launcher::domain::Domain;
use placer_launcher::guest::{
    CgroupMode, CpuPlacement, Guest, GuestName, NodeChoice, Pages, Program,
};
use placer_launcher::sys::may_set_memory_policy;
use placer_launcher::{GuestLock, LaunchError, MemoryMode};

use crate::output;
use crate::plan;
use definition::Definition;
use ledger::{Claimed, Ledger, OUTRUN};
use placer::args::{Launch, Place};
use placer::error_chain::chain;
use placer::service::advise::shortage;
use placer::service::host::Figures as _;
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::{Window, state_dir};
use placer::settings;
use shown::Decision;
use start::{Claimant, Drafted, Plan};

/// How long any one other launcher may have the ledger. An answer has no time to lose, see
/// `claiming`; a guest that starts may well wait, rather than have its memory promised twice.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a virtual machine has to shut down: less than the 90 s that systemd gives a service.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Nothing was started, since it does not fit.
const UNFIT: u8 = 1;

pub(crate) fn run(
    args: &Launch,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    let only_shown = args.dry_run || args.print_xml;
    if args.host.root.is_some() && !only_shown {
        return Err("--root needs --dry-run or --print-xml: a guest runs on this machine".into());
    }
    shown::check(args)?;
    let root = plan::root(&args.host);
    if args.ranks {
        return ranks::run(args, &root, set, notes);
    }
    let guest = match definition::read(args, notes)? {
        Definition::Guest(guest) => guest,
        Definition::Domain(domain) => return domain::launch(args, &domain, &root, set, notes),
    };
    for (given, flag) in [(args.print_xml, "--print-xml"), (args.define, "--define")] {
        if given {
            return Err(format!("{flag} needs a libvirt domain definition").into());
        }
    }
    if let Some(instead) = clients::instead(&args.command) {
        notes.warn(&instead);
    }
    let locks = if only_shown { Vec::new() } else { locks(&guest, notes)? };
    let request = request(args, &guest, &root, notes)?;
    let window = Window::Recent(args.host.window);
    let nonce = Nonce::random();
    // Who only looks leaves the ledger alone, and waits for no lock.
    let ledger = (!only_shown).then(|| Ledger::open(&root, set, nonce, args.force, notes));
    let figures = Local::new(&root, set, window).named(Some(nonce));
    let named = guest;
    // Those of the loop are of its last round.
    output::notes(notes);
    let (guest, drafted, held, advice, snapshot, parts) = loop {
        let mut guest = named.clone();
        let (session, host) = match &ledger {
            Some(ledger) => ledger.begin(&figures, request.pages, notes)?,
            None => (None, figures.counted(request.pages, notes)?),
        };
        let (advice, snapshot) = host.advise(&request, &figures.asker(), notes)?;
        snapshot.notes().iter().chain(&advice.notes).for_each(|note| notes.warn(note));
        if let Some(what) = unfit(&request, &advice) {
            if !args.force {
                output::notes(notes);
                return Ok(nothing_started(&what));
            }
            notes.warn(&what);
            if guest.mode == MemoryMode::Strict {
                // Bound to a full node the kernel would end it.
                guest.mode = MemoryMode::Preferred;
            }
        }
        if root.is_live() && snapshot.topology().nodes().len() > 1 {
            unbind_where_forbidden(args, &mut guest, notes);
        }
        let drafted = Drafted::of(&guest, &advice, &snapshot)?;
        let parts = drafted.parts(&request, &advice);
        let Some(ledger) = &ledger else { break (guest, drafted, None, advice, snapshot, parts) };
        // Claimed at once, for this process: the guest's may take long to come.
        let fits = advice.fits() && parts.fit(&snapshot);
        match ledger.claim(session, parts.clone(), fits, notes) {
            Claimed::Decided(held) => break (guest, drafted, held, advice, snapshot, parts),
            Claimed::Again => drop(notes.take_lines()),
            Claimed::Unfit => {
                output::notes(notes);
                return Ok(nothing_started(OUTRUN));
            }
        }
    };
    let plan = Plan::new(&guest, drafted, &root, notes);
    output::notes(notes);
    let shown = |plan: &Plan| {
        let (name, steps) = (guest.name.as_str(), plan.text());
        let claim = held.map(|held| (held.id(), &parts));
        let (request, advice, snapshot) = (&request, &advice, &*snapshot);
        Decision { guest: name, request, advice, snapshot, steps: &steps, claim }
            .print(args, ledger.is_some())
    };
    let Some(ledger) = &ledger else {
        let plan = plan?;
        if !shown(&plan)? {
            output::answer(plan.text().as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let plan = plan.inspect_err(|_| ledger.release(held))?;
    shown(&plan).inspect_err(|_| ledger.release(held))?;
    let claimant = Claimant { ledger, held, notes, locks };
    plan.perform(claimant, args.stop_timeout.unwrap_or(STOP_TIMEOUT))
}

/// Places a domain that libvirt has, in its persistent definition.
pub(crate) fn place(
    args: Place,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    if args.host.root.is_some() && !args.dry_run && !args.print_xml {
        return Err(
            "--root needs --dry-run or --print-xml: libvirt's guests run on this machine".into()
        );
    }
    let stored = domain::libvirt(&args.connect)?.stored(&args.name)?;
    let read = Domain::parse(&args.name, &stored.text)?;
    read.notes.iter().for_each(|note| notes.warn(note));
    let name = read.value.name();
    if stored.saved {
        notes.warn(&format!(
            "guest {name} has a saved state, which virsh start restores where it was: \
             virsh start --force-boot uses the new placement"
        ));
    } else if stored.running {
        notes.warn(&format!(
            "guest {name} runs: it keeps its place until it is shut down and started again"
        ));
    }
    let args = Launch::from(args);
    let root = plan::root(&args.host);
    domain::launch(&args, &read.value, &root, set, notes)
}

/// Takes what keeps a guest from being started twice, before it is decided on.
///
/// Errors: it runs already.
fn locks(guest: &Guest, notes: &mut Notes) -> Result<Vec<GuestLock>, LaunchError> {
    if !guest.program.is_machine() {
        return Ok(Vec::new());
    }
    locked(&guest.name, notes, |dir| GuestLock::take(dir, guest))
}

/// Takes locks where state is kept. Where none can be had, a note says so.
fn locked<T: Default>(
    name: &GuestName,
    notes: &mut Notes,
    take: impl FnOnce(&StateDir) -> Result<T, LaunchError>,
) -> Result<T, LaunchError> {
    let why = match state_dir().map(|dir| StateDir::open(&dir)) {
        None => "XDG_RUNTIME_DIR is not set".to_owned(),
        Some(Err(error)) => chain(&error).to_string(),
        Some(Ok(dir)) => match take(&dir) {
            Err(error) if error.errno() != Errno::EBUSY => chain(&error).to_string(),
            taken => return taken,
        },
    };
    notes.warn(&format!("{name}: not kept from being started twice: {why}"));
    Ok(T::default())
}

/// Returns what the guest may use. A command has the launcher's own limits. A guest's definition may
/// have more CPUs than the launcher's affinity, since a service that starts guests may itself be held
/// to a few, but no more than the control group that both are in.
fn limits(args: &Launch, guest: &Guest, root: &SysRoot) -> Result<Limits, SourceError> {
    let cgroup = &guest.cgroup;
    let elsewhere = cgroup.mode == CgroupMode::Systemd
        || (cgroup.mode != CgroupMode::None && cgroup.parent.is_some());
    match args.choice.machine_wide.unwrap_or(args.guest.is_some()) {
        false => Limits::read(root),
        true if elsewhere => Ok(Limits::default()),
        true => Limits::of_group(root),
    }
}

/// Leaves memory unbound, with one warning, where a filter of system calls forbids memory policies and
/// no mode was asked for. One that was asked for fails when it is set.
fn unbind_where_forbidden(args: &Launch, guest: &mut Guest, notes: &mut Notes) {
    let asked = args.mode.is_some() || guest.mode_given || guest.nodes != NodeChoice::Advised;
    if asked || guest.mode == MemoryMode::None {
        return;
    }
    if let Err(errno) = may_set_memory_policy() {
        notes.warn(&unbound(errno));
        guest.mode = MemoryMode::None;
    }
}

/// Says that memory is not bound.
fn unbound(errno: Errno) -> String {
    format!(
        "memory is not bound: this process may set no memory policy ({}), as under a container \
         runtime's filter; CPUs are bound",
        errno.desc()
    )
}

/// Returns what does not fit, if anything.
fn unfit(request: &Request, advice: &Advice) -> Option<String> {
    advice.shortfall.map(|short| shortage(request, advice, short))
}

fn nothing_started(what: &str) -> ExitCode {
    output::line(&format!("placer: not starting: {what}; use --force to start anyway"));
    ExitCode::from(UNFIT)
}

/// Returns the size of the huge pages of a guest.
fn huge_pages(pages: Pages, root: &SysRoot) -> Result<Option<Bytes>, Box<dyn Error>> {
    match pages {
        Pages::Ordinary => Ok(None),
        Pages::Huge(size) => Ok(Some(size)),
        Pages::HugeDefault => match default_huge_page(root)? {
            Some(size) => Ok(Some(size)),
            None => Err("huge pages: this kernel has none (/proc/meminfo)".into()),
        },
    }
}

/// Returns what is asked for the guest. Where its definition fixes CPUs or nodes by hand, the rest
/// is chosen among those.
fn request(
    args: &Launch,
    guest: &Guest,
    root: &SysRoot,
    notes: &mut Notes,
) -> Result<Request, Box<dyn Error>> {
    let ask = guest.ask();
    let (ask, limits) = (Request::new(ask.cpus, ask.memory), limits(args, guest, root)?);
    let mut request = plan::request_within(&ask, &args.choice, limits, root)?;
    request.pages = huge_pages(guest.pages, root)?;
    if let Some(name) = &guest.near {
        request.near = Some(device::node_of(root, name)?);
    }
    if let Program::Line(line) = &guest.program {
        request.near = near::near(args, &line.devices, root, notes)?;
    }
    if let NodeChoice::Fixed(nodes) = &guest.nodes
        && guest.mode != MemoryMode::None
    {
        let within = request.within.map_or(nodes.clone(), |within| within.intersection(nodes));
        request.within = Some(within);
    }
    if let CpuPlacement::Fixed(cpus) = &guest.placement {
        let cpus = Limits { cpus: Some(cpus.clone()), ..Limits::default() };
        request.limits = request.limits.and(cpus);
    }
    Ok(request)
}
