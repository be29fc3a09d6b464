//! Where what an lvol shows may come from, however it was cloned and whatever has been removed since.

use super::{Change, Number};
use crate::external;
use crate::pattern::Version;
use std::collections::BTreeMap;

/// Which family each lvol belongs to, named by its first member, and each write went to.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    lvols: BTreeMap<Number, Number>,
    writes: BTreeMap<Version, Number>,
}

impl Origins {
    pub(super) fn wrote(&mut self, version: Version, lvol: Number) {
        if version > 0 {
            let family = self.family(lvol);
            self.writes.insert(version, family);
        }
    }

    pub(super) fn performed(&mut self, change: &Change) {
        match change {
            Change::Snapshot { items } => {
                for (origin, number, _) in items {
                    self.lvols.insert(*number, self.family(*origin));
                }
            }
            Change::Clone { parent, number, .. } => {
                self.lvols.insert(*number, self.family(*parent));
            }
            Change::SetParent { lvol, parent: Some(parent), .. } if *parent != external::NUMBER => {
                let (gone, joined) = (self.family(*lvol), self.family(*parent));
                self.lvols.insert(gone, joined);
                let families = self.lvols.values_mut().chain(self.writes.values_mut());
                families.filter(|family| **family == gone).for_each(|family| *family = joined);
            }
            _ => {}
        }
    }

    pub(super) fn is_of_family(&self, version: Version, lvol: Number) -> bool {
        version == 0 || version == external::VERSION || self.writes.get(&version) == Some(&self.family(lvol))
    }

    pub(super) fn family(&self, lvol: Number) -> Number {
        self.lvols.get(&lvol).copied().unwrap_or(lvol)
    }
}
