//! A damaged store in use: what it hands out is nobody's, and whatever is left stays as it is.

use super::blast::Blast;
use super::known::Known;
use super::pending;
use super::verdict::Verdict;
use crate::check::Contents;
use crate::disk::{Cut, SimDisk};
use crate::external;
use crate::image::index;
use crate::model::Number;
use crate::pattern::{Found, Version, identify, split};
use crate::power::Power;
use crate::violation::{Promise, Violation};
use offshoot_block::Buffer;
use offshoot_format::{BlobId, ClusterIdx};
use offshoot_store::{CreateOptions, Error, ErrorKind, Identity, Store, Verb};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What new data looks like: nothing that anyone else wrote.
const FILLING: u8 = 0xee;

/// Fills a damaged store, and opens it again after a loss of power and after a close.
///
/// # Errors
/// Something that had survived the damage has gone.
pub(super) fn go_on(
    (mut store, disk): (Store<SimDisk>, SimDisk),
    known: &Known<'_>,
    blast: &Blast,
    verdict: &Verdict,
    mut power: Power,
) -> Result<(), Violation> {
    let made = fill(&mut store);
    if store.engine().is_read_only() {
        let kept_out = matches!(&made, Err(error) if error.kind() == ErrorKind::ReadOnly);
        let told = !store.findings().is_empty();
        return if kept_out && told { Ok(()) } else { broken(format!("read-only, but {made:?}")) };
    }
    if let Err(error) = made {
        return broken(format!("the store cannot be used again: {error}"));
    }
    same(&mut store, blast, verdict).map_err(|violation| violation.during("filled"))?;
    if blast.gaps.none() {
        untouched(&disk, known, &(&verdict.lost - &blast.misled))?;
    }
    let (left, _) = disk.state().crash(Cut::PowerCut, |_, _| false);
    power.after(Cut::PowerCut);
    reopen(SimDisk::resume(left, 1), known, blast, verdict, &mut power.clone())
        .map_err(|violation| violation.during("filled, then a power cut"))?;
    let (disk, closed) = store.close();
    if let Err(error) = closed {
        return broken(format!("the store does not close: {error}"));
    }
    let resumed = SimDisk::resume(disk.state(), 2);
    reopen(resumed, known, blast, verdict, &mut power)
        .map_err(|violation| violation.during("filled and closed"))
}

fn reopen(
    disk: SimDisk,
    known: &Known<'_>,
    blast: &Blast,
    verdict: &Verdict,
    power: &mut Power,
) -> Result<(), Violation> {
    let mut store = match Store::open(disk, external::at_once(), &power.writable()) {
        Ok(store) => store,
        Err(error) => return broken(format!("the store does not open again: {error}")),
    };
    let mut blast = blast.clone();
    blast.add_disputes(store.findings(), known);
    same(&mut store, &blast, verdict)?;
    // What was lost and can be read again has to be what it was.
    let again = verdict.lost.iter().filter(|number| !blast.misled.contains(number));
    for number in again.filter(|_| blast.gaps.none()) {
        let found = read(&mut store, *number)?;
        if let Some((found, expected)) = found.zip(known.contents.get(number))
            && found != *expected
        {
            let cell = found.iter().zip(expected).position(|(found, expected)| found != expected);
            let what = cell.map(|cell| (cell, found[cell], expected[cell]));
            let findings = store.findings();
            return broken(format!(
                "lvol {number} is served again, and not what it was: {what:?} (cell, now, before); {findings:?}"
            ));
        }
    }
    Ok(())
}

/// Takes every cluster that the store hands out.
fn fill(store: &mut Store<SimDisk>) -> Result<(), Error> {
    let size = u64::from(store.state().layout.cluster_size);
    let clusters = u64::from(store.state().layout.total_data_clusters());
    let Some(thin) = create(store, 1, clusters * size, false)? else { return Ok(()) };
    for at in (0..clusters).map(|cluster| cluster * size) {
        let written = store.write(thin, at, Buffer::copy_of(&[FILLING; 4096]));
        if let Some(error) = written.err() {
            out_of_space(error)?;
            break;
        }
    }
    create(store, 2, size, true)?;
    store.flush()
}

fn create(
    store: &mut Store<SimDisk>,
    number: u128,
    size_bytes: u64,
    thick: bool,
) -> Result<Option<BlobId>, Error> {
    let uuid = Uuid::from_u128(number << 100);
    let identity = Identity { name: format!("filling {number}"), uuid, created: 0 };
    match store.execute(Verb::Create { identity, size_bytes, options: CreateOptions::provisioned(thick) }) {
        Ok(made) => Ok(made.first().copied()),
        Err(error) => out_of_space(error).map(|()| None),
    }
}

fn out_of_space(error: Error) -> Result<(), Error> {
    if error.kind() == ErrorKind::NoSpace { Ok(()) } else { Err(error) }
}

/// Every lvol that was served reads as it did.
fn same(store: &mut Store<SimDisk>, blast: &Blast, verdict: &Verdict) -> Result<(), Violation> {
    let contents: &Contents = &verdict.contents;
    for (number, expected) in contents.iter().filter(|(number, _)| !verdict.stale.contains(number)) {
        let Some(found) = read(store, *number)? else {
            if pending::is_orphaned(*number, store.findings(), blast) {
                continue;
            }
            return broken(format!("lvol {number} was served, and is not any more: {:?}", store.findings()));
        };
        if let Some(cell) = found.iter().zip(expected).position(|(found, expected)| found != expected) {
            let (found, expected) = (found[cell], expected[cell]);
            return broken(format!("cell {cell} of lvol {number} was write {expected} and is {found}"));
        }
    }
    Ok(())
}

/// What an lvol reads, if it is served.
fn read(store: &mut Store<SimDisk>, number: Number) -> Result<Option<Vec<Version>>, Violation> {
    let blob = store.state().lvol_by_uuid(Uuid::from_u128(number)).filter(|blob| blob.damage.is_none());
    let Some((id, len)) = blob.map(|blob| (blob.id, store.state().bytes(blob))) else { return Ok(None) };
    let bytes = match store.read(id, 0, index(len)) {
        Ok(bytes) => bytes,
        // A part of it is not known.
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(None),
        Err(error) => return broken(format!("lvol {number} cannot be read: {error}")),
    };
    let versions = split(bytes.as_slice(), 0).map(|(cell, bytes)| match identify(bytes) {
        Found::Zeros => 0,
        Found::Written { version, cell: at } if at == cell => version,
        Found::Written { .. } | Found::Garbage => Version::MAX,
    });
    Ok(Some(versions.collect()))
}

/// The clusters of lost lvols are as they were: what is in them can be saved.
fn untouched(disk: &SimDisk, known: &Known<'_>, lost: &BTreeSet<Number>) -> Result<(), Violation> {
    let layout = &known.atlas.layout;
    let mut before = vec![0; layout.cluster_size as usize];
    let mut now = before.clone();
    for cluster in known.whole.clusters_of(lost) {
        let at = layout.cluster_offset(ClusterIdx(cluster));
        known.disk.view().read(at, &mut before);
        disk.state().view().read(at, &mut now);
        if before != now {
            return broken(format!("cluster {cluster} of a damaged lvol was handed out"));
        }
    }
    Ok(())
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new(Promise::D6, what))
}
