//! Several guests at once: one decision, one lock, and a claim each.

use std::error::Error;

use placer_engine::claims::{ClaimOwner, LOCK_TIMEOUT, Parts};
use placer_engine::{
    Advice, Charges, CpuSet, Fit, Guest, HostParts, JointAdvice, Request, Shortfall, Snapshot,
    advise_together, fit,
};
use placer_launcher::{Binding, MemoryMode, emit};

use super::claim_session::{Desk, claim_each};
use super::emit::RankForm;
use super::host::{CountedHost, Figures};
use super::notes::Notes;
use crate::report::json::{self, FitForm, JointForm};
use crate::report::{explain, joint};

/// All that a plan depends on beside the host.
#[derive(Clone, Debug)]
pub struct JointQuestion {
    /// What all guests have in common; its CPUs and memory do not count.
    pub like: Request,
    pub guests: Vec<Guest>,
    /// Whether each vCPU gets a CPU of its own.
    pub own_cpus: bool,
    /// The owner of the claims; `None` where nothing is claimed.
    pub claim: Option<ClaimOwner>,
    /// Whether the guests that fit are claimed where not all of them do.
    pub some: bool,
    pub strict: bool,
    pub form: JointForms,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JointForms {
    Nodes,
    Cpus,
    Json,
    Explain,
    /// Options of numactl, a line for each guest.
    Numactl(MemoryMode),
    Ranks(RankForm),
}

/// What goes to stdout, and how the program ends.
#[derive(Debug)]
pub struct JointAnswer {
    pub text: Vec<u8>,
    pub status: u8,
}

/// Plans for several guests, and claims the plan if that is asked: all of it or nothing, except where some are enough.
///
/// Errors: the host cannot be read, or nothing can be said about it; a form that several guests do not have.
pub fn answer(
    question: &JointQuestion,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<JointAnswer, Box<dyn Error>> {
    let JointQuestion { like, claim: who, some, strict, form, .. } = question;
    let desk = who.as_ref().map(|_| Desk::open(figures.root(), figures.claims(), notes));
    let before = notes.mark();
    let (joint, snapshot, facts, status, claims) = loop {
        notes.back_to(before);
        let (session, host) = match &desk {
            Some(desk) => desk.begin(figures, like.pages, LOCK_TIMEOUT, notes)?,
            None => (None, figures.counted(like.pages, notes)?),
        };
        let (joint, snapshot) = plan(question, &host, figures, notes)?;
        let facts: Vec<String> = snapshot.notes().to_vec();
        facts.iter().for_each(|fact| notes.warn(fact));
        let refused = joint.refused();
        let placed = joint.guests.len() - refused;
        let all_or_some = refused == 0 || (*some && placed > 0);
        let holds = who.is_some() && !all_or_some && !*strict;
        for (at, guest) in joint.guests.iter().enumerate() {
            if let Some(short) = guest.shortfall {
                notes.warn(&refusal(at, &guest.request, short));
            }
        }
        if holds {
            let count = joint.guests.len();
            notes.warn(&format!(
                "nothing is held: {placed} of {count} guests fit (--some holds them)"
            ));
        }
        let status = u8::from(*strict && refused > 0);
        let claims =
            if let (Some(who), Some(session)) = (who.as_ref().filter(|_| all_or_some), session) {
                let parts = joint.guests.iter().filter_map(|guest| {
                    let advice = guest.advice.as_ref()?;
                    let pinned: CpuSet = guest.pinned.iter().copied().collect();
                    let roams = pinned.is_empty() && question.form.names_cpus();
                    let roaming = if roams { advice.cpus.clone() } else { CpuSet::new() };
                    Some(Parts::of(&guest.request, advice, pinned, roaming))
                });
                match claim_each(session, parts.collect(), who, figures, notes) {
                    Some(claims) => claims,
                    // Others were faster.
                    None => continue,
                }
            } else {
                Vec::new()
            };
        break (joint, snapshot, facts, status, claims);
    };
    if status != 0 && !*some && *form != JointForms::Json {
        return Ok(JointAnswer { text: Vec::new(), status });
    }
    let text = match form {
        JointForms::Json => json::text(&JointForm::new(&joint, &facts, &claims))?,
        JointForms::Explain => joint::text(&joint).into_bytes(),
        JointForms::Nodes => joint::lines(&joint, |advice| advice.nodes.to_string()).into_bytes(),
        JointForms::Cpus => joint::lines(&joint, |advice| advice.cpus.to_string()).into_bytes(),
        JointForms::Numactl(mode) => {
            let options = |advice: &Advice| emit::numactl(&Binding::of(advice, *mode)).text;
            joint::lines(&joint, |advice| options(advice).trim_end().to_owned()).into_bytes()
        }
        JointForms::Ranks(form) => ranks(*form, &joint, &snapshot, figures, notes)?.into_bytes(),
    };
    Ok(JointAnswer { text, status })
}

impl JointForms {
    fn names_cpus(self) -> bool {
        !matches!(self, Self::Nodes | Self::Explain)
    }
}

const LEFT_OUT: &str = "more guests fit where claims of users do not count: they are left out";

/// Returns what is promised without the claims of users, where the host itself asks and they have some.
fn users_left_out<'a>(host: &'a CountedHost, figures: &dyn Figures) -> Option<&'a Charges> {
    host.host_charges.as_ref().filter(|_| figures.asker().principal().is_host())
}

/// Plans on the host with all claims; for the host itself claims of users never make a guest be refused.
fn plan(
    question: &JointQuestion,
    host: &CountedHost,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<(JointAdvice, Snapshot), Box<dyn Error>> {
    let JointQuestion { like, guests, own_cpus, .. } = question;
    let snapshot = Snapshot::clone(&host.snapshot);
    let joint = advise_together(&snapshot, like, guests, *own_cpus)?;
    let charges = users_left_out(host, figures);
    if let Some(charges) = charges.filter(|_| joint.refused() > 0) {
        let without = snapshot.clone().with_charges(charges.clone());
        let second = advise_together(&without, like, guests, *own_cpus)?;
        if second.refused() < joint.refused() {
            notes.warn(LEFT_OUT);
            return Ok((second, without));
        }
    }
    Ok((joint, snapshot))
}

/// Says which guest does not fit, and what is short.
fn refusal(at: usize, request: &Request, short: Shortfall) -> String {
    let (number, what) = (at + 1, explain::request_in_words(request));
    format!("guest {number} ({what}) does not fit beside the others: {}", explain::short(short))
}

/// Returns the plan as settings for MPI, a rank for each guest.
///
/// Errors: not all of them fit.
fn ranks(
    form: RankForm,
    joint: &JointAdvice,
    snapshot: &Snapshot,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<String, Box<dyn Error>> {
    let ranks = joint.guests.iter().filter_map(|guest| guest.advice.as_ref());
    let ranks: Vec<CpuSet> = ranks.map(|advice| advice.cpus.clone()).collect();
    if ranks.len() < joint.guests.len() {
        return Err("not all ranks fit: there are no settings for a part of them".into());
    }
    let parts = HostParts::read(figures.root(), snapshot.topology());
    let plain =
        |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let name = parts.name.as_ref().filter(|name| !name.is_empty() && plain(name));
    let name = name.map_or("localhost", String::as_str);
    let settings = match form {
        RankForm::Hydra => emit::hydra(&ranks),
        RankForm::RankfilePhysical => emit::rankfile_physical(name, &ranks),
        RankForm::Rankfile => {
            let logical = emit::LogicalCores::of(snapshot.topology(), &parts);
            emit::rankfile(name, &ranks, snapshot.charges().pinned(), &logical)
        }
    };
    settings.notes.iter().for_each(|note| notes.warn(note));
    Ok(settings.text)
}

/// How a count is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountForm {
    Number,
    Json,
    Explain,
}

/// Counts how many more guests of one kind fit, by the rule of [`answer`]: for the host itself claims of users never
/// make a guest be refused. Returns what is printed.
///
/// Errors: as [`answer`].
pub fn count(
    request: &Request,
    own_cpus: bool,
    form: CountForm,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let host = figures.counted(request.pages, notes)?;
    let mut counted: Fit = fit(&host.snapshot, request, own_cpus)?;
    if let Some(charges) = users_left_out(&host, figures) {
        let without = Snapshot::clone(&host.snapshot).with_charges(charges.clone());
        let second = fit(&without, request, own_cpus)?;
        if second.guests > counted.guests {
            notes.warn(LEFT_OUT);
            counted = second;
        }
    }
    let facts: Vec<String> = host.snapshot.notes().to_vec();
    facts.iter().for_each(|fact| notes.warn(fact));
    Ok(match form {
        CountForm::Number => format!("{}\n", counted.guests).into_bytes(),
        CountForm::Json => json::text(&FitForm::new(request, &counted, &facts))?,
        CountForm::Explain => joint::fit(request, &counted).into_bytes(),
    })
}
