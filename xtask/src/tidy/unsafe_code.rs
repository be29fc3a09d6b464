//! Unsafe code is allowed in the files of an allow-list, and the crates that read foreign bytes forbid it.

use super::Finding;
use super::rust_code::{code_only, words};
use super::tree::Tree;

/// Files, and folders ending with `/`, that talk to the kernel where no safe interface exists: the io_uring
/// driver, and the export drivers that share memory with a peer.
const ALLOWED: &[&str] = &[
    "crates/offshoot-device/src/file/uring.rs",
    "crates/offshoot-device/src/file/uring/",
    "crates/offshoot-nbd/src/export/",
];

/// Crates whose root must forbid unsafe code: what decodes disks and decides about them.
const FORBIDDING: &[&str] = &["offshoot-block", "offshoot-format", "offshoot-store"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs") {
        if !is_allowed(path) {
            findings.extend(
                words(&code_only(text))
                    .filter(|(_, word, _)| *word == "unsafe")
                    .map(|(line, ..)| Finding::of_line(path, line, "unsafe code outside the allow-list")),
            );
        }
    }
    for name in FORBIDDING {
        let root = format!("crates/{name}/src/lib.rs");
        if tree.text(&root).is_some_and(|text| !code_only(text).contains("#![forbid(unsafe_code)]")) {
            findings.push(Finding::of_file(&root, "the crate must carry #![forbid(unsafe_code)]"));
        }
    }
    findings
}

fn is_allowed(path: &str) -> bool {
    ALLOWED.iter().any(|entry| if entry.ends_with('/') { path.starts_with(entry) } else { path == *entry })
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn unsafe_outside_the_allow_list_is_found() {
        let files = [
            ("crates/offshoot/src/main.rs", "//! Binary.\nfn f() { unsafe {} }\n"),
            ("crates/offshoot-device/src/file/uring.rs", "unsafe {}"),
            ("crates/offshoot-device/src/file/uring/ring.rs", "unsafe {}"),
            (
                "crates/offshoot-device/src/threads.rs",
                "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)] \"unsafe\"",
            ),
        ];
        assert_eq!(
            findings(check, &files),
            ["crates/offshoot/src/main.rs:2: unsafe code outside the allow-list"]
        );
    }

    #[test]
    fn crates_that_must_forbid_it_are_checked() {
        let files = [
            ("crates/offshoot-format/src/lib.rs", "// #![forbid(unsafe_code)]\n"),
            ("crates/offshoot-store/src/lib.rs", "#![forbid(unsafe_code)]\n"),
        ];
        assert_eq!(
            findings(check, &files),
            ["crates/offshoot-format/src/lib.rs: the crate must carry #![forbid(unsafe_code)]"]
        );
    }
}
