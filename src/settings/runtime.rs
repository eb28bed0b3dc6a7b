//! `[runtime]`: what placer does as the OCI runtime of a container engine.

use clap::ValueEnum;
use toml::de::DeValue;

use super::error::Fault;
use super::section::Section;
use super::{YES_OR_NO, name, yes_or_no};

/// `[runtime]`: which containers are placed, and what starts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The runtime that starts them: a program of `PATH`, or a path.
    pub real: String,
    pub place: PlaceName,
    pub strict: bool,
}

/// Which containers are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlaceName {
    /// Those with a request as an annotation.
    Annotated,
    /// Those with a limit of CPU time or memory as well.
    Limited,
    /// All of them.
    All,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { real: "runc".to_owned(), place: PlaceName::Annotated, strict: false }
    }
}

impl Runtime {
    pub(super) fn of(mut keys: Section<'_>) -> Result<Self, Fault> {
        let mut new = Self::default();
        read_real(&mut keys, &mut new.real)?;
        let which = "\"annotated\", \"limited\" or \"all\"";
        keys.read("place", which, &mut new.place, |value: &DeValue<'_>| name(value))?;
        keys.read("strict", YES_OR_NO, &mut new.strict, yes_or_no)?;
        keys.end()?;
        Ok(new)
    }

    /// Reads `real` alone, if it is there and a program.
    pub(super) fn real_of(mut keys: Section<'_>) -> Option<String> {
        let mut real = String::new();
        read_real(&mut keys, &mut real).ok()?;
        Some(real).filter(|real| !real.is_empty())
    }
}

fn read_real(keys: &mut Section<'_>, into: &mut String) -> Result<(), Fault> {
    let real = "\"runc\", \"crun\" or a path that begins with / in quotes";
    keys.read("real", real, into, |value| program(value.as_str()?))
}

/// Returns the name of a program, or its whole path.
fn program(text: &str) -> Option<String> {
    let named = !text.is_empty() && !text.contains(['/', '\0']);
    let path = text.starts_with('/') && !text.ends_with('/') && !text.contains('\0');
    (named || path).then(|| text.to_owned())
}
