//! A super block that a torn write of SPDK's has left: sectors of the old one beside sectors of the new one.
//!
//! SPDK writes it in place, and there is no second copy. But it changes few fields, all of them in the first 512 bytes,
//! and the checksum stands in the last 512: so one of the two versions is the block as found with some of these fields
//! put back. Which, the checksum tells. Nothing is taken that it does not fit exactly.

use super::{BlobId, NO_BLOB, RawSuperBlock, SuperBlock};
use crate::checksum::page_crc_ok;
use crate::{MASK_HEADER_BYTES, MD_STRUCT_BYTES, MdPageIdx};
use alloc::vec::Vec;
use zerocopy::FromBytes;

/// A super block that was put together again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The version that the checksum is of.
    pub super_block: SuperBlock,
    /// The fields that were put back, by their names in SPDK.
    pub fields: Vec<&'static str>,
}

impl SuperBlock {
    /// The super block of SPDK's version in bytes whose checksum does not fit them, on a device of `device_bytes`: some of
    /// the fields that SPDK changes in place (`clean`, `size`, `used_cluster_mask_len`, `super_blob`) have another value
    /// that they can have had. `None` when no such value gives the checksum that is there.
    #[must_use]
    pub fn mend(bytes: &[u8], device_bytes: u64) -> Option<Mended> {
        let page = bytes.first_chunk::<MD_STRUCT_BYTES>()?;
        let found = RawSuperBlock::read_from_bytes(page).ok()?;
        if page_crc_ok(page) || !matches!(found.version.get(), 1..=3) {
            return None;
        }
        let page_bytes = u64::from(match found.md_page_size.get() {
            0 => 4096,
            bytes => bytes,
        });
        let sizes = values(found.size.get(), &[0, device_bytes]);
        let mask_len = |size: &u64| {
            let clusters = size.checked_div(u64::from(found.cluster_size.get()))?;
            let pages = (MASK_HEADER_BYTES as u64 + clusters.div_ceil(8)).div_ceil(page_bytes);
            u32::try_from(pages).ok()
        };
        let lens: Vec<u32> = sizes.iter().filter_map(mask_len).collect();
        let lens = values(found.used_cluster_mask.len.get(), &lens);
        let blobs = values(found.super_blob.get(), &[NO_BLOB.0, BlobId::from_root(MdPageIdx(0)).0]);
        // What changes most often, first.
        for blob in &blobs {
            for (size, len) in sizes.iter().flat_map(|size| lens.iter().map(move |len| (size, len))) {
                for clean in values(found.clean.get(), &[0, 1]) {
                    let mut raw = RawSuperBlock::read_from_bytes(page).ok()?;
                    raw.clean = clean.into();
                    raw.size = (*size).into();
                    raw.used_cluster_mask.len = (*len).into();
                    raw.super_blob = (*blob).into();
                    let candidate: [u8; MD_STRUCT_BYTES] = zerocopy::transmute!(raw);
                    if !page_crc_ok(&candidate) {
                        continue;
                    }
                    let fields = [
                        ("clean", clean != found.clean.get()),
                        ("size", *size != found.size.get()),
                        ("used_cluster_mask_len", *len != found.used_cluster_mask.len.get()),
                        ("super_blob", *blob != found.super_blob.get()),
                    ];
                    let fields = fields.into_iter().filter(|(_, changed)| *changed);
                    let fields = fields.map(|(name, _)| name).collect();
                    return Self::decode(&candidate).ok().map(|super_block| Mended { super_block, fields });
                }
            }
        }
        None
    }
}

/// The value that was found, and others that differ from it.
fn values<T: Copy + PartialEq>(found: T, others: &[T]) -> Vec<T> {
    let mut values = alloc::vec![found];
    for other in others {
        if !values.contains(other) {
            values.push(*other);
        }
    }
    values
}
