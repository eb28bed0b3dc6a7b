//! Policy `best` against brute force, on hosts and requests of unusual shape made from the input. The same
//! entry runs on random bytes in engine/tests/best_brute.rs.

#![no_main]

#[path = "../../engine/tests/best_common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| common::bytes::compare(input));
