//! What users who are not root may claim. Pure.

use placer_engine::claims::{Claim, ClaimId, ClaimOwner, Ledger, Principal};
use placer_engine::{Bytes, CpuSet, CpuShare, Request};

use crate::settings;

/// What a claim of a user is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    pub(super) set: &'a settings::Daemon,
    pub(super) ledger: &'a Ledger,
    /// A claim of it that the new one replaces.
    pub(super) repeated: Option<ClaimId>,
    /// Free memory of the host, before claims.
    pub(super) free: Bytes,
    /// All CPUs of the host.
    pub(super) cpus: CpuShare,
}

impl Limits<'_> {
    /// Returns why a user may not claim; `None` if that is allowed. A user counts with all
    /// subordinate users, and what is claimed as far as it is not used. CPUs that threads have for themselves
    /// (`pinned` of the new claim) are kept from others for as long as they are claimed, used or not.
    pub(super) fn refuse(
        &self,
        principal: Principal,
        request: &Request,
        pinned: &CpuSet,
        who: &ClaimOwner,
    ) -> Option<String> {
        let Self { set, ledger, repeated, free, cpus: all } = *self;
        let of_account = |claim: &Claim| claim.principal == principal && Some(claim.id) != repeated;
        let user = match principal {
            Principal::User(uid) => format!("user {uid}"),
            // The host's: libvirt's user, who is not believed to be root.
            other => other.to_string(),
        };
        let count = ledger.claims().iter().filter(|claim| of_account(claim)).count();
        let most = set.user_claims;
        if count >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Some(format!(
                "{user} would exceed the limit of {most} claims (has {count}; user-claims of \
                 [daemon])"
            ));
        }
        let (others, _) = ledger.outstanding(|claim| claim.principal != principal);
        let (memory, cpus) = ledger.outstanding(of_account);
        let most = set.user_memory.of(free.saturating_sub(others));
        let memory = memory.saturating_add(request.memory);
        if memory > most {
            return Some(format!(
                "{user} would exceed the limit of {most} claimed and not yet used (with this \
                 {memory}; user-memory of [daemon])"
            ));
        }
        let most = set.user_cpus.of(all);
        let cpus = cpus.saturating_add(request.cpus);
        if cpus > most {
            return Some(format!(
                "{user} would exceed the limit of {most} CPUs claimed and not yet used (with \
                 this {cpus}; user-cpus of [daemon])"
            ));
        }
        let claims = ledger.claims().iter().filter(|claim| of_account(claim));
        let owned = claims.fold(pinned.clone(), |all, claim| all.union(&claim.pinned));
        if CpuShare::from_cpus(owned.len()).is_none_or(|owned| owned > most) {
            let owned = owned.len();
            return Some(format!(
                "{user} would exceed the limit of {most} CPUs (with this {owned} pinned; user-cpus \
                 of [daemon])"
            ));
        }
        if let ClaimOwner::Hold(time) = who
            && *time > set.user_hold
        {
            let most = set.user_hold;
            return Some(format!(
                "expected a hold of at most {most:?} (user-hold of [daemon]), found {time:?}"
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use placer_engine::claims::{Caller, Origin, Owner, Principals, Promise};
    use placer_engine::{CpuSet, Instant, NodeId};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn claim(uid: u32, gib: u64, cpus: u64) -> Claim {
        let (memory, cpus) = (Bytes::new(gib * GIB), CpuShare::from_hundredths(100 * cpus));
        Claim {
            id: ClaimId(1),
            boot: String::new(),
            owner: Owner::Hold { until: Instant::from_nanoseconds(u64::MAX) },
            caller: Caller { uid, ..Caller::default() },
            principal: accounts().of_asker(uid),
            nonce: None,
            origin: Origin::Asked,
            made: Instant::default(),
            cpus,
            memory,
            page: None,
            promised: vec![Promise { node: NodeId(0), memory, cpus }],
            pinned: CpuSet::new(),
            roaming: CpuSet::new(),
            within: Default::default(),
            seen: None,
            checked: None,
        }
    }

    fn accounts() -> Principals {
        Principals::parse(b"ann:x:1000:1000::/:/bin/sh\n", b"ann:100000:65536\n")
    }

    /// What a user hears who asks for so many CPUs and GiB, beside some claims, on a host of 32 CPUs
    /// with 12 GiB free.
    fn refused(claims: &[Claim], uid: u32, request: &str) -> Option<String> {
        let mut ledger = Ledger::default();
        claims.iter().for_each(|claim| _ = ledger.add(claim.clone()).expect("room"));
        let limits = Limits {
            set: &settings::Daemon::default(),
            ledger: &ledger,
            repeated: None,
            free: Bytes::new(12 * GIB),
            cpus: CpuShare::from_hundredths(3200),
        };
        let request = request.parse().expect("a request");
        limits.refuse(
            accounts().of_asker(uid),
            &request,
            &CpuSet::new(),
            &ClaimOwner::Hold(Duration::from_secs(30)),
        )
    }

    fn is(refused: Option<String>, why: &str) -> bool {
        refused.is_some_and(|said| said.contains(why))
    }

    #[test]
    fn one_user_takes_half_of_what_is_free_and_not_half_of_the_host() {
        assert_eq!(refused(&[], 1000, "1:6G"), None);
        assert!(is(refused(&[], 1000, "1:7G"), "user-memory"));
        // What others have claimed is not free; what the user has claimed counts.
        assert!(is(refused(&[claim(0, 4, 0)], 1000, "1:5G"), "user-memory"));
        assert_eq!(refused(&[claim(0, 4, 0)], 1000, "1:4G"), None);
        assert!(is(refused(&[claim(1000, 3, 0)], 1000, "1:4G"), "user-memory"));
        assert_eq!(refused(&[claim(1000, 3, 0)], 1000, "1:3G"), None);
    }

    #[test]
    fn one_user_takes_half_of_the_cpus() {
        assert_eq!(refused(&[], 1000, "16:1"), None);
        assert!(is(refused(&[], 1000, "17:1"), "user-cpus"));
        assert!(is(refused(&[claim(1000, 0, 10)], 1000, "7:1"), "user-cpus"));
        assert_eq!(refused(&[claim(1001, 0, 10)], 1000, "7:1"), None);
    }

    #[test]
    fn subordinate_users_count_as_one_account() {
        let claims: Vec<Claim> = (0..64).map(|n| claim(100_000 + n, 0, 0)).collect();
        for uid in [1000, 100_000, 165_535] {
            assert!(is(refused(&claims, uid, "0:1"), "user-claims"), "{uid}");
        }
        assert_eq!(refused(&claims, 165_536, "0:1"), None);
        assert_eq!(refused(&claims[1..], 1000, "0:1"), None);
    }
}
