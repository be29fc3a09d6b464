//! Which md pages a checkpoint uses for what changed.

use super::encode::blob_md;
use crate::blob::Blob;
use crate::record::{Assignment, Record};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{ExtentOrdinal, MdPageIdx};

/// Free md pages, lowest first, each handed out once.
struct Fresh {
    pages: alloc::vec::IntoIter<u32>,
}

impl Fresh {
    /// `count` pages of the pool, from page 1 on: page 0 means "none" where an extent page is named.
    ///
    /// # Panics
    /// When there are fewer. Admission keeps count of what a checkpoint needs (`State::md_debt`), so this is a
    /// bug; going on would lose metadata.
    fn new(state: &State, count: usize) -> Self {
        let pages = state.md.peek(1, count).expect("md pages are reserved when records are planned");
        Self { pages: pages.into_iter() }
    }

    fn take(&mut self) -> MdPageIdx {
        MdPageIdx(self.pages.next().expect("as many as were counted"))
    }
}

/// Assigns extent and layer pages of every dirty blob. The chains stay as they are.
pub(crate) fn assign(state: &State) -> Vec<Record> {
    let dirty: Vec<&Blob> = state.dirty.iter().filter_map(|id| state.blob(*id)).collect();
    let wanted = |blob: &Blob, ordinal: &ExtentOrdinal| {
        let md = blob.pages.ordinals.get(ordinal).cloned().unwrap_or_default();
        let (extent, layers) = md.needed(blob.encoding, state.units.records_per_page);
        (md, extent, layers)
    };
    let count = dirty
        .iter()
        .flat_map(|blob| blob.pages.dirty.iter().map(|ordinal| wanted(blob, ordinal)))
        .map(|(md, extent, layers)| {
            usize::from(extent && md.extent.is_none()) + layers.saturating_sub(md.layers.len())
        });
    let mut fresh = Fresh::new(state, count.sum());
    let mut records = Vec::new();
    for blob in dirty {
        let mut pages = Assignment { chain: blob.pages.chain.clone(), ..Assignment::default() };
        pages.write_chain = blob.pages.chain_dirty;
        for ordinal in &blob.pages.dirty {
            let (md, extent, layers) = wanted(blob, ordinal);
            let page = extent.then(|| md.extent.unwrap_or_else(|| fresh.take()));
            let mut list = md.layers.clone();
            list.truncate(layers);
            while list.len() < layers {
                list.push(fresh.take());
            }
            pages.write_chain |= page != md.extent || list != md.layers;
            pages.extents.push((*ordinal, page));
            pages.layers.push((*ordinal, list));
        }
        records.push(Record::Assign { blob: blob.id, pages });
    }
    records
}

/// Assigns the chains of the blobs that `assigned` is about, whose other pages have their places now.
pub(crate) fn assign_chains(state: &State, assigned: &[Record]) -> Vec<Record> {
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
    let mut fresh = Fresh::new(state, count);
    let mut records = Vec::new();
    for (blob, len) in lengths {
        let mut chain = blob.pages.chain.clone();
        chain.truncate(len);
        while chain.len() < len {
            chain.push(fresh.take());
        }
        let pages = Assignment { chain, write_chain: true, ..Assignment::default() };
        records.push(Record::Assign { blob: blob.id, pages });
    }
    records
}
