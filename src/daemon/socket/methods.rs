//! What can be asked on the socket, and the answers as messages.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use placer_engine::Policy;
use placer_engine::claims::{ClaimOwner, Processes};
use placer_engine::policy::best;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::clients::{Account, Heavy};
use super::{Served, claims, message};
use crate::daemon::core::Gone;
use crate::daemon::peer::Peer;
use crate::error_chain::chain;
use crate::numad;
use crate::protocol::forms::{
    AdviceReply, AdviseForm, Call, ClaimForm, Failed, LogLine, NumadForm, NumadReply, Other,
    PrintForm, Printed, Reason, RequestForm,
};
use crate::protocol::wire::{Lost, Wire};
use crate::protocol::{
    DESCRIPTION, INTERFACE, SERVICE, SERVICE_DESCRIPTION, VERSION, settings_mark,
};
use crate::report::claims::{OthersRow, Row};
use crate::report::json::HostForm;
use crate::service::advise::{Form, Question};

/// The most steps that a user may have searched for when it claims: the default on large hosts.
const MOST_OF_USERS: u64 = 140_000;

/// What comes after a message.
pub(super) enum Next {
    /// This is sent. The leave that a long answer took is given back when it was.
    Reply(Vec<u8>, Option<Heavy>),
    /// The client wants no reply.
    Nothing,
    /// The client sees all that is new from now on.
    Watch,
    /// That was no call.
    Close,
}

/// An answer, or an error by its name.
type Answered = Result<Vec<u8>, Fault>;

struct Fault {
    name: String,
    parameters: serde_json::Value,
}

fn fault(name: &str, parameters: &impl Serialize) -> Fault {
    let parameters = serde_json::to_value(parameters).unwrap_or_default();
    Fault { name: format!("{INTERFACE}.{name}"), parameters }
}

/// An error that every service has.
fn common(name: &str, key: &str, value: &str) -> Fault {
    let parameters = match key {
        "" => serde_json::json!({}),
        _ => serde_json::json!({ key: value }),
    };
    Fault { name: format!("{SERVICE}.{name}"), parameters }
}

fn invalid(parameter: &str) -> Fault {
    common("InvalidParameter", "parameter", parameter)
}

fn reply(parameters: &impl Serialize) -> Answered {
    #[derive(Serialize)]
    struct Form<'a, T> {
        parameters: &'a T,
    }
    Ok(message(&Form { parameters }))
}

/// Answers one message.
pub(super) fn answer(text: &[u8], peer: &Peer, served: &Served, gone: Gone<'_>) -> Next {
    let Ok(call) = serde_json::from_slice::<Call<'_>>(text) else { return Next::Close };
    let mut leave = None;
    let answered = match call.method.as_str() {
        _ if call.upgrade => Err(common("MethodNotImplemented", "method", &call.method)),
        "org.placer.Daemon.Watch" if call.more => return Next::Watch,
        method => match method.rsplit_once('.') {
            Some((SERVICE, name)) => service(name, &call),
            Some((INTERFACE, name)) => {
                let takes_long = matches!(name, "Guests" | "Host" | "Watch");
                let account = Account::of(peer);
                leave = if takes_long { served.clients.heavy(account) } else { None };
                if takes_long && leave.is_none() {
                    Err(fault("Busy", &serde_json::json!({})))
                } else {
                    match served.clients.turn(account) {
                        // It has gone while the daemon, or its turn, was waited for.
                        Some(_) if !call.oneway && gone() => return Next::Nothing,
                        Some(_turn) => ours(name, &call, peer, served, gone),
                        None => Err(fault("Busy", &serde_json::json!({}))),
                    }
                }
            }
            Some((other, _)) => Err(common("InterfaceNotFound", "interface", other)),
            None => Err(common("InterfaceNotFound", "interface", method)),
        },
    };
    if call.oneway {
        return Next::Nothing;
    }
    Next::Reply(answered.unwrap_or_else(|fault| error(&fault)), leave)
}

fn error(fault: &Fault) -> Vec<u8> {
    #[derive(Serialize)]
    struct Form<'a> {
        error: &'a str,
        parameters: &'a serde_json::Value,
    }
    message(&Form { error: &fault.name, parameters: &fault.parameters })
}

fn service(name: &str, call: &Call<'_>) -> Answered {
    #[derive(Deserialize)]
    struct Of {
        interface: String,
    }
    match name {
        "GetInfo" => reply(&serde_json::json!({
            "vendor": "placer",
            "product": "placer",
            "version": VERSION,
            // The source says no more of where it comes from.
            "url": env!("CARGO_PKG_REPOSITORY"),
            "interfaces": [SERVICE, INTERFACE],
        })),
        "GetInterfaceDescription" => {
            let Of { interface } = parameters(call)?;
            let description = match interface.as_str() {
                SERVICE => SERVICE_DESCRIPTION,
                INTERFACE => DESCRIPTION,
                _ => return Err(common("InterfaceNotFound", "interface", &interface)),
            };
            reply(&serde_json::json!({ "description": description }))
        }
        _ => Err(common("MethodNotFound", "method", &call.method)),
    }
}

fn ours(name: &str, call: &Call<'_>, peer: &Peer, served: &Served, gone: Gone<'_>) -> Answered {
    match name {
        "Advise" => {
            let AdviseForm { request, explain, print } = parameters(call)?;
            advise(request, None, explain, print.as_ref(), peer, served, gone)
        }
        "AdviseAndClaim" => {
            let form: ClaimForm = parameters(call)?;
            let (peer, who) = claims::claimant(&form, peer)
                .map_err(|reason| fault("NotAllowed", &Reason { reason }))?;
            let ClaimForm { request, explain, print, .. } = form;
            let print = print.as_ref();
            advise(request, Some(who), explain, print, &peer, served, gone)
        }
        "Release" => {
            #[derive(Deserialize)]
            struct Of {
                claim: String,
            }
            let Of { claim } = parameters(call)?;
            let id = claim.parse().map_err(|_| invalid("claim"))?;
            let released = claims::release(id, peer, &served.core)
                .map_err(|reason| fault("NotAllowed", &Reason { reason }))?;
            let mut look = Processes::look().map_err(|e| failed(&e))?;
            reply(&serde_json::json!({ "released": Row::of(&released, &mut look) }))
        }
        "Adopt" => {
            let form = parameters(call)?;
            let adopted = claims::adopt(&form, peer, &served.core)
                .map_err(|reason| fault("NotAllowed", &Reason { reason }))?;
            let mut look = Processes::look().map_err(|e| failed(&e))?;
            let adopted = Row::without_memory(&adopted, &mut look);
            reply(&serde_json::json!({ "adopted": adopted }))
        }
        "Commit" => {
            let form = parameters(call)?;
            match claims::claim_parts(form, peer, &served.core, gone).map_err(invalid)? {
                Ok(claims::Claimed::Made(id)) => {
                    if gone() {
                        claims::withdraw(id, peer, &served.core);
                    }
                    reply(&serde_json::json!({ "claim": id.to_string() }))
                }
                Ok(claims::Claimed::Changed) => Err(fault("Changed", &serde_json::json!({}))),
                Err(reason) => Err(fault("NotClaimed", &Reason { reason })),
            }
        }
        "Guests" => {
            let host = served.core.host().map_err(|e| failed(&e))?;
            let mut look = Processes::look().map_err(|e| failed(&e))?;
            let claims = host.claims.as_deref().unwrap_or_default();
            let (claims, others) = claims::rows(claims, &mut look, peer, gone);
            reply(&GuestsForm { claims, others })
        }
        "Host" => reply(&serde_json::json!({ "host": host(served, peer, true)? })),
        "Watch" => reply(&serde_json::json!({ "host": host(served, peer, false)? })),
        "Numad" => numads(parameters(call)?, peer, served, gone),
        _ => Err(common("MethodNotFound", "method", &call.method)),
    }
}

/// What `Guests` replies.
#[derive(Serialize)]
struct GuestsForm {
    claims: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<OthersRow>,
}

fn parameters<T: DeserializeOwned>(call: &Call<'_>) -> Result<T, Fault> {
    let text = call.parameters.map_or("{}", RawValue::get);
    serde_json::from_str(text).map_err(|error| {
        // serde names the field in backquotes, where it knows it.
        let said = error.to_string();
        let name = said.split('`').nth(1).unwrap_or("parameters");
        invalid(name)
    })
}

fn failed(error: &dyn std::error::Error) -> Fault {
    let reason = chain(error);
    fault("Failed", &Failed { reason, lines: Vec::new(), log: Vec::new() })
}

/// Refuses a client that would have answered otherwise.
fn same(version: &str, settings: &str, served: &Served) -> Result<(), Fault> {
    if version != VERSION {
        return Err(fault("Other", &Other { daemon: VERSION, client: version }));
    }
    let mark = settings_mark(&served.core.settings());
    if settings != mark {
        return Err(fault("Other", &Other { daemon: &mark, client: settings }));
    }
    Ok(())
}

fn advise(
    request: RequestForm,
    claim: Option<ClaimOwner>,
    explain: Option<bool>,
    print: Option<&PrintForm>,
    peer: &Peer,
    served: &Served,
    gone: Gone<'_>,
) -> Answered {
    let wanted = claim.is_some();
    let mut form = Form::Compact { explain: explain.unwrap_or(false) };
    let mut strict = false;
    if let Some(print) = print {
        same(&print.version, &print.settings, served)?;
        form = print.read().map_err(invalid)?;
        strict = print.strict;
    }
    let in_force = || served.core.settings().numad_version();
    let (request, numad) = request.read(in_force).map_err(invalid)?;
    if let Policy::Best(best::Rules { effort: Some(effort), .. }) = &request.policy
        && wanted
        && !peer.is_trusted()
        && *effort > MOST_OF_USERS
    {
        let reason = format!(
            "effort {effort}: others wait while a claim is chosen, so at most {MOST_OF_USERS} for users"
        );
        return Err(fault("NotAllowed", &Reason { reason }));
    }
    let question = Question { request, numad, claim, nonce: peer.nonce, strict, form };
    let told = served.core.advise(&question, peer, gone);
    let answer = match told.result {
        Ok(answer) => answer,
        Err(reason) => {
            let failed = Failed { reason, lines: told.lines, log: Vec::new() };
            return Err(fault("Failed", &failed));
        }
    };
    if let Some(id) = answer.claim.filter(|_| gone()) {
        // Nobody hears of it. A client that asks again, elsewhere, replaces or makes its own.
        claims::withdraw(id, peer, &served.core);
    }
    let text = String::from_utf8(answer.text).unwrap_or_default();
    let claim = answer.claim.map(|id| id.to_string());
    if print.is_some() {
        let printed = Some(Printed { status: answer.status, text, lines: told.lines });
        return reply(&AdviceReply { claim, advice: None, printed });
    }
    if wanted && claim.is_none() {
        let reason = told.lines.into_iter().next_back().unwrap_or_default();
        return Err(fault("NotClaimed", &Reason { reason }));
    }
    let advice = serde_json::from_str::<&RawValue>(&text).map_err(|e| failed(&e))?;
    reply(&AdviceReply { claim, advice: Some(advice), printed: None })
}

fn numads(form: NumadForm, peer: &Peer, served: &Served, gone: Gone<'_>) -> Answered {
    same(&form.version, &form.settings, served)?;
    let peer = claims::on_behalf(form.caller, peer);
    let peer = claims::named(peer, form.nonce.as_deref()).map_err(|_| invalid("nonce"))?;
    let advice = numad::Advice { cpus_hundredths: form.cpus, megabytes: form.megabytes };
    let options = form.options.read().map_err(invalid)?;
    let settings = served.core.settings();
    let (told, log) = served.core.numad_with(&options, advice, &settings, &peer, gone);
    let log = log.into_iter().map(|(level, text)| LogLine { level, text }).collect();
    match told.result {
        Ok(nodes) => reply(&NumadReply { nodes, lines: told.lines, log }),
        Err(reason) => Err(fault("Failed", &Failed { reason, lines: told.lines, log })),
    }
}

/// Returns a host as `placer show --json` tells it, with its table of distances or without.
fn host(served: &Served, peer: &Peer, distances: bool) -> Result<serde_json::Value, Fault> {
    let counted = served.core.host().map_err(|e| failed(&e))?;
    let view = served.core.warm().view(&counted);
    let mut form = HostForm::new(&view, None);
    if !distances {
        form = form.without_distances();
    }
    if !claims::may_do_all(peer) {
        form = form.without_guests_memory();
    }
    serde_json::to_value(form).map_err(|e| failed(&e))
}

/// Sends the host again and again, until the client closes or does not read.
pub(super) fn watch(
    wire: &mut Wire<UnixStream>,
    peer: &Peer,
    served: &Served,
    time: Duration,
) -> Result<(), Lost> {
    #[derive(Serialize)]
    struct Form {
        continues: bool,
        parameters: serde_json::Value,
    }
    loop {
        // Anew each time: the sampler may have been replaced by one of another pace.
        let engine = served.core.warm().engine();
        let newer = engine.subscribe();
        drop(engine);
        let text = match host(served, peer, false) {
            Ok(host) => {
                let parameters = serde_json::json!({ "host": host });
                message(&Form { continues: true, parameters })
            }
            Err(fault) => return wire.send(&error(&fault), time),
        };
        wire.send(&text, time)?;
        // A sampler that reads nothing new is told of by its silence.
        let _ = newer.next_within(time);
        if wire.is_gone() || served.ends.load(std::sync::atomic::Ordering::Acquire) {
            return Ok(());
        }
    }
}
