//! The super block of a store as it opens, settles and is sealed, and the masks of one at rest.
//!
//! Every transition changes only the first 512 bytes of the super block, so that none can be torn. *Opened*: a
//! journal is in use, SPDK refuses the store. *Sealed*: a plain SPDK store, or one closed in order that holds native
//! states. In between a store is opened once more, under an epoch of which no frame exists: its ring means nothing
//! then and can be erased.

use crate::options::Session;
use crate::state::State;
use alloc::vec::Vec;
use offshoot_block::{Buffer, DeviceOffset, DeviceOp};
use offshoot_format::{
    Bitmap, JournalArea, Layout, MaskKind, NATIVE_VERSION, NativeFlags, NativeHeader, PreviousEpoch,
    SuperBlock, crc32c, encode_mask,
};

/// What the header says of a journal that comes into use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub epoch: [u8; 16],
    pub session: Option<Session>,
    pub area: JournalArea,
    pub start_lsn: u64,
    pub previous: Option<PreviousEpoch>,
}

/// A store whose journal is in use.
pub(crate) fn opened(super_block: &SuperBlock, opening: &Opening) -> SuperBlock {
    let header = NativeHeader {
        epoch: opening.epoch,
        start_lsn: opening.start_lsn,
        journal: Some(opening.area),
        session: opening.session,
        previous: opening.previous,
        ..next_header(super_block)
    };
    SuperBlock { version: NATIVE_VERSION, clean: 0, native: Some(header), ..super_block.clone() }
}

/// A store whose journal is in use, under a layout into which it has grown.
pub(crate) fn grown(super_block: &SuperBlock, layout: &Layout, opening: &Opening) -> SuperBlock {
    let mut grown = SuperBlock {
        size_bytes: layout.size_bytes,
        used_cluster_mask: layout.used_cluster_mask,
        used_page_mask: layout.used_page_mask,
        used_blobid_mask: layout.used_blobid_mask,
        md_len: layout.md_len,
        ..opened(super_block, opening)
    };
    // The device is the same, and whoever has seen it fail does not say so twice.
    let before = super_block.native.as_ref().map_or(NativeFlags::empty(), |native| native.flags);
    if let Some(native) = &mut grown.native {
        native.flags |= before & NativeFlags::DEVICE_ERROR;
    }
    grown
}

/// The second super block of a store whose first one is about to be written over in more than one sector.
pub(crate) fn replacing(super_block: &SuperBlock) -> SuperBlock {
    let mut copy = super_block.clone();
    if let Some(native) = &mut copy.native {
        native.flags |= NativeFlags::REPLACES_FIRST;
    }
    copy
}

/// A store at rest: a plain SPDK store where nothing native is left.
pub(crate) fn sealed(state: &State, super_block: &SuperBlock, masks: &[Vec<u8>; 3]) -> SuperBlock {
    let header = next_header(super_block);
    if !state.has_native_states() {
        return SuperBlock { version: header.base_version, clean: 1, native: None, ..super_block.clone() };
    }
    let header = NativeHeader {
        flags: NativeFlags::CLEAN_CLOSE | NativeFlags::NATIVE_STATES,
        mask_crcs: core::array::from_fn(|mask| crc32c(&masks[mask])),
        ..header
    };
    SuperBlock { version: NATIVE_VERSION, clean: 1, native: Some(header), ..super_block.clone() }
}

/// A header without a journal, that counts one write more than the one before it.
fn next_header(super_block: &SuperBlock) -> NativeHeader {
    let before = super_block.native.as_ref();
    NativeHeader {
        base_version: before.map_or(super_block.version, |native| native.base_version),
        flags: NativeFlags::NATIVE_STATES,
        epoch: [0; 16],
        start_lsn: 0,
        journal: None,
        sequence: before.map_or(0, |native| native.sequence) + 1,
        mask_crcs: [0; 3],
        session: None,
        previous: None,
    }
}

/// Writes a super block at a byte offset.
pub(crate) fn write_super_block(super_block: &SuperBlock, offset: u64) -> DeviceOp {
    DeviceOp::Write { offset: DeviceOffset(offset), buffer: Buffer::copy_of(&super_block.encode()) }
}

/// The masks of a State, in the order of [`MaskKind::ALL`]. The mask of blob ids is empty in a store that is too old
/// to have one.
pub(crate) fn masks(state: &State) -> [Vec<u8>; 3] {
    let mut roots = Bitmap::new(state.layout.md_len as usize);
    state.blobs().for_each(|blob| roots.set(blob.id.root().0 as usize, true));
    MaskKind::ALL.map(|kind| {
        let bits = match kind {
            MaskKind::MdPages => state.md.used(),
            MaskKind::Clusters => state.clusters.used(),
            MaskKind::BlobIds => &roots,
        };
        match state.layout.mask_bytes(kind) {
            0 => Vec::new(),
            bytes => encode_mask(kind, bits, bytes),
        }
    })
}

/// Writes the masks where SPDK expects them.
pub(crate) fn write_masks(state: &State, masks: &[Vec<u8>; 3]) -> Vec<DeviceOp> {
    let ops = MaskKind::ALL.iter().zip(masks).filter(|(_, mask)| !mask.is_empty());
    ops.map(|(kind, mask)| DeviceOp::Write {
        offset: DeviceOffset(state.layout.mask_offset(*kind)),
        buffer: Buffer::copy_of(mask),
    })
    .collect()
}
