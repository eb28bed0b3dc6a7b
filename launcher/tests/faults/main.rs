//! Launches that fail, and what they leave behind. A program of its own: the descriptors and the signals
//! that are compared are those of the whole process.

mod calls;
mod held;
mod scope;
