//! How clients name lvstores and lvols.

use crate::error::{Errno, RpcError};
use serde::{Deserialize as _, Deserializer};
use uuid::Uuid;

/// Bytes of a UUID's text.
const UUID_TEXT_BYTES: usize = 36;

/// A UUID from its text of 36 characters, in any case. Other spellings are none.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == UUID_TEXT_BYTES { Uuid::try_parse(text).ok() } else { None }
}

/// A UUID as a parameter, which is wrong when its text is none.
pub(super) fn uuid_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_uuid(&text).map(Some).ok_or_else(|| serde::de::Error::custom("no UUID"))
}

/// One lvstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LvstoreSelector<'p> {
    /// By its UUID.
    Uuid(Uuid),
    /// By its name.
    Name(&'p str),
}

impl<'p> LvstoreSelector<'p> {
    /// From the two members that name one (SPDK: `vbdev_get_lvol_store_by_uuid_xor_name`).
    ///
    /// # Errors
    /// EINVAL unless exactly one is there; ENODEV for a UUID that is none.
    pub fn of(uuid: Option<&str>, name: Option<&'p str>) -> Result<Self, RpcError> {
        match (uuid, name) {
            (Some(uuid), None) => parse_uuid(uuid).map(Self::Uuid).ok_or(RpcError::refused(Errno::NoDev)),
            (None, Some(name)) => Ok(Self::Name(name)),
            _ => Err(RpcError::refused(Errno::Inval)),
        }
    }
}

/// The name of an lvol (or of another bdev) as a client gave it: a UUID, an alias `LVSTORE/LVOL`, or anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LvolSelector<'p> {
    text: &'p str,
}

impl<'p> LvolSelector<'p> {
    /// A name as it was given.
    #[must_use]
    pub fn new(text: &'p str) -> Self {
        Self { text }
    }

    /// The UUID, if it is one. The name of an lvol's bdev is the lvol's UUID.
    #[must_use]
    pub fn uuid(self) -> Option<Uuid> {
        parse_uuid(self.text)
    }

    /// Every lvstore and lvol of which it can be the alias. More than one if it holds several `/`: names that offshoot gives hold
    /// none, those of a loaded store can hold anything.
    pub fn aliases(self) -> impl Iterator<Item = (&'p str, &'p str)> {
        let text = self.text;
        text.match_indices('/').map(move |(at, _)| (&text[..at], &text[at + 1..]))
    }

    /// The text.
    #[must_use]
    pub fn text(self) -> &'p str {
        self.text
    }
}

/// The alias of an lvol.
#[must_use]
pub fn alias(lvstore: &str, lvol: &str) -> String {
    format!("{lvstore}/{lvol}")
}

/// Bytes of so many MiB, the unit of `size_in_mib`.
///
/// # Errors
/// EINVAL beyond 64 bits.
pub fn bytes_of_mib(mib: u64) -> Result<u64, RpcError> {
    mib.checked_mul(1 << 20).ok_or(RpcError::refused(Errno::Inval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "18142382-c1ab-48a7-aec6-ac71cd5f3c9e";

    #[test]
    fn lvstores() {
        let uuid = parse_uuid(UUID).unwrap();
        for (by_uuid, by_name, expected) in [
            (Some(UUID), None, Ok(LvstoreSelector::Uuid(uuid))),
            (None, Some("lvs0"), Ok(LvstoreSelector::Name("lvs0"))),
            (None, Some(UUID), Ok(LvstoreSelector::Name(UUID))),
            (None, None, Err(-22)),
            (Some(UUID), Some("lvs0"), Err(-22)),
            (Some("zz"), None, Err(-19)),
        ] {
            let selector = LvstoreSelector::of(by_uuid, by_name).map_err(|error| error.code);
            assert_eq!(selector, expected, "{by_uuid:?} {by_name:?}");
        }
    }

    #[test]
    fn uuids_have_one_form() {
        let upper = UUID.to_uppercase();
        let simple = UUID.replace('-', "");
        for (text, is_one) in
            [(UUID, true), (&*upper, true), (&*simple, false), ("", false), (&format!("{{{UUID}}}"), false)]
        {
            assert_eq!(parse_uuid(text).is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn lvols() {
        for (text, aliases) in [
            ("lvs0/thin", &[("lvs0", "thin")][..]),
            ("aio0", &[]),
            ("a/b/c", &[("a", "b/c"), ("a/b", "c")]),
            ("/", &[("", "")]),
            ("größe/ä", &[("größe", "ä")]),
        ] {
            assert_eq!(LvolSelector::new(text).aliases().collect::<Vec<_>>(), aliases, "{text}");
        }
        assert!(LvolSelector::new(UUID).uuid().is_some());
        assert_eq!(alias("lvs0", "thin"), "lvs0/thin");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes_of_mib(40), Ok(40 << 20));
        assert_eq!(bytes_of_mib((1 << 44) - 1), Ok(u64::MAX - ((1 << 20) - 1)));
        assert_eq!(bytes_of_mib(1 << 44).unwrap_err().code, -22);
    }
}
