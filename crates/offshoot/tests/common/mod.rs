//! What the end-to-end tests share.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod golden;

use std::env;
use std::io::{self, Write as _};

/// Says that the check `name` did not take place, and why. The test goes on or returns, and passes.
///
/// # Panics
///
/// In CI (`CI=true`), where nothing may be skipped.
pub(crate) fn skip(name: &str, why: &str) {
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "{name}: {why}; in CI nothing may be skipped");
    let line = format!("SKIPPED: {name}: {why}");
    // libtest captures what the macros print, and `cargo xtask test` finds it there, with the name of the test.
    // A plain `cargo test` would keep it to itself, so it goes to the terminal as well.
    #[expect(clippy::print_stderr, reason = "this is how a test speaks to the gate")]
    {
        eprintln!("{line}");
    }
    // The only thing to do about a closed terminal is to go on.
    let _ = writeln!(io::stderr(), "{line}");
}
