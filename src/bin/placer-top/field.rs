//! One line that a person types.

/// Longer than any request, path or filter that means something.
const MOST: usize = 4096;

/// A text and where the caret is in it, in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    text: Vec<char>,
    at: usize,
}

/// What is done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Insert(char),
    Backspace,
    Delete,
    Left,
    Right,
    Start,
    End,
    /// Empties it.
    Clear,
}

impl Field {
    pub(crate) fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
        Self { at: text.len(), text }
    }

    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Returns what is before the caret, and what is behind it.
    pub(crate) fn halves(&self) -> (String, String) {
        let (before, behind) = self.text.split_at(self.at.min(self.text.len()));
        (before.iter().collect(), behind.iter().collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Insert(c) if !c.is_control() && self.text.len() < MOST => {
                self.text.insert(self.at, c);
                self.at += 1;
            }
            Edit::Insert(_) => {}
            Edit::Backspace if self.at > 0 => {
                self.at -= 1;
                self.text.remove(self.at);
            }
            Edit::Delete if self.at < self.text.len() => _ = self.text.remove(self.at),
            Edit::Backspace | Edit::Delete => {}
            Edit::Left => self.at = self.at.saturating_sub(1),
            Edit::Right => self.at = (self.at + 1).min(self.text.len()),
            Edit::Start => self.at = 0,
            Edit::End => self.at = self.text.len(),
            Edit::Clear => *self = Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_typed_and_mended() {
        let mut field = Field::new("4:8\u{1b}");
        for edit in [
            Edit::Insert('G'),
            Edit::Start,
            Edit::Delete,
            Edit::Insert('\u{7}'),
            Edit::Insert('1'),
            Edit::Insert('6'),
            Edit::Left,
            Edit::Backspace,
            Edit::Backspace,
            Edit::Insert('ü'),
        ] {
            field.edit(edit);
        }
        assert_eq!(field.halves(), ("ü".to_owned(), "6:8G".to_owned()));
        field.edit(Edit::Clear);
        assert!(field.is_empty() && field.text().is_empty());
    }
}
