//! Looks into elements: errors that name them, values that are checked, and what nobody uses.

use std::cell::RefCell;
use std::collections::BTreeSet;

use placer_engine::{Id, IdSet};

use super::tree::Element;
use crate::definition::{DefinitionError, Place, nearest, parse_list, quoted};

/// So many kinds of elements are noted by name.
const MOST_NOTES: usize = 30;

/// The text that elements are of, and what was noted about it.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    notes: RefCell<Vec<String>>,
    /// The names of elements that a note says are not used.
    unused: RefCell<BTreeSet<String>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, notes: RefCell::default(), unused: RefCell::default() }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes.into_inner()
    }

    fn tell(&self, element: &Element, what: &str) -> DefinitionError {
        let place = Place::of(self.text, element.offset);
        // A name is short or nobody knows the element.
        let name = quoted(&element.name);
        let what = format!("<{}>: {what}", name.trim_matches('"'));
        DefinitionError::new(self.file, Some(place), what)
    }

    /// Makes the error for an element.
    pub(super) fn error(&self, element: &Element, what: impl AsRef<str>) -> DefinitionError {
        self.tell(element, what.as_ref())
    }

    /// Notes something about an element.
    pub(super) fn note(&self, element: &Element, what: &str) {
        self.notes.borrow_mut().push(self.tell(element, what).to_string());
    }

    /// Notes that an element is not used: the first of each name.
    pub(super) fn unused(&self, element: &Element) {
        self.unused_but(element, "not used");
    }

    /// As [`unused`](Self::unused), with what would be used.
    pub(super) fn unused_but(&self, element: &Element, what: &str) {
        let mut unused = self.unused.borrow_mut();
        // Each note costs a look at the whole text, to count its lines.
        if unused.len() > MOST_NOTES || !unused.insert(format!("{} {what}", element.name)) {
            return;
        }
        if unused.len() > MOST_NOTES {
            let more = format!("{}: more elements than these are not used", self.file);
            self.notes.borrow_mut().push(more);
        } else {
            self.note(element, what);
        }
    }

    /// Returns the only child of that name, if there is one.
    pub(super) fn only<'e>(
        &self,
        parent: &'e Element,
        name: &str,
    ) -> Result<Option<&'e Element>, DefinitionError> {
        let mut found = parent.children.iter().filter(|child| child.name == name);
        let first = found.next();
        match found.next() {
            Some(second) => {
                let line = first.map_or(0, |first| Place::of(self.text, first.offset).line());
                Err(self.error(second, format!("a second one, the first is in line {line}")))
            }
            None => Ok(first),
        }
    }

    /// Refuses attributes, elements and text that are not expected.
    pub(super) fn strictly(
        &self,
        element: &Element,
        attributes: &[&str],
        children: &[&str],
        text: bool,
    ) -> Result<(), DefinitionError> {
        for (name, _) in &element.attributes {
            if !attributes.contains(&name.as_str()) {
                let shown = quoted(name);
                let what = format!("unknown attribute {shown}; {}", hint(name, attributes));
                return Err(self.error(element, what));
            }
        }
        for child in &element.children {
            if !children.contains(&child.name.as_str()) {
                let what = format!(
                    "not understood inside <{}>; {}",
                    element.name,
                    hint(&child.name, children)
                );
                return Err(self.error(child, what));
            }
        }
        if !text && !element.text.trim().is_empty() {
            let what = format!("expected no text, found {}", quoted(element.text.trim()));
            return Err(self.error(element, what));
        }
        Ok(())
    }

    /// Reads an attribute that is a list of ids.
    pub(super) fn list<T: Id>(
        &self,
        element: &Element,
        attribute: &str,
    ) -> Result<Option<IdSet<T>>, DefinitionError> {
        let list = element.attribute(attribute).map(parse_list).transpose();
        list.map_err(|why| self.error(element, format!("attribute {attribute}: {why}")))
    }

    /// Reads an attribute that has to be there.
    pub(super) fn wanted<'e>(
        &self,
        element: &'e Element,
        attribute: &str,
    ) -> Result<&'e str, DefinitionError> {
        let missing = || self.error(element, format!("the attribute {attribute} is missing"));
        element.attribute(attribute).ok_or_else(missing)
    }

    /// Reads an attribute that is a whole number.
    pub(super) fn number(
        &self,
        element: &Element,
        attribute: &str,
        most: u32,
    ) -> Result<Option<u32>, DefinitionError> {
        let Some(text) = element.attribute(attribute) else { return Ok(None) };
        let number = number(text, most);
        number.map(Some).map_err(|why| self.error(element, format!("attribute {attribute}: {why}")))
    }

    /// Reads the text of an element as a whole number.
    pub(super) fn number_in(&self, element: &Element, most: u32) -> Result<u32, DefinitionError> {
        number(&element.text, most).map_err(|why| self.error(element, why))
    }

    /// Reads a text that goes to another program: `None` when it is empty.
    pub(super) fn line(
        &self,
        element: &Element,
        text: &str,
    ) -> Result<Option<String>, DefinitionError> {
        if text.contains(char::is_control) {
            let what = format!("expected text on one line, found {}", text.escape_debug());
            return Err(self.error(element, what.chars().take(120).collect::<String>()));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// Reads the text of the only child of that name.
    pub(super) fn line_of(
        &self,
        parent: &Element,
        child: &str,
    ) -> Result<Option<String>, DefinitionError> {
        match self.only(parent, child)? {
            Some(element) => self.line(element, &element.text),
            None => Ok(None),
        }
    }
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "nothing is expected here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

fn number(text: &str, most: u32) -> Result<u32, String> {
    let digits = text.trim();
    let known = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(number) if known && number <= most => Ok(number),
        _ if known => Err(format!("expected at most {most}, found {}", quoted(digits))),
        _ => Err(format!("expected a whole number, found {}", quoted(digits))),
    }
}
