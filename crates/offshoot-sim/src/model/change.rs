//! What verbs do to the model.

use super::{Lvol, Number, Time};
use crate::external;
use std::collections::BTreeMap;

/// A verb, in the terms of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create {
        number: Number,
        name: String,
        sectors: usize,
        thick: bool,
        reserve: bool,
    },
    /// Each origin, and number and name of its snapshot.
    Snapshot {
        items: Vec<(Number, Number, String)>,
    },
    Clone {
        parent: Number,
        number: Number,
        name: String,
    },
    CloneExternal {
        number: Number,
        name: String,
        sectors: usize,
    },
    /// A deferred one takes a snapshot with any number of clones out of sight.
    Remove {
        lvol: Number,
        deferred: bool,
    },
    Resize {
        lvol: Number,
        sectors: usize,
    },
    Rename {
        lvol: Number,
        name: String,
    },
    /// An lvol reads what a snapshot reads that is not its parent: otherwise nobody could tell whether it happened.
    Revert {
        lvol: Number,
        snapshot: Number,
    },
    /// An lvol lies on something else. Nothing else happens to it meanwhile.
    SetParent {
        lvol: Number,
        parent: Option<Number>,
        /// Of each cell whether the lvol itself says what it reads.
        own: Vec<bool>,
    },
    /// An lvol with a parent comes to hold everything itself, and has no parent any more. Nobody reads anything else.
    Inflate {
        lvol: Number,
    },
    /// An lvol comes to hold what its parent holds, and lies on what that lies on.
    Decouple {
        lvol: Number,
        onto: Option<Number>,
    },
    /// A snapshot goes into its only clone, and what both hold is joined.
    Merge {
        snapshot: Number,
        into: Number,
    },
}

/// What shows which verbs a store has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) sectors: usize,
    pub(crate) parent: Option<Number>,
}

impl Change {
    /// The lvols that it is about or whose relations it changes, new ones excepted.
    pub(crate) fn touches(&self, lvols: impl Fn(Number) -> Vec<Number>) -> Vec<Number> {
        match self {
            Self::Create { .. } | Self::CloneExternal { .. } => Vec::new(),
            Self::Snapshot { items } => items.iter().map(|(origin, ..)| *origin).collect(),
            Self::Clone { parent, .. } => vec![*parent],
            Self::Resize { lvol, .. } | Self::Rename { lvol, .. } => vec![*lvol],
            Self::Inflate { lvol }
            | Self::Decouple { lvol, .. }
            | Self::Remove { lvol, .. }
            | Self::Merge { snapshot: lvol, .. } => [vec![*lvol], lvols(*lvol)].concat(),
            Self::Revert { lvol, snapshot } => [vec![*lvol, *snapshot], lvols(*lvol)].concat(),
            Self::SetParent { lvol, parent, .. } => {
                let parent = parent.iter().copied().filter(|parent| *parent != external::NUMBER);
                parent.chain([*lvol]).chain(lvols(*lvol)).collect()
            }
        }
    }

    /// The lvol that nobody may use meanwhile: what a request comes to would depend on which of the two is first.
    pub(crate) fn excludes(&self) -> Option<Number> {
        match self {
            Self::Revert { lvol, .. } | Self::SetParent { lvol, .. } => Some(*lvol),
            _ => None,
        }
    }

    /// Lvols and the parents that they get.
    pub(crate) fn relations(&self) -> Vec<(Number, Number)> {
        match self {
            Self::Snapshot { items } => items.iter().map(|(origin, number, _)| (*origin, *number)).collect(),
            Self::Clone { parent, number, .. } => vec![(*number, *parent)],
            Self::Revert { lvol, snapshot } => vec![(*lvol, *snapshot)],
            Self::SetParent { lvol, parent, .. } => parent.iter().map(|parent| (*lvol, *parent)).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the lvols that were found show that it has been done.
    pub(crate) fn happened(&self, found: &BTreeMap<Number, Seen>) -> bool {
        match self {
            Self::Create { number, .. } | Self::Clone { number, .. } | Self::CloneExternal { number, .. } => {
                found.contains_key(number)
            }
            // One alone would be half a verb, which the comparison that follows finds.
            Self::Snapshot { items } => items.iter().any(|(_, number, _)| found.contains_key(number)),
            Self::Remove { lvol, .. } | Self::Merge { snapshot: lvol, .. } => !found.contains_key(lvol),
            Self::Resize { lvol, sectors } => found.get(lvol).is_some_and(|now| now.sectors == *sectors),
            Self::Rename { lvol, name } => found.get(lvol).is_some_and(|now| now.name == *name),
            Self::Revert { lvol, snapshot } => {
                found.get(lvol).is_some_and(|now| now.parent == Some(*snapshot))
            }
            Self::SetParent { lvol, parent, .. } | Self::Decouple { lvol, onto: parent } => {
                found.get(lvol).is_some_and(|now| now.parent == *parent)
            }
            Self::Inflate { lvol } => found.get(lvol).is_some_and(|now| now.parent.is_none()),
        }
    }

    pub(super) fn perform(&self, lvols: &mut BTreeMap<Number, Lvol>, since: Time, now: Time) {
        match self {
            Self::Create { number, name, sectors, reserve, .. } => {
                let mut made = Lvol::zeros(name.clone(), *sectors);
                made.reserved = *reserve;
                lvols.insert(*number, made);
            }
            Self::Snapshot { items } => {
                for (origin, number, name) in items {
                    if let Some(lvol) = lvols.get_mut(origin) {
                        let snapshot = lvol.frozen(name.clone(), since);
                        lvol.parent = Some(*number);
                        lvols.insert(*number, snapshot);
                    }
                }
            }
            Self::Clone { parent, number, name } => {
                if let Some(lvol) = lvols.get(parent) {
                    let clone = lvol.cloned(name.clone(), *parent);
                    lvols.insert(*number, clone);
                }
            }
            Self::CloneExternal { number, name, sectors } => {
                lvols.insert(*number, Lvol::over_external(name.clone(), *sectors));
            }
            Self::Remove { lvol, .. } | Self::Merge { snapshot: lvol, .. } => {
                let parent = lvols.remove(lvol).and_then(|removed| removed.parent);
                for clone in lvols.values_mut().filter(|clone| clone.parent == Some(*lvol)) {
                    clone.parent = parent;
                }
            }
            Self::Resize { lvol, sectors } => {
                if let Some(lvol) = lvols.get_mut(lvol) {
                    lvol.resize(*sectors, now);
                }
            }
            Self::Revert { lvol, snapshot } => {
                let below = lvols.get(snapshot).cloned();
                if let (Some(lvol), Some(below)) = (lvols.get_mut(lvol), below) {
                    lvol.revert(&below, *snapshot, now);
                }
            }
            Self::SetParent { lvol, parent, own } => {
                let below = parent.and_then(|parent| match parent {
                    external::NUMBER => Some(Lvol::over_external(String::new(), external::SECTORS)),
                    parent => lvols.get(&parent).cloned(),
                });
                if let Some(lvol) = lvols.get_mut(lvol) {
                    lvol.parent = *parent;
                    lvol.put_onto(below.as_ref(), own);
                }
            }
            Self::Inflate { lvol } => {
                if let Some(lvol) = lvols.get_mut(lvol) {
                    lvol.parent = None;
                }
            }
            Self::Decouple { lvol, onto } => {
                if let Some(lvol) = lvols.get_mut(lvol) {
                    lvol.parent = *onto;
                }
            }
            Self::Rename { lvol, name } => {
                if let Some(lvol) = lvols.get_mut(lvol) {
                    lvol.name.clone_from(name);
                }
            }
        }
    }
}
