//! numad's System V message queue, as both ends see it: messages, their letters, the system calls, the
//! files; and the client.

pub mod client;
pub mod fit;
pub mod ipc;
pub mod letters;
pub mod message;
pub mod pid_file;
pub mod places;
pub mod process;
