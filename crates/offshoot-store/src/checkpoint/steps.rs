//! What a checkpoint writes, and in which order.

use super::encode::{blob_md, extent_page, layer_pages};
use crate::record::Record;
use crate::state::State;
use alloc::{collections::BTreeMap, vec::Vec};
use offshoot_block::{Buffer, DeviceOffset, DeviceOp};
use offshoot_format::{
    Bitmap, MD_STRUCT_BYTES, MaskKind, MdPageIdx, NATIVE_VERSION, NativeFlags, NativeHeader, PageImage,
    SuperBlock, encode_mask,
};

/// Md pages that one operation writes at most.
const PAGES_PER_WRITE: usize = 256;

/// Part of a checkpoint. A step begins when the one before it has completed.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything written so far becomes durable.
    Sync,
    /// Operations in any order.
    Write(Vec<DeviceOp>),
}

/// The steps that make State durable, and the super block as it is afterwards. `assigned` says what is out of
/// date, `freed` which pages to zero: SPDK would take the root of a deleted blob for a blob after a crash.
pub(crate) fn steps(
    state: &State,
    super_block: &SuperBlock,
    assigned: &[Record],
    freed: &[MdPageIdx],
    closing: bool,
) -> (Vec<Step>, SuperBlock) {
    let mut steps = alloc::vec![Step::Sync];
    let mut images = changed_pages(state, assigned);
    images.extend(freed.iter().map(|page| (*page, [0; MD_STRUCT_BYTES])));
    let mut super_block = super_block.clone();
    let is_open = super_block.is_native() && !super_block.is_clean();
    if images.is_empty() && !(closing && is_open) {
        return (steps, super_block);
    }
    if !is_open {
        // From here on a crash needs us, not SPDK: tell it so before the first page changes.
        mark_open(&mut super_block);
        steps.extend([write_super_block(&super_block), Step::Sync]);
    }
    if !images.is_empty() {
        steps.extend([Step::Write(write_pages(state, &images)), Step::Sync]);
    }
    if closing {
        let masks = masks(state);
        steps.extend([Step::Write(write_masks(state, &masks)), Step::Sync]);
        mark_closed(state, &mut super_block, &masks);
        steps.extend([write_super_block(&super_block), Step::Sync]);
    }
    (steps, super_block)
}

fn changed_pages(state: &State, assigned: &[Record]) -> BTreeMap<MdPageIdx, PageImage> {
    let mut images = BTreeMap::new();
    for record in assigned {
        let Record::Assign { blob, pages } = record else {
            continue;
        };
        let Some(blob) = state.blob(*blob) else { continue };
        for (ordinal, page) in &pages.extents {
            if let Some(page) = page {
                images.insert(*page, extent_page(state, blob, *ordinal).encode());
            }
        }
        for (ordinal, list) in &pages.layers {
            for (page, layers) in list.iter().zip(layer_pages(state, blob, *ordinal)) {
                images.insert(*page, layers.encode());
            }
        }
        if pages.write_chain {
            let chain = &blob.pages.chain;
            images.extend(chain.iter().copied().zip(blob_md(state, blob).encode_chain(chain)));
        }
    }
    images
}

/// One operation per run of adjacent pages.
fn write_pages(state: &State, images: &BTreeMap<MdPageIdx, PageImage>) -> Vec<DeviceOp> {
    let stride = state.layout.md_page_size as usize;
    let pages: Vec<(&MdPageIdx, &PageImage)> = images.iter().collect();
    let runs = pages.chunk_by(|(left, _), (right, _)| left.0 + 1 == right.0);
    // Adjacent pages go out together, but not without bound: each operation holds its pages in memory.
    let runs = runs.flat_map(|run| run.chunks(PAGES_PER_WRITE));
    runs.map(|run| {
        let mut buffer = Buffer::zeroed(run.len() * stride);
        for (slot, (_, image)) in buffer.as_mut_slice().chunks_mut(stride).zip(run) {
            slot[..MD_STRUCT_BYTES].copy_from_slice(*image);
        }
        DeviceOp::Write { offset: DeviceOffset(state.layout.md_page_offset(*run[0].0)), buffer }
    })
    .collect()
}

fn masks(state: &State) -> [Vec<u8>; 3] {
    let mut roots = Bitmap::new(state.layout.md_len as usize);
    state.blobs().for_each(|blob| roots.set(blob.id.root().0 as usize, true));
    MaskKind::ALL.map(|kind| {
        let bits = match kind {
            MaskKind::MdPages => state.md.used(),
            MaskKind::Clusters => state.clusters.used(),
            MaskKind::BlobIds => &roots,
        };
        encode_mask(kind, bits, state.layout.mask_bytes(kind))
    })
}

fn write_masks(state: &State, masks: &[Vec<u8>; 3]) -> Vec<DeviceOp> {
    let ops = MaskKind::ALL.iter().zip(masks).filter(|(_, mask)| !mask.is_empty());
    ops.map(|(kind, mask)| DeviceOp::Write {
        offset: DeviceOffset(state.layout.mask_offset(*kind)),
        buffer: Buffer::copy_of(mask),
    })
    .collect()
}

fn write_super_block(super_block: &SuperBlock) -> Step {
    let buffer = Buffer::copy_of(&super_block.encode());
    Step::Write(alloc::vec![DeviceOp::Write { offset: DeviceOffset(0), buffer }])
}

/// A store that is being written: SPDK refuses it instead of misreading it.
fn mark_open(super_block: &mut SuperBlock) {
    let base_version = super_block.native.as_ref().map_or(super_block.version, |native| native.base_version);
    let sequence = super_block.native.as_ref().map_or(0, |native| native.sequence);
    super_block.version = NATIVE_VERSION;
    super_block.clean = 0;
    super_block.native = Some(NativeHeader {
        base_version,
        flags: NativeFlags::NATIVE_STATES,
        epoch: [0; 16],
        start_lsn: 0,
        journal: None,
        checkpoint_lsn: 0,
        sequence: sequence + 1,
        mask_crcs: [0; 3],
    });
}

/// A store at rest: a plain SPDK store where nothing native is left.
fn mark_closed(state: &State, super_block: &mut SuperBlock, masks: &[Vec<u8>; 3]) {
    super_block.clean = 1;
    let Some(native) = &mut super_block.native else {
        return;
    };
    if state.has_native_states() {
        native.flags = NativeFlags::CLEAN_CLOSE | NativeFlags::NATIVE_STATES;
        native.sequence += 1;
        native.mask_crcs = core::array::from_fn(|mask| offshoot_format::crc32c(&masks[mask]));
    } else {
        super_block.version = native.base_version;
        super_block.native = None;
    }
}
