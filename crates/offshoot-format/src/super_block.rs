//! The super block: the first 4096 bytes of a store (SPDK's `spdk_bs_super_block`).
//!
//! Its checksum makes it all or nothing. Opening and sealing a store change only its first 512 bytes, which a device
//! writes as a whole: the checksum at the end is the same for the native form and for the sealed one. SPDK has no second
//! copy; offshoot's stands at [`Layout::super_block_copy`] while the store is open, and has the same bytes.

use crate::checksum::{balancing_word, checked_page, seal_page};
use crate::layout::{is_cluster_size, is_io_unit_size, is_md_page_size};
use crate::{
    Area, BSTYPE_LVOLSTORE, BlobId, ClusterIdx, Damage, Fault, Layout, MD_STRUCT_BYTES, NATIVE_HEADER_BYTES,
    NATIVE_HEADER_OFFSET, NO_PAGE, NativeHeader, PageImage, Region, crc32c,
};
use alloc::boxed::Box;
use core::fmt;
use core::mem::{offset_of, size_of};
use core::ops::Range;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of a store that is open in offshoot, or that holds what SPDK cannot express. Above 3, so that SPDK
/// refuses the store.
pub const NATIVE_VERSION: u32 = 0x4f53_0001;

const SIGNATURE: [u8; 8] = *b"SPDKBLOB";
const SPDK_VERSION: u32 = 3;
const RESERVED_BYTES: usize = 3996;

/// Where in the reserved bytes the word stands that balances the checksum of a native super block.
const BALANCE: Range<usize> = NATIVE_HEADER_BYTES..NATIVE_HEADER_BYTES + 4;
const _: () = assert!(NATIVE_HEADER_OFFSET + BALANCE.end <= 512);

/// Stands where stores of version 1 know no type yet.
const NO_TYPE: [u8; 16] = [0; 16];

/// Stands where there is no super blob.
const NO_BLOB: BlobId = BlobId(u64::MAX);

/// What stores of before these fields existed use, in bytes.
const IO_UNIT_BYTES_OLD: u32 = 4096;
const MD_PAGE_BYTES_OLD: u32 = 4096;

/// A super block as it stands, before the defaults of old stores: [`SuperBlock::layout`] applies those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperBlock {
    /// 1 to 3, or [`NATIVE_VERSION`].
    pub version: u32,
    /// Size of the structure: 4096. Nobody checks it.
    pub length: u32,
    /// Not 0 after an orderly close, so that the masks are exact.
    pub clean: u32,
    /// The blob that holds the identity of the lvstore.
    pub super_blob: Option<BlobId>,
    /// Cluster size in bytes.
    pub cluster_size: u32,
    /// The mask of md pages in use.
    pub used_page_mask: Region,
    /// The mask of clusters in use.
    pub used_cluster_mask: Region,
    /// First page of the md region.
    pub md_start: u32,
    /// Pages of the md region.
    pub md_len: u32,
    /// What the store is used for: [`BSTYPE_LVOLSTORE`]; zeros are possible in version 1.
    pub bstype: [u8; 16],
    /// The mask of blob ids in use, of length 0 in old stores.
    pub used_blobid_mask: Region,
    /// Size of the store in bytes; 0 in old stores, which are as large as their device.
    pub size_bytes: u64,
    /// Smallest unit of I/O in bytes; 0 in old stores.
    pub io_unit_size: u32,
    /// Md page size in bytes; 0 in old stores.
    pub md_page_size: u32,
    /// offshoot's header.
    pub native: Option<NativeHeader>,
    /// The bytes that have no meaning in SPDK, without those of `native`.
    pub reserved: Reserved,
}

/// The reserved bytes of a super block, kept as they are. Bytes that `native` occupies are written over.
#[derive(Clone, PartialEq, Eq)]
pub struct Reserved(Box<[u8; RESERVED_BYTES]>);

/// What the first bytes of a device look like, good or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// No blobstore.
    NotAStore,
    /// A blobstore of a version that this crate does not read.
    NewerVersion(u32),
    /// A blobstore that something else than lvols uses.
    OtherType([u8; 16]),
    /// An lvstore of this version. Whether it can be read, [`SuperBlock::decode`] tells.
    Store {
        /// 1 to 3, or [`NATIVE_VERSION`].
        version: u32,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRegion {
    start: U32,
    len: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperBlock {
    signature: [u8; 8],
    version: U32,
    length: U32,
    clean: U32,
    super_blob: U64,
    cluster_size: U32,
    used_page_mask: RawRegion,
    used_cluster_mask: RawRegion,
    md: RawRegion,
    bstype: [u8; 16],
    used_blobid_mask: RawRegion,
    size: U64,
    io_unit_size: U32,
    md_page_size: U32,
    reserved: [u8; RESERVED_BYTES],
    crc: U32,
}

const _: () = {
    assert!(size_of::<RawSuperBlock>() == MD_STRUCT_BYTES);
    assert!(offset_of!(RawSuperBlock, clean) == 0x010);
    assert!(offset_of!(RawSuperBlock, super_blob) == 0x014);
    assert!(offset_of!(RawSuperBlock, cluster_size) == 0x01c);
    assert!(offset_of!(RawSuperBlock, used_page_mask) == 0x020);
    assert!(offset_of!(RawSuperBlock, used_cluster_mask) == 0x028);
    assert!(offset_of!(RawSuperBlock, md) == 0x030);
    assert!(offset_of!(RawSuperBlock, bstype) == 0x038);
    assert!(offset_of!(RawSuperBlock, used_blobid_mask) == 0x048);
    assert!(offset_of!(RawSuperBlock, size) == 0x050);
    assert!(offset_of!(RawSuperBlock, io_unit_size) == 0x058);
    assert!(offset_of!(RawSuperBlock, md_page_size) == 0x05c);
    assert!(offset_of!(RawSuperBlock, reserved) == NATIVE_HEADER_OFFSET);
    assert!(offset_of!(RawSuperBlock, crc) == 0xffc);
};

impl SuperBlock {
    /// The super block of a new store: of SPDK's version, not clean, without a super blob.
    #[must_use]
    pub fn create(layout: &Layout) -> Self {
        Self {
            version: SPDK_VERSION,
            length: 4096,
            clean: 0,
            super_blob: None,
            cluster_size: layout.cluster_size,
            used_page_mask: layout.used_page_mask,
            used_cluster_mask: layout.used_cluster_mask,
            md_start: layout.md_start,
            md_len: layout.md_len,
            bstype: BSTYPE_LVOLSTORE,
            used_blobid_mask: layout.used_blobid_mask,
            size_bytes: layout.size_bytes,
            io_unit_size: layout.io_unit_size,
            md_page_size: layout.md_page_size,
            native: None,
            reserved: Reserved::default(),
        }
    }

    /// The super block in the first 4096 bytes of `bytes`.
    ///
    /// # Errors
    /// In this order, which is SPDK's: another version, another signature, a bad checksum, a store that is no lvstore.
    /// Then what SPDK does not check: a bad native header under [`NATIVE_VERSION`], and all that
    /// [`SuperBlock::layout`] refuses on a device that is just large enough.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let raw = RawSuperBlock::ref_from_prefix(bytes).map(|(raw, _)| raw).map_err(|_| {
            Damage::in_super_block(Fault::Short { len: bytes.len(), needed: MD_STRUCT_BYTES })
        })?;
        let super_block =
            raw.check(bytes).and_then(|()| Self::from_raw(raw)).map_err(Damage::in_super_block)?;
        // A store that does not know its size gets the device's with `layout`.
        if super_block.size_bytes != 0 {
            super_block.layout(super_block.size_bytes)?;
        }
        Ok(super_block)
    }

    fn from_raw(raw: &RawSuperBlock) -> Result<Self, Fault> {
        let version = raw.version.get();
        let mut reserved = Reserved(Box::new(raw.reserved));
        let native = match (version, NativeHeader::decode(&raw.reserved)) {
            (NATIVE_VERSION, Err(fault)) => return Err(fault),
            (NATIVE_VERSION, Ok(None)) => return Err(Fault::NativeHeaderMissing),
            (_, Ok(native)) => native,
            // Under SPDK's versions these bytes are not ours to judge.
            (_, Err(_)) => None,
        };
        match native {
            Some(_) if version == NATIVE_VERSION => reserved.0[..BALANCE.end].fill(0),
            Some(_) => reserved.0[..NATIVE_HEADER_BYTES].fill(0),
            None => (),
        }
        let base_version = native.as_ref().map_or(version, |native| native.base_version);
        // Version 1 knew no type, but SPDK looks for one whatever the version says.
        if raw.bstype != BSTYPE_LVOLSTORE && (raw.bstype != NO_TYPE || base_version != 1) {
            return Err(Fault::StoreType { stored: raw.bstype });
        }
        Ok(Self {
            version,
            length: raw.length.get(),
            clean: raw.clean.get(),
            super_blob: Some(BlobId(raw.super_blob.get())).filter(|id| *id != NO_BLOB),
            cluster_size: raw.cluster_size.get(),
            used_page_mask: raw.used_page_mask.decode(),
            used_cluster_mask: raw.used_cluster_mask.decode(),
            md_start: raw.md.start.get(),
            md_len: raw.md.len.get(),
            bstype: raw.bstype,
            used_blobid_mask: raw.used_blobid_mask.decode(),
            size_bytes: raw.size.get(),
            io_unit_size: raw.io_unit_size.get(),
            md_page_size: raw.md_page_size.get(),
            native,
            reserved,
        })
    }

    /// The geometry of the store on a device of `device_bytes`, with the defaults of old stores filled in. No later
    /// arithmetic on it can overflow.
    ///
    /// # Errors
    /// A store larger than the device, sizes that cannot be, and areas that are too short, overlap, or lie outside the
    /// store.
    pub fn layout(&self, device_bytes: u64) -> Result<Layout, Damage> {
        self.checked_layout(device_bytes).map_err(Damage::in_super_block)
    }

    fn checked_layout(&self, device_bytes: u64) -> Result<Layout, Fault> {
        let or = |stored: u32, old: u32| if stored == 0 { old } else { stored };
        let md_page_size = or(self.md_page_size, MD_PAGE_BYTES_OLD);
        let io_unit_size = or(self.io_unit_size, IO_UNIT_BYTES_OLD);
        let size_bytes = if self.size_bytes == 0 { device_bytes } else { self.size_bytes };
        if size_bytes > device_bytes {
            return Err(Fault::DeviceSize { stored: size_bytes, device: device_bytes });
        }
        if !is_md_page_size(md_page_size) {
            return Err(Fault::MdPageSize { stored: md_page_size });
        }
        if !is_io_unit_size(io_unit_size) {
            return Err(Fault::IoUnitSize { stored: io_unit_size });
        }
        if !is_cluster_size(self.cluster_size, md_page_size) || u64::from(self.cluster_size) > size_bytes {
            return Err(Fault::ClusterSize { stored: self.cluster_size });
        }
        let clusters = size_bytes / u64::from(self.cluster_size);
        let total_clusters = match u32::try_from(clusters) {
            Ok(total) if total < u32::MAX => total,
            _ => return Err(Fault::ClusterCount { clusters }),
        };
        // The start of a mask that is not there means nothing, and must not bound how far its neighbour can grow.
        let used_blobid_mask = match self.used_blobid_mask {
            Region { len: 0, .. } => Region::default(),
            region => region,
        };
        let layout = Layout {
            cluster_size: self.cluster_size,
            md_page_size,
            io_unit_size,
            size_bytes,
            total_clusters,
            md_start: self.md_start,
            md_len: self.md_len,
            used_page_mask: self.used_page_mask,
            used_cluster_mask: self.used_cluster_mask,
            used_blobid_mask,
        };
        layout.check()?;
        self.check_journal(&layout)?;
        Ok(layout)
    }

    /// A journal and its live masks lie in the md region, or in whole clusters behind it: never across, and never in the slack between.
    fn check_journal(&self, layout: &Layout) -> Result<(), Fault> {
        let Some(journal) = self.native.as_ref().and_then(|native| native.journal) else {
            return Ok(());
        };
        let md_start = u64::from(layout.md_start);
        let start = md_start + u64::from(journal.start.0);
        let end = md_start + journal.end();
        let (first, limit) = if layout.contains_md(journal.start) {
            (md_start, md_start + u64::from(layout.md_len))
        } else {
            let page = u64::from(layout.md_page_size);
            let data_end = layout.cluster_offset(ClusterIdx(layout.total_clusters));
            let data_start = layout.cluster_offset(layout.first_data_cluster());
            // Every page of it has a number, as an md page has.
            (data_start.div_ceil(page), (data_end / page).min(md_start + u64::from(NO_PAGE)))
        };
        if start < first || end > limit {
            let len = end - start;
            return Err(Fault::AreaOutside { area: Area::Journal, start, len, first, end: limit });
        }
        Ok(())
    }

    /// The 4096 bytes, with their checksum.
    ///
    /// Under [`NATIVE_VERSION`] they differ from those of [`SuperBlock::sealed`] only within the first 512.
    #[must_use]
    pub fn encode(&self) -> PageImage {
        let mut image = self.encode_unsealed();
        if self.is_native() && self.native.is_some() {
            let sealed = self.sealed().encode_unsealed();
            // Behind the word both forms have the same bytes, so their checksums stay equal from there on.
            let word = NATIVE_HEADER_OFFSET + BALANCE.start..NATIVE_HEADER_OFFSET + BALANCE.end;
            let balance = balancing_word(crc32c(&image[..word.start]), crc32c(&sealed[..word.end]));
            image[word].copy_from_slice(&balance);
        }
        seal_page(&mut image);
        image
    }

    /// What sealing the store makes of this super block: clean, of SPDK's version, and without a trace of the native
    /// header. One without a native header only becomes clean.
    #[must_use]
    pub fn sealed(&self) -> Self {
        let mut sealed = Self { clean: 1, native: None, ..self.clone() };
        if let Some(native) = &self.native {
            sealed.version = native.base_version;
            sealed.reserved.0[..BALANCE.end].fill(0);
        }
        sealed
    }

    /// All bytes but the checksum and the word that balances it.
    fn encode_unsealed(&self) -> PageImage {
        let mut reserved = *self.reserved.0;
        if let Some(native) = &self.native {
            reserved[..NATIVE_HEADER_BYTES].copy_from_slice(&native.encode());
        }
        let raw = RawSuperBlock {
            signature: SIGNATURE,
            version: self.version.into(),
            length: self.length.into(),
            clean: self.clean.into(),
            super_blob: self.super_blob.unwrap_or(NO_BLOB).0.into(),
            cluster_size: self.cluster_size.into(),
            used_page_mask: RawRegion::encode(self.used_page_mask),
            used_cluster_mask: RawRegion::encode(self.used_cluster_mask),
            md: RawRegion { start: self.md_start.into(), len: self.md_len.into() },
            bstype: self.bstype,
            used_blobid_mask: RawRegion::encode(self.used_blobid_mask),
            size: self.size_bytes.into(),
            io_unit_size: self.io_unit_size.into(),
            md_page_size: self.md_page_size.into(),
            reserved,
            crc: 0.into(),
        };
        zerocopy::transmute!(raw)
    }

    /// Whether the last close was orderly, as SPDK understands it: any value but 0 says so.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean != 0
    }

    /// Whether the store carries offshoot's version, so that SPDK refuses it.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.version == NATIVE_VERSION
    }

    /// What the first bytes of a device are, for a clear message and to protect what is there. Sizes and checksum are not
    /// looked at.
    #[must_use]
    pub fn probe(bytes: &[u8]) -> Probe {
        let Ok((raw, _)) = RawSuperBlock::ref_from_prefix(bytes) else {
            return Probe::NotAStore;
        };
        match raw.version.get() {
            _ if raw.signature != SIGNATURE => Probe::NotAStore,
            version @ (1..=SPDK_VERSION | NATIVE_VERSION) => match raw.bstype {
                BSTYPE_LVOLSTORE => Probe::Store { version },
                NO_TYPE if matches!(version, 1 | NATIVE_VERSION) => Probe::Store { version },
                bstype => Probe::OtherType(bstype),
            },
            version => Probe::NewerVersion(version),
        }
    }
}

impl Reserved {
    /// Whether all bytes are zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Self(Box::new([0; RESERVED_BYTES]))
    }
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().filter(|byte| **byte != 0).count();
        write!(f, "Reserved({used} of {RESERVED_BYTES} bytes not zero)")
    }
}

impl RawSuperBlock {
    fn check(&self, bytes: &[u8]) -> Result<(), Fault> {
        if !matches!(self.version.get(), 1..=SPDK_VERSION | NATIVE_VERSION) {
            return Err(Fault::Version { stored: self.version.get() });
        }
        if self.signature != SIGNATURE {
            return Err(Fault::Signature { stored: self.signature });
        }
        checked_page(bytes).map(|_| ())
    }
}

impl RawRegion {
    fn decode(&self) -> Region {
        Region { start: self.start.get(), len: self.len.get() }
    }

    fn encode(region: Region) -> Self {
        Self { start: region.start.into(), len: region.len.into() }
    }
}

mod torn;

pub use torn::Mended;

#[cfg(test)]
mod tests;
