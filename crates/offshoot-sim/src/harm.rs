//! What damage is called: where it strikes, and how.

use std::fmt;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamageKind {
    /// A bit has flipped, or a sector holds anything.
    Rot,
    /// The last write was acknowledged and synced, and never done.
    Lost,
    /// It was done somewhere else in its zone.
    Misdirected,
    /// A sector cannot be read.
    Unreadable,
}

impl DamageKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rot, Self::Lost, Self::Misdirected, Self::Unreadable];
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rot => "rot",
            Self::Lost => "lost write",
            Self::Misdirected => "misdirected write",
            Self::Unreadable => "unreadable sector",
        })
    }
}

/// A part of the disk whose faults cost the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// The first sector of the super block: version and native header.
    Header,
    /// The rest of it.
    SuperBlock,
    /// Its copy, while the store is open.
    Copy,
    /// The masks of a store at rest.
    Masks,
    /// The live masks of an open one.
    LiveMasks,
    /// Frames that the last barrier made durable, and that are needed.
    Covered,
    /// The newest frame of all: no other one says that it was there.
    Newest,
    /// Frames behind the last barrier, the newest one excepted.
    Tail,
    /// Frames of earlier laps and epochs.
    Stale,
    /// Images of a checkpoint that was sealed and is not in place.
    Images,
    /// Root pages of lvols.
    Roots,
    /// Further pages of their chains.
    Chains,
    /// Extent pages.
    Extents,
    /// Layer pages.
    Layers,
    /// The pages of the super blob, which names the store.
    SuperBlob,
    /// Md pages and clusters that nothing uses.
    Free,
}

impl Zone {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Header,
        Self::SuperBlock,
        Self::Copy,
        Self::Masks,
        Self::LiveMasks,
        Self::Covered,
        Self::Newest,
        Self::Tail,
        Self::Stale,
        Self::Images,
        Self::Roots,
        Self::Chains,
        Self::Extents,
        Self::Layers,
        Self::SuperBlob,
        Self::Free,
    ];

    /// Whether it is part of the ring.
    #[must_use]
    pub fn is_journal(self) -> bool {
        matches!(self, Self::Covered | Self::Newest | Self::Tail | Self::Stale | Self::Images)
    }

    /// Whether its pages describe lvols.
    #[must_use]
    pub fn describes_lvols(self) -> bool {
        matches!(self, Self::Roots | Self::Chains | Self::Extents | Self::Layers)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::SuperBlock => "super block",
            Self::Copy => "copy",
            Self::Masks => "masks",
            Self::LiveMasks => "live masks",
            Self::Covered => "covered frames",
            Self::Newest => "newest frame",
            Self::Tail => "tail",
            Self::Stale => "stale frames",
            Self::Images => "images",
            Self::Roots => "roots",
            Self::Chains => "chains",
            Self::Extents => "extent pages",
            Self::Layers => "layer pages",
            Self::SuperBlob => "super blob",
            Self::Free => "free space",
        })
    }
}
