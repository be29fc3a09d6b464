//! Limits on what may be asked of a bdev.

use super::bdev::RateLimits;
use serde::{Deserialize, Serialize};

/// Operations a second are a multiple of this (SPDK: `SPDK_BDEV_QOS_MIN_IOS_PER_SEC`).
const OPS_UNIT: u64 = 1000;

const MIB: u64 = 1 << 20;

/// The longest burst, in milliseconds.
const BURST_MS_MAX: u64 = 60_000;

/// Parameters of `bdev_set_qos_limit`. A limit of 0 is none, one that is absent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetQosLimit {
    /// The bdev.
    pub name: String,
    /// I/Os a second, rounded up to thousands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rw_ios_per_sec: Option<u64>,
    /// MiB a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rw_mbytes_per_sec: Option<u64>,
    /// MiB read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r_mbytes_per_sec: Option<u64>,
    /// MiB written a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub w_mbytes_per_sec: Option<u64>,
    /// How long a limit saves up what nobody uses, in milliseconds, 1 to 60,000. Not in SPDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u64>,
}

impl SetQosLimit {
    /// The limits that take the place of `current`. `None`: nothing is to be changed, or to what cannot be.
    #[must_use]
    pub fn over(&self, current: RateLimits) -> Option<RateLimits> {
        let Self { name: _, rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec, burst_ms } =
            self;
        let members = [rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec, burst_ms];
        if members.iter().all(|member| member.is_none())
            || burst_ms.is_some_and(|burst| !(1..=BURST_MS_MAX).contains(&burst))
        {
            return None;
        }
        let bytes = |mib: Option<u64>, current| {
            let mib: u64 = mib.unwrap_or(current);
            mib.checked_mul(MIB).map(|_| mib)
        };
        Some(RateLimits {
            rw_ios_per_sec: rw_ios_per_sec
                .unwrap_or(current.rw_ios_per_sec)
                .checked_next_multiple_of(OPS_UNIT)?,
            rw_mbytes_per_sec: bytes(*rw_mbytes_per_sec, current.rw_mbytes_per_sec)?,
            r_mbytes_per_sec: bytes(*r_mbytes_per_sec, current.r_mbytes_per_sec)?,
            w_mbytes_per_sec: bytes(*w_mbytes_per_sec, current.w_mbytes_per_sec)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(ops: u64, bytes: u64, read: u64, written: u64) -> RateLimits {
        RateLimits {
            rw_ios_per_sec: ops,
            rw_mbytes_per_sec: bytes,
            r_mbytes_per_sec: read,
            w_mbytes_per_sec: written,
        }
    }

    #[test]
    fn what_is_absent_stays_and_operations_are_rounded_up() {
        let huge = (u64::MAX / MIB + 1).to_string();
        for (members, expected) in [
            ("", None),
            (r#","rw_ios_per_sec":1"#, Some(limits(1000, 20, 30, 40))),
            (r#","rw_ios_per_sec":2000"#, Some(limits(2000, 20, 30, 40))),
            (r#","rw_ios_per_sec":2001,"r_mbytes_per_sec":0"#, Some(limits(3000, 20, 0, 40))),
            (r#","rw_ios_per_sec":0,"rw_mbytes_per_sec":7"#, Some(limits(0, 7, 30, 40))),
            (r#","w_mbytes_per_sec":1"#, Some(limits(5000, 20, 30, 1))),
            (r#","burst_ms":1"#, Some(limits(5000, 20, 30, 40))),
            (r#","burst_ms":0"#, None),
            (r#","burst_ms":60001"#, None),
            (r#","rw_ios_per_sec":18446744073709551615"#, None),
            (&format!(r#","w_mbytes_per_sec":{huge}"#), None),
        ] {
            let params: SetQosLimit = serde_json::from_str(&format!(r#"{{"name":"a"{members}}}"#)).unwrap();
            assert_eq!(params.over(limits(5000, 20, 30, 40)), expected, "{members}");
        }
    }
}
