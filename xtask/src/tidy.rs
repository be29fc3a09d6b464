//! The house rules that neither the compiler nor clippy knows. Each rule is a pure function from the tree of
//! source files to what it finds wrong, in a file of its own, with tests that show that it can fail.

mod adr;
mod cited_tests;
mod crate_docs;
mod file_length;
mod floors;
mod leftovers;
mod links;
mod rust_code;
mod test_data;
mod tree;
mod unsafe_code;
mod whitespace;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use tree::Tree;

/// The rules, in the order in which their findings are shown.
const RULES: &[fn(&Tree) -> Vec<Finding>] = &[
    floors::check,
    unsafe_code::check,
    crate_docs::check,
    file_length::check,
    whitespace::check,
    leftovers::check,
    adr::check,
    links::check,
    cited_tests::check,
    test_data::check,
];

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Relative to the root of the workspace, with `/` between the parts.
    path: String,
    /// Counted from 1; `None` when the finding is about the whole file or folder.
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn of_file(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, message: message.into() }
    }

    fn of_line(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(line), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Applies every rule to the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    Ok(RULES.iter().flat_map(|rule| rule(&tree)).collect())
}

/// The findings of `rule` over the files given as (path, text), in short form, for tables in tests.
#[cfg(test)]
fn findings(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::of(files)).iter().map(ToString::to_string).collect()
}
