//! What came of the moves of `placer balance --apply` and `--undo`, in words and as JSON.

use std::fmt::Write as _;

use placer_engine::{Bytes, NodeId, NodeSet};
use serde::Serialize;

use super::balance::{GuestName, MovesForm};
use super::escape;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A plan was carried out.
    Apply,
    /// Moves were finished that a killed run had begun.
    Resume,
    /// The last plan was taken back.
    Undo,
}

/// What became of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is on its new nodes.
    Moved,
    /// It is back where it was.
    Returned,
    /// It was not moved.
    Kept,
    /// It has ended.
    Ended,
    /// It is neither here nor there.
    Unfinished,
}

/// One guest.
#[derive(Clone, Debug)]
pub struct MovedGuest {
    /// What it is called.
    pub name: GuestName,
    /// What became of it.
    pub outcome: Outcome,
    /// Its nodes before.
    pub from: NodeSet,
    /// Its nodes by the plan.
    pub to: NodeSet,
    /// Memory that was moved.
    pub moved: Bytes,
    /// Memory that did not let itself be moved.
    pub stayed: Bytes,
    /// Where its memory was.
    pub before: Vec<(NodeId, Bytes)>,
    /// Where its memory is.
    pub now: Vec<(NodeId, Bytes)>,
    /// Why it is not on its new nodes, or not on its old ones again.
    pub why: Option<String>,
}

/// `placer balance --apply --json` and `--undo --json`. Memory in bytes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Moves"))]
pub struct MovedForm {
    #[cfg_attr(test, schemars(extend("const" = 1)))]
    version: u32,
    /// What was done: "apply", "resume" for moves that a killed run had begun, "undo".
    #[cfg_attr(test, schemars(extend("enum" = ["apply", "resume", "undo"])))]
    action: &'static str,
    /// Whether every guest is where it should be.
    complete: bool,
    /// The plan, where one was made.
    plan: Option<MovesForm>,
    guests: Vec<GuestForm>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MovedGuest"))]
struct GuestForm {
    pid: u32,
    program: String,
    claim: Option<String>,
    /// "moved", "returned", "kept", "ended" or "unfinished".
    #[cfg_attr(test, schemars(extend("enum" = ["moved", "returned", "kept", "ended", "unfinished"])))]
    outcome: &'static str,
    /// Its nodes before, and by the plan.
    from: String,
    to: String,
    /// Memory that was moved, and that did not let itself be moved.
    moved: u64,
    stayed: u64,
    /// Where its memory was, and where it is.
    before: Vec<NodeForm>,
    now: Vec<NodeForm>,
    /// Why it is not on its new nodes.
    why: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "OnNode"))]
struct NodeForm {
    node: u32,
    memory: u64,
}

fn by_node(parts: &[(NodeId, Bytes)]) -> Vec<NodeForm> {
    parts.iter().map(|&(node, memory)| NodeForm { node: node.0, memory: memory.get() }).collect()
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Resume => "resume",
            Self::Undo => "undo",
        }
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Returned => "returned",
            Self::Kept => "kept",
            Self::Ended => "ended",
            Self::Unfinished => "unfinished",
        }
    }
}

impl MovedGuest {
    /// Returns a guest that was not moved.
    pub(crate) fn kept(name: GuestName, why: String) -> Self {
        Self {
            name,
            outcome: Outcome::Kept,
            from: NodeSet::new(),
            to: NodeSet::new(),
            moved: Bytes::ZERO,
            stayed: Bytes::ZERO,
            before: Vec::new(),
            now: Vec::new(),
            why: Some(why),
        }
    }

    fn in_words(&self) -> String {
        let why = self.why.as_deref().map(escape::terminal);
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        let stayed = match self.stayed {
            Bytes::ZERO => String::new(),
            stayed => format!("; {stayed} did not let itself be moved"),
        };
        match self.outcome {
            Outcome::Moved => {
                format!("{} moved to nodes {}{stayed}{why}{}", self.moved, self.to, self.places())
            }
            Outcome::Returned => {
                format!("back on nodes {}{why}{stayed}{}", self.from, self.places())
            }
            Outcome::Kept => format!("not moved{why}"),
            Outcome::Ended => "has ended".to_owned(),
            Outcome::Unfinished => format!("neither moved nor put back{why}"),
        }
    }

    fn places(&self) -> String {
        let one = |parts: &[(NodeId, Bytes)]| {
            let parts: Vec<String> =
                parts.iter().map(|(node, memory)| format!("{node}: {memory}")).collect();
            if parts.is_empty() { "not known".to_owned() } else { parts.join(", ") }
        };
        format!("\n     memory {} -> {}", one(&self.before), one(&self.now))
    }
}

impl MovedForm {
    /// Returns what came of moves.
    pub fn of(
        action: Action,
        complete: bool,
        plan: Option<MovesForm>,
        guests: &[MovedGuest],
    ) -> Self {
        let guests = guests.iter().map(|guest| GuestForm {
            pid: guest.name.pid,
            program: guest.name.program.clone(),
            claim: guest.name.claim.map(|claim| claim.to_string()),
            outcome: guest.outcome.word(),
            from: guest.from.to_string(),
            to: guest.to.to_string(),
            moved: guest.moved.get(),
            stayed: guest.stayed.get(),
            before: by_node(&guest.before),
            now: by_node(&guest.now),
            why: guest.why.clone(),
        });
        Self { version: 1, action: action.word(), complete, plan, guests: guests.collect() }
    }
}

/// Writes what came of moves in words.
pub fn moved(action: Action, guests: &[MovedGuest]) -> String {
    let mut text = match action {
        Action::Apply => "carried out\n".to_owned(),
        Action::Resume => {
            "finished what an earlier run began; run it again for a new plan\n".to_owned()
        }
        Action::Undo => "taken back\n".to_owned(),
    };
    for guest in guests {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}: {}", guest.name.shown(), guest.in_words());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(outcome: Outcome) -> MovedGuest {
        let gib = |n: u64| Bytes::new(n << 30);
        MovedGuest {
            name: GuestName::of(4711, "qemu"),
            outcome,
            from: [NodeId(0)].into_iter().collect(),
            to: [NodeId(1)].into_iter().collect(),
            moved: gib(8),
            stayed: Bytes::ZERO,
            before: vec![(NodeId(0), gib(8))],
            now: vec![(NodeId(1), gib(8))],
            why: None,
        }
    }

    #[test]
    fn outcomes_in_words() {
        let pinned = MovedGuest {
            why: Some("its memory\u{1b} is pinned".to_owned()),
            now: vec![(NodeId(0), Bytes::new(8 << 30))],
            ..guest(Outcome::Returned)
        };
        let kept = MovedGuest::kept(GuestName::of(4713, "sleep"), "no CPU is free".to_owned());
        let left = MovedGuest { stayed: Bytes::new(1 << 20), ..guest(Outcome::Moved) };
        let expected = "\
carried out
  4711 qemu: 8.0 GiB moved to nodes 1; 1.0 MiB did not let itself be moved
     memory 0: 8.0 GiB -> 1: 8.0 GiB
  4711 qemu: back on nodes 0: its memory\\u{1b} is pinned
     memory 0: 8.0 GiB -> 0: 8.0 GiB
  4713 sleep: not moved: no CPU is free
";
        assert_eq!(moved(Action::Apply, &[left, pinned, kept]), expected);
        let form = MovedForm::of(Action::Undo, true, None, &[guest(Outcome::Returned)]);
        let form = serde_json::to_value(form).expect("a form");
        assert_eq!(
            form["guests"][0]["now"],
            serde_json::json!([{"node": 1, "memory": 8_u64 << 30}])
        );
        assert_eq!((&form["action"], &form["plan"]), (&"undo".into(), &serde_json::Value::Null));
    }
}
