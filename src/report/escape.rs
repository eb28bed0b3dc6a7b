//! Names of processes, containers, devices and files are untrusted text: characters that move the
//! cursor, reverse the line or close an element are escaped. One function for terminals and one for
//! markup; everything that prints a name goes through one of them.

use std::borrow::Cow;

/// Returns a text as a terminal may show it: on one line, without anything that the terminal acts on,
/// reorders or hides. What is not is written as `\u{1b}`.
pub fn terminal(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_plain(character) {
            safe.push(character);
        } else {
            safe.extend(character.escape_default());
        }
    }
    Cow::Owned(safe)
}

/// Returns a text as it may stand in XML and HTML, also between quotes. What a terminal would act on
/// is written out here too: XML has no way to say it, and a browser reorders it as well.
pub(crate) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for character in terminal(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Whether a character shows itself and does nothing else.
pub(crate) fn is_plain(character: char) -> bool {
    let acts = character.is_control()
        || matches!(character,
            // Ends of lines and of paragraphs.
            '\u{2028}' | '\u{2029}'
            // Turn the direction of writing.
            | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Have no width.
            | '\u{00ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
            // No characters at all: not allowed in XML.
            | '\u{fffe}' | '\u{ffff}');
    !acts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_written_out_and_what_shows_is_left() {
        for (text, shown) in [
            ("eth0", "eth0"),
            ("größe 机器 🦀", "größe 机器 🦀"),
            ("a\u{1b}[2J", "a\\u{1b}[2J"),
            ("a\0b\nc\td\u{7f}\u{9b}", "a\\u{0}b\\nc\\td\\u{7f}\\u{9b}"),
            ("exe.\u{202e}gpj", "exe.\\u{202e}gpj"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("\u{2028}\u{e0041}\u{ffff}", "\\u{2028}\\u{e0041}\\u{ffff}"),
            ("\u{fffd}", "\u{fffd}"),
        ] {
            assert_eq!(terminal(text), shown, "{text:?}");
        }
    }

    #[test]
    fn markup_stays_text() {
        for (text, shown) in [
            ("</svg><script>", "&lt;/svg&gt;&lt;script&gt;"),
            ("\" onload='x' & ", "&quot; onload=&#39;x&#39; &amp; "),
            ("a\u{1b}<\u{202e}", "a\\u{1b}&lt;\\u{202e}"),
            ("]]>", "]]&gt;"),
        ] {
            assert_eq!(markup(text), shown, "{text:?}");
        }
    }

    #[test]
    fn no_character_gets_through_that_acts() {
        for character in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = character.to_string();
            let safe = markup(&text);
            assert!(!safe.chars().any(char::is_control), "{character:?}");
            assert!(!safe.contains(['<', '>', '"', '\'']), "{character:?}");
        }
    }
}
