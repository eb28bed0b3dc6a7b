//! How things look: glyphs for what the terminal can show, styles for what it can colour.

use ratatui::style::{Color, Modifier, Style};

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) color: bool,
    pub(crate) glyphs: &'static Glyphs,
}

/// The signs that things are drawn with. Each bar has its own for each part of it, so that it is read
/// without colour too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Glyphs {
    pub(crate) used: &'static str,
    pub(crate) claimed: &'static str,
    pub(crate) cached: &'static str,
    pub(crate) free: &'static str,
    /// The rule between two parts of the screen.
    pub(crate) rule: &'static str,
    /// In front of an advised node.
    pub(crate) advised: &'static str,
    /// In front of a node of the set that comes second.
    pub(crate) second: &'static str,
    /// In front of a line that warns.
    pub(crate) alert: &'static str,
    pub(crate) more_above: &'static str,
    pub(crate) more_below: &'static str,
    pub(crate) caret: &'static str,
    /// Between two remarks on a line.
    pub(crate) dot: &'static str,
    /// At the end of a text that goes on.
    pub(crate) cut: &'static str,
    /// Eight steps from nothing to all, for what was.
    pub(crate) levels: [&'static str; 8],
}

/// Thin bars, told apart by colour.
const LINES: Glyphs = Glyphs {
    used: "━",
    claimed: "━",
    cached: "━",
    free: "─",
    levels: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    ..BLOCKS
};

/// Bars told apart by their density: the signs of the PC's first font, which every console has.
const BLOCKS: Glyphs = Glyphs {
    used: "█",
    claimed: "▓",
    cached: "▒",
    free: "░",
    rule: "─",
    advised: "●",
    second: "○",
    alert: "▲",
    more_above: "↑",
    more_below: "↓",
    caret: "█",
    dot: "·",
    cut: "…",
    levels: ["·", "░", "░", "▒", "▒", "▓", "▓", "█"],
};

const ASCII: Glyphs = Glyphs {
    used: "#",
    claimed: "=",
    cached: "-",
    free: ".",
    rule: "-",
    advised: "*",
    second: "+",
    alert: "!",
    more_above: "^",
    more_below: "v",
    caret: "_",
    dot: "|",
    cut: "~",
    levels: ["_", ".", ":", "-", "=", "+", "*", "#"],
};

impl Look {
    /// Returns the look for a terminal: `locale` is that of LC_ALL, LC_CTYPE or LANG which counts.
    pub(crate) fn of(locale: &str, term: &str, no_color: bool) -> Self {
        let locale = locale.to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        // The Linux console's font has the blocks, and no heavy lines.
        let glyphs = match (unicode, no_color || term == "linux") {
            (false, _) => &ASCII,
            (true, true) => &BLOCKS,
            (true, false) => &LINES,
        };
        Self { color: !no_color, glyphs }
    }

    /// Returns the style of something.
    pub(crate) fn style(self, paint: Paint) -> Style {
        let style = Style::new();
        let bold = style.add_modifier(Modifier::BOLD);
        if !self.color {
            return match paint {
                Paint::Advised | Paint::Title | Paint::Alert | Paint::Key => bold,
                Paint::Selected => style.add_modifier(Modifier::REVERSED),
                _ => style,
            };
        }
        match paint {
            Paint::Plain => style,
            Paint::Title => bold,
            // Not the bright black: that is the background of some themes.
            Paint::Dim | Paint::Free => style.add_modifier(Modifier::DIM),
            Paint::Used => style.fg(Color::Blue),
            Paint::Claimed => style.fg(Color::Magenta),
            Paint::Cached => style.fg(Color::Cyan),
            Paint::Calm => style.fg(Color::Green),
            Paint::Warm => style.fg(Color::Yellow),
            Paint::Hot => style.fg(Color::Red),
            Paint::Advised => bold.fg(Color::Green),
            Paint::Second => style.fg(Color::Yellow),
            Paint::Alert => style.fg(Color::Yellow),
            Paint::Key => bold.fg(Color::Cyan),
            Paint::Selected => style.add_modifier(Modifier::REVERSED),
        }
    }
}

/// What is drawn, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Title,
    Dim,
    Used,
    Claimed,
    Cached,
    Free,
    /// CPUs with time to spare.
    Calm,
    /// More than six in ten busy.
    Warm,
    /// More than nine in ten busy.
    Hot,
    Advised,
    Second,
    Alert,
    Key,
    Selected,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_what_it_can_show() {
        for (locale, term, no_color, color, used) in [
            ("en_US.UTF-8", "xterm-256color", false, true, "━"),
            ("C.utf8", "xterm", true, false, "█"),
            ("de_DE.UTF-8", "linux", false, true, "█"),
            ("C", "xterm", false, true, "#"),
            ("", "", true, false, "#"),
        ] {
            let look = Look::of(locale, term, no_color);
            assert_eq!((look.color, look.glyphs.used), (color, used), "{locale} {term}");
        }
    }
}
