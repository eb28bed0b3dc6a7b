//! Other programs that can be asked instead of the engine in this process.

pub mod numad_process;
