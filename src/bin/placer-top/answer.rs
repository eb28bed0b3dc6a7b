//! What the request line is answered: the engine's own advice and reasons, on what is shown.

use placer::error_chain::chain;
use placer_engine::policy::numad::Version;
use placer_engine::{Advice, Explanation, Policy, Request, Snapshot, advise, explain};

/// How the request line is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    /// By which rule, and among what; of what is asked it says nothing.
    pub(crate) request: Request,
    /// The numad that is compared with.
    pub(crate) numad: Version,
}

/// The answer to the request line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Answer {
    /// Nothing was asked.
    #[default]
    Nothing,
    /// The text is no request, or not yet; or there is no answer.
    Wrong(String),
    /// Where the guest would run, and why; boxed since the others are small.
    Advice(Box<Advised>),
}

/// An advice with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Advised {
    pub(crate) request: Request,
    pub(crate) advice: Advice,
    /// Policy `best` alone has reasons.
    pub(crate) why: Option<Explanation>,
}

impl Answer {
    /// Answers a text.
    pub(crate) fn to(text: &str, choice: &Choice, snapshot: &Snapshot) -> Self {
        if text.is_empty() {
            return Self::Nothing;
        }
        let asked: Request = match text.parse() {
            Ok(asked) => asked,
            Err(error) => return Self::Wrong(error.to_string()),
        };
        let request = Request { cpus: asked.cpus, memory: asked.memory, ..choice.request.clone() };
        let advice = match advise(snapshot, &request) {
            Ok(advice) => advice,
            Err(error) => return Self::Wrong(chain(&error)),
        };
        let best = matches!(request.policy, Policy::Best(_));
        let explained = || explain(snapshot, &request, &advice, choice.numad).ok();
        let why = best.then(explained).flatten();
        Self::Advice(Box::new(Advised { request, advice, why }))
    }

    /// Returns the advice, if there is one.
    pub(crate) fn advised(&self) -> Option<&Advised> {
        match self {
            Self::Advice(advised) => Some(advised),
            _ => None,
        }
    }
}
