//! The chain of md pages that holds a blob's metadata: a root, and the pages that it leads to.

use crate::map::MapParts;
use crate::piece::{Piece, write_page};
use crate::{
    BLOB_CLUSTERS_MAX, BlobId, BlobMd, DESCRIPTORS_BYTES, Damage, Descriptor, Fault, Flags, MapMd, MdPage,
    MdPageHeader, MdPageIdx, NativeBlob, PageImage, TableEntry, XATTR_SNAP, Xattr,
};
use alloc::vec::Vec;

impl BlobMd {
    /// The blob whose chain these pages are: where each stands, and its bytes. The root comes first.
    ///
    /// # Errors
    /// Whatever [`MdPage::decode`] refuses, and a chain whose pages belong to another blob, do not follow each other or
    /// do not end; a FLAGS descriptor that is repeated or not in the root (none at all reads as no flags: that is how
    /// stores of version 1 and 2 are); both kinds of map, a map that does not add up, and one with holes in a thick
    /// blob; a `SNAP` that is no blob id.
    ///
    /// # Panics
    /// When there are no pages.
    pub fn decode_chain(pages: &[(MdPageIdx, &[u8])]) -> Result<Self, Damage> {
        let (root, _) = pages[0];
        let id = BlobId::from_root(root);
        let mut parts = Parts::default();
        for (index, (at, bytes)) in pages.iter().enumerate() {
            let page = MdPage::decode(*at, bytes)?;
            let next = pages.get(index + 1).map(|(at, _)| *at);
            let checked = check_place(&page, id, index, next);
            let added = checked.and_then(|()| {
                page.descriptors.into_iter().try_for_each(|descriptor| parts.add(descriptor, index == 0))
            });
            added.map_err(|what| Damage::in_md_page(*at, what))?;
        }
        parts.finish(id).map_err(|what| Damage::in_md_page(root, what))
    }

    /// What the first pages of a chain say whose rest cannot be read: flags and xattrs, as far as they go, and the size
    /// of the blob, if an EXTENT_TABLE among them tells it. The map is one without clusters.
    ///
    /// # Errors
    /// Whatever [`MdPage::decode`] refuses, and pages that belong to another blob or do not follow each other.
    ///
    /// # Panics
    /// When there are no pages.
    pub fn decode_head(pages: &[(MdPageIdx, &[u8])]) -> Result<(Self, Option<u64>), Damage> {
        let (root, _) = pages[0];
        let id = BlobId::from_root(root);
        let mut parts = Parts::default();
        let mut num_clusters = None;
        for (index, (at, bytes)) in pages.iter().enumerate() {
            let page = MdPage::decode(*at, bytes)?;
            let next = pages.get(index + 1).map_or(page.next, |(at, _)| Some(*at));
            let checked = check_place(&page, id, index, next);
            let added = checked.and_then(|()| {
                page.descriptors.into_iter().try_for_each(|descriptor| match descriptor {
                    Descriptor::ExtentRle(_) => Ok(()),
                    Descriptor::ExtentTable { num_clusters: size, .. } => {
                        num_clusters.get_or_insert(size);
                        Ok(())
                    }
                    descriptor => parts.add(descriptor, index == 0),
                })
            });
            added.map_err(|what| Damage::in_md_page(*at, what))?;
        }
        let head = parts.finish(id).or_else(|_| Parts::default().finish(id));
        let head = head.map_err(|what| Damage::in_md_page(root, what))?;
        Ok((head, num_clusters.filter(|size| *size <= BLOB_CLUSTERS_MAX)))
    }

    /// The page that follows the one at `at`, for a loader to collect the chain. Nothing is said about where the link
    /// leads: it may be outside the md region, or back into the chain.
    ///
    /// # Errors
    /// Too few bytes or a bad checksum.
    pub fn next_of(at: MdPageIdx, bytes: &[u8]) -> Result<Option<MdPageIdx>, Damage> {
        MdPageHeader::decode(at, bytes).map(|header| header.next)
    }

    /// Whether the md page at `at` is the root of a blob, as far as the page alone tells: a good checksum, sequence 0,
    /// and the id that belongs there. This is what recovery by scan goes by.
    #[must_use]
    pub fn is_root(at: MdPageIdx, bytes: &[u8]) -> bool {
        let header = MdPageHeader::decode(at, bytes);
        header.is_ok_and(|header| header.sequence == 0 && header.id == BlobId::from_root(at).0)
    }

    /// How many md pages [`BlobMd::encode_chain`] takes.
    ///
    /// # Panics
    /// As [`BlobMd::encode_chain`].
    #[must_use]
    pub fn chain_len(&self) -> usize {
        self.lay_out(&self.table_entries()).len()
    }

    /// The chain: an image for each of the pages in `chain`, in the same order.
    ///
    /// # Panics
    /// When `chain` is not [`BlobMd::chain_len`] pages from the root on, when a xattr or an unknown descriptor does not
    /// fit an md page, and when the map says what cannot be written (an extent page at md page 0, a cluster 0, a number
    /// of extent pages that is not that of the size).
    #[must_use]
    pub fn encode_chain(&self, chain: &[MdPageIdx]) -> Vec<PageImage> {
        assert_eq!(chain.first(), Some(&self.id.root()), "root of blob {}", self.id);
        let entries = self.table_entries();
        let pages = self.lay_out(&entries);
        assert_eq!(chain.len(), pages.len(), "md pages for blob {}", self.id);
        let links = chain.iter().skip(1).copied().map(Some).chain([None]);
        let headers = (0..).zip(links).map(|(sequence, next)| MdPageHeader { id: self.id.0, sequence, next });
        headers.zip(pages).map(|(header, pieces)| write_page(header, pieces)).collect()
    }

    /// What goes on which page: each filled before the next is begun.
    fn lay_out<'a>(&'a self, entries: &'a [TableEntry]) -> Vec<Vec<Piece<'a>>> {
        let mut pages = Pages { full: Vec::new(), last: Vec::new(), room: DESCRIPTORS_BYTES };
        pages.place(Piece::Flags(self.flags));
        self.xattrs.iter().for_each(|xattr| pages.place(Piece::Xattr(xattr)));
        self.internal_xattrs.iter().for_each(|xattr| pages.place(Piece::XattrInternal(xattr)));
        if let Some(native) = &self.native {
            pages.place(native.as_piece());
        }
        match &self.map {
            // Without clusters there is no descriptor: an empty one would be refused.
            MapMd::Rle(runs) if runs.is_empty() => (),
            MapMd::Rle(runs) => pages.place(Piece::Runs(runs)),
            // Without clusters there is one: it tells that the blob has a table.
            MapMd::Table { num_clusters, .. } => {
                pages.place(Piece::Table { num_clusters: *num_clusters, entries });
            }
        }
        for (kind, payload) in &self.unknown {
            pages.place(Piece::Unknown { kind: *kind, payload });
        }
        pages.full.push(pages.last);
        pages.full
    }

    fn table_entries(&self) -> Vec<TableEntry> {
        let MapMd::Table { num_clusters, pages } = &self.map else {
            return Vec::new();
        };
        let expected = MapMd::extent_page_count(*num_clusters);
        assert_eq!(pages.len() as u64, expected, "extent pages of blob {}", self.id);
        TableEntry::fold(pages)
    }
}

/// Pages being filled.
struct Pages<'a> {
    full: Vec<Vec<Piece<'a>>>,
    last: Vec<Piece<'a>>,
    room: usize,
}

impl<'a> Pages<'a> {
    fn place(&mut self, piece: Piece<'a>) {
        let mut rest = Some(piece);
        while let Some(piece) = rest {
            rest = match piece.split(self.room) {
                Some((head, rest)) => {
                    self.room -= head.len();
                    self.last.push(head);
                    rest
                }
                None => {
                    assert!(!self.last.is_empty(), "{} of {} bytes", piece.kind(), piece.len());
                    Some(piece)
                }
            };
            if rest.is_some() {
                self.full.push(core::mem::take(&mut self.last));
                self.room = DESCRIPTORS_BYTES;
            }
        }
    }
}

/// Whether a page is the `index`th of the chain of blob `id` and leads to `next`.
fn check_place(page: &MdPage, id: BlobId, index: usize, next: Option<MdPageIdx>) -> Result<(), Fault> {
    if page.id != id.0 {
        return Err(Fault::Owner { stored: page.id, expected: id.0 });
    }
    if page.sequence as usize != index {
        let expected = u32::try_from(index).unwrap_or(u32::MAX);
        return Err(Fault::Sequence { stored: page.sequence, expected });
    }
    if page.next != next {
        let (stored, expected) = (MdPageIdx::to_link(page.next), MdPageIdx::to_link(next));
        return Err(Fault::Link { stored, expected });
    }
    Ok(())
}

/// What the descriptors read so far amount to.
#[derive(Default)]
struct Parts {
    flags: Option<Flags>,
    xattrs: Vec<Xattr>,
    internal_xattrs: Vec<Xattr>,
    native: Option<NativeBlob>,
    map: MapParts,
    unknown: Vec<(u8, Vec<u8>)>,
}

impl Parts {
    fn add(&mut self, descriptor: Descriptor, in_root: bool) -> Result<(), Fault> {
        let kind = descriptor.kind();
        match descriptor {
            Descriptor::Flags(_) if !in_root => return Err(Fault::Misplaced { kind }),
            Descriptor::Flags(flags) => {
                if self.flags.replace(flags).is_some() {
                    return Err(Fault::Repeated { kind });
                }
            }
            Descriptor::Xattr(xattr) => self.xattrs.push(xattr),
            Descriptor::XattrInternal(xattr) => self.internal_xattrs.push(xattr),
            Descriptor::ExtentRle(runs) => self.map.add_runs(runs),
            Descriptor::ExtentTable { num_clusters, entries } => self.map.add_table(num_clusters, entries)?,
            Descriptor::NativeBlob(part) => match &mut self.native {
                Some(native) => native.join(part)?,
                None => self.native = Some(part),
            },
            Descriptor::ExtentPage { .. } | Descriptor::Layers(_) => return Err(Fault::Misplaced { kind }),
            Descriptor::Unknown { kind, payload } => self.unknown.push((kind, payload)),
        }
        Ok(())
    }

    fn finish(self, id: BlobId) -> Result<BlobMd, Fault> {
        let blob = BlobMd {
            id,
            flags: self.flags.unwrap_or_default(),
            xattrs: self.xattrs,
            internal_xattrs: self.internal_xattrs,
            native: self.native,
            map: self.map.finish()?,
            unknown: self.unknown,
        };
        if let Some(cluster) = blob.map.first_hole().filter(|_| !blob.flags.is_thin()) {
            return Err(Fault::Hole { cluster });
        }
        // A clone whose parent cannot be told would read zeros for what it inherits.
        if blob.may_have_parent()
            && blob.parent().is_none()
            && let Some(value) = blob.internal_xattr(XATTR_SNAP)
        {
            return Err(Fault::XattrSize { name: "SNAP", length: value.len(), min: 8, max: 8 });
        }
        Ok(blob)
    }
}

#[cfg(test)]
mod tests;
