//! What went wrong, as a code and a text.

use std::error::Error;
use std::ffi::{CStr, CString, c_int};

use placer_engine::EngineError;
use placer_engine::claims::ClaimError;

/// The codes of `placer.h`. They are never given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Code {
    Argument = -1,
    Host = -2,
    NoAdvice = -3,
    Claim = -4,
    Busy = -5,
    Forked = -6,
    Bug = -7,
    NoFit = -8,
    Changed = -9,
}

impl Code {
    pub(crate) fn number(self) -> c_int {
        self as c_int
    }
}

/// `placer_error` of the header.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) text: CString,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: c_string(text.into()) }
    }

    /// Returns an error with its causes.
    pub(crate) fn of(code: Code, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, text)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match &error {
            EngineError::Advise(_) => Code::NoAdvice,
            EngineError::Claims(ClaimError::Locked { .. }) => Code::Busy,
            EngineError::Claims(ClaimError::NoPlace) => {
                let why = "no directory for claims: set XDG_RUNTIME_DIR, or the option state-dir";
                return Self::new(Code::Claim, why);
            }
            EngineError::Claims(_) | EngineError::UnreadClaims(_) => Code::Claim,
            EngineError::DoesNotFit(_) => Code::NoFit,
            EngineError::Changed => Code::Changed,
            EngineError::WithoutClaims => {
                return Self::new(Code::Argument, "claims are switched off for this host");
            }
            EngineError::Forked => Code::Forked,
            _ => Code::Host,
        };
        Self::of(code, &error)
    }
}

/// Returns a text for C. A NUL byte, which no text of the engine has, ends it.
pub(crate) fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let end = error.nul_position();
        CString::new(&error.into_vec()[..end]).unwrap_or_default()
    })
}

/// Returns what is wrong with the value of an option.
pub(crate) fn wrong(key: &str, expected: &str, found: &CStr) -> Failure {
    Failure::new(Code::Argument, format!("{key}: expected {expected}, found {found:?}"))
}

/// Returns that there is no such option.
pub(crate) fn unknown(of: &str, key: &str, known: &str) -> Failure {
    Failure::new(Code::Argument, format!("a {of} has no option {key:?}; it has {known}"))
}
