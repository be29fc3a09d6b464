//! What a run has looked at.

use crate::disk::{Cut, Fate};
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
    /// Broken promises.
    pub violations: u64,
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
        self.violations += other.violations;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, cuts, torn, reordered, violations, .. } = self;
        write!(f, "states={states} cuts={cuts} torn={torn} reordered={reordered} violations={violations}")
    }
}
