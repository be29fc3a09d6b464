//! How a command ends: what it says, and its exit status.

use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// The end of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// What was asked for is done.
    Done,
    /// `check` found damage.
    Damage,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Damage => Self::from(3),
        }
    }
}

/// Says in one line what was done. It is done, whether anybody listens or not.
pub(crate) fn done(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Says what is a text of whole lines, or nothing.
pub(crate) fn text(lines: &str) {
    let _ = io::stdout().write_all(lines.as_bytes());
}

/// Says in one line why nothing was done. Nothing at all when a reader of standard output went away: they know.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if !is_broken_pipe(error) {
        let _ = writeln!(io::stderr(), "offshoot: {}", one_line(error));
    }
    ExitCode::FAILURE
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == ErrorKind::BrokenPipe)
}

/// The error and its causes, without those that the one above has quoted, on one line of plain text.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    plain(&line)
}

/// Text from outside, such as a path, without the control characters that could move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    let escaped = |char: char| {
        let (escape, keep) =
            if char.is_control() { (Some(char.escape_default()), None) } else { (None, Some(char)) };
        escape.into_iter().flatten().chain(keep)
    };
    text.chars().flat_map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn errors_are_one_line_and_say_nothing_twice() {
        let outer = |inner: &str, outer: &str| {
            let error = Err::<(), _>(anyhow!("{inner}")).context(outer.to_owned());
            one_line(&error.unwrap_err())
        };
        assert_eq!(outer("no space", "cannot write"), "cannot write: no space");
        assert_eq!(outer("no space", "a.img: no space"), "a.img: no space");
        assert_eq!(outer("a\nb", "x\u{1b}[2J"), "x\\u{1b}[2J: a\\nb");
    }

    #[test]
    fn a_reader_that_left_is_recognised_below_any_context() {
        let error = anyhow::Error::from(io::Error::from(ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&error.context("standard output")));
        assert!(!is_broken_pipe(&anyhow!("broken pipe")));
    }
}
