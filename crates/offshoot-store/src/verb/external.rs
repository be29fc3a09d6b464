//! Clone of an external snapshot: a thin lvol over a device outside of the store.
//!
//! Where it is longer than that device, the rest reads zeros, as if it had grown: also once the device is longer, or with a
//! program that fails reads behind the end of it.

use super::{Identity, Plan, encoding_for};
use crate::blob::XATTR_COPY_ON_READ;
use crate::error::Error;
use crate::map::SLOTS;
use crate::record::{Below, Encoding, Record};
use crate::state::State;
use alloc::{string::ToString, vec::Vec};
use offshoot_format::{Flags, InvalidFlags, XATTR_EXTSNAP, Xattr, name_value};
use uuid::Uuid;

pub(super) fn plan(
    state: &State,
    identity: &Identity,
    size_bytes: u64,
    (external, external_bytes): (Uuid, u64),
    copy_on_read: bool,
) -> Result<Plan, Error> {
    state.check_new_name(&identity.name)?;
    let below = state.external_id(external)?;
    let len = state.clusters_for(size_bytes)?;
    let shown = len.min(external_bytes.div_ceil(state.units.cluster));
    let mut xattrs = identity.xattrs();
    xattrs.extend(copy_on_read.then(|| Xattr::new(XATTR_COPY_ON_READ, "1")));
    let parent = Xattr { name: XATTR_EXTSNAP.to_vec(), value: below.clone() };
    let encoding = encoding_for(len, &[&xattrs[..], &[parent]].concat());
    let mut flags = Flags::default();
    flags.invalid.set(InvalidFlags::THIN_PROV, true);
    // Only a cluster of zeros can hide what is below where native states may not arise.
    let backed = if state.native_allowed { 0 } else { len - shown };
    let zero = state.back_clusters(shown, backed)?;
    let extents = if encoding == Encoding::Table { backed.div_ceil(SLOTS as u64) } else { 0 };
    let extents = usize::try_from(extents).unwrap_or(usize::MAX / 2);
    let md_pages = 3 + extents + extents / 256;
    let id = state.new_roots(1, md_pages)?[0];
    let mut records: Vec<Record> = alloc::vec![
        Record::Create { id, flags, xattrs, len: shown, runs: Vec::new(), encoding },
        Record::SetParent { blob: id, below: Below::External(below) },
    ];
    if shown < len {
        records.push(Record::Resize { blob: id, len, runs: zero.clone() });
    }
    Ok(Plan { records, zero, md_pages, made: alloc::vec![id], ..Plan::default() })
}

impl State {
    /// What is stored for an external snapshot: the UUID as SPDK writes it.
    pub(super) fn external_id(&self, uuid: Uuid) -> Result<Vec<u8>, Error> {
        if let Some(lvol) = self.lvol_by_uuid(uuid) {
            return Err(Error::ExternalIsLvol { uuid, name: lvol.display_name() });
        }
        Ok(name_value(uuid.to_string().as_bytes()))
    }
}
