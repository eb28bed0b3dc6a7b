//! Asks the daemon, where there is one: `--via auto|daemon`.
//!
//! The same answer as from the engine, byte for byte, since the daemon makes the text and refuses
//! clients that would have answered differently: another version, other settings. What it does not
//! answer in time, this process answers itself.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use nix::unistd::{geteuid, getppid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::numad;
use crate::protocol::forms::{
    AdoptForm, AdviseForm, Calling, ClaimForm, ClaimedReply, DoneReply, Failed, NumadForm,
    NumadOptions, NumadReply, PartsForm, PrintForm, PrintedReply, Reason, Reply, RequestForm,
};
use crate::protocol::wire::{Patience, Wire};
use crate::protocol::{INTERFACE, LONGEST_REPLY, SOCKET, VERSION, settings_mark};
use crate::service::advise::{Answer, Question};
use crate::service::notes::Notes;
use crate::service::sampling;
use crate::settings::Settings;
use crate::settings::variables;
use placer_engine::claims::{ClaimError, ClaimId, ClaimOwner, Nonce, Parts};

/// How long an answer may take before this process gives its own.
const ADVICE: Duration = Duration::from_millis(50);
/// The same where the ledger's lock may have to be waited for.
const CLAIM: Duration = Duration::from_millis(400);
/// The same for a guest that is being started: rather than have its memory promised twice it waits.
const GUEST: Duration = Duration::from_secs(10);
/// For so long a daemon is asked again that has not replied about a claim, or is busy.
const ASKED_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait before that.
const PAUSE: Duration = Duration::from_millis(100);
/// Root's daemon answers everybody.
const ROOTS: &str = "/run/placer";

/// What came of asking.
pub enum Asked<T> {
    Answered(T),
    /// The daemon says why there is no answer: the engine would say the same.
    Failed(String),
    /// There is none that answers, and why.
    Nobody(String),
}

/// Asks what `placer advise` asks.
pub fn advise(question: &Question, set: &Settings, notes: &mut Notes) -> Asked<Answer> {
    let print = PrintForm::of(question.form, question.strict, settings_mark(set));
    let request = RequestForm::of(&question.request, question.numad);
    let (explain, print) = (None, Some(print));
    let asked = match &question.claim {
        None => ask("Advise", &AdviseForm { request, explain, print }, ADVICE, notes),
        Some(ClaimOwner::Hold(time)) => {
            let hold_ms = u64::try_from(time.as_millis()).ok();
            let caller = u32::try_from(getppid().as_raw()).ok();
            let nonce = question.nonce.map(|nonce| nonce.to_string());
            let form = ClaimForm { request, hold_ms, pid: None, caller, nonce, explain, print };
            ask("AdviseAndClaim", &form, CLAIM, notes)
        }
        Some(_) => return Asked::Nobody("it is not asked on behalf of another process".to_owned()),
    };
    match asked {
        Asked::Answered(PrintedReply { printed }) => {
            printed.lines.iter().for_each(|line| notes.line(line));
            let (text, status) = (printed.text.into_bytes(), printed.status);
            Asked::Answered(Answer { text, status, advice: None, claim: None })
        }
        Asked::Failed(reason) => Asked::Failed(reason),
        Asked::Nobody(why) => Asked::Nobody(why),
    }
}

/// Asks what `numad -w` asks, with the name of what may be held. The lines of numad's log are written here, as the caller.
pub fn numad(
    options: &numad::Options,
    advice: numad::Advice,
    set: &Settings,
    nonce: Option<Nonce>,
    log: &mut numad::Log,
    notes: &mut Notes,
) -> Asked<String> {
    let Some(options) = NumadOptions::of(options) else {
        return Asked::Nobody("its options are not valid UTF-8".to_owned());
    };
    let form = NumadForm {
        cpus: advice.cpus_hundredths,
        megabytes: advice.megabytes,
        options,
        version: VERSION.to_owned(),
        settings: settings_mark(set),
        caller: u32::try_from(getppid().as_raw()).ok(),
        nonce: nonce.map(|nonce| nonce.to_string()),
    };
    let time = if set.numad.hold == crate::settings::Hold::Adopt { CLAIM } else { ADVICE };
    match ask::<NumadReply>("Numad", &form, time, notes) {
        Asked::Answered(reply) => {
            reply.lines.iter().for_each(|line| notes.line(line));
            reply.log.iter().for_each(|line| log.write(line.level, &line.text));
            Asked::Answered(reply.nodes)
        }
        // numad's own words for it are in its log, which the engine writes.
        Asked::Failed(why) | Asked::Nobody(why) => Asked::Nobody(why),
    }
}

/// Returns whether a daemon accepts connections where this user's requests go.
pub fn daemon_runs() -> bool {
    places().iter().any(|path| connected(path).is_ok())
}

fn ask<T: DeserializeOwned>(
    method: &str,
    parameters: &impl Serialize,
    time: Duration,
    notes: &mut Notes,
) -> Asked<T> {
    let mut why = "there is no directory for its socket".to_owned();
    for path in places() {
        match ask_at(&path, method, parameters, time) {
            Ok(Ok(reply)) => return Asked::Answered(reply),
            Ok(Err(failed)) => {
                failed.lines.iter().for_each(|line| notes.line(line));
                return Asked::Failed(failed.reason);
            }
            Err(error) => why = format!("{}: {error}", path.display()),
        }
    }
    Asked::Nobody(why)
}

/// Where a daemon may answer: where the claims of this user are kept, and root's.
fn places() -> Vec<PathBuf> {
    let own = sampling::state_dir();
    let apart = variables::value("PLACER_STATE_DIR").is_some();
    let roots = (!geteuid().is_root() && !apart).then(|| PathBuf::from(ROOTS));
    roots.into_iter().chain(own).map(|dir| dir.join(SOCKET)).collect()
}

/// Asks one socket. The inner error is an answer: that there is none.
fn ask_at<T: DeserializeOwned>(
    path: &Path,
    method: &str,
    parameters: &impl Serialize,
    time: Duration,
) -> Result<Result<T, Failed>, String> {
    let Replied { error, parameters } = call_at(path, method, parameters, time)?;
    match error.as_deref() {
        None => serde_json::from_str(&parameters).map(Ok).map_err(|error| error.to_string()),
        Some("org.placer.Daemon.Failed") => {
            serde_json::from_str(&parameters).map(Err).map_err(|error| error.to_string())
        }
        Some(error) => Err(format!("{error} {parameters}")),
    }
}

/// A reply: the name of an error, if it is one, and the text of its parameters.
struct Replied {
    error: Option<String>,
    parameters: String,
}

fn call_at(
    path: &Path,
    method: &str,
    parameters: &impl Serialize,
    time: Duration,
) -> Result<Replied, String> {
    let stream = connected(path).map_err(|e| e.desc().to_owned())?;
    call_on(stream, method, parameters, time)
}

fn call_on(
    stream: OwnedFd,
    method: &str,
    parameters: &impl Serialize,
    time: Duration,
) -> Result<Replied, String> {
    let owner = owner_of(&stream)?;
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(format!(
            "expected a daemon of root or of this user, found one of user {owner}"
        ));
    }
    let mut wire = Wire::new(UnixStream::from(stream));
    let method = format!("{INTERFACE}.{method}");
    let mut call = serde_json::to_vec(&Calling { method: &method, parameters })
        .map_err(|error| error.to_string())?;
    call.push(0);
    let late = || format!("no answer within {} ms", time.as_millis());
    wire.send(&call, time).map_err(|_| late())?;
    let patience = Patience { idle: time, message: time };
    let text = wire.message(LONGEST_REPLY, patience).map_err(|_| late())?;
    let reply: Reply<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let parameters = reply.parameters.map_or("{}", RawValue::get).to_owned();
    Ok(Replied { error: reply.error, parameters })
}

/// Returns the user whose process is at the other end.
///
/// Errors: the kernel does not say.
pub(crate) fn owner_of(stream: &OwnedFd) -> Result<u32, String> {
    let credentials = getsockopt(&stream.as_fd(), sockopt::PeerCredentials);
    Ok(credentials.map_err(nix::Error::desc)?.uid())
}

/// What came of a claim that this process has decided on.
pub enum Committed {
    Made(ClaimId),
    /// It does not fit any more beside what was claimed meanwhile.
    Changed,
    /// The daemon says why not.
    Refused(String),
    /// There is no daemon that answers.
    Nobody,
}

/// Where root's daemon answers users, who claim in the host's ledger through it.
fn hosts_socket() -> Option<PathBuf> {
    if geteuid().is_root() {
        return None;
    }
    let apart = variables::value("PLACER_STATE_DIR").and_then(|_| sampling::state_dir());
    Some(apart.unwrap_or_else(|| PathBuf::from(ROOTS)).join(SOCKET))
}

/// Returns whether there is a daemon of root's that claims for this user.
pub fn hosts_daemon_runs() -> bool {
    let stream = hosts_socket().and_then(|path| connected(&path).ok());
    stream.is_some_and(|stream| owner_of(&stream) == Ok(0))
}

/// Claims what was decided, for this process, in the host's ledger. A daemon that has heard the request and does
/// not reply may have made the claim: it is asked again by the same name, and then has one. `forced`: the guest
/// starts although it does not fit.
pub fn claim_parts(parts: &Parts, forced: bool, nonce: Nonce) -> Committed {
    let Some(path) = hosts_socket() else { return Committed::Nobody };
    let form = PartsForm::of(parts, forced, 0, Some(nonce));
    match call_until_replied(&path, "Commit", &form) {
        Ok((reply, _)) => committed(&reply),
        Err(NoReply::Busy) => Committed::Refused("the daemon is busy".to_owned()),
        Err(NoReply::None(_)) => Committed::Nobody,
    }
}

/// A changed claim as the daemon lists it, or why it is not changed.
type Changed = Result<serde_json::Value, String>;

/// Why a call that is made once, however often it is asked for, has no reply.
enum NoReply {
    Busy,
    None(String),
}

/// Calls a method that may be repeated: a daemon that has heard the call and does not reply may have done what it
/// says, and is asked again for some seconds. Returns also whether a reply to an earlier call was lost.
fn call_until_replied(
    path: &Path,
    method: &str,
    parameters: &impl Serialize,
) -> Result<(Replied, bool), NoReply> {
    let mut until = None;
    let mut lost = false;
    loop {
        let left = |until: &Instant| until.saturating_duration_since(Instant::now());
        let time = until.as_ref().map_or(GUEST, |until| left(until).max(PAUSE));
        let (why, again) = match connected(path) {
            Ok(stream) => match call_on(stream, method, parameters, time) {
                Ok(reply) if reply.error.as_deref() == Some("org.placer.Daemon.Busy") => {
                    (NoReply::Busy, true)
                }
                Ok(reply) => return Ok((reply, lost)),
                Err(why) => {
                    lost = true;
                    (NoReply::None(why), true)
                }
            },
            // Nothing was asked yet, and there is nobody: not even one that has too much to do.
            Err(errno) => (
                NoReply::None(errno.desc().to_owned()),
                until.is_some() || errno == nix::Error::EAGAIN,
            ),
        };
        if !again || left(until.get_or_insert_with(|| Instant::now() + ASKED_AGAIN)).is_zero() {
            return Err(why);
        }
        std::thread::sleep(PAUSE);
    }
}

fn committed(reply: &Replied) -> Committed {
    match reply.error.as_deref() {
        None => match serde_json::from_str::<ClaimedReply>(&reply.parameters) {
            Ok(ClaimedReply { claim }) => claim.parse().map_or_else(
                |_| Committed::Refused(format!("the daemon names no claim: {claim}")),
                Committed::Made,
            ),
            Err(error) => Committed::Refused(error.to_string()),
        },
        Some("org.placer.Daemon.Changed") => Committed::Changed,
        Some("org.placer.Daemon.NotClaimed" | "org.placer.Daemon.NotAllowed") => {
            Committed::Refused(reason(&reply.parameters))
        }
        // An older daemon.
        Some("org.varlink.service.MethodNotFound" | "org.varlink.service.InterfaceNotFound") => {
            Committed::Nobody
        }
        // One that does not know `forced`.
        Some("org.varlink.service.InvalidParameter") if reply.parameters.contains("forced") => {
            Committed::Nobody
        }
        Some(error) => Committed::Refused(format!("{error} {}", reply.parameters)),
    }
}

fn reason(parameters: &str) -> String {
    serde_json::from_str(parameters)
        .map_or_else(|_| parameters.to_owned(), |Reason { reason }| reason)
}

/// Makes a claim of the host's ledger that of a process, or of its cgroup. Returns the claim as the daemon lists it.
///
/// Errors: why not.
pub fn adopt(id: ClaimId, pid: u32, cgroup: bool) -> Result<serde_json::Value, String> {
    change("Adopt", &AdoptForm { claim: id.to_string(), pid, cgroup: Some(cgroup) })?.0
}

/// Ends a claim of the host's ledger. Returns it as the daemon lists it; `None` where that reply was lost, and the
/// claim has ended.
///
/// Errors: why not.
pub fn release(id: ClaimId) -> Result<Option<serde_json::Value>, String> {
    let (done, lost) = change("Release", &serde_json::json!({ "claim": id.to_string() }))?;
    match done {
        Err(why) if lost && why == ClaimError::NoSuchClaim(id).to_string() => Ok(None),
        done => done.map(Some),
    }
}

/// Changes a claim: done twice it is as done once. Returns what the daemon replied, and whether an earlier reply was
/// lost.
///
/// Errors: no reply.
fn change(method: &str, form: &impl Serialize) -> Result<(Changed, bool), String> {
    let path = hosts_socket().ok_or("root changes claims without the daemon")?;
    let replied = call_until_replied(&path, method, form);
    let (Replied { error, parameters }, lost) = replied.map_err(|error| match error {
        NoReply::Busy => "the daemon is busy".to_owned(),
        NoReply::None(why) => format!("{}: {why}", path.display()),
    })?;
    let changed = match error.as_deref() {
        None => {
            let done = serde_json::from_str::<DoneReply>(&parameters);
            done.map(|done| done.claim).map_err(|error| error.to_string())
        }
        Some(_) => Err(reason(&parameters)),
    };
    Ok((changed, lost))
}

/// Connects without waiting: where too many wait already, this process answers sooner.
///
/// Errors: the kernel's.
pub(crate) fn connected(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)?;
    Ok(fd)
}
