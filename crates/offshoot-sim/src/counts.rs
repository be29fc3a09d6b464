//! What a run has looked at.

use crate::disk::{Cut, Fate};
use crate::harm::{DamageKind, Zone};
use std::fmt;
use std::ops::AddAssign;

/// Counts of a run, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Recovered disk states that were checked.
    pub states: u64,
    /// Of these, deaths of the process.
    pub kills: u64,
    /// Of these, deaths of the process after which the machine booted anew.
    pub reboots: u64,
    /// Of these, power cuts.
    pub cuts: u64,
    /// Of these, those in which an operation survived in part.
    pub torn: u64,
    /// Of these, those in which an operation survived and an earlier one did not.
    pub reordered: u64,
    /// Of these, those in which recovery itself had been cut.
    pub nested: u64,
    /// Operations that were made to fail or go wrong.
    pub faults: u64,
    /// What was damaged at rest.
    pub damage: DamageCounts,
    /// Broken promises.
    pub violations: u64,
}

/// Counts of damage, and of what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DamageCounts {
    /// By zone and kind, in the order of [`Zone::ALL`] and [`DamageKind::ALL`].
    hits: [[u64; DamageKind::ALL.len()]; Zone::ALL.len()],
    /// Lvols that were lost, and told to be.
    pub lost: u64,
    /// Lvols of which an earlier state was served untold, because nothing could tell.
    pub stale: u64,
    /// Stores that opened read-only, because their journal was damaged.
    pub frozen: u64,
}

impl DamageCounts {
    pub(crate) fn count(&mut self, zone: Zone, kind: DamageKind) {
        self.hits[zone as usize][kind as usize] += 1;
    }

    /// How often something happened to a zone.
    #[must_use]
    pub fn of(&self, zone: Zone, kind: DamageKind) -> u64 {
        self.hits[zone as usize][kind as usize]
    }

    /// How often anything was damaged.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.hits.iter().flatten().sum()
    }
}

impl AddAssign for DamageCounts {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.hits.iter_mut().flatten().zip(other.hits.iter().flatten()) {
            *count += more;
        }
        self.lost += other.lost;
        self.stale += other.stale;
        self.frozen += other.frozen;
    }
}

/// A line for each zone, and one for what came of it.
impl fmt::Display for DamageCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for zone in Zone::ALL {
            let kinds = DamageKind::ALL.into_iter().filter(|kind| self.of(zone, *kind) > 0);
            let counts: Vec<String> = kinds.map(|kind| format!("{} {kind}", self.of(zone, kind))).collect();
            if !counts.is_empty() {
                writeln!(f, "damage in {zone}: {}", counts.join(", "))?;
            }
        }
        let Self { lost, stale, frozen, .. } = self;
        write!(
            f,
            "{lost} lvols lost and told, {stale} stale untold; {frozen} stores read-only for their journal"
        )
    }
}

impl Counts {
    pub(crate) fn count(&mut self, cut: Cut, fate: Fate) {
        self.states += 1;
        self.kills += u64::from(cut == Cut::Kill);
        self.reboots += u64::from(cut == Cut::Reboot);
        self.cuts += u64::from(cut == Cut::PowerCut);
        self.torn += u64::from(fate.torn);
        self.reordered += u64::from(fate.reordered);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.kills += other.kills;
        self.reboots += other.reboots;
        self.cuts += other.cuts;
        self.torn += other.torn;
        self.reordered += other.reordered;
        self.nested += other.nested;
        self.faults += other.faults;
        self.damage += other.damage;
        self.violations += other.violations;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, cuts, torn, reordered, violations, .. } = self;
        write!(f, "states={states} cuts={cuts} torn={torn} reordered={reordered} violations={violations}")
    }
}
