//! What goes wrong with single operations.

use super::change::Change;
use offshoot_block::DeviceError;
pub use offshoot_block::OpKind;
use std::ops::Range;

/// What happens to an operation that a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails. A failed write leaves each of its sectors old or new.
    Fail(DeviceError),
    /// A sync fails, and what it should have made durable is gone.
    LoseCache,
    /// It completes only when so many others have, or nothing else is left to complete.
    Delay {
        /// How many others.
        completions: u64,
    },
    /// It completes only once it is released, or never.
    Hang,
}

/// Which operations are struck, and what happens to them. By default every one from now on.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    kind: Option<OpKind>,
    range: Option<Range<u64>>,
    skip: u64,
    count: u64,
}

impl Fault {
    /// Strikes everything.
    #[must_use]
    pub fn new(effect: Effect) -> Self {
        Self { effect, kind: None, range: None, skip: 0, count: u64::MAX }
    }

    /// Operations of one kind only.
    #[must_use]
    pub fn on(self, kind: OpKind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Operations that touch a range of bytes only. A sync touches none.
    #[must_use]
    pub fn within(self, range: Range<u64>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Not the first `skip` of them.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Only so many of them.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self { count, ..self }
    }

    /// Whether it may yet make something hang.
    pub(super) fn hangs(&self) -> bool {
        self.effect == Effect::Hang && self.count > 0
    }

    /// Counts an operation of this kind and range, and says what happens to it.
    pub(super) fn strike(&mut self, kind: OpKind, touches: Range<u64>) -> Option<Effect> {
        let overlaps = |range: &Range<u64>| touches.start < range.end && range.start < touches.end;
        if self.kind.is_some_and(|wanted| wanted != kind) || !self.range.as_ref().is_none_or(overlaps) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.count = self.count.checked_sub(1)?;
        Some(self.effect)
    }
}

/// Operations that never complete until they are released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Writes that touch a range of bytes: appends, when the range is the journal's.
    Writes(Range<u64>),
    /// Syncs.
    Syncs,
}

impl Withheld {
    pub(super) fn holds(&self, kind: OpKind, change: Option<&Change>) -> bool {
        match self {
            Self::Syncs => kind == OpKind::Sync,
            Self::Writes(range) => {
                change.is_some_and(|change| {
                    change.offset < range.end && range.start < change.offset + change.len
                }) && kind == OpKind::Write
            }
        }
    }
}
