//! Management verbs: which to run next, how it is typed, and what it makes of the model.

use crate::model::{Lvol, Model};
use crate::random::Random;
use crate::stamp::SECTOR;

/// Sizes are multiples of this, which is a multiple of every cluster size in use, in sectors.
const SIZE_UNIT: usize = (256 << 10) / SECTOR;

/// Largest lvol, in units.
const SIZE_UNITS_MAX: usize = 8;

/// Most lvols, snapshots and clones at a time.
const LVOLS_MAX: usize = 10;

/// Writable lvols that are always left to write to.
const WRITABLE_MIN: usize = 2;

/// Names in use or free. Few, so that they are used again.
const NAMES: usize = 16;

/// A verb that the store must not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Create {
        name: String,
        sectors: usize,
        thick: bool,
    },
    /// Of several lvols at one point in time: (lvol, snapshot).
    Snapshot(Vec<(String, String)>),
    Clone {
        snapshot: String,
        name: String,
    },
    Remove(String),
    Resize {
        name: String,
        sectors: usize,
    },
    Rename {
        old: String,
        new: String,
    },
}

impl Verb {
    /// Chooses a verb that is possible now. Each one changes the listing of the store.
    pub(crate) fn choose(random: &mut Random, model: &Model) -> Self {
        let names = || model.lvols.keys().cloned().collect::<Vec<_>>();
        let writable = names_where(model, |_, lvol| !lvol.read_only);
        if writable.len() < WRITABLE_MIN {
            return Self::Create { name: free_name(random, model, &[]), sectors: size(random), thick: false };
        }
        loop {
            let room = LVOLS_MAX - model.lvols.len();
            match random.below(12) {
                0 if room > 0 => {
                    let (name, sectors) = (free_name(random, model, &[]), size(random));
                    return Self::Create { name, sectors, thick: random.percent(30) };
                }
                1..=3 if room > 0 => {
                    let count = random.between(1, room.min(2));
                    let first = random.below(writable.len());
                    let mut items: Vec<(String, String)> = Vec::new();
                    for lvol in writable.iter().cycle().skip(first).take(count) {
                        let taken: Vec<String> = items.iter().map(|(_, name)| name.clone()).collect();
                        items.push((lvol.clone(), free_name(random, model, &taken)));
                    }
                    return Self::Snapshot(items);
                }
                4..=5 if room > 0 => {
                    let snapshots = names_where(model, |_, lvol| lvol.read_only);
                    if !snapshots.is_empty() {
                        let snapshot = random.pick(&snapshots).clone();
                        return Self::Clone { snapshot, name: free_name(random, model, &[]) };
                    }
                }
                6..=8 => {
                    let removable = names_where(model, |name, lvol| {
                        let is_spare = lvol.read_only || writable.len() > WRITABLE_MIN;
                        is_spare && model.clones_of(name).len() <= 1
                    });
                    if !removable.is_empty() {
                        return Self::Remove(random.pick(&removable).clone());
                    }
                }
                9..=10 => {
                    let (name, sectors) = (random.pick(&writable).clone(), size(random));
                    if model.lvols[&name].len() != sectors {
                        return Self::Resize { name, sectors };
                    }
                }
                11 => {
                    let old = random.pick(&names()).clone();
                    return Self::Rename { old, new: free_name(random, model, &[]) };
                }
                _ => {}
            }
        }
    }

    /// The subcommand, and what comes behind the store.
    pub(crate) fn words(&self) -> (&'static str, Vec<String>) {
        let bytes = |sectors: &usize| (sectors * SECTOR).to_string();
        match self {
            Self::Create { name, sectors, thick } => {
                let thick = thick.then(|| "--thick".to_owned());
                ("create", [name.clone(), bytes(sectors)].into_iter().chain(thick).collect())
            }
            Self::Snapshot(items) => {
                ("snapshot", items.iter().map(|(lvol, name)| format!("{lvol}={name}")).collect())
            }
            Self::Clone { snapshot, name } => ("clone", vec![snapshot.clone(), name.clone()]),
            Self::Remove(name) => ("rm", vec![name.clone()]),
            Self::Resize { name, sectors } => ("resize", vec![name.clone(), bytes(sectors)]),
            Self::Rename { old, new } => ("rename", vec![old.clone(), new.clone()]),
        }
    }

    /// What the verb does, all of it.
    pub(crate) fn apply(&self, model: &mut Model) {
        match self {
            Self::Create { name, sectors, thick } => {
                model.lvols.insert(name.clone(), Lvol::new(*sectors, !thick));
            }
            Self::Snapshot(items) => {
                for (lvol, name) in items {
                    let snapshot = model.lvol(lvol).snapshot(name);
                    model.lvols.insert(name.clone(), snapshot);
                }
            }
            Self::Clone { snapshot, name } => {
                let clone = model.lvol(snapshot).clone_of(snapshot);
                model.lvols.insert(name.clone(), clone);
            }
            Self::Remove(name) => {
                let removed = model.lvols.remove(name).expect("the lvol is one of the model");
                replace_parent(model, name, removed.parent.as_deref());
            }
            Self::Resize { name, sectors } => model.lvol(name).resize(*sectors),
            Self::Rename { old, new } => {
                let lvol = model.lvols.remove(old).expect("the lvol is one of the model");
                model.lvols.insert(new.clone(), lvol);
                replace_parent(model, old, Some(new));
            }
        }
    }
}

fn replace_parent(model: &mut Model, old: &str, new: Option<&str>) {
    for lvol in model.lvols.values_mut().filter(|lvol| lvol.parent.as_deref() == Some(old)) {
        lvol.parent = new.map(str::to_owned);
    }
}

fn names_where(model: &Model, is_wanted: impl Fn(&str, &Lvol) -> bool) -> Vec<String> {
    let wanted = model.lvols.iter().filter(|(name, lvol)| is_wanted(name, lvol));
    wanted.map(|(name, _)| name.clone()).collect()
}

fn free_name(random: &mut Random, model: &Model, taken: &[String]) -> String {
    let names = (0..NAMES).map(|number| format!("v{number}"));
    let free: Vec<String> =
        names.filter(|name| !model.lvols.contains_key(name) && !taken.contains(name)).collect();
    random.pick(&free).clone()
}

fn size(random: &mut Random) -> usize {
    random.between(1, SIZE_UNITS_MAX) * SIZE_UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Entry;
    use crate::random::Part;
    use std::collections::BTreeSet;

    #[test]
    fn every_verb_is_chosen_and_shows_in_the_listing() {
        let mut model = Model::default();
        let mut random = Random::new(1, Part::Verbs, 0);
        let mut seen = BTreeSet::new();
        for _ in 0..2000 {
            let before = Entry::of_model(&model);
            let verb = Verb::choose(&mut random, &model);
            verb.apply(&mut model);
            assert_ne!(Entry::of_model(&model), before, "{verb:?}");
            assert!(model.lvols.len() <= LVOLS_MAX, "{verb:?}");
            let parents = model.lvols.values().filter_map(|lvol| lvol.parent.as_ref());
            assert!(parents.into_iter().all(|parent| model.lvols[parent].read_only), "{verb:?}");
            let (command, args) = verb.words();
            seen.insert((command, args.len()));
        }
        // A group snapshot and a single one, thin and thick.
        assert_eq!(seen.len(), 8, "{seen:?}");
    }
}
