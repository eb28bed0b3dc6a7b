//! One section of a settings file: what is asked for is known, and what is left over is not.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Fault;
use super::suggest::nearest;

type Entry<'t> = (&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>);

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Section<'t> {
    text: &'t str,
    /// The part before a key in messages: nothing, or the section in brackets.
    name: String,
    table: Option<&'t DeTable<'t>>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// Begins with the whole file.
    pub(super) fn all(text: &'t str, table: &'t DeTable<'t>) -> Self {
        Self { text, name: String::new(), table: Some(table), known: Vec::new() }
    }

    fn entry(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.known.push(key);
        self.table?.iter().find(|(name, _)| name.get_ref() == key)
    }

    /// Returns a section of the file, empty when it is not there.
    ///
    /// Errors: something else has its name.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Self, Fault> {
        let entry = self.entry(key);
        let table = match entry.map(|(_, value)| (value.get_ref(), value.span().start)) {
            None => None,
            Some((DeValue::Table(table), _)) => Some(table),
            Some((_, at)) => {
                let found = self.written(at);
                let what = format!("{key}: expected a section [{key}], found {found}");
                return Err(Fault::at(self.text, at, what));
            }
        };
        Ok(Self { text: self.text, name: format!("[{key}] "), table, known: Vec::new() })
    }

    /// Reads a key into its place, which keeps its value when the key is not there.
    ///
    /// Errors: `read` does not take the value. `wanted` says what it takes.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        place: &mut T,
        read: impl FnOnce(&DeValue<'_>) -> Option<T>,
    ) -> Result<(), Fault> {
        let Some((_, value)) = self.entry(key) else { return Ok(()) };
        let at = value.span().start;
        *place = read(value.get_ref()).ok_or_else(|| {
            let (name, found) = (&self.name, self.written(at));
            Fault::at(self.text, at, format!("{name}{key}: expected {wanted}, found {found}"))
        })?;
        Ok(())
    }

    /// Says that what a key has goes against another; `None` when the key is not there.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) -> Option<Fault> {
        let (name, _) = self.entry(key)?;
        Some(Fault::at(self.text, name.span().start, format!("{}{key}: {why}", self.name)))
    }

    /// Ends the section.
    ///
    /// Errors: a key that nobody has asked for, the first in the file.
    pub(super) fn end(self) -> Result<(), Fault> {
        let keys = self.table.iter().flat_map(|table| table.iter());
        let unknown = keys.filter(|(name, _)| !self.known.contains(&name.get_ref().as_ref()));
        let Some((name, _)) = unknown.min_by_key(|(name, _)| name.span().start) else {
            return Ok(());
        };
        let hint = match nearest(name.get_ref(), &self.known) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("there are {}", self.known.join(", ")),
        };
        let what = if self.name.is_empty() { "a section" } else { "a key" };
        let found = shown(name.get_ref());
        let what = format!("{}expected {what} that is known, found \"{found}\"; {hint}", self.name);
        Err(Fault::at(self.text, name.span().start, what))
    }

    /// What stands in the file from a byte on.
    fn written(&self, at: usize) -> String {
        shown(self.text.get(at..).unwrap_or_default())
    }
}

/// Returns the first line of a text, cut short and made printable.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 32;
    let line = text.lines().next().unwrap_or_default();
    // What follows a value is a comment at best.
    let line = line.split_once(" #").map_or(line, |(value, _)| value).trim_end();
    let mut shown = String::new();
    for c in line.chars().take(SHOWN) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if line.chars().nth(SHOWN).is_some() { shown + "..." } else { shown }
}
