//! `bdev_set_qos_limit`: from MiB and milliseconds to what an lvol is limited to, and back.

use super::super::backend::StoreBackend;
use super::super::qos::Limits;
use super::answers::{Answer, now};
use super::desk::Desk;
use super::resolve;
use offshoot_rpc::types::bdev::RateLimits;
use offshoot_rpc::types::qos::SetQosLimit;
use offshoot_rpc::types::selector::LvolSelector;
use offshoot_rpc::{Errno, RpcError};
use std::time::Duration;

const MIB: u64 = 1 << 20;

impl Desk {
    pub(super) fn set_qos_limit(&self, stores: &mut StoreBackend, params: &SetQosLimit) -> Answer {
        if self.bases.find(&params.name).is_some_and(|base| base.is_there()) {
            return Err(RpcError::refused(Errno::NotSup));
        }
        let lvol = resolve::lvol(stores, LvolSelector::new(&params.name))?.export();
        let store = stores.store(lvol.store).ok_or(RpcError::INTERNAL)?;
        let current = store.limits(lvol.lvol);
        let rates = params.over(rate_limits(current)).ok_or(RpcError::refused(Errno::Inval))?;
        let burst = params.burst_ms.map_or(current.burst, Duration::from_millis);
        stores.set_limits(lvol, limits(rates, burst));
        now(&true)
    }
}

/// Limits as SPDK's clients see them.
pub(super) fn rate_limits(limits: Limits) -> RateLimits {
    RateLimits {
        rw_ios_per_sec: limits.ops,
        rw_mbytes_per_sec: limits.bytes / MIB,
        r_mbytes_per_sec: limits.bytes_read / MIB,
        w_mbytes_per_sec: limits.bytes_written / MIB,
    }
}

/// MiB that have been checked to be a number of bytes.
fn limits(rates: RateLimits, burst: Duration) -> Limits {
    let bytes = |mib: u64| mib.saturating_mul(MIB);
    Limits {
        ops: rates.rw_ios_per_sec,
        bytes: bytes(rates.rw_mbytes_per_sec),
        bytes_read: bytes(rates.r_mbytes_per_sec),
        bytes_written: bytes(rates.w_mbytes_per_sec),
        burst,
    }
}
