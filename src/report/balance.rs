//! `placer balance`: a plan in words, and as JSON.

use std::fmt::Write as _;

use placer_engine::balance::{Fixed, LeftAlone, Move, Plan, RoomAnswer, RoomRequest};
use placer_engine::claims::ClaimId;
use placer_engine::{Bytes, NodeSet};
use serde::Serialize;

use crate::report::escape;

/// What a guest is called.
#[derive(Clone, Debug)]
pub struct GuestName {
    /// Its claim, where one was asked for.
    pub claim: Option<ClaimId>,
    /// Its process.
    pub pid: u32,
    /// Its program; as it was found.
    pub program: String,
    /// Why it is left alone since an earlier move, as half a sentence.
    pub tried: Option<String>,
}

impl GuestName {
    /// Returns the name of a process without a claim.
    pub(crate) fn of(pid: u32, program: &str) -> Self {
        Self { claim: None, pid, program: program.to_owned(), tried: None }
    }

    /// Returns it for a line: `4711 qemu (claim 5f3a9c01)`.
    pub(super) fn shown(&self) -> String {
        shown(&NameForm::of(std::slice::from_ref(self), 0))
    }
}

/// `placer balance --json`. Memory in bytes, gains and costs in CPU seconds.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Plan"))]
pub struct MovesForm {
    version: u32,
    /// What all guests take over the time that gains are counted, before and after.
    before: f64,
    after: f64,
    gain: f64,
    cost: f64,
    memory: u64,
    steps: Vec<StepForm>,
    left_alone: Vec<LeftForm>,
    /// Whether the search ended at its limit.
    limited: bool,
}

/// `placer balance --make-room --json`.
#[derive(Debug, Serialize)]
pub struct RoomForm {
    version: u32,
    cpus: f64,
    requested: u64,
    /// Where the request fits after the moves; null if no moves were found.
    nodes: Option<String>,
    /// Memory that is moved, and the least that any plan moves.
    memory: Option<u64>,
    least: Option<u64>,
    /// Whether no plan moves less, or none exists.
    proven: bool,
    steps: Vec<StepForm>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct NameForm {
    pid: u32,
    program: String,
    claim: Option<String>,
}

/// One guest's move.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Step"))]
pub struct StepForm {
    #[serde(flatten)]
    guest: NameForm,
    /// "relocation", "exchange", "chain", or "room".
    kind: &'static str,
    /// Steps of one group are taken together.
    group: usize,
    from: String,
    to: String,
    memory: u64,
    cost: Option<f64>,
    slowdown: Slowdown,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Slowdown {
    before: f64,
    after: f64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LeftAlone"))]
struct LeftForm {
    #[serde(flatten)]
    guest: NameForm,
    reason: &'static str,
    /// The reason in words.
    text: String,
}

impl NameForm {
    fn of(names: &[GuestName], at: usize) -> Self {
        let name = names.get(at);
        Self {
            pid: name.map_or(0, |name| name.pid),
            program: name.map(|name| name.program.clone()).unwrap_or_default(),
            claim: name.and_then(|name| name.claim).map(|claim| claim.to_string()),
        }
    }
}

/// A process in a line: `4711 qemu (claim 5f3a9c01)`.
fn shown(guest: &NameForm) -> String {
    let claim = guest.claim.as_ref().map(|claim| format!(" (claim {claim})"));
    format!("{} {}{}", guest.pid, escape::terminal(&guest.program), claim.unwrap_or_default())
}

impl StepForm {
    /// Returns the process of the guest.
    pub fn pid(&self) -> u32 {
        self.guest.pid
    }

    /// Returns the move in a line: `4711 qemu (claim 5f3a9c01): nodes 0 -> 1, ...`.
    pub fn line(&self) -> String {
        format!("{}: {}", shown(&self.guest), self.in_words())
    }

    /// Returns the move in half a line.
    pub(crate) fn in_words(&self) -> String {
        let Slowdown { before, after } = self.slowdown;
        format!(
            "nodes {} -> {}, {}, slowdown {before:.2} -> {after:.2}",
            self.from,
            self.to,
            Bytes::new(self.memory)
        )
    }
}

impl MovesForm {
    /// Returns the moves.
    pub fn steps(&self) -> &[StepForm] {
        &self.steps
    }

    /// Returns a plan for the guests of these names.
    pub fn of(plan: &Plan, names: &[GuestName]) -> Self {
        let steps = plan.steps.iter().map(|step| StepForm {
            guest: NameForm::of(names, step.guest),
            kind: match step.kind {
                Move::Relocation => "relocation",
                Move::Exchange => "exchange",
                Move::Chain => "chain",
            },
            group: step.group,
            from: step.from.to_string(),
            to: step.to.to_string(),
            memory: step.memory.get(),
            cost: Some(step.cost),
            slowdown: slowdown(step.slowdown),
        });
        let left = plan.left_alone.iter().map(|(guest, why)| {
            let (reason, text) = why_left(why, *guest, names);
            LeftForm { guest: NameForm::of(names, *guest), reason, text }
        });
        Self {
            version: 1,
            before: plan.before,
            after: plan.after,
            gain: plan.gain(),
            cost: plan.cost,
            memory: plan.memory().get(),
            steps: steps.collect(),
            left_alone: left.collect(),
            limited: plan.limited,
        }
    }
}

fn slowdown((before, after): (f64, f64)) -> Slowdown {
    Slowdown { before, after }
}

/// Returns why a guest stays: a word for programs, and words.
fn why_left(why: &LeftAlone, at: usize, names: &[GuestName]) -> (&'static str, String) {
    let nodes = |nodes: &NodeSet| if nodes.len() == 1 { "node" } else { "nodes" };
    match why {
        LeftAlone::Fixed(Fixed::Tried) => {
            let tried = names.get(at).and_then(|name| name.tried.as_deref());
            (
                "tried",
                format!(
                    "left alone for an hour: {}",
                    escape::terminal(tried.unwrap_or("it was moved"))
                ),
            )
        }
        LeftAlone::Fixed(fixed) => why_fixed(*fixed),
        LeftAlone::Young => ("young", "started less than a minute ago".to_owned()),
        LeftAlone::Resting => ("resting", "was moved less than 10 minutes ago".to_owned()),
        LeftAlone::NoOtherNode => {
            ("no-other-node", "no node has enough CPUs and memory for it".to_owned())
        }
        LeftAlone::GainTooSmall { gain, cost } => {
            let text = format!(
                "the best move saves {gain:.1} CPU seconds and costs {cost:.1}: too little"
            );
            ("gain-too-small", text)
        }
        LeftAlone::NoRoom(set, lacks) => {
            ("no-room", format!("{} {set} would be better and lacks {lacks}", nodes(set)))
        }
        LeftAlone::SlowsAnother(other) => {
            let other = shown(&NameForm::of(names, *other));
            ("slows-another", format!("the best move would slow {other}"))
        }
        LeftAlone::PlanIsFull => {
            ("plan-is-full", "the plan is full: plan again after it".to_owned())
        }
        // LeftAlone may have more reasons than this program knows.
        _ => ("nothing-to-gain", "no move of it gains anything".to_owned()),
    }
}

fn why_fixed(fixed: Fixed) -> (&'static str, String) {
    let (word, text) = match fixed {
        Fixed::Bound => ("bound", "its CPUs or memory are bound by its user"),
        Fixed::Cpuset => ("cpuset", "it runs in a cpuset of another program"),
        Fixed::Settling => ("settling", "its memory is still being moved"),
        Fixed::Pinned => ("pinned", "its threads are pinned to CPUs of their own"),
        Fixed::HugePages => ("huge-pages", "its memory is in huge pages of a pool"),
        _ => ("unknown", "where its memory is or what its threads do is not known"),
    };
    (word, text.to_owned())
}

/// Writes a plan in words.
pub fn moves(form: &MovesForm) -> String {
    let mut text = match form.steps.len() {
        0 => "no guest is worth moving\n".to_owned(),
        count => format!(
            "{count} {} save {:.1} CPU seconds and cost {:.1}; {} of memory to move\n",
            if count == 1 { "move" } else { "moves" },
            form.gain,
            form.cost,
            Bytes::new(form.memory)
        ),
    };
    steps(&form.steps, &mut text);
    if form.limited {
        text.push_str("the search for exchanges ended at its limit: others may be better\n");
    }
    if !form.left_alone.is_empty() {
        text.push_str("\nleft alone\n");
    }
    for left in &form.left_alone {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {}: {}", shown(&left.guest), left.text);
    }
    text
}

fn steps(steps: &[StepForm], text: &mut String) {
    for (at, step) in steps.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| steps.get(at));
        let with = match step.kind {
            "exchange" | "chain" if before.is_some_and(|before| before.group == step.group) => {
                ", only together with the step before"
            }
            _ => "",
        };
        let (name, move_) = (shown(&step.guest), step.in_words());
        let _ = writeln!(text, "{:>3}. {name}\n     {move_}{with}", at + 1);
    }
}

impl RoomForm {
    /// Returns the answer to a request for room, for the guests of these names.
    pub fn of(request: &RoomRequest, answer: &RoomAnswer, names: &[GuestName]) -> Self {
        let plan = answer.plan.as_ref();
        let steps = plan.map(|plan| plan.steps.as_slice()).unwrap_or_default();
        let step = |step: &placer_engine::balance::RoomStep| StepForm {
            guest: NameForm::of(names, step.guest),
            kind: "room",
            group: 0,
            from: step.from.to_string(),
            to: step.to.to_string(),
            memory: step.memory.get(),
            cost: None,
            slowdown: slowdown(step.slowdown),
        };
        Self {
            version: 1,
            cpus: request.cpus,
            requested: request.memory.get(),
            nodes: plan.map(|plan| plan.nodes.to_string()),
            memory: plan.map(|plan| plan.memory.get()),
            least: plan.map(|plan| plan.least.get()),
            proven: answer.proven,
            steps: steps.iter().map(step).collect(),
        }
    }
}

/// Writes the answer in words.
pub fn room(form: &RoomForm) -> String {
    let cpus = if form.cpus == 1.0 { "CPU" } else { "CPUs" };
    let wanted = format!("{} {cpus} and {}", form.cpus, Bytes::new(form.requested));
    let Some((nodes, memory)) = form.nodes.as_ref().zip(form.memory) else {
        let sure = if form.proven { "" } else { " (the search ended at its limit)" };
        return format!(
            "no moves of running guests make room for {wanted} on the fewest nodes{sure}\n"
        );
    };
    let node = if nodes.parse::<u32>().is_ok() { "node" } else { "nodes" };
    if form.steps.is_empty() {
        return format!("{wanted} fit on {node} {nodes} without moving anything\n");
    }
    let least = Bytes::new(form.least.unwrap_or_default());
    let proof = match form.proven {
        true => "no plan moves less".to_owned(),
        false => format!("any plan moves at least {least}"),
    };
    let mut text = format!(
        "{wanted} fit on {node} {nodes} after {} of memory is moved; {proof}\n",
        Bytes::new(memory)
    );
    steps(&form.steps, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use placer_engine::NodeId;
    use placer_engine::balance::{RoomPlan, RoomStep, Step};

    use super::*;

    fn names() -> Vec<GuestName> {
        let name = |pid, program: &str| GuestName {
            claim: (pid == 4711).then_some(ClaimId(0x5f3a_9c01)),
            pid,
            program: program.to_owned(),
            tried: None,
        };
        vec![name(4711, "qemu"), name(4712, "a\u{1b}[2J"), name(4713, "sleep")]
    }

    fn nodes(ids: &[u32]) -> NodeSet {
        ids.iter().map(|&id| NodeId(id)).collect()
    }

    fn step(guest: usize, group: usize, kind: Move, gib: u64) -> Step {
        Step {
            guest,
            group,
            kind,
            from: nodes(&[0, 1]),
            to: nodes(&[1]),
            memory: Bytes::new(gib << 30),
            placed: vec![(NodeId(1), Bytes::new(gib << 30))],
            cost: 8.0,
            slowdown: (1.5, 1.0),
        }
    }

    #[test]
    fn a_plan_in_words() {
        let plan = Plan {
            steps: vec![step(0, 0, Move::Exchange, 8), step(1, 0, Move::Exchange, 0)],
            left_alone: vec![(2, LeftAlone::SlowsAnother(0))],
            before: 5_400.0,
            after: 3_600.0,
            cost: 8.0,
            slowdowns: vec![(1.5, 1.0); 3],
            limited: false,
        };
        let form = MovesForm::of(&plan, &names());
        let expected = "\
2 moves save 1800.0 CPU seconds and cost 8.0; 8.0 GiB of memory to move
  1. 4711 qemu (claim 5f3a9c01)
     nodes 0-1 -> 1, 8.0 GiB, slowdown 1.50 -> 1.00
  2. 4712 a\\u{1b}[2J
     nodes 0-1 -> 1, 0 B, slowdown 1.50 -> 1.00, only together with the step before

left alone
  4713 sleep: the best move would slow 4711 qemu (claim 5f3a9c01)
";
        assert_eq!(moves(&form), expected);
        let step = serde_json::to_value(&form.steps()[0]).expect("a form");
        let expected = serde_json::json!({
            "pid": 4711, "program": "qemu", "claim": "5f3a9c01", "kind": "exchange", "group": 0, "from": "0-1",
            "to": "1", "memory": 8_u64 << 30, "cost": 8.0, "slowdown": {"before": 1.5, "after": 1.0},
        });
        assert_eq!(step, expected);
    }

    #[test]
    fn room_in_words() {
        let request =
            RoomRequest { cpus: 16.0, memory: Bytes::new(64 << 30), within: nodes(&[0, 1]) };
        let moved = RoomStep {
            guest: 2,
            from: nodes(&[1]),
            to: nodes(&[0]),
            memory: Bytes::new(7 << 30),
            slowdown: (1.0, 1.25),
        };
        let plan = RoomPlan {
            nodes: nodes(&[1]),
            steps: vec![moved],
            memory: Bytes::new(7 << 30),
            least: Bytes::new(5 << 30),
        };
        let answer = |plan: Option<RoomPlan>, proven| {
            room(&RoomForm::of(&request, &RoomAnswer { plan, proven, steps: 9 }, &names()))
        };
        let expected = "\
16 CPUs and 64.0 GiB fit on node 1 after 7.0 GiB of memory is moved; any plan moves at least 5.0 GiB
  1. 4713 sleep
     nodes 1 -> 0, 7.0 GiB, slowdown 1.00 -> 1.25
";
        assert_eq!(answer(Some(plan.clone()), false), expected);
        let proven = RoomPlan { least: plan.memory, ..plan };
        assert!(answer(Some(proven), true).contains("; no plan moves less\n"));
        let none =
            "no moves of running guests make room for 16 CPUs and 64.0 GiB on the fewest nodes\n";
        assert_eq!(answer(None, true), none);
        assert!(answer(None, false).ends_with("(the search ended at its limit)\n"));
    }
}
