//! Writing md pages: descriptors by reference, so that encoding copies each byte once.

use crate::checksum::seal_page;
use crate::descriptor::{HEADER_BYTES, RawDescriptorHeader, RawFlags, RawRun, RawTableEntry, RawXattrHeader};
use crate::md_page_header::{DESCRIPTORS_OFFSET, write_header};
use crate::native::{NATIVE_BLOB_HEADER_BYTES, layers_payload_bytes, write_layers, write_native_blob};
use crate::{
    DESCRIPTORS_BYTES, Descriptor, DescriptorKind, ExtentOrdinal, Flags, LayerRecord, MD_STRUCT_BYTES,
    MdPageHeader, MdPageIdx, NativeBlob, PageImage, Run, TableEntry, Xattr,
};
use core::mem::size_of;
use zerocopy::IntoBytes;

/// A descriptor to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    Flags(Flags),
    Xattr(&'a Xattr),
    XattrInternal(&'a Xattr),
    Runs(&'a [Run]),
    Table { num_clusters: u64, entries: &'a [TableEntry] },
    ExtentPage { start: u32, clusters: &'a [u32] },
    NativeBlob { flags: u32, inherit_len: u64, layer_pages: &'a [(ExtentOrdinal, MdPageIdx)] },
    Layers { ordinal: ExtentOrdinal, states_bytes: u16, records: &'a [LayerRecord] },
    Unknown { kind: u8, payload: &'a [u8] },
}

/// An md page with these descriptors, one after the other, zeros behind them, and its checksum.
///
/// # Panics
/// When they do not fit.
pub(crate) fn write_page<'a>(header: MdPageHeader, pieces: impl IntoIterator<Item = Piece<'a>>) -> PageImage {
    let mut page = [0; MD_STRUCT_BYTES];
    write_header(&mut page, header);
    let mut fill = Fill { area: &mut page[DESCRIPTORS_OFFSET..][..DESCRIPTORS_BYTES] };
    for piece in pieces {
        fill.piece(piece);
    }
    seal_page(&mut page);
    page
}

impl<'a> Piece<'a> {
    pub(crate) fn kind(self) -> DescriptorKind {
        match self {
            Self::Flags(_) => DescriptorKind::FLAGS,
            Self::Xattr(_) => DescriptorKind::XATTR,
            Self::XattrInternal(_) => DescriptorKind::XATTR_INTERNAL,
            Self::Runs(_) => DescriptorKind::EXTENT_RLE,
            Self::Table { .. } => DescriptorKind::EXTENT_TABLE,
            Self::ExtentPage { .. } => DescriptorKind::EXTENT_PAGE,
            Self::NativeBlob { .. } => DescriptorKind::NATIVE_BLOB,
            Self::Layers { .. } => DescriptorKind::LAYERS,
            Self::Unknown { kind, .. } => DescriptorKind(kind),
        }
    }

    /// Bytes that the descriptor takes on an md page, its header included.
    pub(crate) fn len(self) -> usize {
        HEADER_BYTES
            + match self {
                Self::Flags(_) => size_of::<RawFlags>(),
                Self::Xattr(xattr) | Self::XattrInternal(xattr) => {
                    size_of::<RawXattrHeader>() + xattr.name.len() + xattr.value.len()
                }
                Self::Runs(runs) => runs.len() * size_of::<RawRun>(),
                Self::Table { entries, .. } => size_of::<u64>() + entries.len() * size_of::<RawTableEntry>(),
                Self::ExtentPage { clusters, .. } => size_of::<u32>() * (1 + clusters.len()),
                Self::NativeBlob { layer_pages, .. } => {
                    NATIVE_BLOB_HEADER_BYTES + layer_pages.len() * NativeBlob::ENTRY_BYTES
                }
                Self::Layers { states_bytes, records, .. } => {
                    layers_payload_bytes(states_bytes, records.len())
                }
                Self::Unknown { payload, .. } => payload.len(),
            }
    }

    /// The longest head of a list that fits into `room` bytes, and the rest of it. Anything but a list stays whole.
    ///
    /// `None` when nothing of it fits.
    pub(crate) fn split(self, room: usize) -> Option<(Self, Option<Self>)> {
        if self.len() <= room {
            return Some((self, None));
        }
        match self {
            Self::Runs(runs) => {
                let (head, rest) = split_list(runs, room, HEADER_BYTES, size_of::<RawRun>())?;
                Some((Self::Runs(head), Some(Self::Runs(rest))))
            }
            Self::Table { num_clusters, entries } => {
                let fixed = HEADER_BYTES + size_of::<u64>();
                let (head, rest) = split_list(entries, room, fixed, size_of::<RawTableEntry>())?;
                let part = |entries| Self::Table { num_clusters, entries };
                Some((part(head), Some(part(rest))))
            }
            Self::NativeBlob { flags, inherit_len, layer_pages } => {
                let fixed = HEADER_BYTES + NATIVE_BLOB_HEADER_BYTES;
                let (head, rest) = split_list(layer_pages, room, fixed, NativeBlob::ENTRY_BYTES)?;
                let part = |layer_pages| Self::NativeBlob { flags, inherit_len, layer_pages };
                Some((part(head), Some(part(rest))))
            }
            _ => None,
        }
    }
}

fn split_list<T>(list: &[T], room: usize, fixed: usize, each: usize) -> Option<(&[T], &[T])> {
    let fits = room.checked_sub(fixed)? / each;
    if fits == 0 { None } else { list.split_at_checked(fits) }
}

impl Descriptor {
    pub(crate) fn as_piece(&self) -> Piece<'_> {
        match self {
            Self::Flags(flags) => Piece::Flags(*flags),
            Self::Xattr(xattr) => Piece::Xattr(xattr),
            Self::XattrInternal(xattr) => Piece::XattrInternal(xattr),
            Self::ExtentRle(runs) => Piece::Runs(runs),
            Self::ExtentTable { num_clusters, entries } => {
                Piece::Table { num_clusters: *num_clusters, entries }
            }
            Self::ExtentPage { start, clusters } => Piece::ExtentPage { start: *start, clusters },
            Self::NativeBlob(native) => native.as_piece(),
            Self::Layers(layers) => Piece::Layers {
                ordinal: layers.ordinal,
                states_bytes: layers.states_bytes,
                records: &layers.records,
            },
            Self::Unknown { kind, payload } => Piece::Unknown { kind: *kind, payload },
        }
    }
}

impl NativeBlob {
    pub(crate) fn as_piece(&self) -> Piece<'_> {
        Piece::NativeBlob {
            flags: self.flags(),
            inherit_len: self.inherit_len,
            layer_pages: &self.layer_pages,
        }
    }
}

/// The rest of the descriptor area of a page.
struct Fill<'p> {
    area: &'p mut [u8],
}

impl Fill<'_> {
    fn piece(&mut self, piece: Piece<'_>) {
        let Ok(length) = u32::try_from(piece.len() - HEADER_BYTES) else {
            panic!("{} too long", piece.kind())
        };
        self.put(RawDescriptorHeader { kind: piece.kind().0, length: length.into() }.as_bytes());
        match piece {
            Piece::Flags(flags) => self.put(
                RawFlags {
                    invalid: flags.invalid.bits().into(),
                    data_ro: flags.data_ro.bits().into(),
                    md_ro: flags.md_ro.into(),
                }
                .as_bytes(),
            ),
            Piece::Xattr(xattr) | Piece::XattrInternal(xattr) => self.xattr(xattr),
            Piece::Runs(runs) => runs.iter().for_each(|run| self.run(*run)),
            Piece::Table { num_clusters, entries } => {
                self.put(&num_clusters.to_le_bytes());
                entries.iter().for_each(|entry| self.table_entry(*entry));
            }
            Piece::ExtentPage { start, clusters } => {
                self.put(&start.to_le_bytes());
                clusters.iter().for_each(|cluster| self.put(&cluster.to_le_bytes()));
            }
            Piece::NativeBlob { flags, inherit_len, layer_pages } => {
                write_native_blob(flags, inherit_len, layer_pages, |bytes| self.put(bytes));
            }
            Piece::Layers { ordinal, states_bytes, records } => {
                write_layers(ordinal, states_bytes, records, |bytes| self.put(bytes));
            }
            Piece::Unknown { payload, .. } => self.put(payload),
        }
    }

    fn xattr(&mut self, xattr: &Xattr) {
        let length = |bytes: &[u8]| match u16::try_from(bytes.len()) {
            Ok(length) => length.into(),
            Err(_) => panic!("xattr part of {} bytes", bytes.len()),
        };
        let header = RawXattrHeader { name_length: length(&xattr.name), value_length: length(&xattr.value) };
        self.put(header.as_bytes());
        self.put(&xattr.name);
        self.put(&xattr.value);
    }

    fn run(&mut self, run: Run) {
        assert!(run.length > 0, "a run of no clusters");
        let cluster = run.cluster.map_or(0, |cluster| {
            assert!(cluster.0 != 0, "a run at cluster 0");
            cluster.0
        });
        self.put(RawRun { cluster: cluster.into(), length: run.length.into() }.as_bytes());
    }

    fn table_entry(&mut self, entry: TableEntry) {
        let page = entry.page.map_or(0, |page| {
            assert!(page.0 != 0 && entry.count == 1, "{} extent pages at md page {page}", entry.count);
            page.0
        });
        self.put(RawTableEntry { page: page.into(), count: entry.count.into() }.as_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        let (filled, rest) = core::mem::take(&mut self.area).split_at_mut(bytes.len());
        filled.copy_from_slice(bytes);
        self.area = rest;
    }
}
