//! What decoding refuses, and where it stood.

use crate::{BlobCluster, DescriptorKind, MaskKind, MdPageIdx};
use core::fmt;
use thiserror::Error;

/// A structure that cannot be what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{at}: {what}")]
pub struct Damage {
    /// Where it stands.
    pub at: Place,
    /// What is wrong with it.
    pub what: Fault,
}

impl Damage {
    /// A fault of the super block.
    #[must_use]
    pub fn in_super_block(what: Fault) -> Self {
        Self { at: Place::SuperBlock, what }
    }

    /// A fault of an md page.
    #[must_use]
    pub fn in_md_page(at: MdPageIdx, what: Fault) -> Self {
        Self { at: Place::MdPage(at), what }
    }
}

/// A place in the metadata of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The super block, or a copy of it.
    SuperBlock,
    /// A mask region.
    Mask(MaskKind),
    /// An md page: of a chain, an extent page or a layer page.
    MdPage(MdPageIdx),
    /// A page of a live mask.
    LiveMask {
        /// Which mask.
        kind: MaskKind,
        /// Which page of it.
        index: u32,
    },
    /// A frame of the journal.
    Frame {
        /// Its LSN.
        lsn: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuperBlock => f.write_str("super block"),
            Self::Mask(kind) => kind.fmt(f),
            Self::MdPage(page) => write!(f, "md page {page}"),
            Self::LiveMask { kind, index } => write!(f, "page {index} of the live {kind}"),
            Self::Frame { lsn } => write!(f, "journal frame {lsn}"),
        }
    }
}

/// An area that the super block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// A mask region.
    Mask(MaskKind),
    /// The md region.
    MdPages,
    /// The journal: ring and live masks, in md pages.
    Journal,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mask(kind) => kind.fmt(f),
            Self::MdPages => f.write_str("md region"),
            Self::Journal => f.write_str("journal"),
        }
    }
}

/// What is wrong with a structure. The numbers are as stored, unless they are named otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Fewer bytes than the structure has.
    #[error("{len} bytes, needs {needed}")]
    Short {
        /// Bytes that were given.
        len: usize,
        /// Bytes that the structure has.
        needed: usize,
    },
    /// The checksum does not match the bytes.
    #[error("crc {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// The checksum on disk.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },

    /// Not the signature of a blobstore.
    #[error("signature \"{}\"", .stored.escape_ascii())]
    Signature {
        /// The bytes there.
        stored: [u8; 8],
    },
    /// A version that this crate does not read.
    #[error("version {stored:#x}, expected 1 to 3 or offshoot's")]
    Version {
        /// The version on disk.
        stored: u32,
    },
    /// The blobstore is not an lvstore.
    #[error("blobstore type \"{}\"", .stored.escape_ascii())]
    StoreType {
        /// The type on disk.
        stored: [u8; 16],
    },
    /// A cluster size of zero, not a multiple of 4096, below the md page or above the store.
    #[error("cluster size {stored}")]
    ClusterSize {
        /// Bytes.
        stored: u32,
    },
    /// An md page size that is no power of two from 4096 to 1 MiB.
    #[error("md page size {stored}")]
    MdPageSize {
        /// Bytes.
        stored: u32,
    },
    /// An io unit that is no power of two from 512 to 4096.
    #[error("io unit size {stored}")]
    IoUnitSize {
        /// Bytes.
        stored: u32,
    },
    /// The store is larger than the device.
    #[error("size {stored} bytes, device has {device}")]
    DeviceSize {
        /// Bytes of the store.
        stored: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// More clusters than 32 bits can number.
    #[error("{clusters} clusters, at most 4294967294")]
    ClusterCount {
        /// Computed from size and cluster size.
        clusters: u64,
    },
    /// An area reaches out of where it may lie.
    #[error("{area} at pages {start}+{len}, allowed {first}..{end}")]
    AreaOutside {
        /// Which.
        area: Area,
        /// First page.
        start: u64,
        /// Pages.
        len: u64,
        /// First page allowed.
        first: u64,
        /// End of what is allowed, exclusive.
        end: u64,
    },
    /// An area is too short for what it must hold.
    #[error("{area} of {len} pages, needs {needed}")]
    AreaShort {
        /// Which.
        area: Area,
        /// Pages.
        len: u32,
        /// Pages needed.
        needed: u32,
    },
    /// Two areas overlap.
    #[error("{area} overlaps {other}")]
    Overlap {
        /// The one.
        area: Area,
        /// The other.
        other: Area,
    },
    /// offshoot's version without offshoot's header.
    #[error("no native header")]
    NativeHeaderMissing,
    /// A native header of another version of offshoot.
    #[error("native header version {stored}, expected 2")]
    NativeHeaderVersion {
        /// The version on disk.
        stored: u32,
    },
    /// The native header's own checksum does not match.
    #[error("native header crc {stored:#010x}, computed {computed:#010x}")]
    NativeHeaderCrc {
        /// The checksum on disk.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A native header with parts that this version does not know.
    #[error("native header parts {stored:#x}")]
    NativeHeaderParts {
        /// The bits on disk.
        stored: u32,
    },
    /// Sealing would restore a version that is not SPDK's.
    #[error("base version {stored}, expected 1 to 3")]
    BaseVersion {
        /// The version on disk.
        stored: u32,
    },

    /// A mask of another kind.
    #[error("mask type {stored}, expected {expected}")]
    MaskType {
        /// The type on disk.
        stored: u8,
        /// The type that belongs here.
        expected: u8,
    },
    /// A mask of another length.
    #[error("mask of {stored} bits, expected {expected}")]
    MaskLength {
        /// Bits, on disk.
        stored: u32,
        /// Bits expected.
        expected: u64,
    },

    /// An md page of another blob.
    #[error("belongs to blob {stored:#x}, expected {expected:#x}")]
    Owner {
        /// The id on disk.
        stored: u64,
        /// The id expected.
        expected: u64,
    },
    /// An md page that is not where its sequence number says.
    #[error("sequence {stored}, expected {expected}")]
    Sequence {
        /// The number on disk.
        stored: u32,
        /// The number expected.
        expected: u32,
    },
    /// An md page that links elsewhere.
    #[error("next md page {stored:#x}, expected {expected:#x}")]
    Link {
        /// The link on disk.
        stored: u32,
        /// The link expected.
        expected: u32,
    },
    /// A descriptor that runs out of its md page.
    #[error("{kind} at {offset} of {length} bytes, room for {room}")]
    DescriptorOverrun {
        /// Which.
        kind: DescriptorKind,
        /// Where in the descriptor area, in bytes.
        offset: usize,
        /// Bytes of payload.
        length: u32,
        /// Bytes left for payload.
        room: usize,
    },
    /// A descriptor of a length that its type cannot have.
    #[error("{kind} of {length} bytes")]
    DescriptorLength {
        /// Which.
        kind: DescriptorKind,
        /// Bytes of payload.
        length: usize,
    },
    /// A descriptor that does not belong on this kind of md page.
    #[error("{kind} does not belong here")]
    Misplaced {
        /// Which.
        kind: DescriptorKind,
    },
    /// A descriptor that may stand once stands twice.
    #[error("{kind} repeated")]
    Repeated {
        /// Which.
        kind: DescriptorKind,
    },
    /// An extent page or layer page without its descriptor.
    #[error("no {kind}")]
    NoDescriptor {
        /// What should stand here.
        kind: DescriptorKind,
    },
    /// The lengths inside an xattr do not add up.
    #[error("xattr of {length} bytes: name {name}, value {value}")]
    XattrLengths {
        /// Bytes of payload.
        length: usize,
        /// Bytes of the name.
        name: u16,
        /// Bytes of the value.
        value: u16,
    },
    /// An xattr that every such blob has is missing.
    #[error("no xattr {name}")]
    XattrMissing {
        /// Its name.
        name: &'static str,
    },
    /// An xattr whose value has the wrong length.
    #[error("xattr {name} of {length} bytes, allowed {min} to {max}")]
    XattrSize {
        /// Its name.
        name: &'static str,
        /// Bytes of the value.
        length: usize,
        /// Least bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// A value that should be the text of a UUID, and is not.
    #[error("xattr {name} is not a UUID")]
    UuidText {
        /// Its name.
        name: &'static str,
    },

    /// A run of no clusters, or one that runs out of the cluster numbers.
    #[error("run of {length} clusters at cluster {cluster}")]
    Run {
        /// First cluster.
        cluster: u32,
        /// Clusters.
        length: u32,
    },
    /// A blob with both kinds of cluster map.
    #[error("both EXTENT_RLE and EXTENT_TABLE")]
    MixedMaps,
    /// More clusters than a blob can have.
    #[error("{clusters} clusters, at most {max}")]
    MapSize {
        /// Clusters, on disk.
        clusters: u64,
        /// The limit.
        max: u64,
    },
    /// EXTENT_TABLE descriptors of one blob that disagree on its size.
    #[error("EXTENT_TABLE for {stored} clusters, expected {expected}")]
    TableSize {
        /// Clusters, on disk.
        stored: u64,
        /// Clusters, in the first one.
        expected: u64,
    },
    /// An entry of an EXTENT_TABLE that is neither one extent page nor a run of absent ones.
    #[error("EXTENT_TABLE entry of {count} pages at md page {page}")]
    TableEntry {
        /// The md page.
        page: u32,
        /// How many.
        count: u32,
    },
    /// The entries of an EXTENT_TABLE do not cover the blob.
    #[error("EXTENT_TABLE lists {stored} extent pages, expected {expected}")]
    TableCover {
        /// Extent pages listed, absent ones included.
        stored: u64,
        /// Extent pages that the blob's size asks for.
        expected: u64,
    },
    /// An unallocated cluster in a blob that is not thin provisioned.
    #[error("cluster {cluster} unallocated in a thick blob")]
    Hole {
        /// The cluster.
        cluster: BlobCluster,
    },
    /// An extent page for other clusters.
    #[error("extent page starts at cluster {stored}, expected {expected}")]
    ExtentStart {
        /// First cluster, on disk.
        stored: u32,
        /// First cluster expected.
        expected: u64,
    },
    /// An extent page of another length.
    #[error("extent page of {stored} clusters, expected {expected}")]
    ExtentLength {
        /// Clusters, on disk.
        stored: usize,
        /// Clusters expected.
        expected: usize,
    },

    /// Flags of a NATIVE_BLOB that this version does not know.
    #[error("native blob flags {stored:#x}")]
    NativeBlobFlags {
        /// The flags on disk.
        stored: u32,
    },
    /// NATIVE_BLOB descriptors of one blob that disagree.
    #[error("NATIVE_BLOB descriptors disagree")]
    NativeBlobMismatch,
    /// A layer page that is listed out of order, or at an md page that cannot hold one.
    #[error("layer page of ordinal {ordinal} at md page {page} out of place")]
    LayerPageEntry {
        /// The ordinal.
        ordinal: u32,
        /// The md page.
        page: u32,
    },
    /// A layer page of another ordinal.
    #[error("layer page of ordinal {stored}, expected {expected}")]
    LayerOrdinal {
        /// The ordinal on disk.
        stored: u32,
        /// The ordinal expected.
        expected: u32,
    },
    /// Block states for clusters of another size.
    #[error("{stored} bytes of block states a record, expected {expected}")]
    StatesBytes {
        /// Bytes, on disk.
        stored: u16,
        /// Bytes expected.
        expected: u16,
    },
    /// A layer record outside of its ordinal, or not in ascending order of slot and depth.
    #[error("layer record of slot {slot}, depth {depth} out of place")]
    LayerRecord {
        /// The slot.
        slot: u16,
        /// The depth.
        depth: u16,
    },
    /// A block in a state that does not exist, or that holds data where there is no cluster.
    #[error("state {state} of block {block} in slot {slot}")]
    BlockState {
        /// The slot.
        slot: u16,
        /// The block in the cluster.
        block: u32,
        /// The state on disk.
        state: u8,
    },

    /// Not the magic of a live mask page.
    #[error("live mask magic \"{}\"", .stored.escape_ascii())]
    LiveMaskMagic {
        /// The bytes there.
        stored: [u8; 8],
    },
    /// A page of another part of a live mask.
    #[error("live mask page {stored}, expected {expected}")]
    LiveMaskIndex {
        /// The index on disk.
        stored: u32,
        /// The index expected.
        expected: u32,
    },
    /// An image set of another length than its counts say.
    #[error("image set of {len} bytes for {images} images and {zeroed} runs of zeroed pages")]
    ImageSetLength {
        /// Bytes.
        len: usize,
        /// Images, as counted in it.
        images: u32,
        /// Runs, as counted in it.
        zeroed: u32,
    },
    /// A run of no md pages, or one that runs out of the page numbers.
    #[error("run of {len} md pages at md page {start}")]
    MdPageRun {
        /// First md page.
        start: u32,
        /// Md pages.
        len: u32,
    },
}
