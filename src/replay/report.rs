//! What came of a replay, as a table, as JSON, as a page.

mod form;
pub mod html;
mod managed;
pub mod table;

pub use form::ReplayForm;
pub use managed::{Host, ManageForm, Season, text as managed};

use super::{Course, Habits, Machine, Outcome, Plan, Stream, Tuning};

/// All that was replayed, and what came of it.
pub struct Report {
    pub machine: Machine,
    /// Where the host is from, and the guests, in words.
    pub host: String,
    pub guests: String,
    pub stream: Stream,
    pub habits: Habits,
    pub tuning: Tuning,
    /// The plan of guests made up.
    pub plan: Option<Plan>,
    pub outcomes: Vec<(Course, Outcome)>,
}
