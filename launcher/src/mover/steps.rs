//! The steps of a move, in order. Pure.

use placer_engine::NodeSet;

use super::journal::Record;

/// Where a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the nodes of the plan.
    There,
    /// To where it was.
    Back,
}

/// One step. Done twice it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Room where it goes is held until the end.
    Claim,
    /// The guest's group may use these nodes: those of before and after together, and in the end those of after.
    Mems(String),
    /// A few pages are moved, to see whether they can be.
    Probe,
    /// The guest's group runs on these CPUs, with all threads that are born meanwhile.
    GroupCpus(String),
    /// Each thread gets its CPUs.
    Threads,
    /// Memory is moved in chunks.
    Memory,
    /// Claims follow, and the room that was held is let go.
    Settle,
}

/// Returns the steps of a move.
pub fn steps(record: &Record, direction: Direction) -> Vec<Step> {
    let mut steps = vec![Step::Claim];
    let moves = record.memory > 0;
    let held = record.cage.as_ref().filter(|cage| !cage.mems.is_empty() && moves);
    let mems = |cage: &super::journal::Cage| match direction {
        Direction::There => record.to.to_string(),
        Direction::Back => cage.mems.clone(),
    };
    if let Some(cage) = held {
        let before: NodeSet = crate::definition::parse_list(&cage.mems).unwrap_or_default();
        steps.push(Step::Mems(before.union(&record.to).to_string()));
    }
    if moves && direction == Direction::There {
        steps.push(Step::Probe);
    }
    if let Some(cage) = record.cage.as_ref().filter(|cage| !cage.cpus.is_empty()) {
        steps.push(Step::GroupCpus(match direction {
            Direction::There => record.cpus.to_string(),
            Direction::Back => cage.cpus.clone(),
        }));
    }
    steps.push(Step::Threads);
    if moves {
        steps.push(Step::Memory);
    }
    if let Some(cage) = held {
        steps.push(Step::Mems(mems(cage)));
    }
    // Threads that were born while memory was moved.
    steps.extend([Step::Threads, Step::Settle]);
    steps
}
