//! Methods about the server itself: its log, what has happened in it, what it is at, and signals to it.

use super::super::backend::StoreBackend;
use super::super::notices::{Event, Notice};
use super::super::openings::Export;
use super::answers::{Answer, now};
use super::desk::Desk;
use offshoot_rpc::RpcError;
use offshoot_rpc::types::framework::{KillInstance, Signal as Asked};
use offshoot_rpc::types::log::{LogFlag, SetLogLevel};
use offshoot_rpc::types::notify::{GetNotifications, Notification};
use offshoot_rpc::types::state::ServerState;
use rustix::process::{Signal, getpid, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often stores are looked at for what nobody asked for.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Signals.
impl Desk {
    /// Sends a signal to the server itself, which is answered before it is stopped by it.
    pub(super) fn kill_instance(params: &KillInstance) -> Answer {
        info!(signal = ?params.sig_name, "asked for over RPC");
        let signal = match params.sig_name {
            Asked::Int => Signal::INT,
            Asked::Term => Signal::TERM,
            Asked::Quit => Signal::QUIT,
            Asked::Hup => Signal::HUP,
            Asked::Kill => Signal::KILL,
            Asked::Usr1 => Signal::USR1,
        };
        kill_process(getpid(), signal).map_err(|cause| {
            warn!(%cause, "no signal sent");
            RpcError::INTERNAL
        })?;
        now(&true)
    }
}

/// The log.
impl Desk {
    pub(super) fn log_level(&self) -> Answer {
        now(&self.logging.level())
    }

    pub(super) fn set_log_level(&mut self, params: &SetLogLevel) -> Answer {
        self.logging.set_level(params.level);
        now(&true)
    }

    pub(super) fn log_flags(&self) -> Answer {
        now(&self.logging.flags().collect::<BTreeMap<_, _>>())
    }

    pub(super) fn set_log_flag(&mut self, params: &LogFlag, on: bool) -> Answer {
        if !self.logging.set_flag(&params.flag, on) {
            return Err(RpcError::PARAMS);
        }
        now(&true)
    }
}

/// What has happened.
impl Desk {
    pub(super) fn notification_types() -> Answer {
        now(&Event::ALL.map(Event::name))
    }

    pub(super) fn notifications(
        &mut self,
        stores: &StoreBackend,
        params: Option<&GetNotifications>,
    ) -> Answer {
        // What was answered before this was asked has happened.
        self.look(stores);
        let GetNotifications { id, max } = params.cloned().unwrap_or_default();
        let max = max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let notices = self.notices.since(id.unwrap_or(0)).take(max);
        let told = notices.map(|Notice { id, event, subject }| Notification {
            kind: event.name().to_owned(),
            ctx: subject.clone(),
            id: *id,
        });
        now(&told.collect::<Vec<_>>())
    }

    /// Takes note of what has happened, if it is time for that.
    pub(super) fn take_note(&mut self, stores: &mut StoreBackend) {
        let now = Instant::now();
        match self.looked.map(|looked| looked + LOOK_INTERVAL).filter(|next| now < *next) {
            Some(next) => self.look_again = Some(next),
            None => {
                (self.looked, self.look_again) = (Some(now), None);
                self.look(stores);
                self.watch_files(stores);
                self.look_for_devices(stores, now);
            }
        }
    }

    fn look(&mut self, stores: &StoreBackend) {
        for (_, store) in stores.stores() {
            let (engine, state) = (store.engine(), store.engine().state());
            let free = state.clusters.free() as u64;
            self.notices.space_is(&state.name(), free, state.layout.total_clusters.into());
            if engine.failure().is_some() {
                self.notices.store_failed(&state.name());
            }
        }
        if !std::mem::take(&mut self.bdevs_changed) {
            return;
        }
        let bases = self.bases.iter().filter(|base| base.is_there()).map(|base| base.name.clone());
        let lvols = stores.lvols().map(|(_, lvol)| lvol.uuid().unwrap_or_default().to_string());
        self.notices.bdevs_are(bases.chain(lvols).collect::<BTreeSet<_>>());
        let damaged = stores.lvols().filter(|(_, lvol)| lvol.damage.is_some());
        for (_, lvol) in damaged {
            self.notices.lvol_damaged(&lvol.uuid().unwrap_or_default().to_string());
        }
    }
}

/// What the server is at.
impl Desk {
    pub(super) fn dump_state(&self, stores: &StoreBackend) -> Answer {
        let at = Instant::now();
        let uptime = at.saturating_duration_since(self.started).as_millis();
        let connections = stores.lvols().filter_map(|(store, lvol)| {
            let count = stores.connections(Export { store, lvol: lvol.id });
            (count > 0).then(|| (lvol.uuid().unwrap_or_default().to_string(), count))
        });
        now(&ServerState {
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            waiting_calls: self.waiting_calls(),
            threads: self.works.running(),
            waiting_for_bdevs: self.awaited.len(),
            connections: connections.collect(),
            stores: stores.stores().map(|(_, store)| store.under_way(at)).collect(),
        })
    }
}
