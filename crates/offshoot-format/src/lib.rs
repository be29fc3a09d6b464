//! Bytes and validated values of the SPDK blobstore format, and of offshoot's extension of it.
//!
//! Every structure has a `decode` from bytes to a value that has been checked, and an `encode` back. Decoding any
//! bytes terminates and never panics; what it refuses it names in a [`Damage`]: where, what was stored, what was
//! expected. A decoded structure that is encoded again keeps the bytes that this crate does not understand: reserved
//! bytes of the super block, unknown descriptors, xattrs and flag bits.
//!
//! This crate does no I/O and allocates memory only in proportion to what it was given (a map's size is bounded by
//! [`EXTENT_PAGES_MAX`]). It knows the form of each structure, not the store as a whole: whether a cluster is inside
//! the device or has two owners is the loader's question. Our own code here needs no operating system; the CRC comes
//! from a crate that asks the processor what it can do.
//!
//! SPDK's structures are little-endian and packed. The types named `Raw…` are byte-exact; all others are validated
//! values. `docs/format.md` describes the extension.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bitmap;
mod blob;
mod chain;
mod checksum;
mod damage;
mod descriptor;
mod dump;
mod extent_page;
mod flags;
mod ids;
mod layout;
mod lvolstore;
mod map;
mod mask;
mod md_page;
mod md_page_header;
mod native;
mod piece;
mod super_block;
mod torn;
mod xattr;

pub use bitmap::Bitmap;
pub use blob::{BlobMd, Transition};
pub use checksum::{crc32c, mend_page, page_crc_ok};
pub use damage::{Area, Damage, Fault, Place};
pub use descriptor::{Descriptor, DescriptorKind};
pub use dump::{dump_blob, dump_extent_page, dump_frame, dump_image_set, dump_layer_page, dump_super_block};
pub use extent_page::ExtentPage;
pub use flags::{ClearMethod, DataRoFlags, Flags, InvalidFlags};
pub use ids::{
    BlobCluster, BlobId, CLUSTERS_PER_EXTENT_PAGE, ClusterIdx, DESCRIPTORS_BYTES, EXTENT_PAGES_MAX,
    ExtentOrdinal, MD_STRUCT_BYTES, MdPageIdx, NO_PAGE, PageImage,
};
pub use layout::{
    Layout, LayoutError, LayoutParams, MaskRoom, Region, SUPER_BLOCK_COPY_OFFSET, md_len_for_ratio,
};
pub use lvolstore::{
    BSTYPE_LVOLSTORE, LVOL_NAME_BYTES_MAX, LvolIdentity, StoreIdentity, UUID_VALUE_BYTES, XATTR_EXTSNAP,
    XATTR_NAME, XATTR_SNAP, XATTR_SNAPRM, XATTR_SNAPTMP, XATTR_UUID, blob_id_value, name_value,
    parse_blob_id, parse_name, parse_uuid, uuid_value,
};
pub use map::{BLOB_CLUSTERS_MAX, MapMd, Run, TableEntry};
pub use mask::{MASK_HEADER_BYTES, MaskKind, decode_mask, encode_mask};
pub use md_page::MdPage;
pub use md_page_header::MdPageHeader;
pub use native::{
    BlockState, FRAME_HEADER_BYTES, FrameHeader, FrameKind, ImageSet, JournalArea, LIVE_MASK_BITS, LayerPage,
    LayerRecord, Layers, LiveMaskPage, MdPageRun, NATIVE_HEADER_BYTES, NATIVE_HEADER_OFFSET, NativeBlob,
    NativeFlags, NativeHeader, PreviousEpoch, SessionId, block_bytes, blocks_per_cluster, encode_frame,
    live_mask_pages, records_per_layer_page, states_bytes,
};
pub use super_block::{Mended, NATIVE_VERSION, Probe, Reserved, SuperBlock};
pub use torn::{TornPage, mend_torn_snapshot};
pub use uuid::Uuid;
pub use xattr::{XATTR_BYTES_MAX, Xattr};
