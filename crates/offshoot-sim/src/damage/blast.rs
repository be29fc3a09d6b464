//! What damage may cost: the atlas in words of lvols. Everything else has to be as if nothing had happened.

use super::fault::Hit;
use super::known::Known;
use crate::disk::DiskState;
use crate::harm::{DamageKind, Zone};
use crate::model::Number;
use crate::world::Append;
use offshoot_format::{Bitmap, BlobId, LIVE_MASK_BITS, LiveMaskPage, MaskKind};
use offshoot_store::{Finding, Found};
use std::collections::BTreeSet;
use std::ops::Range;

/// What of the journal is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    /// Something behind the last barrier. It ends the tail there.
    pub(super) tail: bool,
    /// The newest frame: what only that one tells is not known any more.
    pub(super) newest: bool,
    /// Something that a barrier made durable. This has to be told, and nothing may be written.
    pub(super) covered: bool,
    /// Images, or what sealed them: the md pages need not be of the checkpoint that the journal goes on from.
    pub(super) images: bool,
    /// The oldest frame of these.
    pub(super) first: Option<u64>,
}

impl Gaps {
    /// Whether nothing is missing.
    pub(super) fn none(self) -> bool {
        self == Self::default()
    }

    /// What was known when the first frame that is missing was appended.
    pub(super) fn append<'k>(self, known: &'k Known<'_>) -> Option<&'k Append> {
        self.first.and_then(|lsn| known.append(lsn))
    }
}

/// What may be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Blast {
    /// Whether nothing of the store need be served.
    pub(super) all: bool,
    pub(super) gaps: Gaps,
    /// Numbers of the frames of this epoch that were hit, needed or not.
    missing: BTreeSet<u64>,
    /// Lvols that may be damaged or missing, if that is told.
    pub(super) lost: BTreeSet<Number>,
    /// Lvols of which an earlier state may be served untold: a page that was written last time is as good as the
    /// one that should be there.
    pub(super) misled: BTreeSet<Number>,
    /// Whether a live mask may be one of an earlier time, or md pages of another than the journal: what has been made
    /// since may vanish untold, and what it owns may be handed out.
    pub(super) forgetful: bool,
    /// Whether a live mask was hit at all.
    pub(super) unmasked: bool,
    /// Where the masks of a store at rest start that were hit.
    masks: BTreeSet<u64>,
}

impl Blast {
    /// Of these faults, which made `damaged` of a disk.
    pub(super) fn of(hits: &[Hit], known: &Known<'_>, damaged: &DiskState) -> Self {
        let mut blast = Self::default();
        for hit in hits {
            for bytes in &hit.bytes {
                for zone in Zone::ALL {
                    let units = known.atlas.units(zone).iter();
                    for unit in units.filter(|unit| unit.start < bytes.end && bytes.start < unit.end) {
                        blast.add(zone, hit.kind, unit, known, damaged);
                    }
                }
            }
        }
        blast.add_unsealed(known);
        blast
    }

    /// The frame that seals a checkpoint may be the newest, while what was sealed is written where it belongs. Where it
    /// and all that came after is lost nobody can tell that it was: some md pages are then those of the checkpoint and
    /// some, the masks among them, are not.
    fn add_unsealed(&mut self, known: &Known<'_>) {
        let sealed_by = &known.atlas.sealed_by;
        if sealed_by.is_empty() || !sealed_by.is_subset(&self.missing) {
            return;
        }
        self.forgetful = true;
        self.gaps.images = true;
        // What the checkpoint had made needless is needed again.
        let covered = known.atlas.covered_without(&self.missing);
        self.gaps.first = self.missing.range(covered + 1..).next().copied();
        // By what was checkpointed before, any may have depended on what has gone since.
        let before = self.gaps.append(known).map_or(known.watch.start(), |append| &append.model);
        let lost: BTreeSet<Number> =
            known.model.lvols().chain(before.lvols()).map(|(number, _)| number).collect();
        self.misled.extend(&lost);
        self.lost.extend(lost);
    }

    fn add(
        &mut self,
        zone: Zone,
        kind: DamageKind,
        unit: &Range<u64>,
        known: &Known<'_>,
        damaged: &DiskState,
    ) {
        let is_stale = matches!(kind, DamageKind::Lost | DamageKind::Misdirected);
        match zone {
            Zone::Header | Zone::SuperBlock => self.all |= !known.atlas.open,
            Zone::Covered | Zone::Images | Zone::Newest | Zone::Tail => {
                let lsn = known.atlas.frame(unit.start);
                self.missing.extend(lsn);
                self.gaps.first = self.gaps.first.into_iter().chain(lsn).min();
                self.gaps.covered |= matches!(zone, Zone::Covered | Zone::Images);
                self.gaps.images |= zone == Zone::Images;
                self.gaps.newest |= zone == Zone::Newest;
                self.gaps.tail |= zone == Zone::Tail;
            }
            Zone::Roots | Zone::Chains | Zone::Extents | Zone::Layers => {
                let pages = known.atlas.md_page(unit.start).into_iter().collect();
                let lost = owners(known, &pages, &BTreeSet::new());
                if is_stale {
                    self.misled.extend(&lost);
                }
                self.lost.extend(lost);
            }
            Zone::LiveMasks if is_stale => {
                self.unmasked = true;
                let [pages, clusters] = forgotten(unit.start, known, damaged);
                let lost = owners(known, &pages, &clusters);
                self.forgetful |= !pages.is_empty() || !clusters.is_empty();
                self.misled.extend(&lost);
                self.lost.extend(lost);
            }
            Zone::LiveMasks => self.unmasked = true,
            Zone::Stale => self.missing.extend(known.atlas.frame(unit.start)),
            // One that is wrong is outvoted by the other and by the md pages.
            Zone::Masks => drop(self.masks.insert(unit.start)),
            Zone::Copy | Zone::SuperBlob | Zone::Free => {}
        }
    }

    /// Whether masks that have no checksum may agree on a root that is none.
    pub(super) fn may_make_up(&self) -> bool {
        self.masks.len() > 1
    }

    /// A page of an earlier time may claim what belongs to others now, also one of an lvol that only a live mask of an
    /// earlier time still knows. Who is right cannot be told, so both sides are damaged, and that is told.
    pub(super) fn add_disputes(&mut self, findings: &[Finding], known: &Known<'_>) {
        if self.misled.is_empty() && !self.forgetful {
            return;
        }
        for finding in findings {
            if let Found::ClusterOwners { first, second, .. } | Found::MdPageOwners { first, second, .. } =
                finding.what
            {
                let numbers = [first, second].into_iter().flat_map(|blob| numbers_of(known, blob));
                self.lost.extend(known.dependants(numbers.collect()));
            }
        }
    }
}

/// The lvols that depend on some md pages and clusters.
fn owners(known: &Known<'_>, pages: &BTreeSet<u32>, clusters: &BTreeSet<u32>) -> BTreeSet<Number> {
    let mut numbers = known.whole.owners(pages, clusters);
    numbers.extend(known.checkpoint.owners(pages, clusters));
    known.dependants(numbers)
}

fn numbers_of(known: &Known<'_>, blob: BlobId) -> impl Iterator<Item = Number> {
    [&known.whole, &known.checkpoint].into_iter().filter_map(move |graph| Some(graph.0.get(&blob)?.number))
}

/// Md pages and clusters that a page of a live mask called used and does not any more.
fn forgotten(at: u64, known: &Known<'_>, damaged: &DiskState) -> [BTreeSet<u32>; 2] {
    let mut forgotten = [BTreeSet::new(), BTreeSet::new()];
    for (number, kind) in [MaskKind::MdPages, MaskKind::Clusters].into_iter().enumerate() {
        let bits = |disk: &DiskState| {
            let mut page = [0; 4096];
            disk.view().read(at, &mut page);
            // Simulated stores are so small that each mask has one page.
            let mut bits = Bitmap::new(LIVE_MASK_BITS as usize);
            LiveMaskPage::decode(&page, kind, 0, &mut bits).ok().map(|()| bits)
        };
        if let (Some(before), Some(after)) = (bits(&known.disk), bits(damaged)) {
            let gone = before.iter_ones().filter(|unit| !after.get(*unit));
            forgotten[number] = gone.filter_map(|unit| u32::try_from(unit).ok()).collect();
        }
    }
    forgotten
}
