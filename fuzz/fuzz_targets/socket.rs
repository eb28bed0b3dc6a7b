//! A connection to the daemon's socket, from its first byte to its last: nothing panics or hangs, and
//! whatever is answered is as the interface says.

#![no_main]

mod conversation;
mod machine;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| conversation::check(input));
