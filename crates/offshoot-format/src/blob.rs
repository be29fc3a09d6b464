//! The metadata of a blob: what its chain of md pages says.

use crate::{
    BlobId, Flags, InvalidFlags, MapMd, NativeBlob, XATTR_EXTSNAP, XATTR_SNAP, XATTR_SNAPRM, XATTR_SNAPTMP,
    Xattr, parse_blob_id,
};
use alloc::vec::Vec;

/// A blob as its chain describes it.
///
/// Encoded in the order of the fields, as SPDK does. What the fields say twice is the caller's to keep in step:
/// [`InvalidFlags::INTERNAL_XATTR`], [`InvalidFlags::EXTENT_TABLE`] and [`InvalidFlags::EXTERNAL_SNAPSHOT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobMd {
    /// The id, which names the root.
    pub id: BlobId,
    /// The flag words, unknown bits included.
    pub flags: Flags,
    /// The user's xattrs in their order.
    pub xattrs: Vec<Xattr>,
    /// The store's xattrs in their order.
    pub internal_xattrs: Vec<Xattr>,
    /// offshoot's part. In a store without [`crate::NATIVE_VERSION`] it has no business being there: a loader refuses
    /// the blob, as it cannot know what SPDK changed since.
    pub native: Option<NativeBlob>,
    /// The cluster map.
    pub map: MapMd,
    /// Descriptors of types that this crate does not know, and their payloads.
    pub unknown: Vec<(u8, Vec<u8>)>,
}

/// A change of a snapshot that SPDK had begun and not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// This is a snapshot being made of that blob (`SNAPTMP`).
    SnapshotOf(BlobId),
    /// This is a snapshot being deleted into that blob, its only clone (`SNAPRM`).
    DeletedInto(BlobId),
}

impl BlobMd {
    /// The value of a user's xattr. The first one counts if a name is there twice, as in SPDK.
    #[must_use]
    pub fn xattr(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.xattrs, name)
    }

    /// The value of a store's xattr.
    #[must_use]
    pub fn internal_xattr(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.internal_xattrs, name)
    }

    /// The snapshot that this blob is a clone of. As in SPDK, only a thin blob without an external snapshot has one.
    #[must_use]
    pub fn parent(&self) -> Option<BlobId> {
        if !self.may_have_parent() {
            return None;
        }
        self.internal_xattr(XATTR_SNAP).and_then(parse_blob_id)
    }

    /// The id of the external snapshot that this blob is a clone of: opaque bytes, which lvols make a UUID's text and a
    /// NUL.
    #[must_use]
    pub fn external_parent(&self) -> Option<&[u8]> {
        if !self.flags.invalid.contains(InvalidFlags::EXTERNAL_SNAPSHOT) {
            return None;
        }
        self.internal_xattr(XATTR_EXTSNAP)
    }

    /// The change that SPDK had begun here. `SNAPRM` counts before `SNAPTMP`, as in SPDK.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        let other = |name| self.internal_xattr(name).and_then(parse_blob_id);
        let deleted = other(XATTR_SNAPRM).map(Transition::DeletedInto);
        deleted.or_else(|| other(XATTR_SNAPTMP).map(Transition::SnapshotOf))
    }

    /// Whether SPDK looks for a `SNAP` xattr at all.
    pub(crate) fn may_have_parent(&self) -> bool {
        self.flags.is_thin() && !self.flags.invalid.contains(InvalidFlags::EXTERNAL_SNAPSHOT)
    }
}

fn find<'a>(xattrs: &'a [Xattr], name: &[u8]) -> Option<&'a [u8]> {
    xattrs.iter().find(|xattr| xattr.name == name).map(|xattr| xattr.value.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Run, blob_id_value};
    use alloc::vec;

    /// Names and values of internal xattrs.
    type Internal<'a> = &'a [(&'a [u8], &'a [u8])];

    fn blob(invalid: InvalidFlags, internal: Internal<'_>) -> BlobMd {
        BlobMd {
            id: BlobId(0x1_0000_0001),
            flags: Flags { invalid, ..Flags::default() },
            xattrs: vec![],
            internal_xattrs: internal.iter().map(|(name, value)| Xattr::new(*name, *value)).collect(),
            native: None,
            map: MapMd::Rle(vec![Run { cluster: None, length: 3 }]),
            unknown: vec![],
        }
    }

    #[test]
    fn parents() {
        let value = blob_id_value(BlobId(0x1_0000_0002));
        let snap: Internal<'_> = &[(XATTR_SNAP, &value), (XATTR_SNAP, &[0; 8])];
        let thin = InvalidFlags::THIN_PROV;
        assert_eq!(blob(thin, snap).parent(), Some(BlobId(0x1_0000_0002)));
        assert_eq!(blob(InvalidFlags::empty(), snap).parent(), None);
        assert_eq!(blob(thin | InvalidFlags::EXTERNAL_SNAPSHOT, snap).parent(), None);
        assert_eq!(blob(thin, &[]).parent(), None);
    }

    #[test]
    fn external_parents() {
        let internal: Internal<'_> = &[(XATTR_EXTSNAP, b"elsewhere")];
        let thin = InvalidFlags::THIN_PROV;
        assert_eq!(blob(thin, internal).external_parent(), None);
        let external = blob(thin | InvalidFlags::EXTERNAL_SNAPSHOT, internal);
        assert_eq!(external.external_parent(), Some(b"elsewhere".as_slice()));
    }

    #[test]
    fn transitions() {
        let (one, two) = (blob_id_value(BlobId(1)), blob_id_value(BlobId(2)));
        let table: [(Internal<'_>, Option<Transition>); 4] = [
            (&[], None),
            (&[(XATTR_SNAPTMP, &one)], Some(Transition::SnapshotOf(BlobId(1)))),
            (&[(XATTR_SNAPRM, &two)], Some(Transition::DeletedInto(BlobId(2)))),
            (&[(XATTR_SNAPTMP, &one), (XATTR_SNAPRM, &two)], Some(Transition::DeletedInto(BlobId(2)))),
        ];
        for (internal, transition) in table {
            assert_eq!(blob(InvalidFlags::empty(), internal).transition(), transition);
        }
    }
}
