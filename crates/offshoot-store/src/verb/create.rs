//! Create: a new lvol, thin or thick, with a reservation or without.

use super::{Identity, Plan, encoding_for};
use crate::blob::XATTR_RESERVE;
use crate::error::Error;
use crate::map::SLOTS;
use crate::record::{Encoding, Record};
use crate::state::State;
use alloc::vec::Vec;
use offshoot_format::{ClearMethod, Flags, InvalidFlags, Xattr};

/// How an lvol is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// All clusters are allocated and zeroed now.
    pub thick: bool,
    /// Whatever it may need for being overwritten is kept for it, also after a snapshot.
    pub reserve: bool,
    /// What is done with its clusters when it lets go of them. Its snapshots have the same; its clones the default.
    pub clear_method: ClearMethod,
}

impl CreateOptions {
    /// Without a reservation.
    #[must_use]
    pub fn provisioned(thick: bool) -> Self {
        Self { thick, ..Self::default() }
    }
}

pub(super) fn plan(
    state: &State,
    identity: &Identity,
    size_bytes: u64,
    options: CreateOptions,
) -> Result<Plan, Error> {
    state.check_new_name(&identity.name)?;
    make(state, identity.xattrs(), size_bytes, options)
}

/// The same under a name that has been checked.
pub(super) fn make(
    state: &State,
    mut xattrs: Vec<Xattr>,
    size_bytes: u64,
    options: CreateOptions,
) -> Result<Plan, Error> {
    let CreateOptions { thick, reserve, clear_method } = options;
    let len = state.clusters_for(size_bytes)?;
    if reserve {
        xattrs.push(Xattr::new(XATTR_RESERVE, "1"));
    }
    let encoding = encoding_for(len, &xattrs);
    let mut flags = Flags::default().with_clear_method(clear_method);
    flags.invalid.set(InvalidFlags::THIN_PROV, !thick);
    let runs = if thick { state.back_clusters(0, len)? } else { alloc::vec![] };
    let promised = if reserve && !thick { len } else { 0 };
    state.check_promise(promised, 0)?;
    let extents = if thick && encoding == Encoding::Table {
        usize::try_from(len.div_ceil(SLOTS as u64)).unwrap_or(usize::MAX)
    } else {
        0
    };
    let kept = if reserve { state.md_promise(0, len) } else { 0 };
    let needed = 2 + extents + extents / 256 + kept;
    let id = state.new_roots(1, needed)?[0];
    let create = Record::Create { id, flags, xattrs, len, runs: runs.clone(), encoding };
    Ok(Plan {
        records: alloc::vec![create],
        zero: runs,
        promised,
        md_pages: needed,
        made: alloc::vec![id],
        ..Plan::default()
    })
}
