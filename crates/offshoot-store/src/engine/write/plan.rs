//! Planning a write: which bytes go where, which clusters are chosen for them, what is zeroed by record.

use super::{Choice, Kind, Run};
use crate::engine::{Engine, TaskId};
use crate::error::Error;
use crate::io::Mode;
use crate::limits::{MD_PAGES_KEPT, ZERO_CLUSTERS_AT_ONCE};
use crate::map::{Entry, Source};
use crate::pages::{OrdinalMd, by_ordinal, by_range};
use crate::record::Record;
use crate::rules::Clause;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_block::Buffer;
use offshoot_format::{BlobCluster, BlobId, ExtentOrdinal};

/// One piece of a write within one cluster.
struct Piece {
    at: u64,
    range: Range<u64>,
}

impl Engine {
    /// How a write holds its range (R8).
    pub(super) fn lock_mode(&self, task: TaskId) -> Mode {
        if self.rules.hold(Clause::ExcludeWriters) { self.write_mode(task) } else { Mode::Shared }
    }

    /// Overwrites of whole sectors that the lvol owns share; all else excludes.
    fn write_mode(&self, task: TaskId) -> Mode {
        let Some(write) = self.write_task(task) else {
            return Mode::Exclusive;
        };
        let aligned =
            write.range.start.is_multiple_of(self.sector) && write.range.end.is_multiple_of(self.sector);
        let in_place =
            aligned && matches!(write.kind, Kind::Data(_)) && self.owns_all(write.lvol, &write.range);
        if in_place { Mode::Shared } else { Mode::Exclusive }
    }

    /// Whether every byte of a range is in a cluster of the lvol's own.
    fn owns_all(&self, lvol: BlobId, range: &Range<u64>) -> bool {
        let Some(blob) = self.state.blob(lvol) else { return false };
        let mut pos = range.start;
        while pos < range.end {
            let (source, run) = self.state.source_at(blob, pos, range.end);
            if !self.is_own(lvol, source) {
                return false;
            }
            pos = run.end;
        }
        true
    }

    /// Fills in the runs, choices and zeroing records of a task.
    pub(super) fn plan_write(&mut self, task: TaskId) -> Result<(), Error> {
        let epoch = self.commit.epochs.begin();
        let Some(write) = self.write_task_mut(task) else {
            return Ok(());
        };
        write.epoch = Some(epoch);
        if let Kind::Fill(fill) = &write.kind {
            let fill = fill.clone();
            self.plan_fill(task, &fill)?;
            self.assemble(task);
            return Ok(());
        }
        let (lvol, range) = (write.lvol, write.range.clone());
        let zeroes = !matches!(write.kind, Kind::Data(_));
        let keeps_space = matches!(write.kind, Kind::Zeroes { allocate: true });
        let cluster_bytes = self.state.units.cluster;
        let mut pos = range.start;
        while pos < range.end {
            let at = pos / cluster_bytes;
            let piece = Piece { at, range: pos..((at + 1) * cluster_bytes).min(range.end) };
            pos = piece.range.end;
            let thin = self.state.blob(lvol).is_some_and(crate::blob::Blob::is_thin);
            let thin = thin && !self.is_inflating(lvol);
            if zeroes && thin && !keeps_space {
                self.plan_zero(task, lvol, &piece)?;
            } else {
                self.plan_runs(task, lvol, &piece)?;
            }
        }
        self.reserve_md_pages(task)?;
        self.assemble(task);
        Ok(())
    }

    /// Plans a piece of which space may be given back.
    fn plan_zero(&mut self, task: TaskId, lvol: BlobId, piece: &Piece) -> Result<(), Error> {
        let units = self.state.units;
        let Some(blob) = self.state.blob(lvol) else {
            return Err(Error::UnknownBlob(lvol));
        };
        let at = BlobCluster(piece.at);
        let entry = blob.tree.entry(at);
        let reads_zero_below = self.state.reads_zero_below(blob, at);
        if matches!(entry, Entry::Absent) && reads_zero_below {
            return Ok(());
        }
        let whole = piece.range.end - piece.range.start == units.cluster;
        if whole && (self.state.native_allowed || reads_zero_below) {
            self.zero_cluster(task, lvol, piece.at);
            return Ok(());
        }
        let unmap = matches!(self.write_task(task).map(|write| &write.kind), Some(Kind::Unmap));
        let base = piece.at * units.cluster;
        if !self.state.native_allowed {
            return self.plan_zero_in_place(task, lvol, piece, unmap);
        }
        let first = (piece.range.start - base).div_ceil(units.block);
        let last_end = piece.range.end - base;
        let last = if last_end == units.cluster { u64::from(units.blocks) } else { last_end / units.block };
        if first >= last {
            return if unmap { Ok(()) } else { self.plan_edge(task, lvol, piece.at, piece.range.clone()) };
        }
        #[expect(clippy::cast_possible_truncation, reason = "a cluster has fewer than 2^32 blocks")]
        let blocks = first as u32..last as u32;
        if let Some(write) = self.write_task_mut(task) {
            write.zeroing.push(Record::ZeroBlocks { blob: lvol, at, blocks });
        }
        if !unmap {
            let middle = base + first * units.block..(base + last * units.block).min(base + units.cluster);
            self.plan_edge(task, lvol, piece.at, piece.range.start..middle.start)?;
            self.plan_edge(task, lvol, piece.at, middle.end..piece.range.end)?;
        }
        Ok(())
    }

    /// Zeros smaller than a block: written, unless the block reads zeros already.
    fn plan_edge(&mut self, task: TaskId, lvol: BlobId, at: u64, range: Range<u64>) -> Result<(), Error> {
        let Some(blob) = self.state.blob(lvol) else {
            return Err(Error::UnknownBlob(lvol));
        };
        let extents = self.state.extents(blob, range.clone(), 2);
        if range.is_empty() || extents.iter().all(|extent| extent.hole) {
            return Ok(());
        }
        self.plan_runs(task, lvol, &Piece { at, range })
    }

    /// Zeros where native states may not arise and the parent shows through: own clusters are zeroed in place;
    /// others are copied for write-zeroes and left alone for unmap, as SPDK does.
    fn plan_zero_in_place(
        &mut self,
        task: TaskId,
        lvol: BlobId,
        piece: &Piece,
        unmap: bool,
    ) -> Result<(), Error> {
        let Some(blob) = self.state.blob(lvol) else {
            return Err(Error::UnknownBlob(lvol));
        };
        let (source, _) = self.state.source_at(blob, piece.range.start, piece.range.end);
        if unmap && !self.is_own(lvol, source) {
            return Ok(());
        }
        self.plan_edge(task, lvol, piece.at, piece.range.clone())
    }

    /// Plans a piece that is written: in place where the lvol owns it, else to its own layer.
    fn plan_runs(&mut self, task: TaskId, lvol: BlobId, piece: &Piece) -> Result<(), Error> {
        let units = self.state.units;
        let base = piece.at * units.cluster;
        // Without native states a cluster that is not wholly the lvol's own becomes so in one go, with what it had of it.
        let at_once = !self.state.native_allowed && !self.owns_all(lvol, &piece.range);
        let mut pos = piece.range.start;
        while pos < piece.range.end {
            let Some(blob) = self.state.blob(lvol) else {
                return Err(Error::UnknownBlob(lvol));
            };
            let (source, run) = self.state.source_at(blob, pos, piece.range.end);
            let unit = self.copy_unit();
            let run = match source {
                Source::Cluster { cluster, .. } if !at_once && self.is_own(lvol, source) => {
                    let sector = self.sector;
                    let covers = run.start / sector * sector..run.end.next_multiple_of(sector);
                    let device = self.state.block_offset(cluster, covers.start - base);
                    Run { covers, wanted: run, device, buffer: None }
                }
                _ => {
                    let wanted = if at_once { piece.range.clone() } else { run };
                    let start = (wanted.start - base) / unit * unit;
                    let end = (wanted.end - base).next_multiple_of(unit).min(units.cluster);
                    let cluster = self.choose_for_write(lvol, piece.at)?;
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a cluster has fewer than 2^32 blocks"
                    )]
                    let blocks = (start / units.block) as u32..end.div_ceil(units.block) as u32;
                    let choice = Choice { at: BlobCluster(piece.at), cluster, blocks, shared: true };
                    if let Some(write) = self.write_task_mut(task) {
                        write.choices.push(choice);
                    }
                    let device = self.state.block_offset(cluster, start);
                    Run { covers: base + start..base + end, wanted, device, buffer: None }
                }
            };
            pos = run.wanted.end;
            self.push_run(task, run);
        }
        Ok(())
    }

    /// Adds a run, joined to the one before where both are adjacent in the lvol and on the device.
    fn push_run(&mut self, task: TaskId, run: Run) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        if let Some(last) = write.runs.last_mut()
            && last.wanted.end == last.covers.end
            && run.covers.start == last.covers.end
            && run.wanted.start == run.covers.start
            && last.device.plus(last.covers.end - last.covers.start) == run.device
        {
            last.covers.end = run.covers.end;
            last.wanted.end = run.wanted.end;
        } else {
            write.runs.push(run);
        }
    }

    /// Gives each run its bytes. A write that is one whole run keeps its own buffer: no copy.
    fn assemble(&mut self, task: TaskId) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        let range = write.range.clone();
        if let ([only], Kind::Data(_)) = (&write.runs[..], &write.kind)
            && only.covers == range
        {
            return;
        }
        for run in &mut write.runs {
            let has_gaps = run.covers != run.wanted;
            let mut buffer = match &write.kind {
                Kind::Zeroes { .. } | Kind::Unmap | Kind::Fill(_) if !has_gaps => continue,
                _ => Buffer::zeroed(super::index(run.covers.end - run.covers.start)),
            };
            if let Kind::Data(Some(data)) = &write.kind {
                let from = super::index(run.wanted.start - range.start);
                let to = super::index(run.wanted.start - run.covers.start);
                let len = super::index(run.wanted.end - run.wanted.start);
                buffer.as_mut_slice()[to..to + len].copy_from_slice(&data.as_slice()[from..from + len]);
            }
            run.buffer = Some(buffer);
        }
    }

    fn choose_for_write(&mut self, lvol: BlobId, at: u64) -> Result<offshoot_format::ClusterIdx, Error> {
        if let Some(cluster) = self.choose_cluster(lvol, BlobCluster(at)) {
            return Ok(cluster);
        }
        let drawn = self.draw_for_write(lvol);
        let cluster = if drawn { self.choose_cluster(lvol, BlobCluster(at)) } else { None };
        cluster.ok_or_else(|| self.state.no_clusters(1))
    }

    /// Keeps back the md pages that the records of this write may need, next to those of all others in flight.
    fn reserve_md_pages(&mut self, task: TaskId) -> Result<(), Error> {
        let Some(write) = self.write_task(task) else { return Ok(()) };
        let Some(blob) = self.state.blob(write.lvol) else { return Ok(()) };
        let mut last = None;
        let choices = write.choices.iter().filter(|choice| last.replace(choice.at) != Some(choice.at));
        let choices = choices.map(|choice| choice.at.0..choice.at.0 + 1);
        let zeroing = write.zeroing.iter().filter_map(|record| match record {
            Record::ZeroBlocks { at, .. } => Some(at.0..at.0 + 1),
            Record::ZeroClusters { range, .. } => Some(range.clone()),
            _ => None,
        });
        let mut changes: Vec<(ExtentOrdinal, Range<usize>)> =
            choices.chain(zeroing).flat_map(by_ordinal).collect();
        // Of one with a reservation they are kept anyway.
        if changes.is_empty() || blob.reserve.on {
            return Ok(());
        }
        changes.sort_unstable_by_key(|(ordinal, _)| *ordinal);
        let spread = self.state.units.spread;
        let vacant = OrdinalMd::default();
        let pages: usize = changes
            .chunk_by(|(left, _), (right, _)| left == right)
            .map(|changes| {
                let md = blob.pages.ordinals.get(&changes[0].0).unwrap_or(&vacant);
                let more = changes.iter().flat_map(|(_, slots)| by_range(spread, slots.clone()));
                usize::from(md.extent.is_none()) + md.growth(spread, more)
            })
            .sum();
        // The chain names each page, and takes two more for its own rounding.
        let needed = pages + 2 + pages / 256;
        let spare = self.state.md_spare();
        if spare < needed + MD_PAGES_KEPT {
            return Err(Error::NoMdPages { needed: needed as u64, free: spare as u64 });
        }
        self.state.md_reserved += needed;
        if let Some(write) = self.write_task_mut(task) {
            write.md_reserved = needed;
        }
        Ok(())
    }

    fn zero_cluster(&mut self, task: TaskId, lvol: BlobId, at: u64) {
        let Some(write) = self.write_task_mut(task) else {
            return;
        };
        match write.zeroing.last_mut() {
            Some(Record::ZeroClusters { range, .. })
                if range.end == at && range.end - range.start < ZERO_CLUSTERS_AT_ONCE =>
            {
                range.end += 1;
            }
            _ => write.zeroing.push(Record::ZeroClusters { blob: lvol, range: at..at + 1 }),
        }
    }

    fn is_own(&self, lvol: BlobId, source: Source) -> bool {
        matches!(source, Source::Cluster { tag, .. } if self.state.tags.owner(tag) == Some(lvol))
    }
}
