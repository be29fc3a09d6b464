//! A new store: an empty State, and what must be zeroed before its first checkpoint.

use crate::error::Error;
use crate::pool::Pool;
use crate::record::{Encoding, Record};
use crate::state::{State, XATTR_NATIVE};
use crate::verb::check_name;
use alloc::{string::String, vec::Vec};
use offshoot_block::{DeviceOffset, DeviceOp};
use offshoot_format::{
    Bitmap, BlobId, Flags, Layout, LayoutError, LayoutParams, MdPageIdx, StoreIdentity, SuperBlock, Xattr,
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
    /// Whether partial and zero clusters may arise, which SPDK cannot read until they are sealed away.
    pub native: bool,
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

/// Md pages beyond those for lvols: room for the journal ring, at least 4 MiB.
const JOURNAL_MD_PAGES: u64 = 1024;

/// Md pages for a store of so many clusters. SPDK takes one per cluster, for its 4 MiB clusters; with smaller ones
/// a quarter is plenty: an extent page serves 512 clusters, an lvol needs one page.
fn md_len(total_clusters: u64) -> u32 {
    const SMALL: u64 = 16_384;
    let pages = total_clusters.min(SMALL.max(total_clusters / 4)) + JOURNAL_MD_PAGES;
    u32::try_from(pages).unwrap_or(u32::MAX - 1)
}

/// Plans a new store on a device of `size_bytes`: its State, its super block, and the operations that must have
/// completed before anything else is written.
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
        md_len: md_len(size_bytes / u64::from(options.cluster_size.max(4096))),
    };
    let layout = Layout::plan(&params)?;
    let mut clusters = Bitmap::new(layout.total_clusters as usize);
    (0..layout.metadata_clusters()).for_each(|cluster| clusters.set(cluster as usize, true));
    let md = Bitmap::new(layout.md_len as usize);
    let mut super_block = SuperBlock::create(&layout);
    let metadata_bytes = u64::from(layout.metadata_clusters()) * u64::from(layout.cluster_size);
    let zero = DeviceOp::WriteZeroes { offset: DeviceOffset(0), len: metadata_bytes, may_unmap: true };
    let data_bytes = u64::from(layout.total_clusters) * u64::from(layout.cluster_size) - metadata_bytes;
    let discard = DeviceOp::Unmap { offset: DeviceOffset(metadata_bytes), len: data_bytes };

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
    if data_bytes > 0 {
        ops.push(discard);
    }
    Ok((state, super_block, ops))
}
