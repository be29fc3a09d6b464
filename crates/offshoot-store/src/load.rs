//! Loading a store: super block, masks, md pages in bulk, and then State, from memory.
//!
//! A store that was not closed has a journal: images of a checkpoint that may not have reached their places count
//! instead of what is there, its live masks tell which md pages are in use, and what was journaled since is replayed
//! through the same `apply` as in life. Sans-IO like the engine: [`Loader::poll_device`] says what to read,
//! [`Loader::handle_completion`] takes it. Nothing is written. A blob that cannot be read costs itself and what inherits
//! from it, never the store.
//!
//! A store that SPDK did not close has neither journal nor masks: the md region is read once, in large parts, and every
//! root that is found is a blob, as in SPDK's own recovery. What SPDK was in the midst of is settled in memory
//! (`resolve`), and what unreadable blobs may own is held back (`ownership`). Opened for writing, such a store gets a
//! journal and a checkpoint of the outcome before anything is served ([`crate::Engine::settle_load`]).

mod assemble;
mod decode;
mod journal;
mod lost;
mod mend;
mod ownership;
mod pages;
mod records;
mod repair;
mod resolve;
mod roots;
mod super_block;
mod verify;

pub use journal::Recovery;
pub use repair::{ClusterCopy, Note, Repairs};
pub use verify::{Finding, Found};

use crate::error::LoadError;
use crate::limits::{BULK_BYTES, LOAD_READS_IN_FLIGHT};
use crate::options::{OpenOptions, Session};
use crate::rules::Rules;
use crate::state::State;
use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::ToString as _,
    vec::Vec,
};
use journal::{FoundJournal, area_bytes};
use mend::Mended;
use offshoot_block::{Buffer, DeviceError, DeviceGeometry, DeviceOffset, DeviceOp, OpId};
use offshoot_format::{
    Bitmap, Fault, Layout, MD_STRUCT_BYTES, MaskKind, MdPageIdx, NativeFlags, SuperBlock, crc32c, decode_mask,
};
use pages::MdPages;
use repair::Repair;

/// Parts that may be unreadable before the device as a whole counts as failed.
const UNREADABLE_MAX: usize = 64;

/// A store in memory, and what was noticed on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The store.
    pub state: State,
    /// The super block as it is on disk.
    pub super_block: SuperBlock,
    /// What is wrong with it. Empty for a sound store.
    pub findings: Vec<Finding>,
    /// What an opening for writing has to do first, when the store was not closed: [`crate::Engine::recover`].
    pub recovery: Option<Recovery>,
    /// Whether the journal lacks what a barrier made durable. The State is older than it should be, and nothing may
    /// be written.
    pub journal_damage: bool,
    /// What a repair has changed in the State, and what is to be done about it on the device.
    pub repairs: Option<Repairs>,
}

#[derive(Debug)]
enum Phase {
    SuperBlock,
    Journal,
    Masks,
    MdPages,
    Done,
}

/// Loads a store.
#[derive(Debug)]
pub struct Loader {
    geometry: DeviceGeometry,
    session: Option<Session>,
    rules: Rules,
    repair: bool,
    phase: Phase,
    /// Reads to hand out: position and length in bytes.
    device: VecDeque<(OpId, u64, usize)>,
    /// Reads that have not completed, handed out or not.
    pending: usize,
    in_flight: usize,
    next_op: u64,
    error: Option<LoadError>,
    super_block: Option<(SuperBlock, Layout)>,
    /// By the order of [`MaskKind::ALL`]; `None` where the store has no such mask or it is stale.
    masks: [Option<Bitmap>; 3],
    /// Md pages that may be in use, where that is known.
    wanted: Option<Bitmap>,
    /// Whether the masks of an orderly closed native store did not match their checksums.
    untrusted_masks: bool,
    /// What was read, by its offset on the device.
    buffers: Vec<(u64, Buffer)>,
    /// What the journal of a store that was not closed says.
    journal: Option<FoundJournal>,
    findings: Vec<Finding>,
    pages: MdPages,
    /// Offsets of the reads that have not completed.
    reads: BTreeMap<OpId, u64>,
    /// Reads of one part that failed for good.
    unreadable: usize,
    loaded: Option<Loaded>,
}

impl Loader {
    /// Begins to load the store on a device of this geometry.
    #[must_use]
    pub fn new(geometry: DeviceGeometry, options: &OpenOptions) -> Self {
        let mut loader = Self {
            geometry,
            session: options.session,
            rules: options.rules,
            repair: options.repair,
            phase: Phase::SuperBlock,
            device: VecDeque::new(),
            pending: 0,
            in_flight: 0,
            next_op: 0,
            error: None,
            super_block: None,
            masks: [None, None, None],
            wanted: None,
            untrusted_masks: false,
            buffers: Vec::new(),
            journal: None,
            findings: Vec::new(),
            pages: MdPages::default(),
            reads: BTreeMap::new(),
            unreadable: 0,
            loaded: None,
        };
        if geometry.size_bytes < MD_STRUCT_BYTES as u64 {
            let why = format!("{} bytes are too few for a super block", geometry.size_bytes);
            loader.error = Some(LoadError::NotAStore(why));
        } else {
            // Along with its copy, where there is one.
            let both = 2 * MD_STRUCT_BYTES;
            let enough = geometry.size_bytes >= both as u64;
            loader.read(0, if enough { both } else { MD_STRUCT_BYTES });
        }
        loader
    }

    /// The next read to hand to the device. Few at a time: what they hold is in memory meanwhile.
    pub fn poll_device(&mut self) -> Option<(OpId, DeviceOp)> {
        if self.in_flight >= LOAD_READS_IN_FLIGHT {
            return None;
        }
        let (id, offset, len) = self.device.pop_front()?;
        self.in_flight += 1;
        Some((id, DeviceOp::Read { offset: DeviceOffset(offset), buffer: Buffer::zeroed(len) }))
    }

    /// A read has completed.
    pub fn handle_completion(&mut self, id: OpId, buffer: Option<Buffer>, result: Result<(), DeviceError>) {
        self.pending -= 1;
        self.in_flight -= 1;
        match (result, buffer) {
            (Err(error), Some(buffer)) if self.is_contained() => self.read_in_parts(id, buffer, error),
            (Err(error), _) => {
                // What has not begun need not begin any more.
                self.pending -= self.device.len();
                self.device.clear();
                self.error = self.error.take().or(Some(LoadError::Device(error)));
            }
            (Ok(()), Some(buffer)) => self.keep(id, buffer),
            (Ok(()), None) => {}
        }
        if self.pending > 0 || self.error.is_some() {
            return;
        }
        let mut buffers = core::mem::take(&mut self.buffers);
        buffers.sort_unstable_by_key(|(offset, _)| *offset);
        let next = match self.phase {
            Phase::SuperBlock => self.take_super_block(&buffers),
            Phase::Journal => self.take_journal(&buffers),
            Phase::Masks => self.take_masks(&buffers),
            Phase::MdPages => {
                self.take_pages();
                Ok(())
            }
            Phase::Done => Ok(()),
        };
        if let Err(error) = next {
            self.error = Some(error);
        }
    }

    /// The outcome, once nothing is to be read any more.
    ///
    /// # Errors
    /// Why nothing of the store can be served.
    pub fn finish(&mut self) -> Option<Result<Loaded, LoadError>> {
        if self.pending > 0 {
            return None;
        }
        match self.error.take() {
            Some(error) => Some(Err(error)),
            None => self.loaded.take().map(Ok),
        }
    }

    fn take_super_block(&mut self, buffers: &[(u64, Buffer)]) -> Result<(), LoadError> {
        let bytes = joined(buffers);
        let (bytes, copy) = bytes.split_at(MD_STRUCT_BYTES);
        let device = self.geometry.size_bytes;
        let (super_block, what) = super_block::read(bytes, copy, device).map_err(|why| {
            let unreadable = self.findings.iter().find_map(|finding| match finding.what {
                Found::Unreadable { offset: 0, error } => Some(error),
                _ => None,
            });
            unreadable.map_or(why, LoadError::Device)
        })?;
        self.findings.extend(what.map(|what| Finding { lvol: None, what }));
        let layout = super_block.layout(device).map_err(|damage| match damage.what {
            Fault::DeviceSize { stored, device } => LoadError::Truncated { store: stored, device },
            _ => LoadError::Damage(damage),
        })?;
        let native = super_block.native.as_ref().filter(|_| super_block.is_native());
        if let Some(area) = native.filter(|_| !super_block.is_clean()).and_then(|native| native.journal) {
            self.phase = Phase::Journal;
            self.read_bulk(layout.md_page_offset(area.start), area_bytes(&layout, area));
            self.super_block = Some((super_block, layout));
            return Ok(());
        }
        // Masks are written by a close. Without a journal there are none else, and the roots are found by looking.
        let closed = native.is_none_or(|native| native.flags.contains(NativeFlags::CLEAN_CLOSE));
        let trusted = closed && super_block.is_clean() && layout.used_blobid_mask.len > 0;
        if trusted {
            self.phase = Phase::Masks;
            for kind in MaskKind::ALL {
                self.read(layout.mask_offset(kind), layout.mask_bytes(kind));
            }
        } else {
            self.search_md_pages(&layout);
        }
        self.super_block = Some((super_block, layout));
        Ok(())
    }

    /// Ring and live masks are in memory.
    fn take_journal(&mut self, buffers: &[(u64, Buffer)]) -> Result<(), LoadError> {
        let Some((super_block, layout)) = self.super_block.clone() else {
            return Ok(());
        };
        let bytes = joined(buffers);
        let found = FoundJournal::read(&layout, &super_block, &bytes, self.session, self.rules, self.repair);
        if let Some(mut found) = found {
            self.findings.append(&mut found.findings);
            let [md, clusters] = found.masks.clone();
            self.phase = Phase::MdPages;
            let wanted = found.wanted_md_pages();
            self.read_md_pages(&layout, runs(&wanted));
            self.wanted = Some(wanted);
            self.masks = [Some(md), Some(clusters), None];
            self.journal = Some(found);
        }
        if self.pending == 0 {
            self.take_pages();
        }
        Ok(())
    }

    fn take_masks(&mut self, buffers: &[(u64, Buffer)]) -> Result<(), LoadError> {
        let Some((super_block, layout)) = self.super_block.clone() else {
            return Ok(());
        };
        let native = super_block.native.as_ref().filter(|_| super_block.is_native());
        let masks = MaskKind::ALL.map(|kind| {
            let start = layout.mask_offset(kind);
            let range = start..start + layout.mask_bytes(kind) as u64;
            let parts = buffers.iter().skip_while(|(at, _)| *at < range.start);
            let parts = parts.take_while(|(at, _)| *at < range.end);
            parts.fold(Vec::new(), |mut bytes, (_, buffer)| {
                bytes.extend_from_slice(buffer.as_slice());
                bytes
            })
        });
        let bytes = |kind: MaskKind| masks[kind as usize].as_slice();
        let sound = |(sum, kind): (u32, MaskKind)| sum == crc32c(bytes(kind));
        if native.is_some_and(|native| !native.mask_crcs.into_iter().zip(MaskKind::ALL).all(sound)) {
            self.untrusted_masks = true;
            self.search_md_pages(&layout);
            return Ok(());
        }
        for (index, kind) in MaskKind::ALL.into_iter().enumerate() {
            let bits = layout.mask_bits(kind) as usize;
            match decode_mask(kind, bytes(kind), bits) {
                Ok(mask) => self.masks[index] = Some(mask),
                Err(damage) => {
                    let what = Found::MaskUnreadable { why: damage.to_string() };
                    self.findings.push(Finding { lvol: None, what });
                    self.masks = [None, None, None];
                    self.search_md_pages(&layout);
                    return Ok(());
                }
            }
        }
        if self.repair {
            // What is not marked may be in use.
            self.search_md_pages(&layout);
            return Ok(());
        }
        let mut used = self.masks[0].clone().unwrap_or_else(|| Bitmap::new(0));
        self.masks[2].iter().flat_map(Bitmap::iter_ones).for_each(|root| used.set(root, true));
        self.phase = Phase::MdPages;
        self.read_md_pages(&layout, runs(&used));
        self.wanted = Some(used);
        if self.pending == 0 {
            self.take_pages();
        }
        Ok(())
    }

    /// Whether a read that fails costs only what it was about.
    fn is_contained(&self) -> bool {
        !matches!(self.phase, Phase::Done) && self.unreadable < UNREADABLE_MAX
    }

    /// Reads once more what could not be read, md page by md page: a bad sector costs no more than its page.
    fn read_in_parts(&mut self, id: OpId, mut buffer: Buffer, error: DeviceError) {
        let Some(offset) = self.reads.remove(&id) else { return };
        let part =
            self.super_block.as_ref().map_or(MD_STRUCT_BYTES, |(_, layout)| layout.md_page_size as usize);
        if buffer.len() > part {
            for start in (0..buffer.len()).step_by(part) {
                self.read(offset + start as u64, part.min(buffer.len() - start));
            }
            return;
        }
        self.unreadable += 1;
        self.findings.push(Finding { lvol: None, what: Found::Unreadable { offset, error } });
        // No checksum fits this.
        buffer.as_mut_slice().fill(0xff);
        self.reads.insert(id, offset);
        self.keep(id, buffer);
    }

    /// Keeps what was read: of md pages, what is in use and not empty.
    fn keep(&mut self, id: OpId, buffer: Buffer) {
        let Some(offset) = self.reads.remove(&id) else { return };
        let Some((_, layout)) = self.super_block.as_ref().filter(|_| matches!(self.phase, Phase::MdPages))
        else {
            return self.buffers.push((offset, buffer));
        };
        let first = (offset - layout.md_page_offset(MdPageIdx(0))) / u64::from(layout.md_page_size);
        let Ok(first) = u32::try_from(first) else { return };
        // What is not in use may hold anything: what a checkpoint began to write before a crash, for one.
        let wanted = self.wanted.as_ref();
        let is_wanted = |at: MdPageIdx| wanted.is_none_or(|wanted| wanted.get(at.0 as usize));
        self.pages.add(MdPageIdx(first), buffer.as_slice(), layout.md_page_size as usize, is_wanted);
    }

    fn take_pages(&mut self) {
        let Some((super_block, layout)) = self.super_block.take() else {
            return;
        };
        self.phase = Phase::Done;
        if let Some(journal) = &self.journal {
            journal.overlay(&mut self.pages);
        }
        if self.masks[2].is_none() {
            self.pages.mend_torn_snapshots();
        }
        let mended = match (self.repair, &self.journal) {
            (true, Some(journal)) => Mended::mend(&mut self.pages, &journal.copies),
            (true, None) => Mended::mend(&mut self.pages, &BTreeMap::new()),
            (false, _) => Mended::default(),
        };
        let roots = self.roots(&super_block);
        self.loaded = match self.repair {
            false => self.assemble(&layout, &super_block, &roots, None),
            true => self.assemble_repaired(&layout, &super_block, &roots, &mended),
        };
        if self.may_blame_masks(&super_block) {
            // What is in use is looked for everywhere then. The masks still tell what may not be handed out.
            (self.loaded, self.error, self.wanted) = (None, None, None);
            self.findings.retain(|finding| !matches!(finding.what, Found::Unreadable { .. }));
            self.search_md_pages(&layout);
            self.super_block = Some((super_block, layout));
        }
    }

    fn assemble(
        &mut self,
        layout: &Layout,
        super_block: &SuperBlock,
        roots: &[MdPageIdx],
        mut repair: Option<Repair>,
    ) -> Option<Loaded> {
        let assembled =
            assemble::assemble(layout.clone(), super_block, &self.pages, roots, &self.masks, repair.as_mut());
        let (mut state, mut found) = match assembled {
            Ok(assembled) => assembled,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        let mut findings = self.findings.clone();
        findings.append(&mut found);
        if self.untrusted_masks {
            findings.push(Finding { lvol: None, what: Found::MaskChecksum });
        }
        let erased = repair.as_ref().map_or(&[][..], |repair| &repair.repairs.erased);
        erased.iter().for_each(|page| self.pages.remove(*page));
        let go_on = repair.is_some();
        let journal = self.journal.clone();
        let (recovery, damage) =
            journal.map_or((None, None), |journal| journal.replay(&mut state, &self.pages, go_on));
        lost::spread_damage(&mut state);
        findings.extend(lost::findings(&state));
        let is_damage = |found: &Found| !matches!(found, Found::NoMdPages { .. });
        let journal_damage = damage.as_ref().is_some_and(is_damage) && recovery.is_none();
        findings.extend(damage.map(|what| Finding { lvol: None, what }));
        let repairs = repair.map(|repair| repair.finish(&mut state));
        let super_block = super_block.clone();
        Some(Loaded { state, super_block, findings, recovery, journal_damage, repairs })
    }

    /// Goes on with what the journal says up to the first record that does not fit: as often as that takes.
    fn assemble_repaired(
        &mut self,
        layout: &Layout,
        super_block: &SuperBlock,
        roots: &[MdPageIdx],
        mended: &Mended,
    ) -> Option<Loaded> {
        let mut misfits = Vec::new();
        loop {
            let spoken_for = self.journal.as_ref().map(|journal| journal.clusters(layout));
            let repair = Repair::new(spoken_for, self.journal.as_ref().map_or(0, FoundJournal::lost));
            let mut loaded = self.assemble(layout, super_block, roots, Some(repair))?;
            let misfit = loaded.findings.iter().find_map(|finding| match finding.what {
                Found::JournalRecord { lsn, .. } => Some((finding.clone(), lsn)),
                _ => None,
            });
            let given_up = misfit
                .filter(|(_, lsn)| self.journal.as_mut().is_some_and(|journal| journal.give_up_from(*lsn)));
            let Some((finding, _)) = given_up else {
                loaded.findings.append(&mut misfits);
                if let Some(repairs) = &mut loaded.repairs {
                    mended.mark_dirty(&mut loaded.state, repairs);
                }
                return Some(loaded);
            };
            misfits.push(finding);
        }
    }

    fn roots(&self, super_block: &SuperBlock) -> Vec<MdPageIdx> {
        match &self.masks {
            [Some(md), _, Some(blob_ids)] if !super_block.is_native() => {
                roots::of_masks(&self.pages, md, blob_ids)
            }
            [.., Some(blob_ids)] => roots::of_mask(&self.pages, blob_ids),
            _ => roots::of_pages(&self.pages, super_block.is_native())
                .filter(|at| self.journal.as_ref().is_none_or(|journal| journal.is_root(*at)))
                .collect(),
        }
    }

    /// Whether a blob looks damaged that is not: SPDK's masks have no checksum, and a page that a blob refers to but a
    /// mask does not know was not read.
    fn may_blame_masks(&self, super_block: &SuperBlock) -> bool {
        let by_masks = self.wanted.is_some() && self.masks[2].is_some() && !super_block.is_native();
        let is_suspect = |finding: &Finding| match &finding.what {
            Found::Damaged { .. } => true,
            Found::Mask { kind, .. } => *kind != MaskKind::Clusters,
            _ => false,
        };
        by_masks && self.loaded.as_ref().is_none_or(|loaded| loaded.findings.iter().any(is_suspect))
    }

    /// Reads the whole md region, to find the roots without a mask.
    fn search_md_pages(&mut self, layout: &Layout) {
        self.phase = Phase::MdPages;
        self.read_md_pages(layout, core::iter::once(0..layout.md_len as usize));
    }

    fn read_md_pages(&mut self, layout: &Layout, runs: impl Iterator<Item = core::ops::Range<usize>>) {
        let stride = layout.md_page_size as usize;
        let at_once = usize::try_from(BULK_BYTES).unwrap_or(usize::MAX).div_ceil(stride);
        for run in runs {
            for start in run.clone().step_by(at_once) {
                let end = (start + at_once).min(run.end);
                let Ok(first) = u32::try_from(start) else { return };
                self.read(layout.md_page_offset(MdPageIdx(first)), (end - start) * stride);
            }
        }
    }

    fn read_bulk(&mut self, offset: u64, bytes: u64) {
        for start in (0..bytes).step_by(usize::try_from(BULK_BYTES).unwrap_or(usize::MAX)) {
            let len = usize::try_from(BULK_BYTES.min(bytes - start)).unwrap_or(usize::MAX);
            self.read(offset + start, len);
        }
    }

    fn read(&mut self, offset: u64, len: usize) {
        let id = OpId(self.next_op);
        self.next_op += 1;
        self.pending += 1;
        self.reads.insert(id, offset);
        self.device.push_back((id, offset, len));
    }
}

/// What was read in parts.
fn joined(buffers: &[(u64, Buffer)]) -> Vec<u8> {
    let len = buffers.iter().map(|(_, buffer)| buffer.len()).sum();
    let mut bytes = Vec::with_capacity(len);
    buffers.iter().for_each(|(_, buffer)| bytes.extend_from_slice(buffer.as_slice()));
    bytes
}

/// Runs of set bits, across gaps that cost less to read than a request of their own.
fn runs(bits: &Bitmap) -> impl Iterator<Item = core::ops::Range<usize>> {
    const GAP_PAGES: usize = 16;
    let mut ones = bits.iter_ones().peekable();
    core::iter::from_fn(move || {
        let start = ones.next()?;
        let mut end = start + 1;
        while let Some(next) = ones.next_if(|next| *next <= end + GAP_PAGES) {
            end = next + 1;
        }
        Some(start..end)
    })
}
