//! Every crate root opens with what the crate is and promises.

use super::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts("/src/lib.rs")
        .chain(tree.texts("/src/main.rs"))
        .filter(|(_, text)| !opens_with_doc(text))
        .map(|(path, _)| Finding::of_file(path, "does not open with a `//!` comment that says what it is"))
        .collect()
}

fn opens_with_doc(text: &str) -> bool {
    text.lines().next().and_then(|line| line.strip_prefix("//!")).is_some_and(|doc| !doc.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn a_root_without_opening_doc_is_found() {
        let files = [
            ("crates/a/src/lib.rs", "//! A does a thing.\n"),
            ("crates/b/src/lib.rs", "use std::fs;\n//! Late.\n"),
            ("crates/c/src/main.rs", "//!\nfn main() {}\n"),
            ("crates/c/src/other.rs", "fn f() {}\n"),
            ("crates/d/src/lib.rs", ""),
        ];
        let message = "does not open with a `//!` comment that says what it is";
        let expected = ["crates/b/src/lib.rs", "crates/d/src/lib.rs", "crates/c/src/main.rs"]
            .map(|path| format!("{path}: {message}"));
        assert_eq!(findings(check, &files), expected);
    }
}
