//! Looks into elements: errors that name them, values that are checked.

use std::cell::RefCell;

use placer_engine::{Id, IdSet};

use super::tree::{Attribute, Element};
use crate::definition::{DefinitionError, Place, nearest, parse_list, quoted};

/// The text that elements are of, and what was noted about it.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    notes: RefCell<Vec<String>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, notes: RefCell::default() }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes.into_inner()
    }

    fn tell(&self, element: &Element, what: &str) -> DefinitionError {
        let place = Place::of(self.text, element.range.start);
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
                let line = first.map_or(0, |first| Place::of(self.text, first.range.start).line());
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
        for Attribute { name, .. } in &element.attributes {
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
