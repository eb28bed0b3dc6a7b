//! A libvirt domain: placed in its own text, and started through libvirt.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use placer_engine::claims::{Nonce, Parts};
use placer_engine::{Advice, Limits, NodeId, Request, Snapshot, SysRoot};
use placer_launcher::domain::{Domain, NumaMode, Options, Placement};
use placer_launcher::guest::{CgroupMode, ThreadPin};
use placer_launcher::libvirt::{self, Libvirt, Uri, verify};
use placer_launcher::{GuestLock, LaunchError, MemoryMode};

use super::ledger::{Claimed, Held, Ledger, OUTRUN};
use super::near::near;
use super::shown::Decision;
use super::{huge_pages, locked, nothing_started, unfit};
use crate::{output, plan};
use placer::args::Launch;
use placer::service::host::{CountedHost, Figures as _};
use placer::service::local::Local;
use placer::service::notes::Notes;
use placer::service::sampling::Window;
use placer::settings::{self, variables};

/// Starts a domain, or shows where it goes.
pub(super) fn launch(
    args: &Launch,
    domain: &Domain,
    root: &SysRoot,
    set: settings::Claims,
    notes: &mut Notes,
) -> Result<ExitCode, Box<dyn Error>> {
    refuse(args)?;
    let uri = match (&args.connect, args.print_xml) {
        (Some(uri), _) => Some(uri.clone()),
        (None, true) => None,
        (None, false) => Some(Uri::of(domain.kind()).ok_or_else(|| {
            let kind = domain.kind();
            format!(
                "guest {}: placer starts domains of type kvm, qemu and lxc, found {kind:?}; \
                 --print-xml places others too",
                domain.name()
            )
        })?),
    };
    let only_shown = args.dry_run || args.print_xml || args.define;
    let nonce = Nonce::random();
    let ledger = (!only_shown).then(|| Ledger::open(root, set, nonce, args.force, notes));
    let pages = huge_pages(domain.pages(), root)?;
    let window = Window::Recent(args.host.window);
    let host = Local::new(root, set, window).named(Some(nonce));
    let near = near(args, domain.devices(), root, notes)?;
    // Those of the loop are of its last round.
    output::notes(notes);
    let (placement, held, decided, parts) = loop {
        let (session, counted) = match &ledger {
            Some(ledger) => ledger.begin(&host, pages, notes)?,
            None => (None, host.counted(pages, notes)?),
        };
        let decided = decide(args, domain, &host, &counted, near, pages, notes)?;
        let Decided { request, advice, snapshot } = &decided;
        snapshot.notes().iter().chain(&advice.notes).for_each(|note| notes.warn(note));
        let mut mode = args.mode;
        if let Some(what) = unfit(request, advice) {
            if !args.force {
                output::notes(notes);
                return Ok(nothing_started(&what));
            }
            notes.warn(&what);
            let strict = domain.mode().unwrap_or_default() == NumaMode::Strict;
            if mode == Some(MemoryMode::Strict) || (mode.is_none() && strict) {
                // Bound to a full node the kernel would end it.
                mode = Some(MemoryMode::Preferred);
            }
        }
        let pin = args.pin.unwrap_or_default();
        let options = Options { mode, pin, isolated: args.isolated };
        let placement = Placement::of(domain, snapshot, advice, &options)?;
        placement.notes.iter().for_each(|note| notes.warn(note));
        let charged = placement.charged(advice);
        let parts = Parts::of(request, &charged, placement.own.clone(), placement.shared_cpus());
        let Some(ledger) = &ledger else { break (placement, None, decided, parts) };
        // Claimed for this process while libvirt works: nobody waits for the ledger meanwhile.
        // A node set that the definition names may not have room for its part.
        let fits = advice.fits() && parts.fit(snapshot);
        match ledger.claim(session, parts.clone(), fits, notes) {
            Claimed::Decided(held) => break (placement, held, decided, parts),
            Claimed::Again => drop(notes.take_lines()),
            Claimed::Unfit => {
                output::notes(notes);
                return Ok(nothing_started(OUTRUN));
            }
        }
    };
    output::notes(notes);
    if args.print_xml {
        output::answer(&domain.placed(&placement))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(uri) = uri else { return Ok(ExitCode::SUCCESS) };
    let lines = Libvirt::steps(&uri, domain, &placement, args.define);
    let steps: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let Decided { request, advice, snapshot } = &decided;
    let claim = held.map(|held| (held.id(), &parts));
    let name = domain.name().as_str();
    let shown = Decision { guest: name, request, advice, snapshot, steps: &steps, claim };
    let release = |held| ledger.iter().for_each(|ledger| ledger.release(held));
    let shown = shown.print(args, false).inspect_err(|_| release(held))?;
    if args.define && !args.dry_run {
        libvirt(&uri)?.define(domain, &placement)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(ledger) = &ledger else {
        if !shown {
            output::answer(steps.as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let lock = locked(domain.name(), notes, |dir| libvirt::lock(dir, domain));
    let lock = lock.inspect_err(|_| ledger.release(held))?;
    output::last_notes(notes);
    // Not the guest's until libvirt has made it, and then not this process's any more.
    start(&uri, domain, &placement, lock.as_ref(), ledger, held, notes)
        .inspect_err(|_| ledger.release(held))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses what only guests that placer starts itself have.
fn refuse(args: &Launch) -> Result<(), String> {
    let group =
        args.cgroup.is_some_and(|mode| !matches!(mode, CgroupMode::Auto | CgroupMode::None));
    let refused = [
        (group, "--cgroup", "libvirt makes the control group of a domain"),
        (args.cgroup_parent.is_some(), "--cgroup-parent", "use <resource><partition>"),
        (args.memory.is_some(), "--memory", "a domain definition says how much memory it has"),
        (args.cpus.is_some(), "--cpus", "a domain definition says how many CPUs it has"),
        (args.choice.pages.is_some(), "--pages", "use <memoryBacking><hugepages>"),
        (args.isolated && args.pin != Some(ThreadPin::Cores), "--isolated", "it needs --pin cores"),
    ];
    match refused.iter().find(|(given, ..)| *given) {
        Some((_, flag, why)) => Err(format!("{flag} does not go with a domain definition: {why}")),
        None => Ok(()),
    }
}

/// What was asked, the answer, and what it was made on.
struct Decided {
    request: Request,
    advice: Advice,
    snapshot: Arc<Snapshot>,
}

/// Asks the engine, with what the definition fixes.
fn decide(
    args: &Launch,
    domain: &Domain,
    host: &Local<'_>,
    counted: &CountedHost,
    near: Option<NodeId>,
    pages: Option<placer_engine::Bytes>,
    notes: &mut Notes,
) -> Result<Decided, Box<dyn Error>> {
    let root = host.root();
    let mut first = None;
    for ask in domain.asks(&counted.snapshot, near)? {
        let asked = Request::new(ask.cpus, ask.memory);
        // libvirt starts the guest, and is not held to what this process is held to.
        let limits = match args.choice.machine_wide {
            Some(false) => Limits::of_group(root)?,
            _ => Limits::default(),
        };
        let limits = limits.and(Limits { cpus: ask.allowed, ..Limits::default() });
        let mut request = plan::request_within(&asked, &args.choice, limits, root)?;
        request.pages = pages;
        request.near = ask.near;
        request.within = match (request.within, ask.within) {
            (Some(asked), Some(fixed)) => {
                let both = asked.intersection(&fixed);
                if both.is_empty() {
                    return Err(domain.not_within(&asked, &fixed).into());
                }
                Some(both)
            }
            (asked, fixed) => asked.or(fixed),
        };
        let (advice, snapshot) = counted.advise(&request, &host.asker(), notes)?;
        let fits = advice.fits();
        let this = Decided { request, advice, snapshot };
        if fits {
            return Ok(this);
        }
        first.get_or_insert(this);
    }
    first.ok_or_else(|| "nothing was asked".into())
}

/// Finds a libvirt of this host.
pub(super) fn libvirt(uri: &Uri) -> Result<Libvirt, LaunchError> {
    let session = variables::value("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    Libvirt::new(uri.clone(), session.as_deref())
}

/// Starts, hands the claim over, looks, lets run.
fn start(
    uri: &Uri,
    domain: &Domain,
    placement: &Placement,
    lock: Option<&GuestLock>,
    ledger: &Ledger,
    held: Option<Held>,
    notes: &mut Notes,
) -> Result<(), LaunchError> {
    let libvirt = libvirt(uri)?;
    let created = libvirt.create(domain, placement, lock)?;
    let found = verify(Path::new("/proc"), created.pid(), placement, uri.driver())?;
    found.iter().for_each(|note| notes.warn(note));
    ledger.adopt(held, created.pid(), None, notes);
    created.resume()
}
