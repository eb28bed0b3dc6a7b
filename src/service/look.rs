//! Looks at a host for those who show it: what is read, to be made a view of.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use placer_engine::claims::{self, Claim, ClaimId, OwnerProcess};
use placer_engine::{Bytes, HostParts, Snapshot, SourceError, SysRoot};

use super::counted;
use super::notes::Notes;
use super::sampling::Window;
use crate::report::view::{Sources, View};
use crate::settings;

/// What was read of a host.
#[derive(Debug)]
pub struct Look {
    name: String,
    pub snapshot: Snapshot,
    parts: HostParts,
    claims: Option<Vec<Arc<Claim>>>,
    owners: BTreeMap<ClaimId, OwnerProcess>,
}

impl Look {
    /// Reads a host and its load over a window, and the huge pages of one size if advice needs them.
    pub fn at(
        root: &SysRoot,
        set: settings::Claims,
        window: Window,
        pages: Option<Bytes>,
        notes: &mut Notes,
    ) -> Result<Self, SourceError> {
        let (snapshot, claims) = counted::snapshot_and_claims(root, set, window, pages, notes)?;
        Ok(Self::with(root, snapshot, claims))
    }

    /// Reads what there is to see beside a snapshot.
    pub(crate) fn with(
        root: &SysRoot,
        snapshot: Snapshot,
        claims: Option<Vec<Arc<Claim>>>,
    ) -> Self {
        let parts = HostParts::read(root, snapshot.topology());
        let owners = claims::owners(root, claims.as_deref().unwrap_or_default());
        Self { name: name(root), snapshot, parts, claims, owners }
    }

    /// Returns the claims that count on it; none where they are not known.
    pub fn claims(&self) -> &[Arc<Claim>] {
        self.claims.as_deref().unwrap_or_default()
    }

    /// Returns what is shown of it.
    pub fn view(&self) -> View {
        View::of(Sources {
            name: &self.name,
            snapshot: &self.snapshot,
            parts: &self.parts,
            claims: self.claims.as_deref(),
            owners: &self.owners,
        })
    }
}

/// Returns what a host is called that does not say: its directory.
pub(crate) fn name(root: &SysRoot) -> String {
    let dir = root.dir();
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = last(dir).or_else(|| last(&dir.canonicalize().ok()?));
    name.filter(|_| !root.is_live()).unwrap_or_else(|| "this host".to_owned())
}
