//! How far long work has come: a bar on a terminal, a plain line now and then elsewhere.

use crate::size::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often a plain line is written. Short work writes none.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// The progress of one piece of work, on standard error.
#[derive(Debug)]
pub(crate) struct Progress {
    what: Cow<'static, str>,
    done: u64,
    total: Option<u64>,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
}

impl Progress {
    /// Work on `total` bytes begins; `None` when their number is not known.
    pub(crate) fn new(what: impl Into<Cow<'static, str>>, total: Option<u64>) -> Self {
        let what = what.into();
        if io::stderr().is_terminal() {
            let bar = bar(what.clone(), total);
            Self { what, done: 0, total, shown: Shown::Bar(bar) }
        } else {
            Self::lines(what, total)
        }
    }

    /// The same in plain lines, also on a terminal: for work beside others that write there.
    pub(crate) fn lines(what: impl Into<Cow<'static, str>>, total: Option<u64>) -> Self {
        Self { what: what.into(), done: 0, total, shown: Shown::Lines { last: Instant::now() } }
    }

    /// All up to here is done, in bytes.
    pub(crate) fn reach(&mut self, done: u64) {
        self.done = done;
        match &mut self.shown {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines { last } => {
                if last.elapsed() >= LINE_PERIOD {
                    *last = Instant::now();
                    let line = line(&self.what, done, self.total);
                    // Progress that nobody sees is no reason to stop.
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Takes the bar away: what comes next on the terminal is the outcome.
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: impl Into<Cow<'static, str>>, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} ETA {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> ")).with_message(what)
}

fn line(what: &str, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => {
            let percent = u128::from(done) * 100 / u128::from(total.max(1));
            format!("{what}: {} of {} ({percent} %)", Bytes(done), Bytes(total))
        }
        None => format!("{what}: {}", Bytes(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_plain() {
        assert_eq!(line("import", 1 << 20, Some(4 << 20)), "import: 1M of 4M (25 %)");
        assert_eq!(line("import", 0, Some(0)), "import: 0 of 0 (0 %)");
        assert_eq!(line("import", 5 << 30, None), "import: 5G");
    }

    #[test]
    fn templates_are_well_formed() {
        for total in [Some(10), None] {
            bar("work", total).set_position(5);
        }
    }
}
