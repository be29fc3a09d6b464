//! Which md pages a checkpoint uses for what changed.

use super::encode::blob_md;
use crate::blob::Blob;
use crate::record::{Assignment, Record};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::MdPageIdx;

/// Free md pages, lowest first, each handed out once.
#[derive(Debug)]
pub(super) struct Fresh {
    pages: alloc::vec::IntoIter<u32>,
    /// How many pages that exist are to be replaced by free ones.
    moved: usize,
}

impl Fresh {
    /// `count` pages of the pool, from page 1 on: page 0 means "none" where an extent page is named. And up to `moved`
    /// more to replace pages that exist.
    ///
    /// # Panics
    /// When there are fewer. Admission keeps count of what a checkpoint needs (`State::md_debt`), so this is a
    /// bug; going on would lose metadata.
    fn new(state: &State, count: usize, moved: usize) -> Self {
        // What is owed to others, chains included, is not spare. Page 0 is not handed out here.
        let moved = moved.min(state.md_spare().saturating_sub(1));
        let pages = state.md.peek(1, count + moved).expect("md pages are reserved when records are planned");
        Self { pages: pages.into_iter(), moved }
    }

    fn take(&mut self) -> MdPageIdx {
        MdPageIdx(self.pages.next().expect("as many as were counted"))
    }

    /// Where `needed` pages are written of which some may exist.
    fn list(&mut self, pages: &[MdPageIdx], needed: usize) -> Vec<MdPageIdx> {
        let mut list: Vec<MdPageIdx> = pages.iter().take(needed).map(|page| self.place(*page)).collect();
        while list.len() < needed {
            list.push(self.take());
        }
        list
    }

    /// Where a page that exists is written: where it is, or to a free page, which needs no image.
    fn place(&mut self, page: MdPageIdx) -> MdPageIdx {
        match self.moved.checked_sub(1) {
            None => page,
            Some(left) => {
                self.moved = left;
                self.take()
            }
        }
    }
}

/// Assigns extent and layer pages of every dirty blob. The chains stay as they are. At most `moved` pages that exist
/// are given up for free ones; `moved` counts down.
pub(super) fn assign(state: &State, moved: &mut usize) -> Vec<Record> {
    let dirty: Vec<&Blob> = state.dirty.iter().filter_map(|id| state.blob(*id)).collect();
    let count = dirty.iter().map(|blob| blob.pages.totals.missing).sum();
    let mut fresh = Fresh::new(state, count, *moved);
    let may_move = fresh.moved;
    let mut records = Vec::new();
    for blob in dirty {
        let mut pages = Assignment { chain: blob.pages.chain.clone(), ..Assignment::default() };
        // A change of the map can make a blob native, or plain again, without touching what names its pages.
        pages.write_chain = blob.pages.chain_dirty || state.is_native(blob) != blob.pages.native;
        for ordinal in &blob.pages.dirty {
            let Some(md) = blob.pages.ordinals.get(ordinal) else { continue };
            if md.extent_dirty {
                let needed = usize::from(md.needs_extent(blob.encoding));
                let page = fresh.list(md.extent.as_slice(), needed).pop();
                pages.write_chain |= page != md.extent;
                pages.extents.push((*ordinal, page));
            }
            for (section, md) in md.sections.iter().filter(|(_, md)| md.dirty) {
                let list = fresh.list(&md.pages, state.units.spread.pages(md.records));
                pages.write_chain |= list != md.pages;
                pages.layers.push((*ordinal, *section, list));
            }
        }
        records.push(Record::Assign { blob: blob.id, pages });
    }
    *moved -= may_move - fresh.moved;
    records
}

/// Assigns the chains of the blobs that `assigned` is about, whose other pages have their places now. Their roots stay
/// where they are; up to `moved` of the others move.
pub(super) fn assign_chains(state: &State, assigned: &[Record], moved: usize) -> Vec<Record> {
    let mut lengths = Vec::new();
    let mut count = 0;
    for record in assigned {
        if let Record::Assign { blob, pages } = record
            && pages.write_chain
            && let Some(blob) = state.blob(*blob)
        {
            let len = blob_md(state, blob).chain_len();
            count += len.saturating_sub(blob.pages.chain.len());
            lengths.push((blob, len));
        }
    }
    let mut fresh = Fresh::new(state, count, moved);
    let mut records = Vec::new();
    for (blob, len) in lengths {
        let old = blob.pages.chain.iter().take(len).enumerate();
        let place = |(index, page): (usize, &MdPageIdx)| if index == 0 { *page } else { fresh.place(*page) };
        let mut chain: Vec<MdPageIdx> = old.map(place).collect();
        while chain.len() < len {
            chain.push(fresh.take());
        }
        let pages = Assignment { chain, write_chain: true, ..Assignment::default() };
        records.push(Record::Assign { blob: blob.id, pages });
    }
    records
}
