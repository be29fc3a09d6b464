//! What the store does not keep of D6 yet, told apart as narrowly as can be. Each entry is to go away with the change
//! that makes it untrue.

use super::blast::Blast;
use crate::harm::{DamageKind, Zone};
use crate::model::Number;
use offshoot_store::{Finding, Found};

/// Whether the store does not survive this yet, so that it is not tried.
pub(super) fn is_not_tried(zone: Zone, kind: DamageKind) -> bool {
    match (zone, kind) {
        // A good super block is taken for the newest one, although its copy can be newer.
        (Zone::Header | Zone::SuperBlock, DamageKind::Lost | DamageKind::Misdirected) => true,
        // Masks of SPDK's kind have no checksum: those of an earlier time are as good.
        (Zone::Masks, DamageKind::Lost | DamageKind::Misdirected) => true,
        // A store without a name is not opened.
        (Zone::SuperBlob, _) => true,
        _ => false,
    }
}

/// Whether the journal was given up although none of it was hit: a record misfits because something that it is about
/// was damaged, or because nobody knows that a page was free. It is told, and nothing is written.
pub(super) fn is_misfit(findings: &[Finding], blast: &Blast) -> bool {
    let misfit = findings.iter().any(|finding| matches!(finding.what, Found::JournalRecord { .. }));
    misfit && (!blast.lost.is_empty() || blast.unmasked)
}

/// Whether an lvol may be served no more once the store has been in use: while it is open nothing tells any more that
/// the page of its parent, which cannot be read, is a root.
pub(super) fn is_orphaned(number: Number, findings: &[Finding], blast: &Blast) -> bool {
    blast.lost.contains(&number) && !findings.is_empty()
}
