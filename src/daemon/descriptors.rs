//! How many files this process may have open, and how many of them clients may take.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many as are of use: two for each of the most clients there can be.
const ENOUGH: u64 = 8192;
/// What answers need, beside the connections they go to.
const FOR_ANSWERS: u64 = 256;

/// Raises the limit as far as it may be. Returns for how many connections there is room: who finds
/// none is closed at once, and nobody who is connected goes without an answer for it.
pub(super) fn room() -> u32 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return u32::MAX };
    let wanted = hard.min(ENOUGH).max(soft);
    // Where it is enough nothing is asked of the kernel, which may not allow it to a service.
    let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    let have = if raised { wanted } else { soft };
    u32::try_from(have - FOR_ANSWERS.min(have / 2)).unwrap_or(u32::MAX)
}
