//! The elements of a small XML text, read event by event under limits.
//!
//! Nothing is built before it is counted, entities other than XML's own five are refused, and so is a
//! document type: what a text can make of itself is bounded by its length.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::definition::{DefinitionError, Place, quoted};

/// Elements inside elements. libvirt's own definitions have 8.
pub(super) const DEPTH: usize = 32;
/// Elements in all: room for the pins of 4,096 vCPUs.
const ELEMENTS: usize = 20_000;
/// Attributes in all.
const ATTRIBUTES: usize = 60_000;

/// An element, with what is in it.
#[derive(Debug)]
pub(super) struct Element {
    /// With its prefix, as written.
    pub(super) name: String,
    /// Name and value, in order.
    pub(super) attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    /// The text that is in it itself, put together.
    pub(super) text: String,
    /// Where it starts in the text, in bytes.
    pub(super) offset: usize,
}

impl Element {
    /// Returns the value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the one element that an XML text is.
pub(super) fn parse(file: &str, text: &str) -> Result<Element, DefinitionError> {
    let mut tree = Tree { file, text, open: Vec::new(), elements: 0, attributes: 0 };
    let mut reader = Reader::from_str(text);
    let mut root = None;
    loop {
        let offset = position(reader.buffer_position());
        let event = reader
            .read_event()
            .map_err(|error| tree.error(position(reader.error_position()), error.to_string()))?;
        let closed = match event {
            Event::Start(start) => {
                if root.is_some() {
                    return Err(tree.error(offset, "a second element at the top: expected one"));
                }
                tree.start(&start, offset)?;
                None
            }
            Event::Empty(start) => {
                if root.is_some() {
                    return Err(tree.error(offset, "a second element at the top: expected one"));
                }
                tree.start(&start, offset)?;
                tree.open.pop()
            }
            Event::End(_) => tree.open.pop(),
            Event::Text(part) => tree.text(&part.xml10_content(), offset)?,
            Event::CData(part) => tree.text(&part.xml10_content(), offset)?,
            Event::GeneralRef(entity) => {
                let character = match entity.resolve_char_ref() {
                    Ok(Some(character)) => Some(character),
                    Ok(None) => known_entity(&entity),
                    Err(error) => return Err(tree.error(offset, error.to_string())),
                };
                let Some(character) = character else {
                    let entity = quoted(&format!("&{};", &*entity));
                    let what = format!(
                        "{}the entity {entity} is not expanded; write its text",
                        tree.inside()
                    );
                    return Err(tree.error(offset, what));
                };
                tree.text(character.encode_utf8(&mut [0; 4]), offset)?
            }
            Event::DocType(_) => {
                let what = "<!DOCTYPE>: a definition has no document type; remove it";
                return Err(tree.error(offset, what));
            }
            Event::Decl(declaration) => {
                if let Some(Ok(encoding)) = declaration.encoding()
                    && !encoding.eq_ignore_ascii_case("utf-8")
                {
                    let what = format!("expected UTF-8, found encoding {}", quoted(&encoding));
                    return Err(tree.error(offset, what));
                }
                None
            }
            Event::Comment(_) | Event::PI(_) => None,
            Event::Eof => break,
        };
        if let Some(element) = closed {
            match tree.open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => root = Some(element),
            }
        }
    }
    if let Some(open) = tree.open.last() {
        return Err(tree.error(open.offset, format!("<{}>: not closed", open.name)));
    }
    root.ok_or_else(|| DefinitionError::new(file, None, "expected an element, found none"))
}

struct Tree<'a> {
    file: &'a str,
    text: &'a str,
    /// From the root to the innermost element that is not closed.
    open: Vec<Element>,
    elements: usize,
    attributes: usize,
}

impl Tree<'_> {
    fn error(&self, offset: usize, what: impl Into<String>) -> DefinitionError {
        DefinitionError::new(self.file, Some(Place::of(self.text, offset)), what)
    }

    /// Names the innermost open element, to start a message with.
    fn inside(&self) -> String {
        self.open.last().map_or_else(String::new, |element| format!("<{}>: ", element.name))
    }

    fn start(&mut self, start: &BytesStart<'_>, offset: usize) -> Result<(), DefinitionError> {
        let name = start.name().as_ref().to_owned();
        let shown = quoted(&name);
        let shown = shown.trim_matches('"');
        if self.open.len() >= DEPTH {
            let what = format!("<{shown}>: more than {DEPTH} elements inside each other");
            return Err(self.error(offset, what));
        }
        self.elements += 1;
        if self.elements > ELEMENTS {
            return Err(self.error(offset, format!("<{shown}>: more than {ELEMENTS} elements")));
        }
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let bad = |why: String| self.error(offset, format!("<{shown}>: {why}"));
            let attribute = attribute.map_err(|error| bad(error.to_string()))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| bad(format!("{error}; entities are not expanded")))?;
            attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
            self.attributes += 1;
            if self.attributes > ATTRIBUTES {
                return Err(self.error(offset, format!("more than {ATTRIBUTES} attributes")));
            }
        }
        let (children, text) = (Vec::new(), String::new());
        self.open.push(Element { name, attributes, children, text, offset });
        Ok(())
    }

    /// Adds text to the innermost element. Closes nothing, as its type says.
    fn text(&mut self, part: &str, offset: usize) -> Result<Option<Element>, DefinitionError> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(part),
            None if part.trim().is_empty() => {}
            None => {
                let what = format!("expected an element, found {}", quoted(part.trim_start()));
                return Err(self.error(offset, what));
            }
        }
        Ok(None)
    }
}

fn known_entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Writes a text so that it reads back, in an attribute or between tags. `None`: it holds a
/// character that XML has no way to write.
pub(super) fn escape(text: &str) -> Option<Cow<'_, str>> {
    let plain = |c: char| !matches!(c, '&' | '<' | '>' | '"' | '\'') && c >= ' ';
    if text.chars().all(|c| plain(c) && c < '\u{fffe}') {
        return Some(Cow::Borrowed(text));
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => return None,
            c => escaped.push(c),
        }
    }
    Some(Cow::Owned(escaped))
}
