//! What is kept of the thread that serves: how it is scheduled, and how often something else was.

use std::fs;
use std::time::Instant;

/// What is known of the scheduler, and whether switches of context are told of.
#[derive(Debug, Default)]
pub(super) struct Scheduling {
    /// What a client has set, in microseconds. Nothing happens at these times, as with SPDK's static scheduler.
    pub(super) period: u64,
    pub(super) monitor: Option<Monitor>,
}

/// Switches of context, and when they were looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Monitor {
    pub(super) looked: Instant,
    pub(super) switches: Switches,
}

/// Of a thread, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Switches {
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

impl Switches {
    /// From the text of `/proc/thread-self/status`.
    fn parse(status: &str) -> Self {
        let number = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
        };
        Self {
            voluntary: number("voluntary_ctxt_switches:"),
            involuntary: number("nonvoluntary_ctxt_switches:"),
        }
    }

    pub(super) fn of_this_thread() -> Self {
        Self::parse(&fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(Switches::parse(status), Switches { voluntary: 150, involuntary: 545 });
        assert_eq!(Switches::parse("else"), Switches::default());
    }
}
