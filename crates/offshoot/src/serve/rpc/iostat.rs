//! Methods of statistics: the same counters as the metrics, as SPDK's clients ask for them.
//!
//! A tick is a nanosecond. Of a bdev that a store is on, only what the device was asked is known, not how long it took.

use super::super::backend::StoreBackend;
use super::super::histogram::{GRANULARITY, GRANULARITY_DEFAULT, Histogram};
use super::super::openings::Export;
use super::super::stats::{LvolStats, Op, OpStats, Reset};
use super::answers::{Answer, now};
use super::base64;
use super::bases::{Base, Bases, Holds};
use super::desk::Desk;
use super::resolve::{self, Found};
use offshoot_device::{DeviceStats, HostDevice as _};
use offshoot_rpc::types::bdev::BdevName;
use offshoot_rpc::types::iostat::{
    BdevHistogram, BdevIostat, ChannelIostat, ChannelsIostat, EnableHistogram, GetIostat, IoCounts, Iostat,
    ResetIostat, ResetMode,
};
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, RpcError};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ticks of a second.
pub(super) const TICK_RATE: u64 = 1_000_000_000;

/// A time in ticks.
pub(super) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A bdev of a name.
enum Named<'d> {
    Base(&'d Base),
    Lvol(Found<'d>),
}

impl Desk {
    pub(super) fn get_iostat(&self, stores: &mut StoreBackend, params: Option<GetIostat>) -> Answer {
        let GetIostat { names, per_channel, reset_mode } = params.unwrap_or_default();
        let bdevs: Vec<BdevIostat> = match &names {
            None => {
                let bases = self.bases.iter().filter(|base| base.is_there()).map(Named::Base);
                let lvols = stores.lvols().map(|(store, lvol)| Named::Lvol(Found { store, lvol }));
                bases.chain(lvols).map(|bdev| iostat(&self.bases, stores, &bdev)).collect()
            }
            Some(names) => {
                let named =
                    names.iter().map(|name| Ok(iostat(&self.bases, stores, &self.named(stores, name)?)));
                named.collect::<Result<_, RpcError>>()?
            }
        };
        let ticks = ticks(self.started.elapsed());
        let answer = match (per_channel, &names, &bdevs[..]) {
            (Some(true), Some(_), [BdevIostat { name, counts }]) => {
                // Everything happens on one thread.
                let channels = vec![ChannelIostat { thread_id: 1, counts: counts.clone() }];
                now(&ChannelsIostat { tick_rate: TICK_RATE, ticks, name: name.clone(), channels })?
            }
            (Some(true), ..) => return Err(RpcError::refused(Errno::Inval)),
            _ => now(&Iostat { tick_rate: TICK_RATE, ticks, bdevs })?,
        };
        if let Some(what) = reset_mode.and_then(reset) {
            match names {
                None => stores.reset_stats(None, what),
                Some(names) => {
                    let lvols =
                        names.iter().filter_map(|name| resolve::find(stores, LvolSelector::new(name)));
                    let lvols: Vec<Export> = lvols.map(Found::export).collect();
                    lvols.into_iter().for_each(|lvol| stores.reset_stats(Some(lvol), what));
                }
            }
        }
        Ok(answer)
    }

    pub(super) fn reset_iostat(&self, stores: &mut StoreBackend, params: Option<&ResetIostat>) -> Answer {
        let what = params.and_then(|params| params.mode).map_or(Some(Reset::All), reset);
        let lvol = match params.and_then(|params| params.name.as_deref()) {
            None => None,
            Some(name) => match self.named(stores, name)? {
                Named::Lvol(found) => Some(found.export()),
                // What its device counts goes on for the metrics.
                Named::Base(_) => return Err(RpcError::refused(Errno::NotSup)),
            },
        };
        if let Some(what) = what {
            stores.reset_stats(lvol, what);
        }
        now(&true)
    }

    pub(super) fn enable_histogram(stores: &mut StoreBackend, params: &EnableHistogram) -> Answer {
        let found = resolve::lvol(stores, LvolSelector::new(&params.name))?;
        let granularity = params.granularity.map_or(GRANULARITY_DEFAULT, u32::from);
        if !GRANULARITY.contains(&granularity) {
            return Err(RpcError::refused(Errno::Inval));
        }
        let only = params.opc.as_deref().map(|name| Op::ALL.into_iter().find(|op| op.name() == name));
        let only = only.map(|op| op.ok_or(RpcError::refused(Errno::Inval))).transpose()?;
        let histogram = params.enable.then(|| Histogram::new(granularity, only));
        let lvol = found.export();
        stores.set_histogram(lvol, histogram);
        now(&true)
    }

    pub(super) fn get_histogram(stores: &StoreBackend, params: &BdevName) -> Answer {
        let found = resolve::lvol(stores, LvolSelector::new(&params.name))?;
        let store = stores.store(found.store).ok_or(RpcError::INTERNAL)?;
        // SPDK's word for one that was not enabled.
        let histogram = store.histogram(found.lvol.id).ok_or(RpcError::refused(Errno::Fault))?;
        now(&BdevHistogram {
            histogram: base64::encode(&histogram.bytes()),
            granularity: histogram.granularity(),
            min_range: 0,
            max_range: histogram.last_range(),
            tsc_rate: TICK_RATE,
        })
    }

    fn named<'d>(&'d self, stores: &'d StoreBackend, name: &str) -> Result<Named<'d>, RpcError> {
        match self.bases.find(name).filter(|base| base.is_there()) {
            Some(base) => Ok(Named::Base(base)),
            None => resolve::lvol(stores, LvolSelector::new(name)).map(Named::Lvol),
        }
    }
}

/// What the device of a bdev was asked, whoever has it.
fn device_stats(bases: &Bases, stores: &StoreBackend, base: &Base) -> DeviceStats {
    match &base.holds {
        Holds::Nothing(bare) | Holds::Snapshot(Some(bare)) => bare.device.stats(),
        Holds::Store(id) => stores.store(*id).map_or_else(DeviceStats::default, |store| store.device_stats()),
        // What a device over another one is asked and does is all asked of that one.
        Holds::Below => {
            let over = bases.over(&base.name);
            over.map_or_else(DeviceStats::default, |over| device_stats(bases, stores, over))
        }
        Holds::Snapshot(None) | Holds::Busy => DeviceStats::default(),
    }
}

fn iostat(bases: &Bases, stores: &StoreBackend, bdev: &Named<'_>) -> BdevIostat {
    match bdev {
        Named::Base(base) => {
            let stats = device_stats(bases, stores, base);
            BdevIostat { name: base.name.clone(), counts: of_device(&stats) }
        }
        Named::Lvol(Found { store, lvol }) => {
            let stats = stores.store(*store).and_then(|store| store.stats(lvol.id));
            let counts = stats.map(of_lvol).unwrap_or_default();
            BdevIostat { name: lvol.uuid().unwrap_or_default().to_string(), counts }
        }
    }
}

fn of_device(stats: &DeviceStats) -> IoCounts {
    IoCounts {
        bytes_read: stats.reads.bytes,
        num_read_ops: stats.reads.ops,
        bytes_written: stats.writes.bytes + stats.write_zeroes.bytes,
        num_write_ops: stats.writes.ops + stats.write_zeroes.ops,
        bytes_unmapped: stats.unmaps.bytes,
        num_unmap_ops: stats.unmaps.ops,
        ..IoCounts::default()
    }
}

fn of_lvol(stats: &LvolStats) -> IoCounts {
    let [read, write, unmap, zeroes, flush] = Op::ALL.map(|op| stats.recent(op));
    let longest = |stats: &OpStats| stats.slowest_ns.unwrap_or(0);
    let shortest = |stats: &OpStats| stats.fastest_ns.unwrap_or(0);
    let errors: u64 = [read, write, unmap, zeroes, flush].iter().map(|stats| stats.errors).sum();
    IoCounts {
        bytes_read: read.bytes,
        num_read_ops: read.count,
        bytes_written: write.bytes + zeroes.bytes,
        num_write_ops: write.count + zeroes.count,
        bytes_unmapped: unmap.bytes,
        num_unmap_ops: unmap.count,
        read_latency_ticks: read.latency_ns,
        max_read_latency_ticks: longest(&read),
        min_read_latency_ticks: shortest(&read),
        write_latency_ticks: write.latency_ns + zeroes.latency_ns,
        max_write_latency_ticks: longest(&write).max(longest(&zeroes)),
        min_write_latency_ticks: [write, zeroes]
            .iter()
            .filter_map(|stats| stats.fastest_ns)
            .min()
            .unwrap_or(0),
        unmap_latency_ticks: unmap.latency_ns,
        max_unmap_latency_ticks: longest(&unmap),
        min_unmap_latency_ticks: shortest(&unmap),
        io_error: if errors > 0 { BTreeMap::from([("failed".to_owned(), errors)]) } else { BTreeMap::new() },
        ..IoCounts::default()
    }
}

fn reset(mode: ResetMode) -> Option<Reset> {
    match mode {
        ResetMode::All => Some(Reset::All),
        ResetMode::Maxmin => Some(Reset::Extremes),
        ResetMode::Error => Some(Reset::Errors),
        ResetMode::None => None,
    }
}
