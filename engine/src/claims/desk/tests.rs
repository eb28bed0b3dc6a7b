use std::path::Path;

use super::*;
use crate::advise::advise;
use crate::source::SnapshotReader;

const TIME: Duration = Duration::from_secs(30);

/// A recorded host, and a ledger for it.
struct Stage {
    dir: tempfile::TempDir,
    claims: Claims,
    root: SysRoot,
}

impl Stage {
    fn new() -> Self {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures/ring-4");
        let (root, dir) = (SysRoot::at(fixture), tempfile::tempdir().expect("a directory"));
        let claims = Claims::open_to_claim(&ClaimDirs::at(dir.path()), &root).expect("a ledger");
        Self { dir, claims, root }
    }

    /// Chooses and claims, as all who do.
    fn hold(&self, asker: &Asker) -> ClaimId {
        let (mut decision, view) = self.claims.begin_for(Some(asker), TIME).expect("the lock");
        let mut host = SnapshotReader::open(&self.root, None).expect("a host");
        let snapshot = host.take(None, Duration::ZERO).expect("read").with_charges(view.charges);
        let request = "1:8M".parse().expect("a request");
        let advice = advise(&snapshot, &request).expect("an answer");
        let caller = decision.caller_of(asker);
        let who = ClaimOwner::Hold(TIME);
        decision.claim(&request, &advice, who, caller, None).expect("claimed")
    }

    fn ids(&self) -> Vec<ClaimId> {
        self.claims.view().expect("readable").claims.iter().map(|claim| claim.id).collect()
    }
}

#[test]
fn a_request_that_is_repeated_by_its_name_has_one_claim() {
    let stage = Stage::new();
    let asker = Asker::new(1, 0).named(Some(Nonce::of_process(7, 1)));
    let first = stage.hold(&asker);
    let second = stage.hold(&asker);
    assert_ne!(first, second);
    assert_eq!(stage.ids(), [second], "the second answer is the one that counts");
    // The earlier claim of the same request is not in its own way.
    let (_, view) = stage.claims.begin_for(Some(&asker), TIME).expect("the lock");
    assert!(view.claims.is_empty() && view.charges.is_empty());
    // Another name, none, and the same of another account are other claims.
    let other = stage.hold(&Asker::new(1, 0).named(Some(Nonce::of_process(7, 2))));
    let unnamed = [stage.hold(&Asker::new(1, 0)), stage.hold(&Asker::new(1, 0))];
    let strangers = stage.hold(&asker.of_principal(Principal::User(1000)));
    assert_eq!(stage.ids(), [second, other, unnamed[0], unnamed[1], strangers]);
    assert!(stage.dir.path().join("claims.jsonl").exists() || !stage.root.is_live());
}

#[test]
fn a_hold_that_a_guest_has_taken_over_is_not_made_again() {
    let stage = Stage::new();
    let asker = Asker::new(1, 0).named(Some(Nonce::of_process(7, 1)));
    let hold = stage.hold(&asker);
    let guest = Processes::look().expect("live").identify(std::process::id()).expect("this");
    let (mut decision, _) = stage.claims.begin(TIME).expect("the lock");
    assert!(decision.locked.ledger.adopt(hold, guest));
    decision.keep().expect("written");
    assert_eq!(stage.hold(&asker), hold);
    assert_eq!(stage.ids(), [hold]);
}

#[test]
fn what_users_have_claimed_is_counted_apart() {
    let stage = Stage::new();
    let charged = |view: &Option<Charges>| view.as_ref().map(|charges| charges.iter().count());
    stage.hold(&Asker::new(1, 0));
    let host = stage.claims.view().expect("readable");
    assert_eq!(charged(&host.host_charges), None);
    stage.hold(&Asker::new(1, 1000));
    let both = stage.claims.view().expect("readable");
    assert_eq!(both.host_charges, Some(host.charges.clone()));
    assert_ne!(both.charges, host.charges);
}

#[test]
fn a_cpu_that_a_user_owns_refuses_other_users_and_not_the_host() {
    let stage = Stage::new();
    let pin = |uid: u32, cpus: &str| {
        let asker = Asker::new(1, uid);
        let (mut decision, _) = stage.claims.begin_for(Some(&asker), TIME).expect("the lock");
        let parts = Parts { pinned: cpus.parse().expect("a list"), ..Parts::default() };
        let caller = decision.caller_of(&asker);
        decision.claim_parts(parts, ClaimOwner::Hold(TIME), caller)
    };
    pin(1000, "0-1").expect("free");
    let refused = |claimed| matches!(claimed, Err(ClaimError::Owned(_)));
    assert!(refused(pin(1001, "1-2")));
    pin(0, "1-2").expect("claims of users never refuse the host");
    assert!(refused(pin(0, "2-3")), "another claim of the host owns it");
    assert!(refused(pin(1001, "2")));
}
