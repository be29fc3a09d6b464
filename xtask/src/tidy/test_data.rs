//! Test data stays small enough for every clone to carry it.

use super::Finding;
use super::tree::Tree;

/// For all folders named `testdata` together.
const TOTAL_BYTES_MAX: u64 = 6 << 20;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let data = |path: &str| path.split('/').any(|part| part == "testdata");
    let total: u64 = tree.sizes().filter(|(path, _)| data(path)).map(|(_, size)| size).sum();
    if total <= TOTAL_BYTES_MAX {
        return Vec::new();
    }
    let message = format!("{total} bytes of test data, at most {TOTAL_BYTES_MAX} allowed");
    vec![Finding::of_file("testdata", message)]
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn the_total_over_all_folders_counts() {
        let half = "x".repeat(3 << 20);
        let files = [("testdata/a", half.as_str()), ("crates/b/testdata/b", &half), ("src/c", "not data")];
        assert!(findings(check, &files).is_empty());
        let files = [files[0], files[1], ("testdata/c", "x")];
        assert_eq!(
            findings(check, &files),
            ["testdata: 6291457 bytes of test data, at most 6291456 allowed"]
        );
    }
}
