//! Recorded hosts, for unit tests.

use std::path::Path;
use std::time::Duration;

use placer_engine::{Snapshot, SysRoot};

/// Returns a host of `sysfs-fixtures`, every CPU idle. `None` where the crate is tested without the repository, which
/// is a failure with `PLACER_REQUIRE=all`.
pub(crate) fn host(name: &str) -> Option<Snapshot> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures").join(name);
    if dir.exists() {
        return Some(Snapshot::take(&SysRoot::at(dir), Duration::ZERO).expect("a good host"));
    }
    let all = std::env::var_os("PLACER_REQUIRE").is_some_and(|value| value == "all");
    assert!(!all, "PLACER_REQUIRE=all: there is no {}", dir.display());
    testkit::require::does_not_apply(format!("no recorded host {name}"));
    None
}
