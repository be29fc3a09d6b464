//! Holds a damaged store against what the damage may have cost (D6).

use super::blast::{Blast, Gaps};
use super::known::Known;
use super::pending;
use crate::cell;
use crate::check::{Contents, Expected, relations};
use crate::image::{SECTOR_BYTES, index};
use crate::model::{Lvol, Model, Number, Observer};
use crate::pattern::{Found, Version, identify, split};
use crate::violation::{Promise, Violation};
use offshoot_block::BlockDevice;
use offshoot_format::{BlobCluster, BlobId};
use offshoot_store::{ErrorKind, Found as What, ReadOnlyCause, Store};
use std::collections::BTreeSet;
use std::ops::Range;
use uuid::Uuid;

/// What a damaged store was found to serve.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What each sound lvol reads.
    pub(super) contents: Contents,
    /// Lvols that are missing or listed as damaged.
    pub(super) lost: BTreeSet<Number>,
    /// Lvols that show an earlier state untold.
    pub(super) stale: BTreeSet<Number>,
    /// Whether the store takes no changes because of its journal.
    pub(super) read_only: bool,
}

/// Looks at everything that a damaged store says and serves.
///
/// # Errors
/// More is lost than may be, or it is not told.
pub(super) fn judge<D: BlockDevice>(
    store: &mut Store<D>,
    known: &Known<'_>,
    blast: &Blast,
) -> Result<Verdict, Violation> {
    let findings = store.findings().to_vec();
    let journal =
        findings.iter().any(|found| matches!(found.what, What::Journal(_) | What::JournalRecord { .. }));
    if journal {
        if !blast.gaps.covered && !blast.gaps.newest && !pending::is_misfit(&findings, blast) {
            return broken(format!("the journal is not damaged, but: {findings:?}"));
        }
        return frozen(store, known, blast);
    }
    let (model, judge) = match blast.gaps {
        gaps if gaps.newest => before(store, known, gaps),
        gaps if gaps.tail => {
            (known.expected.model_of(store), Judge { exact: None, since: None, touched: &[] })
        }
        _ => (known.model.clone(), Judge { exact: Some(&known.contents), since: None, touched: &[] }),
    };
    let mut blast = blast.clone();
    blast.add_disputes(&findings, known);
    let mut verdict = Verdict::default();
    for (number, lvol) in model.lvols() {
        let blob = store.state().lvol_by_uuid(Uuid::from_u128(number));
        match blob.map(|blob| (blob.id, blob.damage.clone())) {
            Some((id, None)) => judge.lvol(store, (id, number, lvol), &model, known, &blast, &mut verdict)?,
            lost => {
                if !blast.lost.contains(&number) {
                    let what = lost.map_or("is missing".into(), |(_, why)| format!("is damaged: {why:?}"));
                    return broken(format!(
                        "lvol {} {what}, but nothing of it was hit; {findings:?}",
                        lvol.name
                    ));
                }
                verdict.lost.insert(number);
            }
        }
    }
    // The root of an earlier time may be that of another lvol.
    let untold: Vec<Number> = verdict.lost.intersection(&blast.misled).copied().collect();
    if findings.is_empty() && untold.len() < verdict.lost.len() {
        return broken(format!("lvols {:?} are lost, and nothing tells", verdict.lost));
    }
    verdict.stale.extend(untold);
    let mut left_over = false;
    let is_known = |number: Number| model.lvol(number).is_some();
    for blob in store.state().lvols() {
        let number = blob.uuid().map_or(0, |uuid| uuid.as_u128());
        if is_known(number) {
            continue;
        }
        // A checkpoint writes the root of what is new before it is sealed. Where that was never done, only the mask
        // says so.
        let is_unused = !known.uses(blob.id.root().0);
        let is_left_over = blast.unmasked && is_unused;
        let is_excused = is_left_over || !blast.misled.is_empty();
        if blob.damage.is_none() && !is_excused {
            return broken(format!("lvol {} should not exist", blob.display_name()));
        }
        let is_made_up = blast.may_make_up() && blob.damage.is_some() && is_unused;
        left_over |= is_left_over || is_made_up;
    }
    if blast.lost.is_empty() && !left_over {
        relations(store, &model)?;
    }
    Ok(verdict)
}

/// What counts as right for one lvol.
struct Judge<'k> {
    /// Exactly this; otherwise what a loss of power may leave.
    exact: Option<&'k Contents>,
    /// Or what has been written in place since.
    since: Option<&'k Model>,
    /// Where other things may have been put since.
    touched: &'k [Range<u64>],
}

impl Judge<'_> {
    fn lvol<D: BlockDevice>(
        &self,
        store: &mut Store<D>,
        (id, number, lvol): (BlobId, Number, &Lvol),
        model: &Model,
        known: &Known<'_>,
        blast: &Blast,
        verdict: &mut Verdict,
    ) -> Result<(), Violation> {
        let may_be_stale = blast.misled.contains(&number);
        let len = store.state().blob(id).map_or(0, |blob| store.state().bytes(blob));
        if len != lvol.len() as u64 * SECTOR_BYTES && !may_be_stale {
            return broken(format!("lvol {} has {len} bytes", lvol.name));
        }
        let bytes = match store.read(id, 0, index(len)) {
            Ok(bytes) => bytes,
            // A part of it is not known.
            Err(error) if error.kind() == ErrorKind::Corrupt && blast.lost.contains(&number) => {
                verdict.lost.insert(number);
                return Ok(());
            }
            Err(error) => return broken(format!("{} cannot be read: {error}", lvol.name)),
        };
        let mut versions = Vec::with_capacity(lvol.cells().len());
        let mut wrong = None;
        for (cell, bytes) in split(bytes.as_slice(), 0) {
            let found = identify(bytes);
            let version = own_version(found, cell);
            let right = version.is_some_and(|version| self.allows(lvol, number, cell, version));
            if !right && !self.is_excused(store, id, cell) && wrong.is_none() {
                wrong = Some((cell, found));
            }
            versions.push(version.unwrap_or(Version::MAX));
        }
        match wrong {
            Some(_) if may_be_stale => {
                verdict.stale.insert(number);
            }
            Some((cell, found)) => {
                let is_family =
                    own_version(found, cell).is_some_and(|version| model.is_of_family(version, number));
                let promise = if is_family { Promise::D6 } else { Promise::D4 };
                let findings = store.findings();
                let expected = known.contents.get(&number).and_then(|versions| versions.get(cell));
                let what = format!(
                    "cell {cell} of {} serves {found:?} as good instead of {expected:?}; findings: {findings:?}",
                    lvol.name
                );
                return Err(Violation::new(promise, what));
            }
            None => {}
        }
        verdict.contents.insert(number, versions);
        Ok(())
    }

    fn allows(&self, lvol: &Lvol, number: Number, cell: usize, version: Version) -> bool {
        if let Some(exact) = self.exact {
            return exact.get(&number).and_then(|versions| versions.get(cell)) == Some(&version);
        }
        let after_power_cut = |lvol: &Lvol| {
            lvol.cells().get(cell).is_some_and(|history| history.allows(version, Observer::AfterPowerCut))
        };
        after_power_cut(lvol) || self.since.and_then(|since| since.lvol(number)).is_some_and(after_power_cut)
    }

    /// Whether something else may have been put where a cell lies by what is known now: a frame that is lost let go
    /// of a cluster, and it has been used again since.
    fn is_excused<D: BlockDevice>(&self, store: &Store<D>, id: BlobId, at: usize) -> bool {
        let state = store.state();
        let cluster_size = u64::from(state.layout.cluster_size);
        let Some(blob) = state.blob(id).filter(|_| !self.touched.is_empty()) else { return false };
        let entry = blob.tree.entry(BlobCluster(cell::bytes_of(at).start / cluster_size));
        entry.layers().filter_map(|(_, cluster, _)| cluster).any(|cluster| {
            let start = state.layout.cluster_offset(cluster);
            self.touched.iter().any(|range| range.start < start + cluster_size && start < range.end)
        })
    }
}

/// What was known before the newest frame: the store is as if the end had come while that was being written, but for
/// what was done since without a frame.
fn before<'k, D: BlockDevice>(store: &Store<D>, known: &'k Known<'_>, gaps: Gaps) -> (Model, Judge<'k>) {
    let append = gaps.append(known);
    let touched = known.watch.touched_since(append);
    let verbs = append.iter().flat_map(|append| &append.verbs).map(|(change, since)| (change, *since));
    let (model, verbs) = match append {
        Some(append) => (&append.model, verbs.collect()),
        None => (known.watch.start(), Vec::new()),
    };
    let expected = Expected { model, verbs, ..known.expected };
    (expected.model_of(store), Judge { exact: None, since: Some(known.expected.model), touched })
}

/// A store whose journal is damaged: nothing can be written, and what is served is nobody else's, unless that has been
/// put there since the frame that is missing.
fn frozen<D: BlockDevice>(
    store: &mut Store<D>,
    known: &Known<'_>,
    blast: &Blast,
) -> Result<Verdict, Violation> {
    let asked = store.engine().read_only_cause();
    if !matches!(asked, Some(ReadOnlyCause::Asked | ReadOnlyCause::JournalDamage)) {
        return broken("the journal is damaged, and the store takes writes".into());
    }
    let append = blast.gaps.append(known).filter(|_| !blast.gaps.images);
    let judge = Judge { exact: None, since: None, touched: known.watch.touched_since(append) };
    let mut model = known.model.clone();
    known.expected.verbs.iter().for_each(|(change, since)| model.perform(change, *since));
    let lvols: Vec<(BlobId, Number, u64)> = store
        .state()
        .lvols()
        .filter(|blob| blob.damage.is_none())
        // What a revert has put aside has none.
        .filter_map(|blob| Some((blob.id, blob.uuid()?.as_u128(), store.state().bytes(blob))))
        .collect();
    for (id, number, len) in lvols {
        let bytes = match store.read(id, 0, index(len)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Corrupt && blast.lost.contains(&number) => continue,
            Err(error) => return broken(format!("lvol {number} cannot be read: {error}")),
        };
        for (cell, bytes) in split(bytes.as_slice(), 0) {
            let found = identify(bytes);
            let own = own_version(found, cell).is_some_and(|version| model.is_of_family(version, number));
            if !own && !judge.is_excused(store, id, cell) {
                let what = format!("cell {cell} of lvol {number} serves {found:?} with a damaged journal");
                return Err(Violation::new(Promise::D4, what));
            }
        }
    }
    Ok(Verdict { read_only: true, ..Verdict::default() })
}

fn own_version(found: Found, at: usize) -> Option<Version> {
    match found {
        Found::Zeros => Some(0),
        Found::Written { version, cell } if cell == at => Some(version),
        Found::Written { .. } | Found::Garbage => None,
    }
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new(Promise::D6, what))
}
