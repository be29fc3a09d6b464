//! Applying records: the only code that changes State, in life and in recovery.
//!
//! A record that was planned against the State in which it is applied always fits. One about a blob that is gone
//! changes nothing; a unit that is taken or freed twice is a bug of the planner and panics in debug builds.

mod blobs;
mod clusters;
mod fill;
mod inflate;
mod pages;
mod parent;
mod reserve;

pub(crate) use blobs::only_in;
pub(crate) use clusters::stacked;
pub(crate) use reserve::{is_backed, md_pages_at_most};

use crate::record::Record;
use crate::state::State;

impl State {
    /// Makes a record true.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Create { id, flags, xattrs, len, runs, encoding } => {
                self.apply_create(*id, *flags, xattrs, *len, *encoding);
                self.map_runs(*id, runs);
            }
            Record::Snapshot { origin, id, xattrs, .. } => self.apply_snapshot(*origin, *id, xattrs),
            Record::Clone { parent, id, len, xattrs } => self.apply_clone(*parent, *id, *len, xattrs),
            Record::Map { blob, at, cluster, blocks } => self.apply_map(*blob, *at, *cluster, blocks.clone()),
            Record::Fill { blob, at, cluster, blocks } => {
                self.apply_fill(*blob, *at, *cluster, blocks.clone());
            }
            Record::DropZeros { blob, at } => self.apply_drop_zeros(*blob, *at),
            Record::KeepZeros { blob, at } => self.apply_keep_zeros(*blob, *at),
            Record::Bypass { blob, inherit_len } => self.apply_bypass(*blob, *inherit_len),
            Record::Inherit { blob, len } => self.apply_inherit(*blob, *len),
            Record::Inflate { blob } => self.apply_inflate(*blob),
            Record::ZeroBlocks { blob, at, blocks } => self.apply_zero_blocks(*blob, *at, blocks.clone()),
            Record::ZeroClusters { blob, range } => self.apply_zero_clusters(*blob, range.clone()),
            Record::Resize { blob, len, runs } => {
                self.apply_resize(*blob, *len);
                self.map_runs(*blob, runs);
            }
            Record::SetXattr { blob, xattr } => self.apply_set_xattr(*blob, xattr),
            Record::RemoveXattr { blob, name } => self.apply_remove_xattr(*blob, name),
            Record::SetReadOnly { blob } => self.apply_set_read_only(*blob),
            Record::SetParent { blob, below } => self.apply_set_parent(*blob, below),
            Record::UseExtentTable { blobs } => self.apply_use_extent_table(blobs),
            Record::MarkDying { blob } => self.apply_mark_dying(*blob),
            Record::Release { blob, ordinals } => self.apply_release(*blob, ordinals),
            Record::Destroy { blob } => self.apply_destroy(*blob),
            Record::Adopt { snapshot, clone } => self.apply_adopt(*snapshot, *clone),
            Record::Assign { blob, pages } => self.apply_assign(*blob, pages),
        }
    }
}
