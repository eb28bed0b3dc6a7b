//! What the terminal can show.

use std::io::{IsTerminal, stdout};

use placer::report::text::style::Style;
use placer::settings::variables;
use terminal_size::{Width, terminal_size};

/// Returns what the reader of standard output can show.
pub(crate) fn style_of_stdout() -> Style {
    let blocks = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variables::value(name));
    let blocks = blocks.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    if !stdout().is_terminal() {
        return Style { blocks, ..Style::PLAIN };
    }
    let width = terminal_size().map_or(80, |(Width(columns), _)| usize::from(columns));
    let dumb = variables::value("TERM").is_none_or(|term| term == "dumb");
    let colour = !dumb && variables::value("NO_COLOR").is_none();
    Style { width: width.clamp(40, 200), colour, blocks }
}
