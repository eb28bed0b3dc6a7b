//! Changes to a text by ranges: what is not changed stays as it is, byte for byte.

use std::ops::Range;

use super::tree::Element;

/// An element that is to be put into a text.
#[derive(Debug)]
pub(super) struct New {
    pub(super) name: &'static str,
    /// Names and values; none of them needs escaping.
    pub(super) attributes: Vec<(&'static str, String)>,
    pub(super) content: Content,
}

/// What is in a new element.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Children(Vec<New>),
}

impl New {
    /// Returns an element without content.
    pub(super) fn empty(name: &'static str, attributes: Vec<(&'static str, String)>) -> Self {
        Self { name, attributes, content: Content::Children(Vec::new()) }
    }
}

/// A text and the changes to it.
pub(super) struct Edits<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, String)>,
    newline: &'static str,
    /// What one step of indentation is; `None` where the document has no lines.
    unit: Option<String>,
    quote: char,
}

impl<'a> Edits<'a> {
    /// Takes the form of new elements from a document: line ends, indentation, quotes.
    pub(super) fn new(text: &'a str, root: &Element) -> Self {
        let newline = match text.find('\n') {
            Some(at) if text[..at].ends_with('\r') => "\r\n",
            _ => "\n",
        };
        let before = indentation(text, root).unwrap_or_default().len();
        let step = root.children.iter().find_map(|child| {
            let inside = indentation(text, child)?;
            Some(inside.get(before..).unwrap_or_default().to_owned())
        });
        let used = root.attributes.first().and_then(|it| text.get(..it.range.end));
        let quote = match used.and_then(|used| used.chars().next_back()) {
            Some('"') => '"',
            _ => '\'',
        };
        Self { text, edits: Vec::new(), newline, unit: step, quote }
    }

    /// Sets an attribute: its value alone is changed, or it is put behind the others.
    pub(super) fn set(&mut self, element: &Element, name: &str, value: &str) {
        let found = element.attributes.iter().find(|it| it.name == name);
        match (found, element.attributes.last()) {
            (Some(it), _) if it.value == value => {}
            (Some(it), _) => self.edits.push((it.value_range.clone(), value.to_owned())),
            (None, last) => {
                let at = match last {
                    Some(last) => last.range.end,
                    None => name_end(self.text, element),
                };
                let quote = match last.and_then(|it| self.text.get(..it.range.end)) {
                    Some(used) if used.ends_with('"') => '"',
                    Some(_) => '\'',
                    None => self.quote,
                };
                self.edits.push((at..at, format!(" {name}={quote}{value}{quote}")));
            }
        }
    }

    /// Takes an attribute away, with the blanks before it.
    pub(super) fn remove(&mut self, element: &Element, name: &str) {
        if let Some(it) = element.attributes.iter().find(|it| it.name == name) {
            let before = self.text.get(..it.range.start).unwrap_or_default();
            self.edits.push((before.trim_end().len()..it.range.end, String::new()));
        }
    }

    /// Takes an element away, with the blanks before it.
    pub(super) fn delete(&mut self, element: &Element) {
        let before = self.text.get(..element.range.start).unwrap_or_default();
        self.edits.push((before.trim_end().len()..element.range.end, String::new()));
    }

    /// Puts an element behind another, indented like that.
    pub(super) fn insert_after(&mut self, anchor: &Element, new: &New) {
        let at = anchor.range.end;
        let (at, text) = match indentation(self.text, anchor) {
            Some(indent) => {
                let line = format!("{}{indent}{}", self.newline, self.written(new, Some(indent)));
                (behind_comments(self.text, at), line)
            }
            None => (at, self.written(new, None)),
        };
        self.edits.push((at..at, text));
    }

    /// Puts elements into another, behind what is in it.
    pub(super) fn append(&mut self, parent: &Element, new: &[New]) {
        if let Some(last) = parent.children.last() {
            new.iter().for_each(|new| self.insert_after(last, new));
            return;
        }
        let outer = indentation(self.text, parent);
        let inner = outer.map(|outer| format!("{outer}{}", self.unit.as_deref().unwrap_or("  ")));
        let mut inside = String::new();
        for new in new {
            if let Some(inner) = &inner {
                inside.push_str(&format!("{}{inner}", self.newline));
            }
            inside.push_str(&self.written(new, inner.as_deref()));
        }
        if let Some(outer) = outer {
            inside.push_str(&format!("{}{outer}", self.newline));
        }
        let whole = self.text.get(parent.range.clone()).unwrap_or_default();
        match whole.strip_suffix("/>") {
            Some(open) => {
                let from = parent.range.start + open.trim_end().len();
                let name = self.text.get(parent.range.start + 1..name_end(self.text, parent));
                let close = format!(">{inside}</{}>", name.unwrap_or_default());
                self.edits.push((from..parent.range.end, close));
            }
            None => {
                let close = parent.range.start + whole.rfind("</").unwrap_or(whole.len());
                let before = self.text.get(..close).unwrap_or_default().trim_end().len();
                // A start tag ends in no blank, so `before` is never inside it.
                self.edits.push((before..close, inside));
            }
        }
    }

    /// Returns the text with all changes.
    pub(super) fn finish(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut done = 0;
        for (range, new) in &self.edits {
            out.push_str(self.text.get(done..range.start).unwrap_or_default());
            out.push_str(new);
            done = range.end;
        }
        out.push_str(self.text.get(done..).unwrap_or_default());
        out
    }

    /// Writes an element. `indent` is that of its first line; `None`: everything in one line.
    fn written(&self, new: &New, indent: Option<&str>) -> String {
        let mut out = format!("<{}", new.name);
        for (name, value) in &new.attributes {
            out.push_str(&format!(" {name}={0}{value}{0}", self.quote));
        }
        match &new.content {
            Content::Text(text) => out.push_str(&format!(">{text}</{}>", new.name)),
            Content::Children(children) if children.is_empty() => out.push_str("/>"),
            Content::Children(children) => {
                out.push('>');
                let inner =
                    indent.map(|outer| format!("{outer}{}", self.unit.as_deref().unwrap_or("  ")));
                for child in children {
                    if let Some(inner) = &inner {
                        out.push_str(&format!("{}{inner}", self.newline));
                    }
                    out.push_str(&self.written(child, inner.as_deref()));
                }
                if let Some(indent) = indent {
                    out.push_str(&format!("{}{indent}", self.newline));
                }
                out.push_str(&format!("</{}>", new.name));
            }
        }
        out
    }
}

/// Returns the blanks before an element; `None` where something else is before it in its line, or it is
/// in the first line.
fn indentation<'t>(text: &'t str, element: &Element) -> Option<&'t str> {
    let before = text.get(..element.range.start)?;
    let line = &before[before.rfind('\n')? + 1..];
    line.chars().all(|c| c == ' ' || c == '\t').then_some(line)
}

/// Returns the end of the line where only comments follow in it: they belong to what is before them.
fn behind_comments(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default().trim_end();
    let mut left = line.trim_start();
    while let Some(comment) = left.strip_prefix("<!--") {
        let Some(end) = comment.find("-->") else { return at };
        left = comment[end + 3..].trim_start();
    }
    if left.is_empty() { at + line.len() } else { at }
}

/// Returns where the name in a start tag ends.
fn name_end(text: &str, element: &Element) -> usize {
    let start = element.range.start;
    let tag = text.get(start..element.range.end).unwrap_or_default();
    start + tag.find(|c: char| c.is_whitespace() || c == '/' || c == '>').unwrap_or(tag.len())
}
