//! Shallow copies that are under way, and those of which nobody has asked the end.

use super::super::copying::Copying;
use offshoot_rpc::types::operation::{Operation, OperationKind, OperationState};
use offshoot_rpc::types::selector::alias;
use offshoot_rpc::types::shallow_copy::ShallowCopyProgress;
use offshoot_store::Session;
use uuid::Uuid;

/// Copies that have ended and were not asked for, which SPDK keeps without a bound.
const ENDED_MAX: usize = 64;

/// All copies that nobody has asked the end of.
#[derive(Default)]
pub(super) struct Copies {
    pub(super) begun: u32,
    pub(super) list: Vec<ShallowCopy>,
}

pub(super) struct ShallowCopy {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) uuid: Option<Uuid>,
    pub(super) lvs_name: String,
    /// As SPDK counts them: what the lvol holds.
    pub(super) clusters: u64,
    pub(super) bytes_done: u64,
    pub(super) bytes: u64,
    /// While it is under way.
    pub(super) running: Option<Running>,
    pub(super) error: Option<String>,
}

pub(super) struct Running {
    pub(super) copying: Copying,
    /// The bdev that it writes to, and under which power that runs.
    pub(super) base: Option<(String, Option<Session>)>,
}

impl Copies {
    /// The number of the next one.
    pub(super) fn next(&mut self) -> u32 {
        self.begun += 1;
        self.begun
    }

    /// Whether only polling tells how far one is.
    pub(super) fn must_be_polled(&self) -> bool {
        let mut running = self.list.iter().filter_map(|copy| copy.running.as_ref());
        running.any(|running| running.copying.must_be_polled())
    }

    /// Forgets those that ended first, when there are many.
    pub(super) fn tidy(&mut self) {
        let ended = self.list.iter().filter(|copy| copy.running.is_none()).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.list.retain(|copy| {
            let goes = copy.running.is_none() && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

impl ShallowCopy {
    pub(super) fn state(&self) -> OperationState {
        match (&self.running, &self.error) {
            (Some(_), _) => OperationState::InProgress,
            (None, None) => OperationState::Complete,
            (None, Some(_)) => OperationState::Error,
        }
    }

    /// Clusters done, as far as that can be told of what is copied by blocks.
    pub(super) fn clusters_done(&self) -> u64 {
        match self.state() {
            OperationState::Complete => self.clusters,
            _ => {
                let done =
                    u128::from(self.bytes_done) * u128::from(self.clusters) / u128::from(self.bytes.max(1));
                u64::try_from(done).unwrap_or(self.clusters)
            }
        }
    }

    pub(super) fn progress(&self) -> ShallowCopyProgress {
        ShallowCopyProgress {
            copied_clusters: self.clusters_done(),
            total_clusters: self.clusters,
            state: self.state(),
            error: self.error.clone(),
        }
    }

    pub(super) fn describe(&self) -> Operation {
        Operation {
            operation_id: self.id,
            kind: OperationKind::ShallowCopy,
            lvol_uuid: self.uuid,
            lvol_name: Some(alias(&self.lvs_name, &self.name)),
            lvs_name: self.lvs_name.clone(),
            state: self.state(),
            bytes_done: self.bytes_done,
            total_bytes: self.bytes,
            clusters_done: self.clusters_done(),
            total_clusters: self.clusters,
            error: self.error.clone(),
        }
    }
}
