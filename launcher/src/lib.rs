//! Binds a guest before its first instruction: `Advice -> Binding -> Vec<Step> -> perform`.
//!
//! The place of the launcher. It takes the engine's [`Advice`](placer_engine::Advice) and starts
//! QEMU machines, LXC containers and commands where it says.

pub mod definition;
pub mod domain;
pub mod guest;
pub mod guest_file;
