//! How text is drawn: how wide, in colour or not, with which characters.

/// What a table may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns.
    pub width: usize,
    /// Whether the reader is a terminal that is wanted in colour.
    pub colour: bool,
    /// Whether blocks may be drawn, beside ASCII.
    pub blocks: bool,
}

/// Colours by their meaning, as the numbers of "select graphic rendition".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Good = 32,
    Warning = 33,
    Bad = 31,
    Calm = 36,
    Faint = 2,
    Strong = 1,
}

impl Style {
    /// What a file or a pipe gets.
    pub const PLAIN: Self = Self { width: 80, colour: false, blocks: false };

    /// Returns a text in a colour, if there are colours.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", ink as u8)
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals() {
        let terminal = Style { colour: true, ..Style::PLAIN };
        assert_eq!(Style::PLAIN.ink(Ink::Bad, "0.00"), "0.00");
        assert_eq!(terminal.ink(Ink::Bad, "0.00"), "\u{1b}[31m0.00\u{1b}[0m");
        assert_eq!(terminal.ink(Ink::Bad, ""), "");
    }
}
