//! Choosing and claiming beside 1,000 claims of processes that live, in a process that stays, as the daemon, and in one
//! that makes its first decision; the commit; and what a decision pays for claims when there are none.
//!
//! On this machine, unlike the other benches: what costs time here is to ask the kernel about
//! processes. The state directory is in memory, as `/run` is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use placer_engine::claims::{Asker, ClaimDirs, ClaimId, ClaimOwner, Claims, Kept, LOCK_TIMEOUT};
use placer_engine::source::SnapshotReader;
use placer_engine::{Request, Snapshot, SysRoot, advise};

const GUESTS: usize = 1000;

/// Processes that sleep, and end with this.
struct Crowd(Vec<Child>);

impl Crowd {
    fn start(count: usize) -> Self {
        let start = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("3600").stdin(Stdio::null()).stdout(Stdio::null());
            sleep.spawn().expect("sleep starts")
        };
        Self((0..count).map(|_| start()).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A state directory in memory, where there is a place for that.
fn state() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn place(dir: &Path, kept: Kept) -> ClaimDirs {
    ClaimDirs { own: Some(PathBuf::from(dir)), kept, ..ClaimDirs::default() }
}

/// Chooses with a load that was measured before, and claims for a process: all that one participant of a storm
/// does. Adds the time from the decision to the claim to `commit`.
fn choose_and_claim(
    claims: &Claims,
    earlier: &Snapshot,
    request: &Request,
    pid: u32,
    commit: &mut Duration,
) -> ClaimId {
    let root = SysRoot::live();
    let (observation, view) = claims.observe(&Asker::new(pid, 0)).expect("observed");
    let saved = earlier.before().cloned();
    let now = SnapshotReader::open(&root, None)
        .and_then(|mut host| host.take(saved, Duration::ZERO))
        .expect("this machine");
    let advice = advise(&now.with_charges(view.charges), request).expect("an answer");
    let start = Instant::now();
    let decision = observation.commit(LOCK_TIMEOUT).expect("nobody else has the lock");
    let decision = decision.expect("nobody else has claimed");
    let caller = decision.asking().expect("it was looked up").clone();
    let id = decision.claim(request, &advice, ClaimOwner::Pid(pid), caller, None);
    *commit += start.elapsed();
    id.expect("it is kept")
}

fn release(claims: &Claims, id: ClaimId) {
    let (decision, _) = claims.begin(LOCK_TIMEOUT).expect("nobody else has the lock");
    decision.release(id).expect("it was claimed");
}

fn claims(c: &mut Criterion) {
    let root = SysRoot::live();
    let earlier = Snapshot::take(&root, Duration::from_millis(100)).expect("this machine");
    let request: Request = "0.01:1".parse().expect("a request");
    let me = std::process::id();
    let mut group = c.benchmark_group("claims");
    for count in [0, GUESTS] {
        let crowd = Crowd::start(count);
        let dir = state();
        let stays = place(dir.path(), Kept::with_descriptors(2 * GUESTS));
        let claims = Claims::open_to_claim(&stays, &root).expect("a ledger");
        let anew = || {
            let place = place(dir.path(), Kept::default());
            Claims::open_to_claim(&place, &root).expect("a ledger")
        };
        for guest in &crowd.0 {
            choose_and_claim(&claims, &earlier, &request, guest.id(), &mut Duration::default());
        }
        for (what, first, whole) in [
            ("choose and claim", false, true),
            ("commit", false, false),
            ("first decision: choose and claim", true, true),
        ] {
            group.bench_function(format!("{what} beside {count} live claims"), |b| {
                b.iter_custom(|times| {
                    let (mut took, mut commit) = (Duration::ZERO, Duration::ZERO);
                    for _ in 0..times {
                        let start = Instant::now();
                        let opened = first.then(anew);
                        let here = opened.as_ref().unwrap_or(&claims);
                        let id = choose_and_claim(here, &earlier, &request, me, &mut commit);
                        took += start.elapsed();
                        release(&claims, id);
                    }
                    if whole { took } else { commit }
                });
            });
        }
        let place = place(dir.path(), Kept::default());
        group.bench_function(format!("count {count} live claims, no lock"), |b| {
            b.iter(|| Claims::open(&place, &root).expect("a ledger").view().expect("readable"));
        });
    }
    group.bench_function("the snapshot that follows, for comparison", |b| {
        b.iter(|| {
            let saved = earlier.before().cloned();
            SnapshotReader::open(&root, None)
                .and_then(|mut host| host.take(saved, Duration::ZERO))
                .expect("this machine")
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(2));
    targets = claims
}
criterion_main!(benches);
