//! Lvstores that are being made: on threads, and for long where their clear method is to write zeros.

use offshoot_rpc::types::operation::{Operation, OperationKind, OperationState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Those that ended and are still listed.
const ENDED_MAX: usize = 8;

/// How far one is, seen from here and from its thread.
#[derive(Debug, Default)]
pub(super) struct Watched {
    bytes_done: AtomicU64,
    bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Watched {
    /// So many bytes of so many are done. Breaks off if that is wanted.
    pub(super) fn reach(&self, done: u64, total: u64) -> ControlFlow<()> {
        self.bytes_done.store(done, Ordering::Relaxed);
        self.bytes.store(total, Ordering::Relaxed);
        if self.cancelled.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

#[derive(Debug)]
struct Making {
    id: u32,
    /// The bdev that it is on.
    bdev: String,
    lvs_name: String,
    cluster_bytes: u64,
    watched: Arc<Watched>,
    /// How it ended: the error, if there was one.
    ended: Option<Option<String>>,
}

/// All of them, in the order in which they were begun.
#[derive(Debug, Default)]
pub(super) struct Makings(Vec<Making>);

impl Makings {
    /// A store is about to be made on a bdev.
    pub(super) fn add(&mut self, id: u32, bdev: &str, lvs_name: &str, cluster_bytes: u32) -> Arc<Watched> {
        let watched = Arc::<Watched>::default();
        let ended = self.0.iter().filter(|making| making.ended.is_some()).count();
        if ended >= ENDED_MAX
            && let Some(oldest) = self.0.iter().position(|making| making.ended.is_some())
        {
            self.0.remove(oldest);
        }
        self.0.push(Making {
            id,
            bdev: bdev.to_owned(),
            lvs_name: lvs_name.to_owned(),
            cluster_bytes: cluster_bytes.into(),
            watched: Arc::clone(&watched),
            ended: None,
        });
        watched
    }

    /// A thread is done with a bdev, on which a store may have been made.
    pub(super) fn end(&mut self, bdev: &str, error: Option<String>) {
        let mut makings = self.0.iter_mut();
        if let Some(making) = makings.find(|making| making.bdev == bdev && making.ended.is_none()) {
            making.ended = Some(error);
        }
    }

    /// Breaks one off, or all. Says whether there was one.
    pub(super) fn cancel(&self, id: Option<u32>) -> bool {
        let running = self.0.iter().filter(|making| making.ended.is_none());
        let mut wanted = running.filter(|making| id.is_none_or(|id| making.id == id)).peekable();
        let is_any = wanted.peek().is_some();
        wanted.for_each(|making| making.watched.cancelled.store(true, Ordering::Relaxed));
        is_any
    }

    /// All of them, for those who list operations.
    pub(super) fn list(&self) -> impl Iterator<Item = Operation> + use<'_> {
        self.0.iter().map(Making::describe)
    }
}

impl Making {
    fn describe(&self) -> Operation {
        let [done, total] =
            [&self.watched.bytes_done, &self.watched.bytes].map(|bytes| bytes.load(Ordering::Relaxed));
        let (state, done) = match &self.ended {
            None => (OperationState::InProgress, done),
            Some(None) => (OperationState::Complete, total),
            Some(Some(_)) => (OperationState::Error, done),
        };
        Operation {
            operation_id: self.id,
            kind: OperationKind::CreateLvstore,
            lvol_uuid: None,
            lvol_name: None,
            lvs_name: self.lvs_name.clone(),
            state,
            bytes_done: done,
            total_bytes: total,
            clusters_done: done / self.cluster_bytes,
            total_clusters: total / self.cluster_bytes,
            error: self.ended.clone().flatten(),
        }
    }
}
