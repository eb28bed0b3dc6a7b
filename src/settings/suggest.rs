//! Which known name was meant by an unknown one.

/// Returns the known name that is nearest to what was written, if any is near.
///
/// A swap of neighbours (`polciy`) is one slip, as people make it. A third of the letters may be
/// wrong: past that a guess helps nobody. `_` stands for `-`, since other programs spell keys so.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // No name of ours is nearly so long, and the distance takes the product of both lengths.
    const LONGEST: usize = 40;
    if written.len() > LONGEST {
        return None;
    }
    let written = written.to_lowercase().replace('_', "-");
    let near = known.iter().map(|name| (strsim::osa_distance(&written, name), *name));
    let (slips, name) = near.min_by_key(|(slips, _)| *slips)?;
    (slips * 3 <= name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_nothing_else() {
        let known = ["policy", "memory-bound", "hold", "smt-percent"];
        for (written, meant) in [
            ("polciy", Some("policy")),
            ("Policy", Some("policy")),
            ("memory_bound", Some("memory-bound")),
            ("memorybound", Some("memory-bound")),
            ("holds", Some("hold")),
            ("hodl", Some("hold")),
            ("hlod-x", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
    }
}
