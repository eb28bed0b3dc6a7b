//! What a launch must leave as it was.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::SigSet;

/// Children, descriptors and blocked signals of this thread and process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) children: String,
    descriptors: BTreeSet<String>,
    signals: Vec<String>,
}

pub(crate) fn held() -> Held {
    let names = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let mask = SigSet::thread_get_mask().expect("a mask");
    let names = names.flatten().map(|entry| entry.path());
    let open = names.filter_map(|name| Some((std::fs::read_link(&name).ok()?, name)));
    let open = open.map(|(to, name)| format!("{} {}", name.display(), to.display()));
    Held {
        children: std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default(),
        descriptors: open.collect(),
        signals: mask.iter().map(|signal| signal.to_string()).collect(),
    }
}

/// One test at a time: descriptors are those of the whole process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
