//! The session of a repair: what State cannot say, and verbs.

use super::{Store, run_op};
use crate::error::Error;
use crate::load::{ClusterCopy, Found, Note, Repairs};
use crate::verb::Verb;
use alloc::{format, vec::Vec};
use offshoot_block::{BlockDevice, Buffer, DeviceOffset, DeviceOp};
use offshoot_format::BlobId;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 1 << 20;

impl<D: BlockDevice> Store<D> {
    /// Copies clusters, durably. Nothing refers to the copies yet.
    pub(super) fn copy_clusters(&mut self, copies: &[ClusterCopy]) -> Result<(), Error> {
        let state = self.engine.state();
        let cluster = state.units.cluster;
        for copy in copies {
            let (from, to) = (state.layout.cluster_offset(copy.from), state.layout.cluster_offset(copy.to));
            for at in (0..cluster).step_by(usize::try_from(COPY_BYTES).unwrap_or(usize::MAX)) {
                let len = usize::try_from(COPY_BYTES.min(cluster - at)).unwrap_or(usize::MAX);
                let read = DeviceOp::Read { offset: DeviceOffset(from + at), buffer: Buffer::zeroed(len) };
                let buffer = run_op(&mut self.device, read)?;
                run_op(&mut self.device, DeviceOp::Write { offset: DeviceOffset(to + at), buffer })?;
            }
        }
        if !copies.is_empty() {
            run_op(&mut self.device, DeviceOp::Sync)?;
        }
        Ok(())
    }

    /// Opens the journal, and does what verbs can do. The rest comes with the close.
    pub(super) fn begin_repair(&mut self, mut repairs: Repairs) -> Result<(), Error> {
        self.engine.repair();
        let doubles = self.findings.iter().filter_map(|finding| match finding.what {
            Found::DuplicateName { second, .. } => Some((finding.what.clone(), second)),
            _ => None,
        });
        let doubles: Vec<(Found, BlobId)> = doubles.collect();
        for (about, lvol) in doubles {
            if self.state().blob(lvol).is_none_or(|blob| blob.damage.is_some()) {
                continue;
            }
            let name = self.state().unique_name(lvol);
            self.execute(Verb::Rename { lvol, name: name.clone() })?;
            repairs.notes.push(Note { about, text: format!("blob {lvol} is named \"{name}\" now") });
        }
        self.repairs = repairs;
        Ok(())
    }
}
