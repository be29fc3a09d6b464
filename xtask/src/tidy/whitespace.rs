//! No tabs, no blanks at the end of a line, and a newline at the end of a file.

use super::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts("").flat_map(|(path, text)| check_text(path, text)).collect()
}

fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Not `lines()`, which would hide a carriage return.
    for (index, line) in text.split('\n').enumerate() {
        if line.contains('\t') {
            findings.push(Finding::of_line(path, index + 1, "tab"));
        }
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::of_line(path, index + 1, "blank at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::of_file(path, "no newline at the end"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn each_kind_is_found_with_its_line() {
        for (text, expected) in [
            ("fn f() {}\n", &[][..]),
            ("", &[]),
            ("a\n\tb\n", &["a.rs:2: tab"]),
            ("a \nb\n", &["a.rs:1: blank at the end of the line"]),
            ("a\r\n", &["a.rs:1: blank at the end of the line"]),
            ("a", &["a.rs: no newline at the end"]),
        ] {
            assert_eq!(findings(check, &[("a.rs", text)]), expected, "{text:?}");
        }
    }
}
