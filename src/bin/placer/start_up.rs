//! What keeps the start of the program short: every answer pays for it.
//!
//! Rust's library unwinds with libgcc. As a shared library (libgcc_s.so) that is one more to find,
//! map and bind, and it asks the CPU what it can do when it is loaded: in a virtual machine each of
//! these questions goes to the host. Together a tenth of an advice. Linked in, nothing of it runs.

// libgcc's unwinder, whole: the linker takes single parts only for what is missing already, and
// Rust's library, which misses them, comes behind.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[link(name = "gcc_eh", kind = "static", modifiers = "+whole-archive,-bundle")]
unsafe extern "C" {}
