//! What is kept between runs, in a state directory: the second end that touches the machine.

mod dir;
mod load;

pub(crate) use dir::Version;
pub use dir::{StateDir, StoreError};
pub use load::SavedLoad;
