//! What should be known beside an answer. It is part of the answer: only the programs print it.

use crate::report::escape;

/// What a fault of the state directory means for an answer, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impact {
    /// This answer or the next one takes longer.
    Slower,
    /// The answer does not count the claims of others.
    Uncounted,
    /// The answer is not claimed: other answers will not count it.
    Unclaimed,
}

/// Lines for standard error, in the order in which they were noted.
#[derive(Debug, Default)]
pub struct Notes {
    lines: Vec<String>,
    state: Option<(Impact, String)>,
}

impl Notes {
    /// Adds a warning.
    pub fn warn(&mut self, text: &str) {
        self.line(&format!("placer: warning: {text}"));
    }

    /// Adds a line as it stands, such as one that the daemon sent. Control characters are escaped.
    pub fn line(&mut self, text: &str) {
        self.lines.push(escape::terminal(text).into_owned());
    }

    /// Adds a fault of the state directory. Saved CPU counters and claims are kept in the same place, and
    /// one fault mostly affects both: only the fault with the greatest impact is reported.
    pub fn state(&mut self, impact: Impact, text: String) {
        if self.state.as_ref().is_none_or(|(known, _)| *known < impact) {
            self.state = Some((impact, text));
        }
    }

    /// Adds what was noted elsewhere, the fault of the state directory included.
    pub fn append(&mut self, other: Self) {
        self.lines.extend(other.lines);
        if let Some((impact, text)) = other.state {
            self.state(impact, text);
        }
    }

    /// Returns how many lines there are.
    pub(crate) fn mark(&self) -> usize {
        self.lines.len()
    }

    /// Drops the lines that came after a mark: those of a decision that is made again.
    pub(crate) fn back_to(&mut self, mark: usize) {
        self.lines.truncate(mark);
    }

    /// Takes the lines noted so far, without the fault of the state directory: a worse one may follow.
    pub fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Takes all lines, the fault of the state directory as the last one.
    pub fn take_all(&mut self) -> Vec<String> {
        if let Some((_, text)) = self.state.take() {
            self.warn(&text);
        }
        self.take_lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `placer launch` opens the user's own ledger before it is needed, and decides again without the daemon.
    #[test]
    fn a_fault_noted_elsewhere_outlives_the_lines_of_a_decision_that_is_made_again() {
        let (mut notes, mut elsewhere) = (Notes::default(), Notes::default());
        elsewhere.state(Impact::Unclaimed, "no claim was made: no directory".to_owned());
        notes.state(Impact::Slower, "no counters".to_owned());
        notes.append(elsewhere);
        assert!(notes.take_lines().is_empty());
        assert_eq!(notes.take_all(), ["placer: warning: no claim was made: no directory"]);
    }
}
