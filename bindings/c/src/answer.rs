//! An advice, and what was claimed of it.

use std::ffi::CString;

use placer_engine::claims::ClaimId;
use placer_engine::{Advice, Request};
use serde::Serialize;

use crate::failure::{Code, Failure, c_string};

/// `placer_advice` of the header. Its texts are made once, and live as long.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: Request,
    pub(crate) advice: Advice,
    pub(crate) nodes: CString,
    pub(crate) cpus: CString,
    pub(crate) claim: Option<CString>,
    pub(crate) json: CString,
}

/// The JSON of `placer advise --json`, without what is explained there.
#[derive(Serialize)]
struct Form<'a> {
    version: u32,
    request: Amount,
    #[serde(flatten)]
    advice: &'a Advice,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

#[derive(Serialize)]
struct Amount {
    cpus: f64,
    memory: u64,
}

impl Answer {
    pub(crate) fn new(
        request: &Request,
        advice: Advice,
        claim: Option<ClaimId>,
    ) -> Result<Self, Failure> {
        let claim = claim.map(|id| id.to_string());
        let amount = Amount { cpus: request.cpus.as_cpus(), memory: request.memory.get() };
        let form = Form { version: 1, request: amount, advice: &advice, claim: claim.clone() };
        let json = serde_json::to_string(&form);
        let json = json.map_err(|error| Failure::of(Code::Bug, &error))?;
        Ok(Self {
            request: request.clone(),
            nodes: c_string(advice.nodes.to_string()),
            cpus: c_string(advice.cpus.to_string()),
            claim: claim.map(c_string),
            json: c_string(json),
            advice,
        })
    }
}
