//! The elements of a small XML text, under limits.
//!
//! Entities other than XML's own five are refused, and so is a document type: what a text can make of
//! itself is bounded by its length.

use std::ops::Range;

use placer_engine::parse::excerpt;
use roxmltree::{Document, Error, Node, ParsingOptions};

use crate::definition::{DefinitionError, Place, quoted};

/// Elements inside elements. libvirt's own definitions have 8.
const DEPTH: usize = 32;
/// Elements and pieces of text in all: room for the pins of 4,096 vCPUs.
const NODES: u32 = 30_000;
/// Equals signs from one `<` to the next, and so attributes of an element: the XML reader compares each
/// attribute with all before it.
const EQUALS: usize = 400;

/// The elements of QEMU's own in a definition; libvirt knows them by this.
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// An element, with what is in it.
#[derive(Debug)]
pub(super) struct Element {
    /// Its name, behind `qemu:` for elements of QEMU's own.
    pub(super) name: String,
    /// In order.
    pub(super) attributes: Vec<Attribute>,
    pub(super) children: Vec<Element>,
    /// The text that is in it itself, put together.
    pub(super) text: String,
    /// Where it is in the text, in bytes: from its `<` to behind its last `>`.
    pub(super) range: Range<usize>,
}

/// An attribute of an element.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    /// Its name, behind its namespace where it has one.
    pub(super) name: String,
    /// Its value, with entities put in.
    pub(super) value: String,
    /// Where name and quoted value are in the text.
    pub(super) range: Range<usize>,
    /// Where the value is in the text, without its quotes.
    pub(super) value_range: Range<usize>,
}

impl Element {
    /// Returns the value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|it| it.name == name).map(|it| it.value.as_str())
    }

    /// Returns the first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the first element that a path of names leads to.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }
}

/// Reads the one element that an XML text is.
pub(super) fn parse(file: &str, text: &str) -> Result<Element, DefinitionError> {
    let error = |offset, what| DefinitionError::new(file, Some(Place::of(text, offset)), what);
    let mut start = 0;
    for piece in text.split('<') {
        if piece.bytes().filter(|&b| b == b'=').count() > EQUALS {
            let what = format!("more than {EQUALS} attributes in an element");
            return Err(error(start.max(1) - 1, what));
        }
        start += piece.len() + 1;
    }
    if let Some(other) = encoding(text) {
        return Err(error(0, format!("expected UTF-8, found encoding {}", quoted(other))));
    }
    let options = ParsingOptions { nodes_limit: NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|why| {
        let offset = offset(text, &why);
        let inside = match enclosing(text, offset) {
            Some(name) => format!("<{}>: ", quoted(name).trim_matches('"')),
            None => String::new(),
        };
        error(offset, inside + &explain(&why, &text[offset..]))
    })?;
    element(text, document.root_element(), 1).map_err(|node| {
        let what = format!("<{}>: more than {DEPTH} elements inside each other", name(node));
        error(node.range().start, what)
    })
}

/// Returns the encoding that an XML declaration names, where the text is not read as such: anything but
/// UTF-8, and but the encodings that have ASCII in them where the text is ASCII.
fn encoding(text: &str) -> Option<&str> {
    let (declaration, _) = text.strip_prefix("<?xml")?.split_once("?>")?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start_matches([' ', '\t', '\r', '\n', '=', '"', '\'']);
    let value = value.split(['"', '\'']).next()?;
    let lower = value.to_ascii_lowercase();
    let holds_ascii = ["us-ascii", "ascii", "iso-8859-", "windows-125"];
    let same = text.is_ascii() && holds_ascii.iter().any(|name| lower.starts_with(name));
    (lower != "utf-8" && lower != "utf8" && !same).then_some(value)
}

/// Copies an element out of its document; the one that is too deep, else.
fn element<'a, 'i>(text: &str, node: Node<'a, 'i>, depth: usize) -> Result<Element, Node<'a, 'i>> {
    if depth > DEPTH {
        return Err(node);
    }
    let attributes = node.attributes().map(|attribute| {
        let name = match attribute.namespace() {
            None => attribute.name().to_owned(),
            Some(space) => format!("{space}:{}", attribute.name()),
        };
        Attribute {
            name,
            value: attribute.value().to_owned(),
            value_range: value_range(text, attribute.range()),
            range: attribute.range(),
        }
    });
    let mut copy = Element {
        name: name(node),
        attributes: attributes.collect(),
        children: Vec::new(),
        text: String::new(),
        range: node.range(),
    };
    for child in node.children() {
        if child.is_element() {
            copy.children.push(element(text, child, depth + 1)?);
        } else if child.is_text() {
            copy.text.push_str(child.text().unwrap_or_default());
        }
    }
    Ok(copy)
}

/// Returns where the value of an attribute is, between its quotes. (roxmltree's own figure is wrong where
/// more than 255 blanks surround the equals sign.)
fn value_range(text: &str, range: Range<usize>) -> Range<usize> {
    let written = text.get(range.clone()).unwrap_or_default();
    let end = range.end.saturating_sub(1);
    let quote = written.chars().next_back().unwrap_or('"');
    written.find(quote).map_or(end..end, |at| range.start + at + 1..end)
}

fn name(node: Node<'_, '_>) -> String {
    let local = node.tag_name().name();
    match node.tag_name().namespace() {
        None => local.to_owned(),
        Some(QEMU) => format!("qemu:{local}"),
        Some(other) => format!("{other}:{local}"),
    }
}

/// Returns where in the text an error is: errors have it as line and character.
fn offset(text: &str, error: &Error) -> usize {
    if let Error::NodesLimitReached = error {
        // It has no place. Each node is an element or a text behind one, so the last one is near.
        let nodes = usize::try_from(NODES).unwrap_or(usize::MAX);
        return text.match_indices('<').take(nodes).last().map_or(0, |(at, _)| at);
    }
    if let Error::UnclosedRootNode = error {
        return text.len();
    }
    let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
    let (line, character) = (number(error.pos().row), number(error.pos().col));
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = text.get(start..).unwrap_or_default();
    start + rest.char_indices().nth(character).map_or(rest.len(), |(at, _)| at)
}

/// Returns the name of the element that is open at `offset`, for errors in texts that are no XML.
fn enclosing(text: &str, offset: usize) -> Option<&str> {
    let mut open = Vec::new();
    // Behind each `<`: a tag, then text. A tag that is cut off here is the one the error is in.
    for tag in text.get(..offset)?.split('<').skip(1) {
        if tag.starts_with('/') {
            open.pop();
        } else if tag.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            let name = tag.split(|c: char| c.is_whitespace() || "/>".contains(c)).next()?;
            if !tag.trim_end().ends_with("/>") {
                open.push(name);
            }
        }
    }
    open.pop()
}

/// Says what is wrong with a text that is no XML, from `rest` on.
fn explain(error: &Error, rest: &str) -> String {
    match error {
        Error::DtdDetected => "<!DOCTYPE>: a definition has no document type; remove it".to_owned(),
        Error::UnknownEntityReference(name, _) => {
            let entity = quoted(&format!("&{name};"));
            format!("the entity {entity} is not expanded; write its text")
        }
        Error::NodesLimitReached => format!("more than {NODES} elements and pieces of text"),
        Error::UnclosedRootNode => "not closed at the end of the text".to_owned(),
        Error::NoRootNode => "expected an element, found none".to_owned(),
        other => {
            let what = other.to_string();
            let what = what.rsplit_once(" at ").map_or(what.as_str(), |(what, _)| what);
            format!("not well-formed XML: {what}, found {}", excerpt(rest.as_bytes()))
        }
    }
}
