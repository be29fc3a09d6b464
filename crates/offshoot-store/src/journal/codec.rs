//! Records as the bytes of a journal frame.
//!
//! A record is a byte for its kind and then its fields in order: numbers as LEB128 (7 bits a byte, lowest first, the
//! highest bit set on all but the last) in as few bytes as they take, byte strings behind their length, lists behind
//! their count. A blob is named by the number of its root page. So every record has exactly one encoding, and a first
//! write takes about 14 bytes.
//!
//! What is decoded is well-formed in a store of the given layout: numbers are in their ranges, blocks within a
//! cluster, clusters within the data area. Whether it fits the State is the next question: `State::fits`.

use crate::limits::{LVOL_BYTES_MAX, LVOL_CLUSTERS_MAX};
use crate::record::{Below, Encoding, MappedRun, Record};
use crate::state::Units;
use alloc::vec::Vec;
use core::ops::Range;
use offshoot_format::{
    BlobCluster, BlobId, ClusterIdx, DataRoFlags, EXTENT_PAGES_MAX, ExtentOrdinal, Flags, InvalidFlags,
    Layout, MdPageIdx, XATTR_BYTES_MAX, XATTR_EXTSNAP, Xattr,
};
use thiserror::Error;

/// Why bytes are no records. `at` is the offset of what is wrong, in bytes from the first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum CodecError {
    /// The bytes end within a record.
    #[error("byte {at}: {needed} bytes are needed, {left} are left")]
    Short {
        /// Offset.
        at: usize,
        /// Bytes that must follow.
        needed: u64,
        /// Bytes that do.
        left: usize,
    },
    /// No record has this kind.
    #[error("byte {at}: record of unknown kind {kind}")]
    Kind {
        /// Offset.
        at: usize,
        /// The kind.
        kind: u8,
    },
    /// A number of more than 64 bits, or in more bytes than it takes.
    #[error("byte {at}: number in more bytes than it takes, or of more than 64 bits")]
    Number {
        /// Offset.
        at: usize,
    },
    /// A number that is too small or too large for what it says.
    #[error("byte {at}: {what} {value}, allowed {min} to {max}")]
    OutOfRange {
        /// Offset.
        at: usize,
        /// What the number says.
        what: &'static str,
        /// The number.
        value: u64,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// An xattr that no md page can hold.
    #[error("byte {at}: xattr of {length} bytes, at most {XATTR_BYTES_MAX}")]
    Xattr {
        /// Offset.
        at: usize,
        /// Bytes of name and value.
        length: usize,
    },
}

// Kinds. 0 is none, so that zeros are no records.
const CREATE: u8 = 1;
const SNAPSHOT: u8 = 2;
const CLONE: u8 = 3;
const MAP: u8 = 4;
const ZERO_BLOCKS: u8 = 5;
const ZERO_CLUSTERS: u8 = 6;
const RESIZE: u8 = 7;
const SET_XATTR: u8 = 8;
const USE_EXTENT_TABLE: u8 = 9;
const MARK_DYING: u8 = 10;
const RELEASE: u8 = 11;
const DESTROY: u8 = 12;
const ADOPT: u8 = 13;
const FILL: u8 = 20;
const DROP_ZEROS: u8 = 21;
const REMOVE_XATTR: u8 = 22;
const SET_READ_ONLY: u8 = 23;
const SET_PARENT: u8 = 24;
const INHERIT: u8 = 40;
const INFLATE: u8 = 41;
const KEEP_ZEROS: u8 = 42;
const BYPASS: u8 = 43;

// What lies below a blob.
const BELOW_NOTHING: u64 = 0;
const BELOW_BLOB: u64 = 1;
const BELOW_EXTERNAL: u64 = 2;

/// Appends the bytes of a record.
///
/// [`Record::Assign`] is never journaled: checkpoints log md pages instead. It adds nothing here.
pub(crate) fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Create { id, flags, xattrs, len, runs, encoding } => {
            head(out, CREATE, *id);
            [
                flags.invalid.bits(),
                flags.data_ro.bits(),
                flags.md_ro,
                *len,
                u64::from(encoding_byte(*encoding)),
            ]
            .into_iter()
            .for_each(|field| put(out, field));
            put_runs(out, runs);
            put_xattrs(out, xattrs);
        }
        Record::Snapshot { origin, id, len, xattrs } => {
            head(out, SNAPSHOT, *origin);
            put_id(out, *id);
            put(out, *len);
            put_xattrs(out, xattrs);
        }
        Record::Clone { parent, id, len, xattrs } => {
            head(out, CLONE, *parent);
            put_id(out, *id);
            put(out, *len);
            put_xattrs(out, xattrs);
        }
        Record::Map { blob, at, cluster, blocks } => {
            head(out, MAP, *blob);
            put_blocks_in(out, (*at, *cluster), blocks);
        }
        Record::Fill { blob, at, cluster, blocks } => {
            head(out, FILL, *blob);
            put_blocks_in(out, (*at, *cluster), blocks);
        }
        Record::DropZeros { blob, at } => head_and(out, DROP_ZEROS, *blob, at.0),
        Record::KeepZeros { blob, at } => head_and(out, KEEP_ZEROS, *blob, at.0),
        Record::Bypass { blob, inherit_len } => head_and(out, BYPASS, *blob, *inherit_len),
        Record::Inherit { blob, len } => head_and(out, INHERIT, *blob, *len),
        Record::Inflate { blob } => head(out, INFLATE, *blob),
        Record::ZeroBlocks { blob, at, blocks } => {
            head(out, ZERO_BLOCKS, *blob);
            put(out, at.0);
            put_range(out, &(blocks.start.into()..blocks.end.into()));
        }
        Record::ZeroClusters { blob, range } => {
            head(out, ZERO_CLUSTERS, *blob);
            put_range(out, range);
        }
        Record::Resize { blob, len, runs } => {
            head(out, RESIZE, *blob);
            put(out, *len);
            put_runs(out, runs);
        }
        Record::SetXattr { blob, xattr } => {
            head(out, SET_XATTR, *blob);
            put_xattr(out, xattr);
        }
        Record::RemoveXattr { blob, name } => {
            head(out, REMOVE_XATTR, *blob);
            put_bytes(out, name);
        }
        Record::SetReadOnly { blob } => head(out, SET_READ_ONLY, *blob),
        Record::SetParent { blob, below } => {
            head(out, SET_PARENT, *blob);
            match below {
                Below::Nothing => put(out, BELOW_NOTHING),
                Below::Blob(parent) => {
                    put(out, BELOW_BLOB);
                    put_id(out, *parent);
                }
                Below::External(id) => {
                    put(out, BELOW_EXTERNAL);
                    put_bytes(out, id);
                }
            }
        }
        Record::UseExtentTable { blobs } => {
            out.push(USE_EXTENT_TABLE);
            put_count(out, blobs.len());
            blobs.iter().for_each(|blob| put_id(out, *blob));
        }
        Record::MarkDying { blob } => head(out, MARK_DYING, *blob),
        Record::Release { blob, ordinals } => {
            head(out, RELEASE, *blob);
            put_count(out, ordinals.len());
            ordinals.iter().for_each(|ordinal| put(out, ordinal.0.into()));
        }
        Record::Destroy { blob } => head(out, DESTROY, *blob),
        Record::Adopt { snapshot, clone } => {
            head(out, ADOPT, *snapshot);
            put_id(out, *clone);
        }
        Record::Assign { .. } => debug_assert!(false, "md pages are assigned anew after a crash"),
    }
}

/// The records that the bytes hold, in a store of this layout. Takes memory in proportion to the bytes.
///
/// # Errors
/// The first thing that is wrong, also with a record that ends early: a frame holds whole records.
pub(crate) fn decode_all(bytes: &[u8], layout: &Layout) -> Result<Vec<Record>, CodecError> {
    let mut reader = Reader { bytes, at: 0, limits: Limits::of(layout) };
    let mut records = Vec::new();
    while reader.left() > 0 {
        records.push(reader.record()?);
    }
    Ok(records)
}

fn head(out: &mut Vec<u8>, kind: u8, blob: BlobId) {
    out.push(kind);
    put_id(out, blob);
}

fn head_and(out: &mut Vec<u8>, kind: u8, blob: BlobId, number: u64) {
    head(out, kind, blob);
    put(out, number);
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_bits(number));
}

fn low_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put(out, count as u64);
}

fn put_id(out: &mut Vec<u8>, id: BlobId) {
    debug_assert!(id.is_valid(), "{id} names no blob");
    put(out, id.root().0.into());
}

/// Blocks of a blob's cluster in a physical one.
fn put_blocks_in(out: &mut Vec<u8>, (at, cluster): (BlobCluster, ClusterIdx), blocks: &Range<u32>) {
    put(out, at.0);
    put(out, cluster.0.into());
    put_range(out, &(blocks.start.into()..blocks.end.into()));
}

/// Start and length.
fn put_range(out: &mut Vec<u8>, range: &Range<u64>) {
    put(out, range.start);
    put(out, range.end.saturating_sub(range.start));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_xattr(out: &mut Vec<u8>, xattr: &Xattr) {
    put_bytes(out, &xattr.name);
    put_bytes(out, &xattr.value);
}

fn put_xattrs(out: &mut Vec<u8>, xattrs: &[Xattr]) {
    put_count(out, xattrs.len());
    xattrs.iter().for_each(|xattr| put_xattr(out, xattr));
}

fn put_runs(out: &mut Vec<u8>, runs: &[MappedRun]) {
    put_count(out, runs.len());
    for run in runs {
        put(out, run.at.0);
        put(out, run.cluster.0.into());
        put(out, run.length.into());
    }
}

fn encoding_byte(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Rle => 0,
        Encoding::Table => 1,
    }
}

/// What numbers can be in a store.
struct Limits {
    /// Md pages.
    md_len: u32,
    /// Clusters that blobs may own.
    clusters: Range<u32>,
    /// Blocks of a cluster.
    blocks: u32,
    /// Most clusters of an lvol.
    len_max: u64,
}

impl Limits {
    fn of(layout: &Layout) -> Self {
        let units = Units::of(layout.cluster_size);
        Self {
            md_len: layout.md_len,
            clusters: layout.first_data_cluster().0..layout.total_clusters,
            blocks: units.blocks,
            len_max: (LVOL_BYTES_MAX / units.cluster).min(LVOL_CLUSTERS_MAX),
        }
    }
}

/// Takes fields off the front of bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: Limits,
}

impl<'a> Reader<'a> {
    fn record(&mut self) -> Result<Record, CodecError> {
        let at = self.at;
        let record = match self.take(1)?[0] {
            CREATE => self.create()?,
            SNAPSHOT => Record::Snapshot {
                origin: self.id()?,
                id: self.id()?,
                len: self.len()?,
                xattrs: self.xattrs()?,
            },
            CLONE => {
                Record::Clone { parent: self.id()?, id: self.id()?, len: self.len()?, xattrs: self.xattrs()? }
            }
            MAP => Record::Map {
                blob: self.id()?,
                at: self.blob_cluster()?,
                cluster: self.cluster()?,
                blocks: self.blocks()?,
            },
            FILL => Record::Fill {
                blob: self.id()?,
                at: self.blob_cluster()?,
                cluster: self.cluster()?,
                blocks: self.blocks()?,
            },
            DROP_ZEROS => Record::DropZeros { blob: self.id()?, at: self.blob_cluster()? },
            KEEP_ZEROS => Record::KeepZeros { blob: self.id()?, at: self.blob_cluster()? },
            BYPASS => Record::Bypass { blob: self.id()?, inherit_len: self.len()? },
            INHERIT => Record::Inherit { blob: self.id()?, len: self.len()? },
            INFLATE => Record::Inflate { blob: self.id()? },
            ZERO_BLOCKS => {
                Record::ZeroBlocks { blob: self.id()?, at: self.blob_cluster()?, blocks: self.blocks()? }
            }
            ZERO_CLUSTERS => {
                Record::ZeroClusters { blob: self.id()?, range: self.range("clusters", self.limits.len_max)? }
            }
            RESIZE => Record::Resize { blob: self.id()?, len: self.len()?, runs: self.runs()? },
            SET_XATTR => Record::SetXattr { blob: self.id()?, xattr: self.xattr()? },
            REMOVE_XATTR => Record::RemoveXattr { blob: self.id()?, name: self.xattr_part(0)? },
            SET_READ_ONLY => Record::SetReadOnly { blob: self.id()? },
            SET_PARENT => Record::SetParent { blob: self.id()?, below: self.below()? },
            USE_EXTENT_TABLE => Record::UseExtentTable { blobs: self.list(1, Self::id)? },
            MARK_DYING => Record::MarkDying { blob: self.id()? },
            RELEASE => Record::Release { blob: self.id()?, ordinals: self.list(1, Self::ordinal)? },
            DESTROY => Record::Destroy { blob: self.id()? },
            ADOPT => Record::Adopt { snapshot: self.id()?, clone: self.id()? },
            kind => return Err(CodecError::Kind { at, kind }),
        };
        Ok(record)
    }

    fn create(&mut self) -> Result<Record, CodecError> {
        let id = self.id()?;
        let flags = Flags {
            invalid: InvalidFlags::from_bits_retain(self.number()?),
            data_ro: DataRoFlags::from_bits_retain(self.number()?),
            md_ro: self.number()?,
        };
        let len = self.len()?;
        let encoding = match self.between("encoding", 0, 1)? {
            0 => Encoding::Rle,
            _ => Encoding::Table,
        };
        Ok(Record::Create { id, flags, len, encoding, runs: self.runs()?, xattrs: self.xattrs()? })
    }

    fn id(&mut self) -> Result<BlobId, CodecError> {
        let root = self.between_u32("root page", 0, self.limits.md_len - 1)?;
        Ok(BlobId::from_root(MdPageIdx(root)))
    }

    fn len(&mut self) -> Result<u64, CodecError> {
        self.between("clusters of a blob", 0, self.limits.len_max)
    }

    fn blob_cluster(&mut self) -> Result<BlobCluster, CodecError> {
        self.between("cluster of a blob", 0, self.limits.len_max - 1).map(BlobCluster)
    }

    fn cluster(&mut self) -> Result<ClusterIdx, CodecError> {
        let Range { start, end } = self.limits.clusters;
        // A store without room for data has no such cluster: then the range is inverted and takes nothing.
        self.between_u32("cluster", start, end - 1).map(ClusterIdx)
    }

    fn ordinal(&mut self) -> Result<ExtentOrdinal, CodecError> {
        self.between_u32("extent page", 0, EXTENT_PAGES_MAX - 1).map(ExtentOrdinal)
    }

    fn blocks(&mut self) -> Result<Range<u32>, CodecError> {
        let max = self.limits.blocks;
        let start = self.between_u32("first block", 0, max - 1)?;
        let length = self.between_u32("blocks", 1, max - start)?;
        Ok(start..start + length)
    }

    /// A range that is not empty and ends at `max` or below.
    fn range(&mut self, what: &'static str, max: u64) -> Result<Range<u64>, CodecError> {
        let start = self.between(what, 0, max - 1)?;
        let length = self.between(what, 1, max - start)?;
        Ok(start..start + length)
    }

    fn runs(&mut self) -> Result<Vec<MappedRun>, CodecError> {
        self.list(3, |reader| {
            let at = reader.blob_cluster()?;
            let cluster = reader.cluster()?;
            let most = u64::from(reader.limits.clusters.end - cluster.0).min(reader.limits.len_max - at.0);
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            let length = reader.between_u32("clusters of a run", 1, most)?;
            Ok(MappedRun { at, cluster, length })
        })
    }

    fn xattrs(&mut self) -> Result<Vec<Xattr>, CodecError> {
        self.list(2, Self::xattr)
    }

    fn xattr(&mut self) -> Result<Xattr, CodecError> {
        let at = self.at;
        let (name, value) = (self.byte_string()?, self.byte_string()?);
        let length = name.len() + value.len();
        if length > XATTR_BYTES_MAX {
            return Err(CodecError::Xattr { at, length });
        }
        Ok(Xattr::new(name, value))
    }

    /// Part of an xattr, whose other part takes `other` bytes.
    fn xattr_part(&mut self, other: usize) -> Result<Vec<u8>, CodecError> {
        let at = self.at;
        let bytes = self.byte_string()?;
        let length = other + bytes.len();
        if length > XATTR_BYTES_MAX {
            return Err(CodecError::Xattr { at, length });
        }
        Ok(bytes.to_vec())
    }

    fn below(&mut self) -> Result<Below, CodecError> {
        match self.between("what lies below", BELOW_NOTHING, BELOW_EXTERNAL)? {
            BELOW_NOTHING => Ok(Below::Nothing),
            BELOW_BLOB => self.id().map(Below::Blob),
            _ => self.xattr_part(XATTR_EXTSNAP.len()).map(Below::External),
        }
    }

    fn byte_string(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.number()?;
        self.take(length)
    }

    /// A list whose items take `least` bytes each or more. A count that the bytes cannot hold is refused at once.
    fn list<T>(
        &mut self,
        least: u64,
        item: impl Fn(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let at = self.at;
        let count = self.number()?;
        let needed = count.saturating_mul(least);
        if needed > self.left() as u64 {
            return Err(CodecError::Short { at, needed, left: self.left() });
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn between_u32(&mut self, what: &'static str, min: u32, max: u32) -> Result<u32, CodecError> {
        let at = self.at;
        let value = self.between(what, min.into(), max.into())?;
        u32::try_from(value).map_err(|_| CodecError::OutOfRange {
            at,
            what,
            value,
            min: min.into(),
            max: max.into(),
        })
    }

    fn between(&mut self, what: &'static str, min: u64, max: u64) -> Result<u64, CodecError> {
        let at = self.at;
        let value = self.number()?;
        if value < min || value > max {
            return Err(CodecError::OutOfRange { at, what, value, min, max });
        }
        Ok(value)
    }

    fn number(&mut self) -> Result<u64, CodecError> {
        let at = self.at;
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            let is_last = byte & 0x80 == 0;
            let is_cut = bits << shift >> shift != bits;
            let is_needless = is_last && bits == 0 && shift > 0;
            if is_cut || is_needless {
                return Err(CodecError::Number { at });
            }
            number |= bits << shift;
            if is_last {
                return Ok(number);
            }
        }
        Err(CodecError::Number { at })
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], CodecError> {
        let short = CodecError::Short { at: self.at, needed: count, left: self.left() };
        let wanted = usize::try_from(count).map_err(|_| short)?;
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..wanted)).ok_or(short)?;
        self.at += wanted;
        Ok(taken)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
}

#[cfg(test)]
mod tests;
