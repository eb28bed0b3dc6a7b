//! The process that asks for a decision.

use super::claim::{Caller, ProcessId};
use super::nonce::Nonce;
use super::principal::Principal;

/// The process that asks for a decision, and the name it gives its claim.
#[derive(Clone, Debug)]
pub struct Asker {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) principal: Principal,
    pub(super) nonce: Option<Nonce>,
}

impl Asker {
    /// Returns a process and its user as the asker.
    pub fn new(pid: u32, uid: u32) -> Self {
        Self { pid, uid, principal: Principal::of_uid(uid), nonce: None }
    }

    /// Sets the account that claims belong to.
    #[must_use]
    pub fn of_principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Sets the client's name for its claim. A request that is repeated by the same principal with the same
    /// name replaces the claim that it had made.
    #[must_use]
    pub fn named(mut self, nonce: Option<Nonce>) -> Self {
        self.nonce = nonce;
        self
    }

    /// Returns the account that claims belong to.
    pub fn principal(&self) -> Principal {
        self.principal
    }
}

/// The process that asks, as it was found.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) caller: Caller,
    pub(super) process: Option<ProcessId>,
}
