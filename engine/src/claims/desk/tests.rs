use std::path::Path;

use super::super::decision::ClaimOwner;
use super::super::parts::Parts;
use super::super::principal::Principal;
use super::super::proc::Processes;
use super::*;
use crate::advise::advise;
use crate::source::SnapshotReader;
use crate::units::CpuShare;

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
fn an_owner_is_watched_until_it_ends_and_only_that_process() {
    let stage = Stage::new();
    let kept = Kept::with_descriptors(100);
    let dirs = ClaimDirs { kept: kept.clone(), ..ClaimDirs::at(stage.dir.path()) };
    let daemons = Claims::open_to_claim(&dirs, &stage.root).expect("a ledger");
    let sleep = || std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let mut children = [sleep(), sleep()];
    let mut look = Processes::look().expect("live");
    let ids = children.each_ref().map(|child| look.identify(child.id()).expect("it lives"));
    // The third owner had the pid of the first one before.
    let before = ProcessId { start: ids[0].start.saturating_sub(100), ..ids[0] };
    for process in [ids[0], ids[1], before] {
        let asker = Asker::new(std::process::id(), 0);
        let (mut decision, _) = daemons.begin_for(Some(&asker), TIME).expect("the lock");
        let caller = decision.caller_of(&asker);
        let owner = ClaimOwner::Process(process);
        decision.claim_parts(Parts::default(), owner, caller).expect("claimed");
    }
    let owners = |claims: &Claims| -> Vec<ProcessId> {
        let view = claims.view().expect("readable");
        view.claims.iter().filter_map(|claim| claim.owner.process().copied()).collect()
    };
    assert_eq!(owners(&daemons), ids);
    let is_watched = |process| kept.owners.now().expect("no other thread").has(process);
    assert!(ids.iter().all(is_watched) && !is_watched(&before));
    // Not asked for again, they count; ended, though not waited for, they do not.
    assert_eq!(owners(&daemons), ids);
    children[0].kill().expect("killed");
    while owners(&daemons) != [ids[1]] {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(owners(&stage.claims), [ids[1]], "as those that watch none see it");
    for child in &mut children {
        child.kill().expect("killed");
        child.wait().expect("waited for");
    }
    assert!(owners(&daemons).is_empty());
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
    assert!(decision.locked.ledger().adopt(hold, guest));
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

#[test]
fn what_was_decided_without_the_lock_is_claimed_unless_the_ledger_was_changed() {
    let stage = Stage::new();
    let asker = Asker::new(1, 0);
    let parts = || Parts { cpus: CpuShare::from_hundredths(1), ..Parts::default() };
    // No ledger yet; one; and one that changes meanwhile.
    for others in [0, 0, 1, 3, 0] {
        let (observation, view) = stage.claims.observe(&asker).expect("observed");
        let before = view.claims.len();
        assert_eq!(before, stage.ids().len());
        (0..others).for_each(|_| _ = stage.hold(&asker));
        match observation.commit(TIME).expect("the lock") {
            Some(decision) if others == 0 => {
                let caller = decision.asking().expect("it was looked up").clone();
                decision.claim_parts(parts(), ClaimOwner::Hold(TIME), caller).expect("claimed");
                assert_eq!(stage.ids().len(), before + 1);
            }
            None if others > 0 => assert_eq!(stage.ids().len(), before + others),
            other => panic!("{others} others: {other:?}"),
        }
    }
}

#[test]
fn a_ledger_that_was_replaced_or_rewritten_in_place_is_another_one() {
    let stage = Stage::new();
    let asker = Asker::new(1, 0);
    stage.hold(&asker);
    let file = std::fs::read_dir(stage.dir.path()).expect("listed");
    let mut files = file.map(|entry| entry.expect("an entry").path());
    let ledger = files.find(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let ledger = ledger.expect("a ledger");
    let text = std::fs::read(&ledger).expect("read");
    let other = stage.dir.path().join("other");
    type Change<'a> = &'a dyn Fn();
    let changes: [Change<'_>; 3] = [
        &|| std::fs::remove_file(&ledger).expect("removed"),
        // The same bytes, in another file.
        &|| {
            std::fs::write(&other, &text)
                .and_then(|()| std::fs::rename(&other, &ledger))
                .expect("put");
        },
        &|| std::fs::write(&ledger, &text[..text.len() / 2]).expect("written"),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        std::fs::write(&other, &text).and_then(|()| std::fs::rename(&other, &ledger)).expect("put");
        let (same, _) = stage.claims.observe(&asker).expect("observed");
        assert!(same.commit(TIME).expect("the lock").is_some(), "{nth}");
        let (changed, _) = stage.claims.observe(&asker).expect("observed");
        change();
        assert!(changed.commit(TIME).expect("the lock").is_none(), "{nth}");
    }
}

#[test]
fn h4_a_claim_that_a_killed_daemon_has_made_and_the_client_has_made_again_counts_once() {
    let hosts = Stage::new();
    let own = tempfile::tempdir().expect("a directory");
    let me = nix::unistd::geteuid().as_raw();
    let below = Some((hosts.dir.path().to_owned(), me));
    let dirs = ClaimDirs { own: Some(own.path().to_owned()), below, ..ClaimDirs::default() };
    let claims = Claims::open_to_claim(&dirs, &hosts.root).expect("a ledger");
    let users = Stage { dir: own, claims, root: hosts.root.clone() };
    let named = |start| Asker::new(1, me).named(Some(Nonce::of_process(7, start)));
    let (again, other) = (named(1), named(2));
    hosts.hold(&again);
    let count = |view: View| (view.claims.len(), view.charges.iter().count());
    let decided_on = |asker| count(users.claims.observe(asker).expect("observed").1);
    // Its own earlier claim is not in the client's way; it is in that of others.
    assert_eq!((decided_on(&again), decided_on(&other).0), ((0, 0), 1));
    let id = users.hold(&again);
    assert_eq!(users.ids(), [id]);
    assert_eq!(decided_on(&other).0, 1);
    hosts.hold(&other);
    assert_eq!(users.ids().len(), 2);
    // A name of another user's is no claim of one's own.
    hosts.hold(&Asker::new(1, me + 1).named(Some(Nonce::of_process(7, 1))));
    assert_eq!(users.ids().len(), 3);
}
