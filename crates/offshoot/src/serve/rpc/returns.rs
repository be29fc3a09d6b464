//! Stores whose file or block device goes away: they are let go of, and taken up again when it is back.
//!
//! A store that could not write its metadata takes no writes any more. Where its device can be read still, clients go on reading.
//! Where it cannot, the device is lost: what was acknowledged since the last flush may be lost with it, and the store has to be
//! opened anew, as after a crash. So its clients are told: whatever they ask of it from then on fails, until they connect again.

use super::super::backend::StoreBackend;
use super::super::openings::{Export, StoreId};
use super::super::qos::Limits;
use super::away::{Away, Retry};
use super::bases::{Holds, Kind};
use super::desk::Desk;
use super::files;
use super::server::LOOK_INTERVAL;
use super::works::Outcome;
use offshoot_block::Buffer;
use offshoot_device::Presence;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

/// Bytes that are read to see whether anything can be.
const PROBE_BYTES: usize = 4096;

impl Desk {
    /// Lets go of stores that have lost their device, and looks for those that are away.
    pub(super) fn look_for_devices(&mut self, stores: &mut StoreBackend, now: Instant) {
        let gone = stores.stores().filter(|(_, store)| store.presence() == Presence::Gone);
        for id in gone.map(|(id, _)| id).collect::<Vec<_>>() {
            self.let_go(stores, id, now);
        }
        self.probe_failed(stores, now);
        for index in (0..self.away.len()).rev() {
            if self.away[index].retry.is_due(now) && !self.look_for(index) {
                self.away.remove(index);
            }
        }
    }

    /// Looks whether the devices of stores that take no writes any more can be read, now and then.
    fn probe_failed(&mut self, stores: &StoreBackend, now: Instant) {
        // What has no name cannot be probed by it, and is there only as long as it is open.
        let has_failed = |id: &StoreId| {
            let store = stores.store(*id).filter(|store| store.presence() == Presence::There);
            store.is_some_and(|store| store.engine().failure().is_some())
        };
        self.probes.retain(|id, _| has_failed(id));
        for (id, store) in stores.stores().filter(|(id, _)| has_failed(id)) {
            if self.probes.entry(id).or_insert_with(|| Retry::new(now)).is_due(now) {
                let path = store.path().to_owned();
                let probe = move || Outcome::Probed(id, !can_be_read(&path));
                if let Err(cause) = self.works.start(None, probe) {
                    warn!(%cause, "no thread to look for a device");
                }
            }
        }
    }

    /// It was seen whether the device of a store can be read.
    pub(super) fn probed(&mut self, stores: &mut StoreBackend, id: StoreId, is_lost: bool) {
        if is_lost {
            self.let_go(stores, id, Instant::now());
        }
    }

    /// When to look again.
    pub(super) fn next_return(&self) -> Option<Instant> {
        let probes = self.probes.values().map(|retry| retry.next);
        let next = self.away.iter().map(|away| away.retry.next).chain(probes).min()?;
        // No sooner than anything is looked at.
        Some(self.looked.map_or(next, |looked| next.max(looked + LOOK_INTERVAL)))
    }

    /// A bdev is not to come back any more. Says whether it was to.
    pub(super) fn forget_away(&mut self, name: &str) -> bool {
        let before = self.away.len();
        self.away.retain(|away| away.name != name);
        self.away.len() < before
    }

    /// Closes a store that has lost its device. Only files and block devices can come back by themselves.
    fn let_go(&mut self, stores: &mut StoreBackend, id: StoreId, now: Instant) {
        let Some(base) = self.bases.of_store(id) else { return };
        let Kind::File(file) = &base.kind else { return };
        let (name, uuid, file, block) = (base.name.clone(), base.uuid, file.clone(), base.block);
        let lvols = stores.lvols().filter(|(store, _)| *store == id);
        let limits = lvols.filter_map(|(_, lvol)| Some((lvol.uuid()?, stores.store(id)?.limits(lvol.id))));
        let limits: Vec<(Uuid, Limits)> = limits.collect();
        let Some(store) = stores.take_lost(id) else { return };
        warn!(bdev = name, "its device is lost: clients have to connect again when it is back");
        self.drop_disks(|lvol| limits.iter().any(|(gone, _)| *gone == lvol));
        let (base, opened, externals) = (name.clone(), file.clone(), self.externals.clone());
        let retry = Retry::new(now);
        self.away.push(Away { name: name.clone(), uuid, file, block, limits, retry });
        let reopen = move || {
            // Nothing can be written any more: how this goes does not matter.
            drop(store.close());
            files::open(&base, &opened, block, Some(&externals))
        };
        // Where there is no thread the bdev is gone, and made anew like one whose file is.
        let _ = self.work(None, &name, reopen);
    }

    /// Looks whether a bdev is back, and tries to bring it back. Says whether to go on looking.
    fn look_for(&mut self, index: usize) -> bool {
        let Away { name, uuid, file, block, .. } = &self.away[index];
        let (name, uuid, file, block) = (name.clone(), *uuid, file.clone(), *block);
        match self.bases.find(&name).map(|base| &base.holds) {
            Some(Holds::Busy) => true,
            Some(Holds::Nothing(_)) => {
                let _ = self.examine_file(None, &name, file, block);
                true
            }
            // Somebody has found another use for it.
            Some(Holds::Store(_) | Holds::Snapshot(_) | Holds::Below) => false,
            None => {
                let _ = self.create_file(None, name, Some(uuid), file, block);
                true
            }
        }
    }

    /// A store is served on a bdev. If that was away it is as it was before.
    pub(super) fn returned(&mut self, stores: &mut StoreBackend, name: &str, id: StoreId) {
        let Some(index) = self.away.iter().position(|away| away.name == name) else { return };
        for (lvol, limits) in self.away.remove(index).limits {
            let found = stores.lvols().find(|(store, found)| *store == id && found.uuid() == Some(lvol));
            if let Some(lvol) = found.map(|(_, lvol)| lvol.id) {
                stores.set_limits(Export { store: id, lvol }, limits);
            }
        }
        info!(bdev = name, "its device is back");
    }

    /// Says once when the file of a store has no name any more.
    pub(super) fn watch_files(&mut self, stores: &StoreBackend) {
        for (id, store) in stores.stores() {
            if store.presence() == Presence::Unlinked && self.unlinked.insert(id) {
                let store = store.path().display();
                warn!(%store, "the file was removed: what it holds goes when the server ends");
            }
        }
    }
}

/// Whether a file or block device can be read, past the page cache where that is possible.
fn can_be_read(path: &Path) -> bool {
    let read = |flags| {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())?;
        let mut buffer = Buffer::zeroed(PROBE_BYTES);
        rustix::io::pread(&file, buffer.as_mut_slice(), 0)
    };
    let count = match read(OFlags::DIRECT) {
        Err(Errno::INVAL) => read(OFlags::empty()),
        result => result,
    };
    count == Ok(PROBE_BYTES)
}
