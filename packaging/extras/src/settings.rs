//! `/etc/placer.toml` as packages install it: the shipped file with what a libvirt host wants.

const SHIPPED: &str = include_str!("../../../src/settings/placer.toml");

/// What packages switch on: section, the line as shipped, the line as installed.
const SWITCHED_ON: [(&str, &str, &str); 2] = [
    ("[numad]", "#policy = \"numad\"", "policy = \"best\""),
    ("[numad]", "#hold = \"none\"", "hold = \"adopt\""),
];

/// What is said about it at the end of the first paragraph.
const NOTE: &str = "\
# This file came with a package, which has switched on two settings in [numad], so that guests of
# libvirt that start together are not sent to the same memory.
";

/// Returns the text of the settings file with those lines changed.
pub(crate) fn packaged() -> Result<String, String> {
    let (mut text, mut section) = (String::new(), "");
    let mut left = SWITCHED_ON.to_vec();
    for line in SHIPPED.lines() {
        if line.starts_with('[') {
            section = line;
        }
        if line.is_empty() && section.is_empty() && !text.contains(NOTE) {
            text.push_str("#\n");
            text.push_str(NOTE);
        }
        let found =
            left.iter().position(|(within, shipped, _)| *within == section && *shipped == line);
        let line = found.map_or(line, |index| left.remove(index).2);
        text.push_str(line);
        text.push('\n');
    }
    match left.first() {
        None => Ok(text),
        Some((section, line, _)) => {
            Err(format!("src/settings/placer.toml has no line {line:?} in {section}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_two_lines_and_a_note_are_as_shipped() {
        let packaged = packaged().expect("the lines are there");
        let only_in = |text: &str, other: &str| -> Vec<String> {
            let gone = |line: &&str| other.lines().all(|known| known != *line);
            text.lines().filter(gone).map(str::to_owned).collect()
        };
        let mut added: Vec<&str> = NOTE.lines().collect();
        added.extend(SWITCHED_ON.iter().map(|(_, _, line)| *line));
        assert_eq!(only_in(&packaged, SHIPPED), added);
        let gone = only_in(SHIPPED, &packaged);
        assert_eq!(gone, ["#policy = \"numad\"", "#hold = \"none\""]);
    }
}
