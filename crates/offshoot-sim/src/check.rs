//! Is a recovered store what the model says? The promises of the contract as code.

use crate::cell;
use crate::counts::Counts;
use crate::disk::{Cut, DiskState, SimDisk};
use crate::external;
use crate::image::{SECTOR_BYTES, index};
use crate::model::{Change, Lvol, Model, Number, Observer, Seen, Time};
use crate::pattern::{Found, Version, identify, split};
use crate::power::Power;
use crate::random::Random;
use crate::violation::{Promise, Violation};
use offshoot_block::BlockDevice;
use offshoot_format::BlobId;
use offshoot_store::{Blob, Error, State, Store};
use std::collections::BTreeMap;

/// What each cell of each lvol was found to read.
pub(crate) type Contents = BTreeMap<Number, Vec<Version>>;

/// What is known about a store at the moment of a crash.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) model: &'a Model,
    /// Verbs that may have been done or not, and when they were submitted, oldest first.
    pub(crate) verbs: Vec<(&'a Change, Time)>,
    /// Whether the device has failed the store, so that a kill may cost what a power cut may.
    pub(crate) failed: bool,
    /// When a device operation failed that did not fail the store.
    pub(crate) error: Option<Time>,
    /// The moment of the crash.
    pub(crate) now: Time,
}

/// A store that recovered as it should.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) disk: SimDisk,
    /// The external snapshot.
    pub(crate) below: SimDisk,
    pub(crate) store: Store<SimDisk>,
    pub(crate) power: Power,
    /// The model with those verbs done that were.
    pub(crate) model: Model,
    pub(crate) contents: Contents,
    /// The disk before each step of the recovery.
    pub(crate) steps: Vec<DiskState>,
}

impl Expected<'_> {
    fn observer(&self, cut: Cut) -> Observer {
        match cut {
            Cut::Kill if !self.failed => self.error.map_or(Observer::Since(self.now), Observer::AfterError),
            Cut::Reboot if !self.failed => Observer::AfterReboot,
            Cut::Kill | Cut::Reboot | Cut::PowerCut => Observer::AfterPowerCut,
        }
    }

    /// The model with those verbs done that a store shows to have been done.
    pub(crate) fn model_of<D: BlockDevice>(&self, store: &Store<D>) -> Model {
        let found = lvols(store);
        let mut model = self.model.clone();
        for (change, since) in self.verbs.iter().filter(|(change, _)| change.happened(&found)) {
            model.perform(change, *since);
        }
        model
    }

    /// Opens what a crash has left, for looking and then for writing, and compares.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn check(
        &self,
        left: &DiskState,
        cut: Cut,
        mut power: Power,
        random: &mut Random,
    ) -> Result<Recovered, Violation> {
        let observer = self.observer(cut);
        let looked = match random.chance(1, 4) {
            true => Some(self.look(left, observer, &power, random)?),
            false => None,
        };
        let disk = SimDisk::resume(left.clone(), random.bits());
        disk.record();
        let below = external::disk(random.bits());
        let store = Store::open(disk.clone(), external::given(&below), &power.writable())
            .map_err(|error| Violation::new(Promise::D6, format!("the store does not open: {error}")))?;
        let steps = disk.recorded();
        let recovered = self.compare(store, (disk, below), observer, power)?;
        let recovered = Recovered { steps, ..recovered };
        if let Some(looked) = looked {
            same(&looked, &recovered.contents).map_err(|what| Violation::new(Promise::D6, what))?;
        }
        Ok(recovered)
    }

    /// A read-only opening shows the same and writes nothing.
    fn look(
        &self,
        left: &DiskState,
        observer: Observer,
        power: &Power,
        random: &mut Random,
    ) -> Result<Contents, Violation> {
        let disk = SimDisk::resume(left.clone(), random.bits());
        let below = external::disk(random.bits());
        let opened = Store::open(disk.clone(), external::given(&below), &power.read_only());
        let opened = opened.map_err(|error| format!("the store does not open: {error}"));
        let looked = opened.map_err(|what| Violation::new(Promise::D6, what));
        let looked =
            looked.and_then(|store| self.compare(store, (disk.clone(), below), observer, power.clone()));
        let looked = looked.map_err(|violation| violation.during("opened read-only"))?;
        let (_, closed) = looked.store.close();
        closed.map_err(|error| {
            Violation::new(Promise::Service, format!("a read-only store does not close: {error}"))
        })?;
        let asked = disk.asked().changing;
        let differs = disk.state().view().first_difference(left.view());
        if asked > 0 || differs.is_some() {
            let what = format!("a read-only opening sent {asked} operations that change the disk");
            return Err(Violation::new(Promise::D6, what));
        }
        Ok(looked.contents)
    }

    fn compare(
        &self,
        mut store: Store<SimDisk>,
        (disk, below): (SimDisk, SimDisk),
        observer: Observer,
        power: Power,
    ) -> Result<Recovered, Violation> {
        sound(&store)?;
        let mut model = self.model_of(&store);
        relations(&store, &model)?;
        let (size, whole) = (store.state().layout.size_bytes, disk.geometry().size_bytes);
        if model.grown && size < whole {
            let what = format!("the store had grown to {whole} bytes, and has {size}");
            return Err(Violation::new(Promise::D5, what));
        }
        model.grown = size == whole;
        let md_pages = store.state().layout.md_len;
        if md_pages < model.md_pages {
            let what = format!("the store had {} md pages, and has {md_pages}", model.md_pages);
            return Err(Violation::new(Promise::D5, what));
        }
        model.md_pages = md_pages;
        let contents = contents(&mut store, &model, observer)?;
        one_moment(&model, &contents)?;
        external::untouched(&below)?;
        Ok(Recovered { disk, below, store, power, model, contents, steps: Vec::new() })
    }
}

/// Loading found nothing wrong, and every used cluster has its owner.
pub(crate) fn sound<D: BlockDevice>(store: &Store<D>) -> Result<(), Violation> {
    if let Some(finding) = store.findings().first() {
        let lvol = finding.lvol.as_deref().unwrap_or("the store");
        return Err(Violation::new(Promise::D6, format!("{lvol}: {}", finding.what)));
    }
    let state = store.state();
    let own: u64 = state.blobs().map(|blob| blob.own_clusters).sum();
    let used = state.clusters.used().count_ones() as u64;
    let metadata = u64::from(state.layout.metadata_clusters());
    if used != own + metadata {
        let what = format!("{used} clusters are used, but {own} have an owner and {metadata} hold metadata");
        return Err(Violation::new(Promise::Service, what));
    }
    Ok(())
}

/// What shows of each lvol.
fn lvols<D: BlockDevice>(store: &Store<D>) -> BTreeMap<Number, Seen> {
    let state = store.state();
    let lvols = state.lvols().map(|blob| {
        let number = blob.uuid().map_or(0, |uuid| uuid.as_u128());
        let parent = parent(state, blob);
        let seen =
            Seen { name: blob.display_name(), sectors: index(state.bytes(blob) / SECTOR_BYTES), parent };
        (number, seen)
    });
    lvols.collect()
}

/// The nearest ancestor that was not removed.
fn parent(state: &State, blob: &Blob) -> Option<Number> {
    let mut blob = blob;
    while let Some(parent) = blob.parent {
        blob = state.blob(parent)?;
        if !state.is_deferred(blob) {
            return blob.uuid().map(|uuid| uuid.as_u128());
        }
    }
    blob.external_is_parent.then_some(external::NUMBER)
}

/// Every lvol of the model is there with its name, size, parent and kind, and no other.
pub(crate) fn relations<D: BlockDevice>(store: &Store<D>, model: &Model) -> Result<(), Violation> {
    let state = store.state();
    let broken = |what: String| Err(Violation::new(Promise::D5, what));
    for blob in state.lvols() {
        let known = blob.uuid().and_then(|uuid| model.lvol(uuid.as_u128()));
        let Some(lvol) = known else {
            return broken(format!("lvol {} should not exist", blob.display_name()));
        };
        let parent = parent(state, blob);
        let sectors = index(state.bytes(blob) / SECTOR_BYTES);
        let found = (blob.display_name(), sectors, parent, blob.is_read_only());
        let expected = (lvol.name.clone(), lvol.len(), lvol.parent, lvol.read_only);
        if found != expected {
            return broken(format!(
                "an lvol is {found:?} instead of {expected:?} (name, sectors, parent, read-only)"
            ));
        }
    }
    let missing =
        model.lvols().find(|(number, _)| state.lvol_by_uuid(uuid::Uuid::from_u128(*number)).is_none());
    match missing {
        Some((_, lvol)) => broken(format!("lvol {} is missing", lvol.name)),
        None => Ok(()),
    }
}

/// Every cell of every lvol reads something that an observer may see.
pub(crate) fn contents<D: BlockDevice>(
    store: &mut Store<D>,
    model: &Model,
    observer: Observer,
) -> Result<Contents, Violation> {
    let mut contents = Contents::new();
    for (number, lvol) in model.lvols() {
        let blob = store.state().lvol_by_uuid(uuid::Uuid::from_u128(number)).map(|blob| blob.id);
        let Some(id) = blob else { continue };
        let len = lvol.len() * index(SECTOR_BYTES);
        let bytes = match store.read(id, 0, len) {
            Ok(bytes) => bytes,
            // After a sync that failed. All else of it can be read.
            Err(Error::MayBeLost { .. }) => {
                readable_sectors(store, id, lvol, observer)?;
                continue;
            }
            Err(error) => {
                let what = format!("{} cannot be read: {error}", lvol.name);
                return Err(Violation::new(Promise::D6, what));
            }
        };
        let versions = versions(lvol, 0, bytes.as_slice(), observer)?;
        let extents = store.extents(id, 0..len as u64, usize::MAX).unwrap_or_default();
        for hole in extents.iter().filter(|extent| extent.hole) {
            let range = cell::within(hole.start..hole.start + hole.len);
            if versions.get(range).is_none_or(|hole| hole.iter().any(|version| *version != 0)) {
                let what = format!("{} has data in what it says is a hole at {}", lvol.name, hole.start);
                return Err(Violation::new(Promise::Service, what));
            }
        }
        contents.insert(number, versions);
    }
    Ok(contents)
}

/// What can be read of an lvol reads something that an observer may see.
fn readable_sectors<D: BlockDevice>(
    store: &mut Store<D>,
    id: BlobId,
    lvol: &Lvol,
    observer: Observer,
) -> Result<(), Violation> {
    for sector in 0..lvol.len() {
        match store.read(id, sector as u64 * SECTOR_BYTES, index(SECTOR_BYTES)) {
            Ok(bytes) => drop(versions(lvol, cell::first(sector), bytes.as_slice(), observer)?),
            Err(Error::MayBeLost { .. }) => {}
            Err(error) => {
                let what = format!("{} cannot be read: {error}", lvol.name);
                return Err(Violation::new(Promise::D6, what));
            }
        }
    }
    Ok(())
}

/// Every snapshot shows one moment, and so do the members of a group.
pub(crate) fn one_moment(model: &Model, found: &Contents) -> Result<(), Violation> {
    match model.torn_moment(found) {
        None => Ok(()),
        Some(moment) => {
            let what = format!("snapshots of one request show no point in time: {moment:?}");
            Err(Violation::new(Promise::D5, what))
        }
    }
}

/// What the cells from `first` on were found to read, when an observer may see that.
pub(crate) fn versions(
    lvol: &Lvol,
    first: usize,
    bytes: &[u8],
    observer: Observer,
) -> Result<Vec<Version>, Violation> {
    let histories = lvol.cells().get(first..).unwrap_or_default();
    let mut versions = Vec::with_capacity(histories.len());
    for (history, (number, bytes)) in histories.iter().zip(split(bytes, first)) {
        let found = identify(bytes);
        let version = match found {
            Found::Zeros => Some(0),
            Found::Written { version, cell } if cell == number => Some(version),
            Found::Written { .. } | Found::Garbage => None,
        };
        match version.filter(|version| history.allows(*version, observer)) {
            Some(version) => versions.push(version),
            None => {
                let legal: Vec<Version> = history.versions(observer).collect();
                return Err(misread(lvol, number, found, &legal, observer));
            }
        }
    }
    Ok(versions)
}

fn misread(lvol: &Lvol, cell: usize, found: Found, legal: &[Version], observer: Observer) -> Violation {
    let foreign = match found {
        Found::Zeros => false,
        Found::Written { cell: other, .. } => other != cell,
        Found::Garbage => true,
    };
    let promise = match observer {
        _ if foreign => Promise::D4,
        Observer::Since(_) | Observer::AfterError(_) | Observer::AfterReboot => Promise::D1,
        Observer::AfterPowerCut if lvol.read_only => Promise::D3,
        Observer::AfterPowerCut | Observer::SinceLoss(_) => Promise::D2,
    };
    let found = match found {
        Found::Zeros => "zeros".into(),
        Found::Written { version, cell } => format!("write {version} of cell {cell}"),
        Found::Garbage => "what nobody wrote".into(),
    };
    let at = cell::bytes_of(cell).start;
    let what = format!(
        "cell {cell} of {}, at byte {at}, holds {found}; legal are writes {legal:?} (0: zeros)",
        lvol.name
    );
    Violation::new(promise, what)
}

fn same(looked: &Contents, opened: &Contents) -> Result<(), String> {
    for ((number, looked), (_, opened)) in looked.iter().zip(opened) {
        if let Some(cell) = looked.iter().zip(opened).position(|(looked, opened)| looked != opened) {
            let (looked, opened) = (looked[cell], opened[cell]);
            return Err(format!(
                "cell {cell} of lvol {number} was write {looked} when opened read-only, then {opened}"
            ));
        }
    }
    Ok(())
}

impl Recovered {
    /// Ends recovery where it stood before a step of it, and checks what the next opening makes of that.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub(crate) fn check_interrupted(
        &self,
        expected: &Expected<'_>,
        cut: Cut,
        random: &mut Random,
        counts: &mut Counts,
    ) -> Result<(), Violation> {
        let Some(step) = self.steps.get(random.index(self.steps.len().max(1))) else {
            return Ok(());
        };
        let again = Cut::draw(random);
        let (left, fate) = step.crash_at_random(again, random);
        let mut power = self.power.clone();
        power.after(again);
        // What a kill left intact a power cut may still take: only what survives both counts.
        let worst = cut.max(again);
        counts.count(again, fate);
        counts.nested += 1;
        let checked = expected.check(&left, worst, power, random);
        checked.map(drop).map_err(|violation| violation.during(format!("{again} while recovering")))
    }
}
