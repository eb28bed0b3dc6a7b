#![doc = include_str!("balance/doc.md")]

pub mod manager;
mod model;
mod order;
mod reasons;
pub mod roam;
mod room;
mod search;
mod state;
#[cfg(test)]
mod tests;

pub use model::{
    BalanceError, Fixed, Guest, GuestMemory, Host, HostNode, LeftAlone, Move, Plan, Rules, Step,
};
pub use room::{RoomAnswer, RoomPlan, RoomRequest, RoomStep, make_room};

/// Plans moves. The same input makes the same plan.
///
/// Errors: a guest has a figure that is negative or absurd.
pub fn plan(host: &Host, guests: &[Guest], rules: &Rules) -> Result<Plan, BalanceError> {
    guests.iter().try_for_each(Guest::check)?;
    let mut search = search::Search::new(host, guests, rules);
    search.run();
    let left_alone = reasons::of_all(&mut search);
    Ok(search.finish(left_alone))
}
