//! What an lvstore makes of a blobstore: identities, names and parents, kept in xattrs.

use crate::{BlobId, BlobMd, Damage, Fault, Xattr};
use alloc::vec::Vec;
use uuid::Uuid;

/// The type of a blobstore that is an lvstore.
pub const BSTYPE_LVOLSTORE: [u8; 16] = *b"LVOLSTORE\0\0\0\0\0\0\0";

/// The name of an lvol or lvstore: a user's xattr.
pub const XATTR_NAME: &[u8] = b"name";

/// The UUID of an lvol or lvstore: a user's xattr.
pub const XATTR_UUID: &[u8] = b"uuid";

/// The parent of a clone, a blob id: an internal xattr.
pub const XATTR_SNAP: &[u8] = b"SNAP";

/// On a snapshot that is being made, the blob id of the origin: an internal xattr.
pub const XATTR_SNAPTMP: &[u8] = b"SNAPTMP";

/// On a snapshot that is being deleted, the blob id of its only clone: an internal xattr.
pub const XATTR_SNAPRM: &[u8] = b"SNAPRM";

/// The external parent of a clone, opaque: an internal xattr.
pub const XATTR_EXTSNAP: &[u8] = b"EXTSNAP";

/// Most bytes of a stored name, its NUL included; SPDK's buffer.
pub const LVOL_NAME_BYTES_MAX: usize = 64;

/// Bytes of a stored UUID: 36 characters and a NUL.
pub const UUID_VALUE_BYTES: usize = 37;

const NAME: &str = "name";
const UUID: &str = "uuid";

/// Who an lvstore is. The super blob says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// The UUID.
    pub uuid: Uuid,
    /// The name, without a NUL.
    pub name: Vec<u8>,
}

/// Who an lvol is. Its blob says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LvolIdentity {
    /// The name, without a NUL.
    pub name: Vec<u8>,
    /// The UUID. SPDK serves an lvol without one under the UUID of its store and the blob id.
    pub uuid: Option<Uuid>,
}

impl StoreIdentity {
    /// What the super blob says.
    ///
    /// # Errors
    /// As SPDK: no UUID or name, a UUID that is not 36 characters and a NUL, a name of more than 64 bytes.
    pub fn of(super_blob: &BlobMd) -> Result<Self, Damage> {
        let identity = || {
            let value = super_blob.xattr(XATTR_UUID).ok_or(Fault::XattrMissing { name: UUID })?;
            if value.len() != UUID_VALUE_BYTES {
                let (min, max) = (UUID_VALUE_BYTES, UUID_VALUE_BYTES);
                return Err(Fault::XattrSize { name: UUID, length: value.len(), min, max });
            }
            let uuid = parse_uuid(value).ok_or(Fault::UuidText { name: UUID })?;
            Ok(Self { uuid, name: name_of(super_blob)? })
        };
        identity().map_err(|what| Damage::in_md_page(super_blob.id.root(), what))
    }

    /// The xattrs of a new super blob, in SPDK's order.
    #[must_use]
    pub fn xattrs(&self) -> [Xattr; 2] {
        [Xattr::new(XATTR_UUID, uuid_value(self.uuid)), Xattr::new(XATTR_NAME, name_value(&self.name))]
    }
}

impl LvolIdentity {
    /// What the blob of an lvol says.
    ///
    /// # Errors
    /// No name, or one of more than 64 bytes. (SPDK then refuses the whole store.)
    pub fn of(blob: &BlobMd) -> Result<Self, Damage> {
        let name = name_of(blob).map_err(|what| Damage::in_md_page(blob.id.root(), what))?;
        Ok(Self { name, uuid: blob.xattr(XATTR_UUID).and_then(parse_uuid) })
    }

    /// The xattrs of a new lvol, in SPDK's order: it stores a whole name buffer, and only with a rename
    /// [`name_value`].
    #[must_use]
    pub fn xattrs(&self) -> Vec<Xattr> {
        let mut name = name_value(&self.name);
        name.resize(LVOL_NAME_BYTES_MAX.max(name.len()), 0);
        let uuid = self.uuid.map(|uuid| Xattr::new(XATTR_UUID, uuid_value(uuid)));
        core::iter::once(Xattr::new(XATTR_NAME, name)).chain(uuid).collect()
    }
}

/// The stored form of a name: its bytes and a NUL. Not more than 63 bytes, or nothing reads it again.
#[must_use]
pub fn name_value(name: &[u8]) -> Vec<u8> {
    let mut value = name.to_vec();
    value.push(0);
    value
}

/// The name in a stored value: up to the first NUL. `None` for more than 64 bytes.
#[must_use]
pub fn parse_name(value: &[u8]) -> Option<&[u8]> {
    if value.len() > LVOL_NAME_BYTES_MAX {
        return None;
    }
    value.split(|byte| *byte == 0).next()
}

/// The stored form of a UUID: 36 characters in lower case and a NUL.
#[must_use]
pub fn uuid_value(uuid: Uuid) -> Vec<u8> {
    let mut value = [0; UUID_VALUE_BYTES];
    uuid.hyphenated().encode_lower(&mut value);
    value.to_vec()
}

/// The UUID in a stored value.
#[must_use]
pub fn parse_uuid(value: &[u8]) -> Option<Uuid> {
    let (0, text) = value.split_last()? else {
        return None;
    };
    if value.len() != UUID_VALUE_BYTES {
        return None;
    }
    Uuid::try_parse_ascii(text).ok()
}

/// The stored form of a blob id, as `SNAP` and its like have it.
#[must_use]
pub fn blob_id_value(id: BlobId) -> Vec<u8> {
    id.0.to_le_bytes().to_vec()
}

/// The blob id in a stored value.
#[must_use]
pub fn parse_blob_id(value: &[u8]) -> Option<BlobId> {
    value.try_into().ok().map(u64::from_le_bytes).map(BlobId)
}

fn name_of(blob: &BlobMd) -> Result<Vec<u8>, Fault> {
    let value = blob.xattr(XATTR_NAME).ok_or(Fault::XattrMissing { name: NAME })?;
    let (length, max) = (value.len(), LVOL_NAME_BYTES_MAX);
    parse_name(value).map(<[u8]>::to_vec).ok_or(Fault::XattrSize { name: NAME, length, min: 0, max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flags, MapMd};
    use alloc::vec;

    const TEXT: &[u8; 37] = b"11111111-2222-4333-8444-55555555abcd\0";

    fn blob(xattrs: Vec<Xattr>) -> BlobMd {
        BlobMd {
            id: BlobId(0x1_0000_0007),
            flags: Flags::default(),
            xattrs,
            internal_xattrs: vec![],
            native: None,
            map: MapMd::Rle(vec![]),
            unknown: vec![],
        }
    }

    #[test]
    fn uuids() {
        let uuid = parse_uuid(TEXT).unwrap();
        assert_eq!(uuid_value(uuid), TEXT);
        assert_eq!(parse_uuid(&TEXT.to_ascii_uppercase()), Some(uuid));
        let without_nul = [&TEXT[..36], b"x"].concat();
        let cases: [&[u8]; 4] = [b"", &TEXT[..36], &without_nul, b"11111111222243338444555555555555\0"];
        for value in cases {
            assert_eq!(parse_uuid(value), None);
        }
    }

    #[test]
    fn names() {
        let padded = [b"vm".as_slice(), &[0; 62]].concat();
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"vm\0", Some(b"vm")),
            (&padded, Some(b"vm")),
            (b"vm", Some(b"vm")),
            (b"", Some(b"")),
            (&[b'x'; 65], None),
        ];
        for (value, name) in cases {
            assert_eq!(parse_name(value), name);
        }
    }

    #[test]
    fn identities_round_trip() {
        let uuid = parse_uuid(TEXT).unwrap();
        let store = StoreIdentity { uuid, name: b"lvs".to_vec() };
        let [first, second] = store.xattrs();
        assert_eq!((first.value.len(), second.value.as_slice()), (37, b"lvs\0".as_slice()));
        assert_eq!(StoreIdentity::of(&blob(vec![first, second])), Ok(store));

        for uuid in [Some(uuid), None] {
            let lvol = LvolIdentity { name: b"vm".to_vec(), uuid };
            let xattrs = lvol.xattrs();
            assert_eq!((xattrs[0].name.as_slice(), xattrs[0].value.len()), (XATTR_NAME, 64));
            assert_eq!(LvolIdentity::of(&blob(xattrs)), Ok(lvol));
        }
    }

    #[test]
    fn refuses_identities() {
        let name = || Xattr::new(XATTR_NAME, *b"lvs\0");
        let uuid = |value: &[u8]| Xattr::new(XATTR_UUID, value);
        let size = |name, length, min, max| Fault::XattrSize { name, length, min, max };
        let cases = [
            (vec![], Fault::XattrMissing { name: "uuid" }),
            (vec![uuid(TEXT)], Fault::XattrMissing { name: "name" }),
            (vec![uuid(&TEXT[..36]), name()], size("uuid", 36, 37, 37)),
            (vec![uuid(&[0; 37]), name()], Fault::UuidText { name: "uuid" }),
            (vec![uuid(TEXT), Xattr::new(XATTR_NAME, [1; 65])], size("name", 65, 0, 64)),
        ];
        for (xattrs, what) in cases {
            let at = crate::MdPageIdx(7);
            assert_eq!(StoreIdentity::of(&blob(xattrs)), Err(Damage::in_md_page(at, what)));
        }
        let nameless = LvolIdentity::of(&blob(vec![uuid(TEXT)])).map_err(|damage| damage.what);
        assert_eq!(nameless, Err(Fault::XattrMissing { name: "name" }));
    }

    #[test]
    fn blob_ids() {
        assert_eq!(parse_blob_id(&blob_id_value(BlobId(0x1_0000_002a))), Some(BlobId(0x1_0000_002a)));
        assert_eq!(parse_blob_id(&[0; 7]), None);
    }
}
