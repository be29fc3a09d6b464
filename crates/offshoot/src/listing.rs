//! What is to be said about an lvol, in one place for `ls`, `tree` and `info`.

use offshoot_format::BlobId;
use offshoot_store::{Blob, Engine, LvolSpace, State, XATTR_COPY_ON_READ, escape};
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// What an lvol is to its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writable, and nobody's clone.
    Lvol,
    /// Has clones, or was made to have some.
    Snapshot,
    /// Writable, and shows through what a snapshot or an external snapshot holds.
    Clone,
    /// A snapshot that was removed and is kept for its clones.
    Removed,
    /// What an import is filling, or was when it was killed.
    Unfinished,
}

impl Kind {
    fn of(state: &State, blob: &Blob) -> Self {
        if state.is_unfinished(blob) {
            Self::Unfinished
        } else if state.is_deferred(blob) {
            Self::Removed
        } else if blob.is_read_only() || !blob.clones.is_empty() {
            Self::Snapshot
        } else if blob.parent.is_some() || blob.external.is_some() {
            Self::Clone
        } else {
            Self::Lvol
        }
    }

    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lvol => "lvol",
            Self::Snapshot => "snapshot",
            Self::Clone => "clone",
            Self::Removed => "removed",
            Self::Unfinished => "unfinished",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An lvol as the commands show it.
#[derive(Clone, Debug)]
pub(crate) struct Lvol {
    pub(crate) id: BlobId,
    /// Escaped where it is not plain text; `blob-0x...` where it cannot be read.
    pub(crate) name: String,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) kind: Kind,
    pub(crate) size_bytes: u64,
    pub(crate) thin: bool,
    /// Whether what it may need is kept for it.
    pub(crate) reserved: bool,
    /// Whether it keeps what it has read from its external snapshot.
    pub(crate) copy_on_read: bool,
    pub(crate) read_only: bool,
    /// The blob whose clone it is, in sight or removed.
    pub(crate) below: Option<BlobId>,
    /// The snapshot in this store that it is a clone of, unless that was removed.
    pub(crate) parent: Option<(BlobId, String)>,
    /// The external snapshot that it is a clone of.
    pub(crate) external: Option<String>,
    /// Names of its clones, sorted.
    pub(crate) clones: Vec<String>,
    /// The clusters that it holds itself, in bytes.
    pub(crate) own_bytes: u64,
    /// The clusters of others that it reads something from, in bytes.
    pub(crate) shared_bytes: u64,
    /// What its removal would give back now, in bytes.
    pub(crate) freed_bytes: u64,
    /// Seconds since 1970.
    pub(crate) created: Option<u64>,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether its map or that of an ancestor cannot be read.
    pub(crate) damaged: bool,
    /// Whether its external snapshot is missing.
    pub(crate) degraded: bool,
}

impl Lvol {
    fn of(engine: &Engine, blob: &Blob, space: LvolSpace) -> Self {
        let state = engine.state();
        let cluster = state.units.cluster;
        let listed = |id: &BlobId| state.blob(*id).filter(|blob| state.is_lvol(blob));
        let mut clones: Vec<String> = blob.clones.iter().filter_map(listed).map(Blob::display_name).collect();
        clones.sort();
        let external = blob.external.as_ref().filter(|_| blob.external_is_parent);
        Self {
            id: blob.id,
            name: blob.display_name(),
            uuid: blob.uuid(),
            kind: Kind::of(state, blob),
            size_bytes: state.bytes(blob),
            thin: blob.is_thin(),
            reserved: blob.is_reserved(),
            copy_on_read: blob.xattr(XATTR_COPY_ON_READ).is_some(),
            read_only: blob.is_read_only(),
            below: blob.parent,
            parent: blob.parent.as_ref().and_then(listed).map(|parent| (parent.id, parent.display_name())),
            external: external.map(|external| escape(external.name().as_bytes())),
            clones,
            own_bytes: space.own * cluster,
            shared_bytes: space.shared * cluster,
            freed_bytes: space.freed * cluster,
            created: blob.created(),
            labels: blob.labels().collect(),
            damaged: blob.damage.is_some(),
            degraded: engine.is_degraded(blob.id),
        }
    }

    /// In one word, whether it can be used.
    pub(crate) fn condition(&self) -> &'static str {
        match self {
            Self { damaged: true, .. } => "damaged",
            Self { degraded: true, .. } => "degraded",
            Self { read_only: true, .. } => "read-only",
            _ => "ok",
        }
    }
}

/// All lvols of a store by name.
pub(crate) fn lvols(engine: &Engine) -> Vec<Lvol> {
    listed(engine, engine.state().lvols())
}

/// The same, with the snapshots that were removed and are kept for their clones.
pub(crate) fn families(engine: &Engine) -> Vec<Lvol> {
    listed(engine, engine.state().lvols().chain(engine.state().deferred()))
}

fn listed<'s>(engine: &Engine, blobs: impl Iterator<Item = &'s Blob>) -> Vec<Lvol> {
    let spaces = engine.state().spaces();
    let space = |blob: &Blob| spaces.get(&blob.id).copied().unwrap_or_default();
    let mut lvols: Vec<Lvol> = blobs.map(|blob| Lvol::of(engine, blob, space(blob))).collect();
    lvols.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
    lvols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_words_of_the_contract() {
        let words = [Kind::Lvol, Kind::Snapshot, Kind::Clone, Kind::Removed].map(|kind| kind.to_string());
        assert_eq!(words, ["lvol", "snapshot", "clone", "removed"]);
    }
}
