//! What-if: a stream of guests over one host, by several rules side by side. Pure: no file, no clock
//! of its own, no thread; the same stream, host and rule give the same figures, always.
//!
//! # The model
//!
//! *The host* is one snapshot, recorded or made. What runs on it stays; only what is free is given
//! to guests of the stream. The memory of GPUs is not used.
//!
//! *A guest* arrives, is placed by the rule or refused, and departs when the stream says so. For a
//! while after its start (20 s on the average) it has neither touched its memory nor run: free
//! memory and load do not show it. Then it wakes and touches all of it at once. From there on a part
//! of its CPUs is busy, another part after each of about eight changes in a life. When which guest
//! wakes and how busy it is follows from the seed and the guest's place in the stream, so all rules
//! meet the same guests.
//!
//! *A rule* sees what it would see on a real host: free memory as it is now, the load as it is
//! measured, which is never more than all CPUs. With claims it sees less what is claimed: all of a
//! guest's memory until that is resident, and its CPUs less what it has used on the average, as
//! placer's own claims shrink. The split of a guest over several nodes is policy `best`'s for every
//! rule.
//!
//! *Threads* roam over the nodes of their guest, evenly crowded, and are spread anew when the
//! guest's load changes. Crowding of a node is the runnable threads for each CPU, at least 1, by
//! those that are really there: it does not end where measured load does.
//!
//! *Memory* goes where it was promised. What finds no room there goes to the nearest node with room,
//! the guest's own first (spilled), and past the last one it is swapped out.
//!
//! *Pinned guests*, where they are wanted: each vCPU owns a CPU until the guest departs, and threads run
//! nowhere else. Every rule knows the owned CPUs; a guest for which not enough CPUs are left is
//! refused. Each rule has its own way to choose CPUs inside the nodes, by last-level caches or without them.
//! Crowding and slowdown stay those of whole nodes: what a guest across caches loses is not in them.
//!
//! *Slowdown* is policy `best`'s function, crowding x (1 - mu + mu x distance / 10), of the crowding
//! and the distance a guest really had, averaged over the work of its life: an idle guest is not
//! slowed. The cost of swapping is not in it; the amount swapped is reported separately.
//!
//! *All rules refuse* a guest that wants more CPUs than the host has, or more memory than all nodes
//! have free by what the rule sees; policy `best` keeps its reserve on top. numad itself refuses
//! no guest and would fill the host beyond its memory, so it is not asked in that case.

mod csv;
mod dice;
mod generate;
mod guest;
mod machine;
mod made;
pub mod manage;
mod owned;
pub mod report;
mod rules;
mod run;
mod state;
mod tally;
#[cfg(test)]
mod tests;

pub use csv::{CsvError, read};
pub use generate::{Plan, generate};
pub use guest::{Demand, Habits, Stream, seconds};
pub use machine::Machine;
pub use made::{Made, Shape};
pub use owned::Pins;
pub use rules::{CpuRule, Rule, Tuning};
pub use run::{Course, Watch, replay};
pub use tally::{Outcome, Spread};
