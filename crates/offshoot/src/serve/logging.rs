//! What the server logs, and how that is changed while it runs.

use offshoot_rpc::types::log::LogLevel;
use std::io::{self, IsTerminal as _};
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Environment variable that says what is logged, in the syntax of `tracing_subscriber`'s `EnvFilter`.
pub(crate) const LOG_VARIABLE: &str = "OFFSHOOT_LOG";

/// What is logged unless that variable says otherwise. A server that is refused says why in one line and nothing else.
const LOG_DEFAULT: &str = "warn";

/// Parts of the server of which everything can be logged, and their modules.
const FLAGS: [(&str, &str); 5] = [
    ("device", "offshoot_device"),
    ("nbd", "offshoot_nbd"),
    ("rpc", "offshoot_rpc"),
    ("serve", "offshoot::serve"),
    ("store", "offshoot_store"),
];

/// The filter in front of the log.
#[derive(Debug)]
pub(super) struct Logging {
    /// `None` where somebody else logs.
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    /// What was asked for at the start.
    directives: String,
    /// What was asked for since.
    level: Option<LogLevel>,
    flags: [bool; FLAGS.len()],
}

impl Logging {
    /// Logs on standard error from now on, unless somebody does already.
    pub(super) fn start() -> Self {
        let asked = std::env::var(LOG_VARIABLE).ok().filter(|text| EnvFilter::try_new(text).is_ok());
        let directives = asked.unwrap_or_else(|| LOG_DEFAULT.to_owned());
        let (filter, handle) = reload::Layer::new(EnvFilter::new(&directives));
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { handle: started.is_ok().then_some(handle), directives, level: None, flags: Default::default() }
    }

    /// Up to which level is logged.
    pub(super) fn level(&self) -> LogLevel {
        let at_start = || EnvFilter::new(&self.directives).max_level_hint();
        self.level.unwrap_or_else(|| level_of(at_start().unwrap_or(LevelFilter::TRACE)))
    }

    /// Logs up to that level from now on.
    pub(super) fn set_level(&mut self, level: LogLevel) {
        self.level = Some(level);
        self.apply();
    }

    /// The parts of the server, and whether everything of theirs is logged.
    pub(super) fn flags(&self) -> impl Iterator<Item = (&'static str, bool)> {
        FLAGS.iter().zip(self.flags).map(|((name, _), on)| (*name, on))
    }

    /// Logs everything of a part of the server, or of `all`, or does not any more. Whether there is such a part.
    pub(super) fn set_flag(&mut self, flag: &str, on: bool) -> bool {
        let mut known = false;
        for ((name, _), state) in FLAGS.iter().zip(&mut self.flags) {
            if flag == "all" || flag == *name {
                (*state, known) = (on, true);
            }
        }
        self.apply();
        known
    }

    /// The filter in words: what was asked for at the start, with the level since then in the place of the one there.
    fn text(&self) -> String {
        let stays = |part: &&str| self.level.is_none() || part.parse::<LevelFilter>().is_err();
        let at_start = self.directives.split(',').filter(stays).map(str::to_owned);
        let level = self.level.map(|level| filter_of(level).to_string());
        let flags = FLAGS.iter().zip(self.flags).filter(|(_, on)| *on);
        let flags = flags.map(|((_, module), _)| format!("{module}=trace"));
        at_start.chain(level).chain(flags).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
    }

    fn apply(&self) {
        if let Some(handle) = &self.handle
            && let Err(cause) = handle.reload(EnvFilter::new(self.text()))
        {
            warn!(%cause, "the log stays as it is");
        }
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        // There is one level for both here.
        LogLevel::Notice | LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

fn level_of(filter: LevelFilter) -> LogLevel {
    match filter {
        LevelFilter::OFF | LevelFilter::ERROR => LogLevel::Error,
        LevelFilter::WARN => LogLevel::Warning,
        LevelFilter::INFO => LogLevel::Info,
        _ => LogLevel::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logging(directives: &str) -> Logging {
        Logging { handle: None, directives: directives.to_owned(), level: None, flags: Default::default() }
    }

    #[test]
    fn a_level_leaves_modules_alone() {
        let mut logging = logging("warn,offshoot_nbd=debug");
        assert_eq!(logging.level(), LogLevel::Debug);
        logging.set_level(LogLevel::Notice);
        assert_eq!((logging.level(), &*logging.text()), (LogLevel::Notice, "offshoot_nbd=debug,info"));
        assert!(logging.set_flag("store", true));
        let filter = EnvFilter::new(logging.text());
        assert_eq!(filter.max_level_hint(), Some(LevelFilter::TRACE));
        assert!(logging.set_flag("store", false));
        assert_eq!(logging.text(), "offshoot_nbd=debug,info");
        assert!(!logging.set_flag("no such part", true));
    }

    #[test]
    fn a_level_takes_the_place_of_the_one_before() {
        let mut logging = logging("debug");
        assert_eq!(logging.level(), LogLevel::Debug);
        logging.set_level(LogLevel::Error);
        assert_eq!(EnvFilter::new(logging.text()).max_level_hint(), Some(LevelFilter::ERROR));
    }

    #[test]
    fn all_stands_for_every_part() {
        let mut logging = logging("warn");
        assert!(logging.set_flag("all", true));
        assert!(logging.flags().all(|(_, on)| on));
        assert!(logging.set_flag("nbd", false));
        assert_eq!(logging.flags().filter(|(_, on)| !on).collect::<Vec<_>>(), [("nbd", false)]);
    }
}
