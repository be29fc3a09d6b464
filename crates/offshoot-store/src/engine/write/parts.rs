//! The records of a write, in parts that the journal takes one after the other.
//!
//! The journal takes a transaction at once or not at all: its frame, and the images of what it makes dirty, twice. A write
//! is as large as its client likes, and what was promised to its lvol must not fail for that. Nothing needs its records
//! to be one transaction: after a crash each sector may be old or new.

use crate::engine::Engine;
use crate::record::Record;
use alloc::vec::Vec;

impl Engine {
    /// The records in their order, in transactions of which an empty ring takes each, as far as they can be parted.
    pub(super) fn parts(&self, records: Vec<Record>) -> Vec<Vec<Record>> {
        let (mut parts, mut left) = (Vec::new(), alloc::vec![records]);
        while let Some(records) = left.pop() {
            let is_one = matches!(&records[..], [record] if !is_range(record));
            if is_one || self.fits_empty_ring(&records) {
                parts.push(records);
            } else {
                left.extend(halves(records));
            }
        }
        parts
    }
}

/// Whether a record is about several clusters of which each can have its own.
fn is_range(record: &Record) -> bool {
    matches!(record, Record::ZeroClusters { range, .. } if range.end - range.start > 1)
}

/// The second half of some records, and the first.
fn halves(mut records: Vec<Record>) -> [Vec<Record>; 2] {
    if let [Record::ZeroClusters { blob, range }] = &records[..] {
        let (blob, middle) = (*blob, range.start + (range.end - range.start) / 2);
        let part = |range| alloc::vec![Record::ZeroClusters { blob, range }];
        return [part(middle..range.end), part(range.start..middle)];
    }
    let second = records.split_off(records.len() / 2);
    [second, records]
}
