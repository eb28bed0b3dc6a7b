//! A daemon for a recorded machine, with a directory of its own.

use std::path::Path;

use placer::daemon::fuzzing::Daemon;

/// Returns a daemon that lasts as long as the program.
pub(crate) fn daemon() -> Daemon {
    let dir = tempfile::tempdir().expect("a directory").keep();
    // SAFETY: called before there is a second thread.
    unsafe { std::env::set_var("PLACER_STATE_DIR", &dir) };
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sysfs-fixtures/ring-4");
    Daemon::start(&machine, &dir).expect("a daemon")
}
