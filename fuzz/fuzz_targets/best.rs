//! Policy `best` against brute force, on hosts and requests of unusual shape made from the input. The same
//! entry runs on random bytes in engine/tests/it/best_brute.rs.

#![no_main]


libfuzzer_sys::fuzz_target!(|input: &[u8]| testkit::best::bytes::compare(input));
