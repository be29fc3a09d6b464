//! Descriptors: the records that fill an md page.
//!
//! Each has a header of five bytes (`u8 type; u32 length`, SPDK's `spdk_blob_md_descriptor`) and a payload, and lies
//! within one page. The area ends at a descriptor of type and length 0, or where no header fits.

use crate::{
    ClusterIdx, DataRoFlags, Fault, Flags, InvalidFlags, Layers, MdPageIdx, NO_PAGE, NativeBlob, Run,
    TableEntry, Xattr,
};
use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes before the payload of a descriptor.
pub(crate) const HEADER_BYTES: usize = size_of::<RawDescriptorHeader>();

/// The type of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DescriptorKind(pub u8);

impl DescriptorKind {
    /// The end of the descriptors when its length is 0, else bytes to skip.
    pub const PADDING: Self = Self(0);
    /// The cluster map of a blob, as runs.
    pub const EXTENT_RLE: Self = Self(1);
    /// An xattr of the user.
    pub const XATTR: Self = Self(2);
    /// The flags of a blob.
    pub const FLAGS: Self = Self(3);
    /// An xattr of the store.
    pub const XATTR_INTERNAL: Self = Self(4);
    /// Where the extent pages of a blob are.
    pub const EXTENT_TABLE: Self = Self(5);
    /// The clusters of an extent page.
    pub const EXTENT_PAGE: Self = Self(6);
    /// offshoot's: the native part of a blob.
    pub const NATIVE_BLOB: Self = Self(0x80);
    /// offshoot's: the block states on a layer page.
    pub const LAYERS: Self = Self(0x81);
}

impl fmt::Display for DescriptorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::PADDING => "PADDING",
            Self::EXTENT_RLE => "EXTENT_RLE",
            Self::XATTR => "XATTR",
            Self::FLAGS => "FLAGS",
            Self::XATTR_INTERNAL => "XATTR_INTERNAL",
            Self::EXTENT_TABLE => "EXTENT_TABLE",
            Self::EXTENT_PAGE => "EXTENT_PAGE",
            Self::NATIVE_BLOB => "NATIVE_BLOB",
            Self::LAYERS => "LAYERS",
            Self(other) => return write!(f, "descriptor type {other:#04x}"),
        })
    }
}

/// A descriptor with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// The flags of a blob.
    Flags(Flags),
    /// An xattr of the user.
    Xattr(Xattr),
    /// An xattr of the store.
    XattrInternal(Xattr),
    /// Runs of a cluster map.
    ExtentRle(Vec<Run>),
    /// Extent pages of a cluster map.
    ExtentTable {
        /// Size of the blob.
        num_clusters: u64,
        /// The extent pages, as far as this descriptor lists them.
        entries: Vec<TableEntry>,
    },
    /// The clusters of an extent page.
    ExtentPage {
        /// The first cluster of the blob that it maps.
        start: u32,
        /// Physical clusters, 0 where unallocated.
        clusters: Vec<u32>,
    },
    /// offshoot's: the native part of a blob, as far as this descriptor holds it.
    NativeBlob(NativeBlob),
    /// offshoot's: block states.
    Layers(Layers),
    /// A type that this crate does not know.
    Unknown {
        /// The type.
        kind: u8,
        /// The payload.
        payload: Vec<u8>,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawDescriptorHeader {
    pub(crate) kind: u8,
    pub(crate) length: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawFlags {
    pub(crate) invalid: U64,
    pub(crate) data_ro: U64,
    pub(crate) md_ro: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawXattrHeader {
    pub(crate) name_length: U16,
    pub(crate) value_length: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRun {
    pub(crate) cluster: U32,
    pub(crate) length: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawTableEntry {
    pub(crate) page: U32,
    pub(crate) count: U32,
}

const _: () = {
    assert!(size_of::<RawDescriptorHeader>() == 5);
    assert!(size_of::<RawFlags>() == 24);
    assert!(size_of::<RawXattrHeader>() == 4);
    assert!(size_of::<RawRun>() == 8);
    assert!(size_of::<RawTableEntry>() == 8);
};

impl Descriptor {
    /// What the payload of this type means. Padding is not a descriptor: [`RawDescriptors`] drops it.
    pub(crate) fn decode(kind: DescriptorKind, payload: &[u8]) -> Result<Self, Fault> {
        Ok(match kind {
            DescriptorKind::FLAGS => Self::Flags(decode_flags(payload)?),
            DescriptorKind::XATTR => Self::Xattr(decode_xattr(kind, payload)?),
            DescriptorKind::XATTR_INTERNAL => Self::XattrInternal(decode_xattr(kind, payload)?),
            DescriptorKind::EXTENT_RLE => Self::ExtentRle(decode_runs(payload)?),
            DescriptorKind::EXTENT_TABLE => {
                let (num_clusters, entries) = decode_table(payload)?;
                Self::ExtentTable { num_clusters, entries }
            }
            DescriptorKind::EXTENT_PAGE => {
                let (start, clusters) = split_extent_page(payload)?;
                Self::ExtentPage { start, clusters: clusters.iter().map(|cluster| cluster.get()).collect() }
            }
            DescriptorKind::NATIVE_BLOB => Self::NativeBlob(NativeBlob::decode_part(payload)?),
            DescriptorKind::LAYERS => Self::Layers(Layers::decode(payload)?),
            DescriptorKind(kind) => Self::Unknown { kind, payload: payload.to_vec() },
        })
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> DescriptorKind {
        self.as_piece().kind()
    }
}

/// Walks the descriptors of an md page. Stops for good at the first that does not fit.
pub(crate) struct RawDescriptors<'a> {
    area: &'a [u8],
    offset: usize,
}

impl<'a> RawDescriptors<'a> {
    pub(crate) fn new(area: &'a [u8]) -> Self {
        Self { area, offset: 0 }
    }
}

impl<'a> Iterator for RawDescriptors<'a> {
    type Item = Result<(DescriptorKind, &'a [u8]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = self.offset;
            let (header, rest) = RawDescriptorHeader::ref_from_prefix(self.area.get(offset..)?).ok()?;
            let (kind, length) = (DescriptorKind(header.kind), header.length.get());
            if kind == DescriptorKind::PADDING && length == 0 {
                self.offset = self.area.len();
                return None;
            }
            let Some(payload) = rest.get(..length as usize) else {
                self.offset = self.area.len();
                return Some(Err(Fault::DescriptorOverrun { kind, offset, length, room: rest.len() }));
            };
            self.offset += HEADER_BYTES + payload.len();
            if kind != DescriptorKind::PADDING {
                return Some(Ok((kind, payload)));
            }
        }
    }
}

fn wrong_length(kind: DescriptorKind, payload: &[u8]) -> Fault {
    Fault::DescriptorLength { kind, length: payload.len() }
}

fn decode_flags(payload: &[u8]) -> Result<Flags, Fault> {
    let raw = RawFlags::ref_from_bytes(payload).map_err(|_| wrong_length(DescriptorKind::FLAGS, payload))?;
    Ok(Flags {
        invalid: InvalidFlags::from_bits_retain(raw.invalid.get()),
        data_ro: DataRoFlags::from_bits_retain(raw.data_ro.get()),
        md_ro: raw.md_ro.get(),
    })
}

fn decode_xattr(kind: DescriptorKind, payload: &[u8]) -> Result<Xattr, Fault> {
    let (header, text) = RawXattrHeader::ref_from_prefix(payload).map_err(|_| wrong_length(kind, payload))?;
    let (name_length, value_length) = (header.name_length.get(), header.value_length.get());
    match text.split_at_checked(name_length.into()) {
        Some((name, value)) if value.len() == usize::from(value_length) => Ok(Xattr::new(name, value)),
        _ => Err(Fault::XattrLengths { length: payload.len(), name: name_length, value: value_length }),
    }
}

fn decode_runs(payload: &[u8]) -> Result<Vec<Run>, Fault> {
    let raw = <[RawRun]>::ref_from_bytes(payload)
        .ok()
        .filter(|runs| !runs.is_empty())
        .ok_or_else(|| wrong_length(DescriptorKind::EXTENT_RLE, payload))?;
    let decode = |run: &RawRun| {
        let (cluster, length) = (run.cluster.get(), run.length.get());
        if length == 0 || (cluster != 0 && cluster.checked_add(length).is_none()) {
            return Err(Fault::Run { cluster, length });
        }
        Ok(Run { cluster: (cluster != 0).then_some(ClusterIdx(cluster)), length })
    };
    raw.iter().map(decode).collect()
}

fn decode_table(payload: &[u8]) -> Result<(u64, Vec<TableEntry>), Fault> {
    let wrong_length = || wrong_length(DescriptorKind::EXTENT_TABLE, payload);
    let (num_clusters, entries) = U64::ref_from_prefix(payload).map_err(|_| wrong_length())?;
    let entries = <[RawTableEntry]>::ref_from_bytes(entries).map_err(|_| wrong_length())?;
    let decode = |entry: &RawTableEntry| {
        let (page, count) = (entry.page.get(), entry.count.get());
        let allowed = if page == 0 { count > 0 } else { page != NO_PAGE && count == 1 };
        if !allowed {
            return Err(Fault::TableEntry { page, count });
        }
        Ok(TableEntry { page: (page != 0).then_some(MdPageIdx(page)), count })
    };
    Ok((num_clusters.get(), entries.iter().map(decode).collect::<Result<_, _>>()?))
}

/// The first cluster and the physical clusters of an EXTENT_PAGE payload.
pub(crate) fn split_extent_page(payload: &[u8]) -> Result<(u32, &[U32]), Fault> {
    let numbers = <[U32]>::ref_from_bytes(payload).ok();
    let Some((start, clusters)) = numbers.and_then(<[U32]>::split_first) else {
        return Err(wrong_length(DescriptorKind::EXTENT_PAGE, payload));
    };
    Ok((start.get(), clusters))
}
