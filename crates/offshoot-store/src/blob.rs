//! One blob in memory: an lvol, a snapshot, a clone, the super blob, or one that is dying.

use crate::map::{Tag, Tree};
use crate::pages::BlobPages;
use crate::record::Encoding;
use alloc::{collections::BTreeSet, string::String, vec::Vec};
use offshoot_format::{
    BlobId, DataRoFlags, Flags, InvalidFlags, XATTR_NAME, XATTR_UUID, Xattr, parse_name, parse_uuid,
};
use uuid::Uuid;

/// Xattr with the time of creation, in seconds since 1970 as decimal text. SPDK keeps xattrs that it does not know.
pub const XATTR_CREATED: &[u8] = b"offshoot.created";

/// Xattr of a snapshot that was removed while it had several clones. It is a snapshot like any other to SPDK.
pub const XATTR_DELETED: &[u8] = b"offshoot.deleted";

/// Its value for an lvol that was begun and is not finished. Of a snapshot it is `1`.
pub(crate) const UNFINISHED: &[u8] = b"unfinished";

/// Xattr of an lvol with a reservation.
pub const XATTR_RESERVE: &[u8] = b"offshoot.reserve";

/// Xattr of an lvol that keeps what it has read from its external snapshot.
pub const XATTR_COPY_ON_READ: &[u8] = b"offshoot.copy-on-read";

/// Xattrs whose name begins like this are labels: the key follows.
pub const LABEL_PREFIX: &[u8] = b"offshoot.label.";

/// What is kept for a blob with a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserve {
    /// Whether it has a reservation.
    pub(crate) on: bool,
    /// Clusters of it that are overwritten without a new one, as long as it has one.
    pub(crate) backed: u64,
    /// Clusters that are kept for it.
    pub(crate) clusters: u64,
    /// Md pages likewise.
    pub(crate) md_pages: usize,
}

/// Where clusters come from that no blob of the chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// The id that is stored on disk: for lvols the device's UUID as text and a NUL.
    pub id: Vec<u8>,
    /// Clusters up to which it shows through.
    pub len: u64,
}

impl External {
    /// The id as text, without the NUL.
    #[must_use]
    pub fn name(&self) -> String {
        let text = self.id.strip_suffix(&[0]).unwrap_or(&self.id);
        escape(text)
    }
}

/// A blob.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its id; the low half is its root page.
    pub id: BlobId,
    /// The three flag words, as on disk.
    pub flags: Flags,
    /// Xattrs in the order on disk.
    pub xattrs: Vec<Xattr>,
    /// Internal xattrs that the engine does not manage itself (all but `SNAP` and `EXTSNAP`).
    pub internal_xattrs: Vec<Xattr>,
    /// Descriptors of unknown type, kept as they are.
    pub unknown: Vec<(u8, Vec<u8>)>,
    /// The snapshot that this is a clone of.
    pub parent: Option<BlobId>,
    /// Blobs whose parent this is.
    pub clones: BTreeSet<BlobId>,
    /// What lies below the whole chain.
    pub external: Option<External>,
    /// Whether the external snapshot is this blob's own parent (`EXTSNAP`), not an ancestor's.
    pub external_is_parent: bool,
    /// Size in clusters.
    pub len: u64,
    /// Clusters up to which the parent shows through.
    pub inherit_len: u64,
    /// Tags that stand for this blob. The last one marks what it writes.
    pub tags: Vec<Tag>,
    /// Clusters up to which nobody can tell what lies below what the tree holds, because the whole map of this blob or
    /// of an ancestor is lost. 0 unless the blob is damaged.
    pub lost_len: u64,
    /// How each cluster reads, ancestors included.
    pub tree: Tree,
    /// Clusters that it owns.
    pub own_clusters: u64,
    /// How its map is encoded.
    pub encoding: Encoding,
    /// Whether it is on its way out: hidden, its clusters being released.
    pub dying: bool,
    /// What is wrong with it, when some of its metadata, or of what it inherits, cannot be read or is claimed by others
    /// too. It takes no writes then; what is known of it can be read ([`crate::State::extents`] tells what is).
    pub damage: Option<String>,
    /// Whether all that is wrong lies below it: what it owns itself is known, and can be written.
    pub damaged_below: bool,
    /// Whether changes to its map were lost, so that what is on disk is that of an earlier time. It is damaged then, and
    /// the disk says so until it goes.
    pub outdated: bool,
    /// Its metadata on disk.
    pub pages: BlobPages,
    /// What is kept for it.
    pub(crate) reserve: Reserve,
}

impl Blob {
    /// A blob without content, name or relatives.
    #[must_use]
    pub fn new(id: BlobId, tag: Tag) -> Self {
        Self {
            id,
            flags: Flags::default(),
            xattrs: Vec::new(),
            internal_xattrs: Vec::new(),
            unknown: Vec::new(),
            parent: None,
            clones: BTreeSet::new(),
            external: None,
            external_is_parent: false,
            len: 0,
            inherit_len: 0,
            tags: alloc::vec![tag],
            lost_len: 0,
            tree: Tree::default(),
            own_clusters: 0,
            encoding: Encoding::Table,
            dying: false,
            damage: None,
            damaged_below: false,
            outdated: false,
            pages: BlobPages { chain: alloc::vec![id.root()], rle_runs: 1, ..BlobPages::default() },
            reserve: Reserve::default(),
        }
    }

    /// The lvol name as stored, without padding. Empty for the super blob and a dying blob.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.xattr(XATTR_NAME).and_then(parse_name).unwrap_or(&[])
    }

    /// The name for people: escaped where it is not plain text.
    #[must_use]
    pub fn display_name(&self) -> String {
        match self.name() {
            [] => alloc::format!("blob-{:#x}", self.id.0),
            name => escape(name),
        }
    }

    /// The UUID, where a valid one is stored.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        self.xattr(XATTR_UUID).and_then(parse_uuid)
    }

    /// Seconds since 1970 at creation, where known.
    #[must_use]
    pub fn created(&self) -> Option<u64> {
        core::str::from_utf8(self.xattr(XATTR_CREATED)?).ok()?.parse().ok()
    }

    /// Whether everything is known that it owns itself.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.damage.is_none() || self.damaged_below
    }

    /// Keys and values of its labels, in the order in which they were set.
    pub fn labels(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.xattrs.iter().filter_map(|xattr| {
            let key = xattr.name.strip_prefix(LABEL_PREFIX)?;
            Some((escape(key), escape(&xattr.value)))
        })
    }

    /// The value of an xattr.
    #[must_use]
    pub fn xattr(&self, name: &[u8]) -> Option<&[u8]> {
        self.xattrs.iter().find(|xattr| xattr.name == name).map(|xattr| xattr.value.as_slice())
    }

    /// Whether whatever it may need for being overwritten is kept for it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        let is_writable = !self.dying && self.damage.is_none() && !self.is_read_only();
        is_writable && self.xattr(XATTR_RESERVE).is_some()
    }

    /// Whether clusters may be unallocated.
    #[must_use]
    pub fn is_thin(&self) -> bool {
        self.flags.invalid.contains(InvalidFlags::THIN_PROV)
    }

    /// Whether data and metadata are read-only, for a known reason or an unknown flag.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.flags.data_ro.is_empty()
    }

    /// Whether size, name and relations may not change, because of a flag that nobody here knows.
    #[must_use]
    pub fn has_read_only_metadata(&self) -> bool {
        self.flags.data_ro.unknown() != 0 || self.flags.unknown_md_ro() != 0
    }

    /// Whether it is made read-only by the `READ_ONLY` flag, which is what a snapshot has.
    #[must_use]
    pub fn has_read_only_flag(&self) -> bool {
        self.flags.data_ro.contains(DataRoFlags::READ_ONLY)
    }

    /// Tag of what this blob writes. A blob has one from its creation on.
    #[must_use]
    pub fn write_tag(&self) -> Tag {
        self.tags.last().copied().unwrap_or(Tag(u32::MAX))
    }

    /// Brings this blob's part of the debt of md pages up to date.
    pub(crate) fn settle_debt(&mut self, md_debt: &mut usize) {
        let chain = self.chain_pages_at_most().saturating_sub(self.pages.chain.len());
        let debt = self.pages.totals.missing + chain;
        *md_debt = *md_debt + debt - self.pages.debt;
        self.pages.debt = debt;
    }

    /// Upper bound of the md pages of the chain, whatever the order of the extent pages.
    pub(crate) fn chain_pages_at_most(&self) -> usize {
        const ROOM: usize = offshoot_format::DESCRIPTORS_BYTES;
        /// Least that a page holds of a descriptor that may be split: the room less two headers.
        const SPLIT_ROOM: usize = ROOM - 64;
        let mut pages = 1;
        let mut filled = 29;
        let xattrs = self.xattrs.iter().chain(&self.internal_xattrs);
        let whole = xattrs.map(|xattr| 9 + xattr.name.len() + xattr.value.len());
        let unknown = self.unknown.iter().map(|(_, payload)| 5 + payload.len());
        let own = self.parent.map(|_| 9 + 4 + 8).into_iter();
        let external = self.external.iter().map(|external| 9 + 7 + external.id.len());
        for size in whole.chain(unknown).chain(own).chain(external) {
            if filled + size > ROOM {
                pages += 1;
                filled = 0;
            }
            filled += size;
        }
        let map = match self.encoding {
            Encoding::Rle => {
                8 * usize::try_from(self.pages.rle_runs.min(self.len)).unwrap_or(usize::MAX / 16)
            }
            Encoding::Table => 8 * (2 * self.pages.totals.extents + 1),
        };
        let split = map + 8 * self.pages.totals.layers + 64;
        if filled + split <= ROOM { pages } else { pages + split.div_ceil(SPLIT_ROOM) }
    }
}

/// Bytes as text: UTF-8 as it is, all else and control characters as `\xNN`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    use core::fmt::Write;
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() || char == '\\' {
                text.extend(char.escape_default());
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_is_not_plain_text() {
        assert_eq!(escape("größe 1".as_bytes()), "größe 1");
        assert_eq!(escape(b"a\nb\\\xff\0"), "a\\nb\\\\\\xff\\u{0}");
    }
}
