//! What a test needs of the machine it runs on, beyond what the attribute `#[needs(..)]` can find out when the
//! test is compiled.

use std::fmt::Display;

/// Reports that a part of a test does not apply to this kernel or host. No package changes that; the
/// booted machines of `tests/vm` have what is missing here.
pub fn does_not_apply(why: impl Display) {
    eprintln!("does not apply here: {why}");
}
