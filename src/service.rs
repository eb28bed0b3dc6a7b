//! One question, one answer: what is asked, read, decided and claimed, whichever program asks.

pub mod advise;
pub mod claiming;
pub mod emit;
pub mod figures;
pub mod look;
pub mod numad;
pub mod sampling;
