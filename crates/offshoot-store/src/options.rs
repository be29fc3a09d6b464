//! How a store is opened.

use crate::rules::Rules;

/// A time in which neither the machine nor the device has lost power. Two openings with the same session have the
/// same volatile caches below them.
pub use offshoot_format::SessionId as Session;

/// What an opener has to bring: the engine has no clock, no randomness, and does not know the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Whether nothing is ever written, whatever is asked.
    pub read_only: bool,
    /// Sixteen random bytes that no opening had before (R6). Not used when `read_only`.
    pub epoch: [u8; 16],
    /// Under which power the device runs. `None` when that cannot be told: then nothing behind the last barrier is
    /// trusted after a crash, and every reply waits for a barrier.
    pub session: Option<Session>,
    /// The rules to keep.
    pub rules: Rules,
    /// Whether damage is repaired. What a repair gives up for good an ordinary opening never touches.
    pub repair: bool,
}

impl OpenOptions {
    /// For looking only.
    #[must_use]
    pub fn read_only(session: Option<Session>) -> Self {
        Self { read_only: true, epoch: [0; 16], session, rules: Rules::ALL, repair: false }
    }

    /// For changing it.
    #[must_use]
    pub fn writable(epoch: [u8; 16], session: Option<Session>) -> Self {
        Self { read_only: false, epoch, session, rules: Rules::ALL, repair: false }
    }

    /// For changing it, and for repairing first what is damaged.
    #[must_use]
    pub fn repairing(epoch: [u8; 16], session: Option<Session>) -> Self {
        Self { repair: true, ..Self::writable(epoch, session) }
    }
}
