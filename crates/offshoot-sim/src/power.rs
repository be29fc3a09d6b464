//! What openers bring: fresh epochs, and the session, which changes when the power goes.

use crate::disk::Cut;
use offshoot_store::{OpenOptions, Rules, Session};

/// The machine that a store is opened on.
#[derive(Clone, Debug)]
pub(crate) struct Power {
    rules: Rules,
    session_known: bool,
    /// How often the machine has booted, and the power has gone.
    generation: u64,
    openings: u128,
}

impl Power {
    pub(crate) fn new(rules: Rules, session_known: bool) -> Self {
        Self { rules, session_known, generation: 1, openings: 0 }
    }

    /// The world has ended once.
    pub(crate) fn after(&mut self, cut: Cut) {
        self.generation += u64::from(cut != Cut::Kill);
    }

    pub(crate) fn writable(&mut self) -> OpenOptions {
        self.openings += 1;
        // A store that grows counts its epochs on: far from those of other openings, as random ones are.
        let epoch = (self.openings << 64).to_le_bytes();
        OpenOptions { rules: self.rules, ..OpenOptions::writable(epoch, self.session()) }
    }

    pub(crate) fn read_only(&self) -> OpenOptions {
        OpenOptions { rules: self.rules, ..OpenOptions::read_only(self.session()) }
    }

    fn session(&self) -> Option<Session> {
        let session = Session { boot_id: [9; 16], device_generation: self.generation };
        self.session_known.then_some(session)
    }
}
