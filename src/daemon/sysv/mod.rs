//! numad's System V message queue, on which its clients ask.

use std::sync::Arc;

use super::core::Core;

/// The queue while it is served.
#[derive(Debug)]
pub(super) struct Queue {}

impl Queue {
    /// Begins to serve the queue. `None`, and a line in the log, where that cannot or shall not be.
    pub(super) fn start(core: &Arc<Core>) -> Option<Self> {
        // Not yet: `[daemon] queue` will say whether.
        let _ = core.settings().daemon.queue;
        None
    }

    /// Is called after the settings were read anew.
    pub(super) fn reload(&self) {}

    /// Returns whether the threads that answer are alive; asked for the watchdog.
    pub(super) fn alive(&self) -> bool {
        true
    }

    /// Ends it within 300 ms.
    pub(super) fn stop(self) {}
}
