//! Writes elements, indented and escaped.

use crate::domain::tree::escape;

/// An XML text that grows.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
    /// Whether something could not be written.
    bad: bool,
}

impl Writer {
    /// Returns the text, unless something in it could not be written.
    pub(super) fn finish(self) -> Option<String> {
        (!self.bad).then_some(self.text)
    }

    fn escaped(&mut self, text: &str) {
        match escape(text) {
            Some(text) => self.text.push_str(&text),
            None => self.bad = true,
        }
    }

    /// Starts a tag on a line of its own, and leaves it open for `>` or `/>`.
    fn tag(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.text.extend(std::iter::repeat_n("  ", self.depth));
        self.text.extend(["<", name]);
        for (name, value) in attributes {
            self.text.extend([" ", name, "='"]);
            self.escaped(value);
            self.text.push('\'');
        }
    }

    /// Writes the start of an element that others are in.
    pub(super) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes);
        self.text.push_str(">\n");
        self.depth += 1;
    }

    /// Writes its end.
    pub(super) fn close(&mut self, name: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.text.extend(std::iter::repeat_n("  ", self.depth));
        self.text.extend(["</", name, ">\n"]);
    }

    /// Writes an element with nothing in it.
    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes);
        self.text.push_str("/>\n");
    }

    /// Writes an element with text in it.
    pub(super) fn leaf(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.tag(name, attributes);
        self.text.push('>');
        self.escaped(text);
        self.text.extend(["</", name, ">\n"]);
    }

    /// Writes an element with text in it, if there is a text.
    pub(super) fn leaf_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, &[], text);
        }
    }

    /// Writes an element with what `inside` writes in it.
    pub(super) fn with_children(
        &mut self,
        name: &str,
        attributes: &[(&str, &str)],
        inside: impl FnOnce(&mut Self),
    ) {
        self.tag(name, attributes);
        let start = self.text.len();
        self.text.push_str(">\n");
        let filled = self.text.len();
        self.depth += 1;
        inside(self);
        if self.text.len() > filled {
            self.close(name);
        } else {
            self.depth -= 1;
            self.text.truncate(start);
            self.text.push_str("/>\n");
        }
    }
}
