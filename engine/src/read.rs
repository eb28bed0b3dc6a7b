//! A value together with what a person should know about how it was come by.

/// What was read or made, and notes about how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// What was assumed or left out: a sentence each, without a full stop.
    pub notes: Vec<String>,
}
