//! The steps that enumerated runs are made of: what they do is found in the model, so that any order makes sense.

use crate::model::{Change, Lvol, Model, Number};
use crate::world::{Op, World};
use crate::{cell, external};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A thin lvol of two clusters.
    CreateThin,
    /// A thick one.
    CreateThick,
    /// A snapshot of the oldest writable lvol.
    Snapshot,
    /// Snapshots of up to three writable lvols at once.
    SnapshotGroup,
    /// A clone of the newest snapshot.
    Clone,
    /// The oldest writable lvol goes.
    RemoveOldest,
    /// The newest writable lvol goes.
    RemoveNewest,
    /// The oldest snapshot goes that has at most one clone.
    RemoveSnapshot,
    /// The oldest writable lvol gains two clusters.
    Grow,
    /// It loses one.
    Shrink,
    /// It gets another name.
    Rename,
    /// It reads what the newest of its snapshots but one reads.
    Revert,
    /// It forgets its parent.
    Decouple,
    /// A write of a sector where the newest writable lvol has nothing of its own.
    FirstWrite,
    /// A write of some blocks of two clusters of the oldest one.
    Write,
    /// A write that is durable with its reply.
    WriteThrough,
    /// A cluster and a half read zeros.
    Zero,
    /// A cluster is not needed any more.
    Unmap,
    /// Everything becomes durable.
    Flush,
    /// A read across clusters.
    Read,
    /// Everything native becomes what SPDK can read.
    Seal,
    /// The store takes all of its disk.
    GrowStore,
    /// Its md region takes two of the clusters behind it.
    GrowMetadata,
    /// The newest writable lvol holds all that it reads.
    InflateNewest,
    /// The newest snapshot does.
    InflateSnapshot,
    /// The newest writable lvol holds what its parent holds.
    DecoupleNewest,
    /// The newest snapshot does.
    DecoupleSnapshot,
    /// The oldest snapshot that has one clone goes into it.
    Merge,
    /// A clone of three clusters of the external snapshot.
    CloneExternal,
    /// The oldest writable lvol reads from the external snapshot.
    OntoExternal,
}

impl Step {
    /// The verbs.
    pub const VERBS: [Self; 13] = [
        Self::CreateThin,
        Self::CreateThick,
        Self::Snapshot,
        Self::SnapshotGroup,
        Self::Clone,
        Self::RemoveOldest,
        Self::RemoveNewest,
        Self::RemoveSnapshot,
        Self::Grow,
        Self::Shrink,
        Self::Rename,
        Self::Revert,
        Self::Decouple,
    ];

    /// The requests for data, and what changes none.
    pub const DATA: [Self; 10] = [
        Self::FirstWrite,
        Self::Write,
        Self::WriteThrough,
        Self::Zero,
        Self::Unmap,
        Self::Flush,
        Self::Read,
        Self::Seal,
        Self::GrowStore,
        Self::GrowMetadata,
    ];

    /// The verbs that move data.
    pub const MOVES: [Self; 5] = [
        Self::InflateNewest,
        Self::InflateSnapshot,
        Self::DecoupleNewest,
        Self::DecoupleSnapshot,
        Self::Merge,
    ];

    /// The verbs with external snapshots.
    pub const EXTERNAL: [Self; 2] = [Self::CloneExternal, Self::OntoExternal];

    /// Every step there is.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::VERBS.into_iter().chain(Self::DATA).chain(Self::MOVES).chain(Self::EXTERNAL)
    }

    /// What it comes to in a store, if anything.
    pub(crate) fn op(self, world: &mut World) -> Option<Op> {
        let cluster = world.setup.cluster_size as usize / 512;
        if Self::DATA.contains(&self) {
            return self.data(&world.model, cluster);
        }
        let change = match self {
            Self::CreateThin | Self::CreateThick => {
                let (number, name) = world.fresh();
                let thick = self == Self::CreateThick;
                Change::Create { number, name, sectors: 2 * cluster, thick, reserve: false }
            }
            Self::Snapshot | Self::SnapshotGroup => {
                let most = if self == Self::Snapshot { 1 } else { 3 };
                let origins: Vec<Number> = writable(&world.model).take(most).collect();
                let items = origins.into_iter().map(|origin| {
                    let (number, name) = world.fresh();
                    (origin, number, name)
                });
                Change::Snapshot { items: some(items.collect())? }
            }
            Self::Clone => {
                let parent = snapshots(&world.model).last()?;
                let (number, name) = world.fresh();
                Change::Clone { parent, number, name }
            }
            Self::RemoveOldest => Change::Remove { lvol: writable(&world.model).next()?, deferred: false },
            Self::RemoveNewest => Change::Remove { lvol: writable(&world.model).last()?, deferred: false },
            Self::RemoveSnapshot => {
                let removable = |lvol: &Number| world.model.clones(*lvol).count() < 2;
                Change::Remove { lvol: snapshots(&world.model).find(removable)?, deferred: false }
            }
            Self::Grow | Self::Shrink => {
                let lvol = writable(&world.model).next()?;
                let len = world.model.lvol(lvol).map_or(0, Lvol::len);
                let sectors = if self == Self::Grow { len + 2 * cluster } else { len.checked_sub(cluster)? };
                Change::Resize { lvol, sectors }
            }
            Self::Revert => {
                let lvol = writable(&world.model).next().filter(|lvol| !world.is_used(*lvol))?;
                let parent = world.model.lvol(lvol)?.parent?;
                let related = |snapshot: &Number| world.model.are_related(lvol, *snapshot);
                let snapshot =
                    snapshots(&world.model).filter(|snapshot| *snapshot != parent).filter(related).last()?;
                Change::Revert { lvol, snapshot }
            }
            Self::Decouple => {
                let lvol = writable(&world.model).next().filter(|lvol| !world.is_used(*lvol))?;
                let own = world.own_cells(lvol);
                world.model.lvol(lvol)?.parent.map(|_| Change::SetParent { lvol, parent: None, own })?
            }
            Self::CloneExternal => {
                let (number, name) = world.fresh();
                Change::CloneExternal { number, name, sectors: 3 * cluster }
            }
            Self::OntoExternal => {
                let lvol = writable(&world.model).next().filter(|lvol| !world.is_used(*lvol))?;
                let (own, parent) = (world.own_cells(lvol), Some(external::NUMBER));
                let fits = world.is_thin(lvol) && world.model.lvol(lvol)?.parent != parent;
                fits.then_some(Change::SetParent { lvol, parent, own })?
            }
            _ if Self::MOVES.contains(&self) => return self.moves(&world.model).map(Op::Verb),
            _ => {
                let lvol = writable(&world.model).next()?;
                let (number, _) = world.fresh();
                Change::Rename { lvol, name: format!("r{number}") }
            }
        };
        Some(Op::Verb(change))
    }

    fn moves(self, model: &Model) -> Option<Change> {
        if self == Self::Merge {
            let snapshot = snapshots(model).find(|lvol| model.clones(*lvol).count() == 1)?;
            return Some(Change::Merge { snapshot, into: model.clones(snapshot).next()? });
        }
        let is_clone = |lvol: &Number| model.lvol(*lvol).is_some_and(|lvol| lvol.parent.is_some());
        let lvol = match self {
            Self::InflateNewest | Self::DecoupleNewest => writable(model).filter(is_clone).last()?,
            _ => snapshots(model).filter(is_clone).last()?,
        };
        if matches!(self, Self::InflateNewest | Self::InflateSnapshot) {
            return Some(Change::Inflate { lvol });
        }
        let parent = model.lvol(lvol)?.parent?;
        Some(Change::Decouple { lvol, onto: model.lvol(parent).and_then(|parent| parent.parent) })
    }

    fn data(self, model: &Model, cluster: usize) -> Option<Op> {
        let fua = self == Self::WriteThrough;
        let lvol = match self {
            Self::Flush => return Some(Op::Flush),
            Self::Seal => return Some(Op::Seal),
            Self::GrowStore => return Some(Op::Grow),
            Self::GrowMetadata => return Some(Op::GrowMd { clusters: 2 }),
            Self::FirstWrite => writable(model).last()?,
            _ => writable(model).next()?,
        };
        let len = model.lvol(lvol).map_or(0, Lvol::len);
        let sectors = match self {
            Self::FirstWrite => 3..4,
            Self::Write | Self::WriteThrough => cluster - 12..cluster + 5,
            Self::Zero => cluster / 2..2 * cluster,
            Self::Unmap => 0..cluster,
            _ => 0..len,
        };
        let sectors = sectors.start..sectors.end.min(len);
        if sectors.start >= sectors.end {
            return None;
        }
        let cells = cell::cells(sectors);
        Some(match self {
            Self::Zero => Op::Zero { lvol, cells, allocate: false, fua: false },
            Self::Unmap => Op::Unmap { lvol, cells, fua: false },
            Self::Read => Op::Read { lvol, cells },
            _ => Op::Write { lvol, cells, fua },
        })
    }
}

fn writable(model: &Model) -> impl Iterator<Item = Number> {
    model.lvols().filter(|(_, lvol)| !lvol.read_only).map(|(number, _)| number)
}

fn snapshots(model: &Model) -> impl Iterator<Item = Number> {
    model.lvols().filter(|(_, lvol)| lvol.read_only).map(|(number, _)| number)
}

fn some<T>(items: Vec<T>) -> Option<Vec<T>> {
    if items.is_empty() { None } else { Some(items) }
}
