//! Label: free words about an lvol, `key=value`. They are xattrs, which SPDK keeps.

use super::{Plan, check_metadata};
use crate::blob::LABEL_PREFIX;
use crate::error::Error;
use crate::limits::{LABEL_BYTES_MAX, LABELS_MAX};
use crate::record::Record;
use crate::state::State;
use alloc::{string::String, vec::Vec};
use offshoot_format::{BlobId, Xattr};

/// `None` takes a label away.
pub(super) fn plan(state: &State, id: BlobId, labels: &[(String, Option<String>)]) -> Result<Plan, Error> {
    let lvol = state.sound_lvol(id)?;
    check_metadata(lvol)?;
    let mut records = Vec::new();
    let mut count = lvol.labels().count();
    let mut bytes = 0;
    for (key, value) in labels {
        check(key, value.as_deref())?;
        let name = [LABEL_PREFIX, key.as_bytes()].concat();
        let exists = lvol.xattr(&name).is_some();
        match value {
            Some(value) => {
                count += usize::from(!exists);
                bytes += name.len() + value.len();
                let xattr = Xattr { name, value: value.as_bytes().to_vec() };
                records.push(Record::SetXattr { blob: id, xattr });
            }
            None if exists => {
                count -= 1;
                records.push(Record::RemoveXattr { blob: id, name });
            }
            None => {}
        }
    }
    if count > LABELS_MAX {
        return Err(Error::TooManyLabels { name: lvol.display_name(), count });
    }
    // Descriptors are not split: each may begin a page of its own.
    let md_pages = if bytes == 0 { 0 } else { 1 + 2 * bytes.div_ceil(offshoot_format::DESCRIPTORS_BYTES) };
    let spare = state.md_spare();
    if spare < md_pages {
        return Err(Error::NoMdPages { needed: md_pages as u64, free: spare as u64 });
    }
    Ok(Plan { records, md_pages, ..Plan::default() })
}

fn check(key: &str, value: Option<&str>) -> Result<(), Error> {
    let bad = |why: &'static str| Err(Error::BadLabel { key: crate::blob::escape(key.as_bytes()), why });
    let is_plain = |text: &str| !text.chars().any(char::is_control);
    match value.unwrap_or_default() {
        _ if key.is_empty() => bad("the key is empty"),
        _ if key.contains('=') => bad("the key holds \"=\""),
        value if !is_plain(key) || !is_plain(value) => bad("it holds control characters"),
        value if key.len() + value.len() > LABEL_BYTES_MAX => bad("key and value take more than 1024 bytes"),
        _ => Ok(()),
    }
}
