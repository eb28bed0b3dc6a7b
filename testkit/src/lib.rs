//! What the tests and benchmarks of all crates share: made-up hosts, stand-ins for the kernel and a
//! browser, checks against schemas.

#![allow(missing_docs, clippy::panic, clippy::unwrap_used, clippy::cast_possible_truncation)]
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::new_without_default)]

pub mod abuse;
pub mod best;
pub mod caches;
pub mod chromium;
pub mod command;
pub mod fake;
pub mod filter;
pub mod machine;
pub mod random;
pub mod require;
pub mod schema;
pub mod together;
pub mod varlink;
pub mod wide;
