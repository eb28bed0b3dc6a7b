//! How many files this process may have open, how many of them clients may take, and how many owners of claims are
//! watched with one each.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many as clients can use: two for each of the most there can be.
const FOR_CLIENTS: u64 = 8192;
/// A descriptor for each owner of a claim, on hosts of up to this number of guests; the others are looked at for each
/// decision.
const FOR_OWNERS: u64 = 2048;
/// What answers need, beside the connections they go to.
const FOR_ANSWERS: u64 = 256;

/// What descriptors are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// A client beyond this number is disconnected at once; each connected client gets an answer.
    pub(super) connections: u32,
    pub(super) owners: usize,
}

/// Raises the limit as far as it may be. Returns for what there is room.
pub(super) fn room() -> Room {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return shared(u64::MAX) };
    let wanted = hard.min(FOR_CLIENTS + FOR_OWNERS).max(soft);
    // Where it is enough nothing is asked of the kernel, which may not allow it to a service.
    let raised = wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
    shared(if raised { wanted } else { soft })
}

/// Owners are watched with what clients cannot use.
fn shared(have: u64) -> Room {
    let owners = have.saturating_sub(FOR_CLIENTS).min(FOR_OWNERS);
    let left = have - owners;
    let connections = u32::try_from(left - FOR_ANSWERS.min(left / 2)).unwrap_or(u32::MAX);
    Room { connections, owners: usize::try_from(owners).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_before_owners() {
        for (have, connections, owners) in [
            (0, 0, 0),
            (100, 50, 0),
            (1024, 768, 0),
            (8192, 7936, 0),
            (8200, 7936, 8),
            (10_240, 7936, 2048),
            (u64::MAX, u32::MAX, 2048),
        ] {
            assert_eq!(shared(have), Room { connections, owners }, "{have}");
        }
    }
}
