//! What a test needs of the machine it runs on.

use std::fmt::Display;

/// Reports that a test, or a part of one, does not run because something is missing that `ci/deps test` or
/// a root shell provides. Under `PLACER_REQUIRE=all`, which `.ci/run` sets, that is a failure: a check
/// that leaves out tests silently is none.
pub fn skip(missing: impl Display) {
    let required = std::env::var_os("PLACER_REQUIRE").is_some_and(|value| value == "all");
    assert!(!required, "PLACER_REQUIRE=all: {missing}");
    eprintln!("skipped: {missing}");
}

/// Reports that a part of a test does not apply to this kernel or host. No package changes that; the
/// booted machines of `tests/vm` have what is missing here.
pub fn does_not_apply(why: impl Display) {
    eprintln!("does not apply here: {why}");
}
