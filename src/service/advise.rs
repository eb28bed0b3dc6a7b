//! One question about where a guest should run, and its answer.

use std::error::Error;
use std::sync::Arc;

use placer_engine::claims::{ClaimId, ClaimOwner, LOCK_TIMEOUT, Nonce, Parts};
use placer_engine::policy::numad::Version;
use placer_engine::{
    Advice, CpuLimit, CpuSet, MemoryLimit, Policy, Request, Shortfall, Snapshot, explain,
};
use placer_launcher::MemoryMode;

use super::claim_session::{Claimed, Desk, claim_as_asked};
use super::emit::{self, EmitForm};
use super::host::Figures;
use super::notes::Notes;
use crate::report::explain;
use crate::report::json::{self, AdviceForm};

/// All that an answer depends on beside the host.
#[derive(Clone, Debug)]
pub struct Question {
    pub request: Request,
    /// The version of numad that an explanation compares with.
    pub numad: Version,
    /// The owner of its claim; `None` where nothing is claimed.
    pub claim: Option<ClaimOwner>,
    /// The name of that claim, by which it is made once, however often it is asked for.
    pub nonce: Option<Nonce>,
    pub strict: bool,
    pub form: Form,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Nodes,
    Cpus,
    Json,
    Explain {
        /// With what each slowdown is made of.
        factors: bool,
    },
    Emit(EmitForm, MemoryMode),
    /// The JSON form on one line, for a program that did not start this one.
    Compact {
        /// With what came second, and what numad would say.
        explain: bool,
    },
}

impl Form {
    /// Returns whether the answer says which CPUs of the nodes the guest gets. Without that it is taken to run
    /// on all of them.
    fn names_cpus(self) -> bool {
        !matches!(self, Self::Nodes | Self::Explain { .. })
    }
}

/// What goes to stdout, and how the program ends.
#[derive(Debug)]
pub struct Answer {
    pub text: Vec<u8>,
    pub status: u8,
    /// `None` where there is none on which the request fits, and it had to.
    pub advice: Option<Advice>,
    pub claim: Option<ClaimId>,
}

/// Answers a question. What should be known beside the answer, or about its failure, is added to the notes.
///
/// Errors: the host cannot be read, or nothing can be said about it.
pub fn answer(
    question: &Question,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<Answer, Box<dyn Error>> {
    let Question { request, numad, strict, form, .. } = question;
    let Decided { advice, snapshot, facts, claim } = decide(question, figures, notes)?;
    // What takes longer than the advice is made only for those who read it.
    let asked = matches!(form, Form::Explain { .. } | Form::Json | Form::Compact { explain: true });
    let why = if asked && matches!(request.policy, Policy::Best(_)) {
        Some(explain(&snapshot, request, &advice, *numad)?)
    } else {
        None
    };
    let whole = |claim| AdviceForm::new(request, &advice, &facts, claim, why.as_ref());
    if *strict && !advice.fits() {
        let text = match form {
            Form::Json => json::text(&whole(None).without_nodes())?,
            _ => Vec::new(),
        };
        return Ok(Answer { text, status: 1, advice: None, claim: None });
    }
    let text = match (form, &why) {
        (Form::Emit(form, mode), _) => {
            emit::text(*form, *mode, request, &advice, &snapshot, notes)?.into_bytes()
        }
        (Form::Explain { factors }, Some(why)) => {
            let distances = snapshot.topology().distances();
            explain::text(request, &advice, why, distances, *factors).into_bytes()
        }
        (Form::Json, _) => json::text(&whole(claim))?,
        (Form::Compact { .. }, _) => serde_json::to_vec(&whole(claim))?,
        (Form::Cpus, _) => format!("{}\n", advice.cpus).into_bytes(),
        (Form::Nodes | Form::Explain { .. }, _) => format!("{}\n", advice.nodes).into_bytes(),
    };
    Ok(Answer { text, status: 0, advice: Some(advice), claim })
}

struct Decided {
    advice: Advice,
    snapshot: Arc<Snapshot>,
    /// What should be known about the host and the advice.
    facts: Vec<String>,
    claim: Option<ClaimId>,
}

/// Decides, and claims where that was asked for: again where others were faster.
fn decide(
    question: &Question,
    figures: &dyn Figures,
    notes: &mut Notes,
) -> Result<Decided, Box<dyn Error>> {
    let Question { request, claim: who, strict, form, .. } = question;
    // Only who claims opens the ledger to change it.
    let desk = who.as_ref().map(|_| Desk::open(figures.root(), figures.claims(), notes));
    let before = notes.mark();
    loop {
        notes.back_to(before);
        let (session, host) = match &desk {
            Some(desk) => desk.begin(figures, request.pages, LOCK_TIMEOUT, notes)?,
            None => (None, figures.counted(request.pages, notes)?),
        };
        let (advice, snapshot) = host.advise(request, &figures.asker(), notes)?;
        let facts: Vec<String> = snapshot.notes().iter().chain(&advice.notes).cloned().collect();
        facts.iter().for_each(|fact| notes.warn(fact));
        let holds = matches!(who, Some(ClaimOwner::Hold(_)));
        if let Some(short) = advice.shortfall {
            notes.warn(&shortage_of(holds && !strict, request, &advice, short));
        }
        // What does not fit is not held: it would take what is left from guests that fit.
        let who = who.clone().filter(|_| advice.fits() || !(holds || *strict));
        let Some((session, who)) = session.zip(who) else {
            return Ok(Decided { advice, snapshot, facts, claim: None });
        };
        let roaming = if form.names_cpus() { advice.cpus.clone() } else { CpuSet::new() };
        let parts = Parts::of(request, &advice, CpuSet::new(), roaming);
        let claim = match claim_as_asked(session, request, parts, who, figures, notes) {
            Claimed::Made(id) => Some(id),
            Claimed::Refused => None,
            Claimed::Outrun => continue,
        };
        return Ok(Decided { advice, snapshot, facts, claim });
    }
}

/// Says what is short and by how much, and where it was to be held, that it is not.
pub fn shortage_of(holds: bool, request: &Request, advice: &Advice, short: Shortfall) -> String {
    let what = shortage(request, advice, short);
    if holds { format!("not held: {what}") } else { what }
}

/// Says what is short and by how much.
pub fn shortage(request: &Request, advice: &Advice, short: Shortfall) -> String {
    let mut parts = Vec::new();
    if short.cpus.hundredths() > 0 {
        parts.push(explain::cpus(short.cpus));
    }
    if short.memory.get() > 0 {
        parts.push(short.memory.to_string());
    }
    let noun = if advice.nodes.len() == 1 { "node" } else { "nodes" };
    let (cpus, memory) = (explain::cpus(request.cpus), request.memory);
    let (nodes, parts) = (&advice.nodes, parts.join(" and "));
    let mut text = format!("{cpus} and {memory} do not fit on {noun} {nodes}: {parts} short");
    if let Some(MemoryLimit { group, file, limit, left }) = request.beyond_memory_limit() {
        text.push_str(&format!("; {file} of control group {group} is {limit}, {left} left"));
    }
    if let Some(CpuLimit { group, file, limit }) = request.beyond_cpu_limit() {
        let limit = explain::cpus(*limit);
        text.push_str(&format!("; {file} of control group {group} allows {limit}"));
    }
    text
}
