//! Filling: blocks of a cluster that come from elsewhere are copied to a cluster of the lvol's own, for a job.
//!
//! A write whose bytes are those that are there already: it holds its range against other writes, reads what is missing
//! through the map like any gap, and is committed against the State of that moment. It may happen to a snapshot, whose
//! content does not change by it.

use super::{Choice, Kind, Run, WriteTask};
use crate::engine::job::Work;
use crate::engine::{Engine, Task, TaskId, Ticket};
use crate::error::Error;
use crate::map::{Entry, Source};
use crate::record::{Encoding, Record};
use crate::verb::{Blocks, Need};
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{BlobCluster, BlobId, ClusterIdx, ExtentOrdinal};

/// What a fill is about.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Fill {
    pub at: BlobCluster,
    pub blocks: Range<u32>,
    /// Bytes that it has been planned with, moved or zeroed.
    pub bytes: u64,
    /// Bytes that its job was charged for when it began.
    pub charged: u64,
    /// Whether zeros have to be backed by space of the device.
    pub keeps_space: bool,
    /// Whether a sync has been asked for since its data was written.
    synced: bool,
    /// The blocks that are moved.
    pub parts: Vec<Range<u32>>,
    /// What has to be said of clones before.
    clones: Vec<Record>,
    /// Clusters and md pages that it has from those of its job and has not used.
    drawn: usize,
    drawn_md: usize,
    /// Whether it may leave a layer where there was none.
    adds_layer: bool,
    /// Whether it is done for good: nothing is left to do about these blocks, or a record says so.
    pub settled: bool,
}

impl WriteTask {
    /// A fill of some blocks of a cluster. `range` are their bytes.
    pub(in crate::engine) fn fill(
        job: Ticket,
        lvol: BlobId,
        at: BlobCluster,
        blocks: Range<u32>,
        range: Range<u64>,
        keeps_space: bool,
    ) -> Self {
        let charged = range.end - range.start;
        let fill = Fill {
            at,
            blocks,
            bytes: 0,
            charged,
            keeps_space,
            synced: false,
            parts: Vec::new(),
            clones: Vec::new(),
            drawn: 0,
            drawn_md: 0,
            adds_layer: false,
            settled: false,
        };
        Self::new(job, lvol, range, Kind::Fill(fill), false)
    }
}

impl Engine {
    pub(super) fn is_fill(&self, task: TaskId) -> bool {
        self.write_task(task).is_some_and(|write| matches!(write.kind, Kind::Fill(_)))
    }

    /// Its data is about to be written once more.
    pub(super) fn forget_sync(&mut self, task: TaskId) {
        self.with_fill(task, |fill| fill.synced = false);
    }

    fn with_fill(&mut self, task: TaskId, change: impl FnOnce(&mut Fill)) {
        if let Some(WriteTask { kind: Kind::Fill(fill), .. }) = self.write_task_mut(task) {
            change(fill);
        }
    }

    /// Plans a fill against the State of now: what needs nothing any more is done.
    pub(super) fn plan_fill(&mut self, task: TaskId, fill: &Fill) -> Result<(), Error> {
        let Some(write) = self.write_task(task) else { return Ok(()) };
        let (lvol, range, job) = (write.lvol, write.range.clone(), write.ticket);
        let Some(blob) = self.state.blob(lvol) else { return Err(Error::UnknownBlob(lvol)) };
        let need = self.work_of(job).and_then(|work| work.need(&self.state, blob, fill.at));
        let (target, wanted) = match need {
            None => {
                self.with_fill(task, |fill| fill.settled = true);
                return Ok(());
            }
            Some(Need::DropZeros) => {
                if let Some(write) = self.write_task_mut(task) {
                    write.zeroing.push(Record::DropZeros { blob: lvol, at: fill.at });
                }
                return self.draw_md_pages(task, job, 1);
            }
            Some(Need::KeepZeros) => {
                self.with_fill(task, |fill| fill.adds_layer = true);
                if let Some(write) = self.write_task_mut(task) {
                    write.zeroing.push(Record::KeepZeros { blob: lvol, at: fill.at });
                }
                return self.draw_md_pages(task, job, 1);
            }
            Some(Need::Fill { target, blocks, .. }) => (target, blocks),
        };
        let entry = blob.tree.entry(fill.at);
        let parts = match wanted {
            Blocks::All => alloc::vec![fill.blocks.clone()],
            Blocks::Of(owner) => self.blocks_of(&entry, &fill.blocks, |blob, _| blob == owner),
            Blocks::Joined => self.joined_blocks(lvol, &entry, target, &fill.blocks),
            Blocks::Below { first, end } => {
                base_blocks(&entry, first.max(fill.blocks.start)..end.min(fill.blocks.end))
            }
        };
        if parts.is_empty() {
            self.with_fill(task, |fill| fill.settled = true);
            return Ok(());
        }
        let needs_extent = blob.encoding == Encoding::Table
            && blob.pages.ordinals.get(&ExtentOrdinal::of(fill.at).0).is_none_or(|md| md.extent.is_none());
        // What is moved as it is takes no more room in a table of clusters than before.
        let is_moved =
            matches!(self.work_of(job), Some(Work::Grow { .. })) && blob.encoding == Encoding::Table;
        self.draw_md_pages(task, job, usize::from(!is_moved) + usize::from(needs_extent))?;
        let own_top = matches!(&entry, Entry::Stack(stack)
            if stack.top.cluster == target && self.state.owner(stack.top.tag) == Some(lvol));
        let (cluster, shared) = match target {
            Some(cluster) if !own_top => (cluster, false),
            _ => (self.choose_for_fill(task, job, (lvol, fill.at), target)?, true),
        };
        self.plan_fill_runs(task, &entry, (fill.at, cluster), range, &parts);
        self.with_fill(task, |fill| {
            fill.adds_layer = matches!(wanted, Blocks::Of(_) | Blocks::Below { .. });
            fill.parts = parts;
        });
        if let Some(write) = self.write_task_mut(task) {
            write.choices.push(Choice { at: fill.at, cluster, blocks: fill.blocks.clone(), shared });
            let bytes = write.runs.iter().map(|run| run.covers.end - run.covers.start).sum();
            self.with_fill(task, |fill| fill.bytes = bytes);
        }
        Ok(())
    }

    /// One run for neighbouring blocks that are not in the cluster yet. Zeros are the device's own where all of it is.
    fn plan_fill_runs(
        &mut self,
        task: TaskId,
        entry: &Entry,
        (at, target): (BlobCluster, ClusterIdx),
        range: Range<u64>,
        parts: &[Range<u32>],
    ) {
        let base = at.0 * self.state.units.cluster;
        let block = self.state.units.block;
        let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
        for part in parts {
            let mut pos = range.start.max(base + u64::from(part.start) * block);
            let end = range.end.min(base + u64::from(part.end) * block);
            while pos < end {
                let (source, run) = self.state.source_in(entry, at.0, pos, end);
                pos = run.end;
                if matches!(source, Source::Cluster { cluster, .. } if cluster == target) {
                    continue;
                }
                let is_zero = self.reads_zeros(task, at, source);
                match runs.last_mut() {
                    Some((last, all_zero)) if last.end == run.start => {
                        last.end = run.end;
                        *all_zero &= is_zero;
                    }
                    _ => runs.push((run, is_zero)),
                }
            }
        }
        let runs = runs.into_iter().map(|(covers, is_zero)| Run {
            // What is wanted is at hand, and the rest is read.
            wanted: if is_zero { covers.clone() } else { covers.start..covers.start },
            device: self.state.block_offset(target, covers.start - base),
            covers,
            buffer: None,
        });
        let runs: Vec<Run> = runs.collect();
        if let Some(write) = self.write_task_mut(task) {
            write.runs = runs;
        }
    }

    /// Those of some blocks whose data is in other clusters of an lvol than the target. Where these show nothing any more,
    /// one block of the target: with its record they go.
    fn joined_blocks(
        &self,
        lvol: BlobId,
        entry: &Entry,
        target: Option<ClusterIdx>,
        blocks: &Range<u32>,
    ) -> Vec<Range<u32>> {
        let all = 0..self.state.units.blocks;
        let is_other = |blob, cluster| blob == lvol && Some(cluster) != target;
        if blocks.start == 0 && self.blocks_of(entry, &all, is_other).is_empty() {
            let shown = self.blocks_of(entry, &all, |_, cluster| Some(cluster) == target);
            return shown.first().map(|part| part.start..part.start + 1).into_iter().collect();
        }
        self.blocks_of(entry, blocks, is_other)
    }

    /// Those of some blocks whose data is in certain clusters, by their owners.
    fn blocks_of(
        &self,
        entry: &Entry,
        blocks: &Range<u32>,
        wanted: impl Fn(BlobId, ClusterIdx) -> bool,
    ) -> Vec<Range<u32>> {
        let mut parts: Vec<Range<u32>> = Vec::new();
        let mut block = blocks.start;
        while block < blocks.end {
            let (source, end) = entry.source(block, blocks.end);
            if let Source::Cluster { tag, cluster } = source
                && self.state.owner(tag).is_some_and(|owner| wanted(owner, cluster))
            {
                match parts.last_mut() {
                    Some(last) if last.end == block => last.end = end,
                    _ => parts.push(block..end),
                }
            }
            block = end;
        }
        parts
    }

    fn reads_zeros(&self, task: TaskId, at: BlobCluster, source: Source) -> bool {
        let blob = self.write_task(task).and_then(|write| self.state.blob(write.lvol));
        let external = blob.and_then(|blob| blob.external.as_ref());
        match source {
            Source::Zeros => true,
            Source::Base => external.is_none_or(|external| at.0 >= external.len),
            Source::Cluster { .. } | Source::Unknown => false,
        }
    }

    /// A cluster for a fill: its target, one that another writer has just chosen, or one of those that the job keeps.
    fn choose_for_fill(
        &mut self,
        task: TaskId,
        job: Ticket,
        (lvol, at): (BlobId, BlobCluster),
        target: Option<ClusterIdx>,
    ) -> Result<ClusterIdx, Error> {
        let drawn = self.draw_clusters(job, 1);
        let available = self.state.clusters.available();
        let cluster = match target {
            Some(_) => self.choose_cluster(lvol, at),
            None => self.choose_another_cluster(lvol, at),
        };
        let is_used = self.state.clusters.available() < available;
        if is_used {
            self.with_fill(task, |fill| fill.drawn = drawn);
        } else {
            self.put_clusters_back(job, drawn);
        }
        cluster.ok_or_else(|| self.state.no_clusters(1))
    }

    /// Keeps back md pages for a fill: those that the job keeps, and others where they are not enough.
    fn draw_md_pages(&mut self, task: TaskId, job: Ticket, needed: usize) -> Result<(), Error> {
        let drawn = self.draw_md(job, needed);
        let spare = self.state.md_spare();
        if spare < needed {
            self.put_md_back(job, drawn);
            return Err(Error::NoMdPages { needed: needed as u64, free: spare as u64 });
        }
        self.state.md_reserved += needed;
        if let Some(write) = self.write_task_mut(task) {
            write.md_reserved = needed;
        }
        self.with_fill(task, |fill| fill.drawn_md = drawn);
        Ok(())
    }

    /// Whether a fill whose data is in place can be committed now. Otherwise it goes on later, or was in vain.
    pub(super) fn may_commit_fill(&mut self, task: TaskId) -> bool {
        let Some(write) = self.write_task(task) else { return false };
        let Kind::Fill(Fill { at, settled, synced, .. }) = write.kind else { return true };
        let lvol = write.lvol;
        if settled {
            return true;
        }
        // What is moved may be durable where it is, and has to be where it comes to: a device that fails may lose what it
        // has not synced, and reads go on.
        let moves = self.write_task(task).is_some_and(|write| !write.choices.is_empty());
        if moves && !synced {
            self.with_fill(task, |fill| fill.synced = true);
            self.retry_after_barrier(task);
            return false;
        }
        // What the records of a verb are about to change is not known before they are applied.
        if self.verb_is_committing() {
            self.retry_after_verb(task);
            return false;
        }
        let Some(blob) = self.state.blob(lvol) else { return true };
        let is_absent = matches!(blob.tree.entry(at), Entry::Absent);
        // A clone that is losing what it holds there may be about to hide the cluster.
        if is_absent && self.commit.zeroing().any(|clone| self.state.descends(clone, lvol)) {
            self.after_zeroing.push(task);
            return false;
        }
        let is_sealing =
            self.write_task(task).and_then(|write| self.work_of(write.ticket)) == Some(Work::Seal);
        if is_absent && is_sealing && self.state.is_hidden_by_clone(blob, at) {
            self.finish_write(task, Ok(()));
            return false;
        }
        let drops = |record: &Record| matches!(record, Record::DropZeros { .. });
        let dropped = self.write_task(task).is_some_and(|write| write.zeroing.iter().any(drops));
        if dropped && !self.state.is_needless_zero(blob, at) {
            self.finish_write(task, Ok(()));
            return false;
        }
        if is_absent && !is_sealing {
            let clones = self.state.settle_clones(blob, at);
            if let Err(error) = self.reserve_for_clones(task, &clones) {
                self.finish_write(task, Err(error));
                return false;
            }
            self.with_fill(task, |fill| fill.clones = clones);
        }
        self.with_fill(task, |fill| fill.settled = true);
        true
    }

    /// Keeps back md pages for writing the chains of some blobs.
    fn reserve_for_clones(&mut self, task: TaskId, records: &[Record]) -> Result<(), Error> {
        let blobs = records.iter().flat_map(Record::blobs).filter_map(|id| self.state.blob(id));
        let needed: usize =
            blobs.map(|blob| blob.chain_pages_at_most().saturating_sub(blob.pages.chain.len())).sum();
        let spare = self.state.md_spare();
        if spare < needed {
            return Err(Error::NoMdPages { needed: needed as u64, free: spare as u64 });
        }
        self.state.md_reserved += needed;
        if let Some(write) = self.write_task_mut(task) {
            write.md_reserved += needed;
        }
        Ok(())
    }

    /// The records of a write about the blocks for which clusters were chosen.
    pub(super) fn mapping(&self, task: TaskId) -> Vec<Record> {
        let Some(write) = self.write_task(task) else { return Vec::new() };
        let blob = write.lvol;
        let Kind::Fill(fill) = &write.kind else {
            let map = |Choice { at, cluster, blocks, .. }| Record::Map { blob, at, cluster, blocks };
            return write.choices.iter().cloned().map(map).collect();
        };
        let chosen = write.choices.first();
        let fills = chosen.into_iter().flat_map(|Choice { at, cluster, .. }| {
            let fill_in = |blocks: &Range<u32>| Record::Fill {
                blob,
                at: *at,
                cluster: *cluster,
                blocks: blocks.clone(),
            };
            fill.parts.iter().map(fill_in)
        });
        fill.clones.iter().cloned().chain(fills).collect()
    }

    /// Whether a fill leaves a layer without data that another writer may count on.
    pub(super) fn takes_layers_away(&self, lvol: BlobId, choice: &Choice) -> bool {
        let owned = |tag| self.state.owner(tag) == Some(lvol);
        let entry = self.state.blob(lvol).map(|blob| blob.tree.entry(choice.at));
        entry.is_some_and(|entry| entry.clusters_of(owned).any(|own| own != choice.cluster))
    }

    /// Clusters that the fills of a job have from those that are kept for it.
    pub(in crate::engine) fn clusters_of_fills(&self, job: Ticket) -> usize {
        let writes = self.tasks.values().filter_map(|task| match task {
            Task::Write(write) if write.ticket == job => Some(write),
            _ => None,
        });
        writes.map(|write| if let Kind::Fill(fill) = &write.kind { fill.drawn } else { 0 }).sum()
    }

    /// Gives what a fill has drawn and not used back to its job. What it used is counted in State by now.
    pub(super) fn put_back(&mut self, task: TaskId) {
        let Some(Task::Write(WriteTask { ticket, lvol, kind: Kind::Fill(fill), .. })) =
            self.tasks.get_mut(task.0)
        else {
            return;
        };
        let (job, lvol, at) = (*ticket, *lvol, fill.at);
        let (drawn, drawn_md) = (core::mem::take(&mut fill.drawn), core::mem::take(&mut fill.drawn_md));
        let settled = fill.settled;
        let adds_layer = fill.adds_layer;
        let blob = self.state.blob(lvol);
        let owned = |tag| self.state.owner(tag) == Some(lvol);
        let is_used = blob.is_some_and(|blob| blob.tree.entry(at).clusters_of(owned).next().is_some());
        let md = blob.and_then(|blob| blob.pages.ordinals.get(&ExtentOrdinal::of(at).0));
        // The first full cluster of an ordinal needs its extent page.
        let is_first = md.is_some_and(|md| md.own_full == 1 && md.extent.is_none());
        if !(settled && is_used) {
            self.put_clusters_back(job, drawn);
        }
        // A layer that it made may have a page of its own.
        let layers = settled && adds_layer;
        self.put_md_back(
            job,
            if layers { 0 } else { drawn_md.saturating_sub(usize::from(settled && is_first)) },
        );
    }
}

/// Those of some blocks that come from below the whole chain.
fn base_blocks(entry: &Entry, blocks: Range<u32>) -> Vec<Range<u32>> {
    let mut parts = Vec::new();
    let mut block = blocks.start;
    while block < blocks.end {
        let (source, end) = entry.source(block, blocks.end);
        if source == Source::Base {
            parts.push(block..end);
        }
        block = end;
    }
    parts
}
