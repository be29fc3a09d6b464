//! The commands, one file each: their arguments and what they do.

pub(crate) mod check;
pub(crate) mod clone;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod decouple;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod export;
pub(crate) mod grow;
pub(crate) mod import;
pub(crate) mod inflate;
pub(crate) mod info;
pub(crate) mod init;
pub(crate) mod label;
pub(crate) mod ls;
pub(crate) mod merge;
pub(crate) mod read_only;
pub(crate) mod rename;
pub(crate) mod resize;
pub(crate) mod revert;
pub(crate) mod rm;
pub(crate) mod rpc;
pub(crate) mod seal;
pub(crate) mod serve;
pub(crate) mod set_parent;
pub(crate) mod snapshot;
pub(crate) mod tree;

use crate::time;
use offshoot_store::Identity;
use uuid::Uuid;

/// Who a new lvol is: a name, a fresh UUID, and now as its time of creation.
pub(crate) fn identity(name: &str) -> Identity {
    Identity { name: name.to_owned(), uuid: Uuid::new_v4(), created: time::now() }
}
