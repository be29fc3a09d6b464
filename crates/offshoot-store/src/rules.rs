//! The ordering rules, each clause by its name, so that the simulator can switch one off and must find out.
//!
//! A store is always opened with [`Rules::ALL`]. A check that cannot fail is no check: `offshoot-sim` opens one
//! without a clause and has to report a violation.

use core::fmt;

/// One clause of one of the rules R1 to R8 of `docs/durability.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clause {
    /// R1: a freed cluster is not reused or discarded before a barrier covers the record that freed it.
    ReuseBehindBarrier,
    /// R1: nor before every I/O that resolved to it has completed.
    ReuseAfterIo,
    /// R2: what changed owner is not modified before a barrier covers that record.
    HandOverBehindBarrier,
    /// R3: the data of a write completes before its record is made.
    DataBeforeRecord,
    /// R3: the record is made against the State of that moment.
    CommitAgainstPresent,
    /// R4: a reply waits for the append of its record.
    ReplyAfterAppend,
    /// R4: after a failed append nothing is appended any more.
    StopAfterFailedAppend,
    /// R5: a flush is served by a sync that was submitted after it arrived.
    SyncAfterRequest,
    /// R5: the data and records that a barrier names are synced before its block is appended.
    SyncBeforeBarrier,
    /// R5: the block of the barrier is synced before anyone is told.
    SyncAfterBarrier,
    /// R5: the barrier names nothing that completed after its sync was submitted.
    BarrierNamesSynced,
    /// R5: a barrier follows within a second of any uncovered record.
    BarrierInTime,
    /// R6: every writable open writes a fresh epoch.
    FreshEpoch,
    /// R6: what the last barrier names is replayed.
    ReplayCovered,
    /// R6: the tail is replayed when no power was lost.
    ReplayTail,
    /// R6: the tail is dropped when power was lost.
    DropTail,
    /// R6: recovery ends with a barrier before anything is served.
    RecoveryBarrier,
    /// R7: images are sealed before the first write in place.
    SealBeforeInPlace,
    /// R7: what was written in place is synced before the tail advances.
    SyncBeforeTail,
    /// R7: the tail advances durably before ring space is reused.
    TailBeforeReuse,
    /// R7: what is dirty fits the ring.
    BoundDirty,
    /// R8: whatever reads and then writes a block excludes other writes to it.
    ExcludeWriters,
    /// R8: one writer allocates a cluster, the others wait or join.
    OneAllocation,
}

impl Clause {
    /// Every clause, in the order of the rules.
    pub const ALL: [Self; 23] = [
        Self::ReuseBehindBarrier,
        Self::ReuseAfterIo,
        Self::HandOverBehindBarrier,
        Self::DataBeforeRecord,
        Self::CommitAgainstPresent,
        Self::ReplyAfterAppend,
        Self::StopAfterFailedAppend,
        Self::SyncAfterRequest,
        Self::SyncBeforeBarrier,
        Self::SyncAfterBarrier,
        Self::BarrierNamesSynced,
        Self::BarrierInTime,
        Self::FreshEpoch,
        Self::ReplayCovered,
        Self::ReplayTail,
        Self::DropTail,
        Self::RecoveryBarrier,
        Self::SealBeforeInPlace,
        Self::SyncBeforeTail,
        Self::TailBeforeReuse,
        Self::BoundDirty,
        Self::ExcludeWriters,
        Self::OneAllocation,
    ];

    /// The number of the rule that it belongs to.
    #[must_use]
    pub fn rule(self) -> u8 {
        match self {
            Self::ReuseBehindBarrier | Self::ReuseAfterIo => 1,
            Self::HandOverBehindBarrier => 2,
            Self::DataBeforeRecord | Self::CommitAgainstPresent => 3,
            Self::ReplyAfterAppend | Self::StopAfterFailedAppend => 4,
            Self::SyncAfterRequest
            | Self::SyncBeforeBarrier
            | Self::SyncAfterBarrier
            | Self::BarrierNamesSynced
            | Self::BarrierInTime => 5,
            Self::FreshEpoch
            | Self::ReplayCovered
            | Self::ReplayTail
            | Self::DropTail
            | Self::RecoveryBarrier => 6,
            Self::SealBeforeInPlace | Self::SyncBeforeTail | Self::TailBeforeReuse | Self::BoundDirty => 7,
            Self::ExcludeWriters | Self::OneAllocation => 8,
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{} ({self:?})", self.rule())
    }
}

/// Which clauses hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    broken: u32,
}

impl Rules {
    /// All of them: what every store is opened with outside of the simulator.
    pub const ALL: Self = Self { broken: 0 };

    /// All but one more.
    #[must_use]
    pub fn without(self, clause: Clause) -> Self {
        Self { broken: self.broken | 1 << clause as u32 }
    }

    /// Whether a clause holds.
    #[must_use]
    pub fn hold(self, clause: Clause) -> bool {
        self.broken & (1 << clause as u32) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clause_is_switched_off_alone() {
        for clause in Clause::ALL {
            let rules = Rules::ALL.without(clause);
            assert!(Clause::ALL.into_iter().all(|other| rules.hold(other) == (other != clause)));
            assert!((1..=8).contains(&clause.rule()));
        }
    }
}
