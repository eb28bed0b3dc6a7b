//! Virtual machines of QEMU: started stopped, bound thread by thread, then continued.

pub mod args;
mod emit;
mod memory;
pub mod pins;
pub mod shape;
mod split;

pub use emit::emit;
