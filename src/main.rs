//! The `placer` program: parses, runs, prints what went wrong, chooses the exit code.

fn main() {}
