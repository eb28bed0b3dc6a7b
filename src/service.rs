//! One question, one answer: what is asked, read, decided and claimed, whichever program asks.

pub mod advise;
pub mod claim_session;
pub mod counted;
pub mod emit;
pub mod host;
mod journal;
pub mod local;
pub mod look;
pub mod managing;
pub mod moving;
pub mod notes;
pub mod ranks;
pub mod running;
pub mod sampling;
pub mod together;
