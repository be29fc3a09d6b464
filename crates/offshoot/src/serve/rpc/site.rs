//! Where a store comes to be, or is looked for: a bdev that holds none, or an lvol of another store.
//!
//! An lvol is a bdev below a store only while there is one on it. Nobody looks for stores on lvols unasked: what is on them
//! is their clients' business, who may have stores of their own there.

use super::super::backend::StoreBackend;
use super::super::openings::Export;
use super::super::served::open_external_files;
use super::answers::{Answer, Asker, now};
use super::bases::{Bare, Base, Ground, Holds, Kind, complete};
use super::desk::Desk;
use super::resolve;
use offshoot_block::{Buffer, DeviceOffset, DeviceOp};
use offshoot_rpc::types::selector::{LvolSelector, alias};
use offshoot_rpc::{Errno, Reply, ResultText, RpcError};
use offshoot_store::{OpenOptions, Store, signature};
use std::path::PathBuf;
use tracing::warn;
use uuid::Uuid;

/// A bdev or an lvol.
pub(super) enum Place {
    Base(String),
    Lvol(Export),
}

/// What is to be known of it beforehand.
pub(super) struct Site {
    pub(super) place: Place,
    pub(super) block: u32,
    pub(super) size_bytes: u64,
    /// Whether nobody uses it.
    pub(super) is_free: bool,
}

/// A bdev that was taken for a work.
pub(super) struct Taken {
    /// What it is called below stores.
    pub(super) name: String,
    /// Where its stores are, for people.
    pub(super) path: PathBuf,
    pub(super) bare: Bare,
}

impl Desk {
    /// The bdev of a name.
    pub(super) fn site(&self, stores: &StoreBackend, name: &str) -> Option<Site> {
        if let Some(base) = self.bases.find(name) {
            return Some(Site {
                place: Place::Base(base.name.clone()),
                block: base.block,
                size_bytes: base.size_bytes,
                is_free: matches!(base.holds, Holds::Nothing(_)),
            });
        }
        let found = resolve::find(stores, LvolSelector::new(name))?;
        let state = stores.state(found.store)?;
        Some(Site {
            place: Place::Lvol(found.export()),
            block: state.layout.io_unit_size,
            size_bytes: state.bytes(found.lvol),
            is_free: !(found.lvol.is_read_only() || stores.is_open(found.export())),
        })
    }

    /// Takes it for a work, which is to be started at once: it is busy now.
    pub(super) fn take(&mut self, stores: &mut StoreBackend, place: Place) -> Option<Taken> {
        let export = match place {
            Place::Base(name) => {
                let base = self.bases.find_mut(&name)?;
                return match std::mem::replace(&mut base.holds, Holds::Busy) {
                    Holds::Nothing(bare) => Some(Taken { name, path: base.path(), bare }),
                    held => {
                        base.holds = held;
                        None
                    }
                };
            }
            Place::Lvol(export) => export,
        };
        let device = stores.lvol_device(export).inspect_err(|cause| warn!("{cause:#}")).ok()?;
        let state = stores.state(export.store)?;
        let lvol = state.blob(export.lvol)?;
        let (uuid, path) = (lvol.uuid()?, alias(&state.name(), &lvol.display_name()));
        let name = uuid.to_string();
        self.bases.add(Base {
            name: name.clone(),
            uuid,
            kind: Kind::Lvol(path.clone()),
            block: state.layout.io_unit_size,
            size_bytes: state.bytes(lvol),
            holds: Holds::Busy,
        });
        Some(Taken { name, path: path.into(), bare: Bare { device: device.into(), session: None } })
    }

    /// Looks for a store on a bdev that holds none, and gives that reply then.
    pub(super) fn examine(
        &mut self,
        stores: &mut StoreBackend,
        asker: Option<Asker>,
        place: Place,
        reply: Reply,
    ) -> Answer {
        let is_lvol = matches!(place, Place::Lvol(_));
        let Some(Taken { name, path, bare }) = self.take(stores, place) else {
            return Err(RpcError::refused(Errno::Perm));
        };
        let externals = self.externals.clone();
        self.work(asker, &name, move || {
            let ground = match examine(bare, path, &externals) {
                // It stays an lvol like any other.
                Ground::Nothing(_) if is_lvol => Ground::Gone,
                ground => ground,
            };
            (ground, reply)
        })
    }

    /// Looks for a store on an lvol.
    pub(super) fn examine_lvol(&mut self, stores: &mut StoreBackend, asker: Asker, name: &str) -> Answer {
        let site = self.site(stores, name).ok_or(RpcError::refused(Errno::NoDev))?;
        // What is in use is its users' business.
        if !site.is_free {
            return now(&true);
        }
        self.examine(stores, Some(asker), site.place, ResultText::of(&true))
    }
}

/// Opens the store on a device, if there is one.
fn examine(mut bare: Bare, path: PathBuf, externals: &[(String, PathBuf)]) -> Ground {
    let start = DeviceOp::Read { offset: DeviceOffset(0), buffer: Buffer::zeroed(4096) };
    let open = || {
        let start = complete(&mut bare.device, start)?.unwrap_or_default();
        if signature::name(start.as_slice()) != Some("an lvstore") {
            return Ok(Ground::Nothing(bare));
        }
        let opening = OpenOptions::writable(Uuid::new_v4().into_bytes(), bare.session);
        let store = Store::open(bare.device, open_external_files(externals)?, &opening)?;
        anyhow::Ok(Ground::Store(path.clone(), Box::new(store)))
    };
    match open() {
        Ok(ground) => ground,
        Err(cause) => {
            warn!(path = %path.display(), "not served: {cause:#}");
            Ground::Gone
        }
    }
}
