//! A new store: an empty State, and what must be zeroed before its first checkpoint.

use crate::checkpoint::{self, Capture, write_pages, write_super_block};
use crate::error::Error;
use crate::journal::{default_bytes, mask_pages, most_live_clusters};
use crate::limits::{CLEAR_BYTES, GROWTH, GROWTH_CLUSTERS};
use crate::pool::Pool;
use crate::record::{Encoding, Record};
use crate::state::{State, XATTR_NATIVE};
use crate::verb::check_name;
use alloc::{string::String, vec::Vec};
use core::ops::Range;
use offshoot_block::{DeviceOffset, DeviceOp};
use offshoot_format::{
    Bitmap, BlobId, ClearMethod, Flags, Layout, LayoutError, LayoutParams, MaskRoom, MdPageIdx,
    StoreIdentity, SuperBlock, Xattr,
};
use thiserror::Error;
use uuid::Uuid;

/// What a new store is like.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Its name.
    pub name: String,
    /// A fresh random UUID.
    pub uuid: Uuid,
    /// Bytes of a cluster, a multiple of 4096.
    pub cluster_size: u32,
    /// Bytes of the block that lvols show: 512 or 4096.
    pub block_size: u32,
    /// Bytes of an md page, a power of two from 4096 on. Only its first 4096 carry anything.
    pub md_page_size: u32,
    /// Bytes that are left for the journal among the md pages; by default as many as suit the size of the store.
    pub journal_bytes: Option<u64>,
    /// Whether partial and zero clusters may arise, which SPDK cannot read until they are sealed away.
    pub native: bool,
    /// What is done with the space for data, whatever it holds. Not remembered.
    pub clear_method: ClearMethod,
}

/// Why a store cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InitError {
    /// The name is not one.
    #[error("{0}")]
    Name(#[from] Error),
    /// The sizes do not fit each other or the device.
    #[error("{0}")]
    Layout(#[from] LayoutError),
}

/// Md pages for a store of so many clusters. SPDK takes one per cluster, for its 4 MiB clusters; with smaller ones
/// a quarter is plenty: an extent page serves 512 clusters, an lvol needs one page.
pub(crate) fn md_pages_for(total_clusters: u32) -> usize {
    const SMALL: u32 = 16_384;
    total_clusters.min(SMALL.max(total_clusters / 4)) as usize
}

/// Clusters that a store of so many can come to have without its masks being moved.
pub(crate) fn growth_clusters(total_clusters: u32) -> u32 {
    let many = total_clusters.saturating_mul(GROWTH).min(GROWTH_CLUSTERS);
    many.max(total_clusters.saturating_mul(2)).min(u32::MAX - 1)
}

/// Room in the masks of a new store, so that it can grow, and its md region with it.
fn mask_room(size_bytes: u64, options: &InitOptions) -> MaskRoom {
    let clusters = growth_clusters(clusters(size_bytes, options));
    MaskRoom { clusters, md_pages: u32::try_from(md_pages_for(clusters)).unwrap_or(u32::MAX) }
}

fn clusters(size_bytes: u64, options: &InitOptions) -> u32 {
    let clusters = size_bytes / u64::from(options.cluster_size.max(4096));
    u32::try_from(clusters).unwrap_or(u32::MAX)
}

/// Md pages of a new store: those for lvols, and room for the journal and the live masks.
fn md_len(size_bytes: u64, options: &InitOptions) -> u32 {
    let clusters = clusters(size_bytes, options);
    let journal_bytes = options.journal_bytes.unwrap_or_else(|| default_bytes(size_bytes));
    let ring = journal_bytes.div_ceil(u64::from(options.md_page_size.max(4096)));
    let before = u64::try_from(md_pages_for(clusters)).unwrap_or(u64::MAX).saturating_add(ring);
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    let most_live = most_live_clusters(clusters, options.md_page_size);
    let most_md = u32::try_from(md_pages_for(most_live)).unwrap_or(u32::MAX).max(before);
    // The pages of the live masks are pages that the masks have bits for: one more is enough for those.
    before.saturating_add(mask_pages(most_md, most_live) + 1).min(u32::MAX - 1)
}

/// Plans a new store on a device of `size_bytes`: its State, its super block as it is at rest, and what makes it: each
/// operation is completed before the next one begins.
///
/// # Errors
/// [`InitError`] when name or sizes are no good.
pub fn init(size_bytes: u64, options: &InitOptions) -> Result<(State, SuperBlock, Vec<DeviceOp>), InitError> {
    check_name(&options.name)?;
    let params = LayoutParams {
        size_bytes,
        cluster_size: options.cluster_size,
        io_unit_size: options.block_size,
        md_page_size: options.md_page_size,
        md_len: md_len(size_bytes, options),
        room: mask_room(size_bytes, options),
    };
    let layout = Layout::plan(&params)?;
    let mut clusters = Bitmap::new(layout.total_clusters as usize);
    (0..layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
    let md = Bitmap::new(layout.md_len as usize);
    let mut super_block = SuperBlock::create(&layout);
    let metadata_bytes = u64::from(layout.metadata_clusters()) * u64::from(layout.cluster_size);
    let zero = DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: metadata_bytes, may_unmap: true };
    let data_bytes = u64::from(layout.total_clusters) * u64::from(layout.cluster_size) - metadata_bytes;
    let (offset, len) = (DeviceOffset(metadata_bytes), data_bytes);
    let clear = match options.clear_method {
        ClearMethod::None => Vec::new(),
        ClearMethod::Default | ClearMethod::Unmap => alloc::vec![DeviceOp::Unmap { offset, len }],
        ClearMethod::WriteZeroes => zeros(metadata_bytes..metadata_bytes + len),
    };

    let mut state = State::new(layout, Pool::new(clusters), Pool::new(md));
    let id = BlobId::from_root(MdPageIdx(0));
    state.super_blob = Some(id);
    state.native_allowed = options.native;
    super_block.super_blob = Some(id);
    let identity = StoreIdentity { uuid: options.uuid, name: options.name.clone().into_bytes() };
    let mut xattrs: Vec<Xattr> = identity.xattrs().into();
    if options.native {
        xattrs.push(Xattr::new(XATTR_NATIVE, *b"1"));
    }
    state.apply(&Record::Create {
        id,
        flags: Flags::default(),
        xattrs,
        len: 0,
        runs: Vec::new(),
        encoding: Encoding::Table,
    });
    let mut ops = alloc::vec![zero];
    ops.extend(clear.into_iter().filter(|_| data_bytes > 0));
    let capture = Capture::take(&mut state, &mut Vec::new(), None, usize::MAX);
    let masks = checkpoint::masks(&state);
    ops.extend(write_pages(&state.layout, &capture.fresh));
    ops.extend(checkpoint::write_masks(&state, &masks));
    super_block.clean = 1;
    ops.extend([DeviceOp::Sync, write_super_block(&super_block, 0), DeviceOp::Sync]);
    Ok((state, super_block, ops))
}

/// Zeros that take space, in pieces between which it can be told how far they are.
fn zeros(range: Range<u64>) -> Vec<DeviceOp> {
    let starts = range.clone().step_by(usize::try_from(CLEAR_BYTES).unwrap_or(usize::MAX));
    let piece = |start: u64| DeviceOp::WriteZeroes {
        offset: DeviceOffset(start),
        len: CLEAR_BYTES.min(range.end - start),
        may_unmap: false,
    };
    starts.map(piece).collect()
}
