//! Tests that documents name are there: `offshoot-store/tests/space.rs::md_pages_run_out`, a file below `crates/` and a test
//! in it. A table of what is covered by what is worth as much as its tests.

use super::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        for (index, line) in text.lines().enumerate() {
            let missing = cited(line).filter(|(file, test)| !is_test(tree, file, test));
            findings.extend(missing.map(|(file, test)| {
                Finding::of_line(path, index + 1, format!("there is no test {test} in crates/{file}"))
            }));
        }
    }
    findings
}

/// The tests that a line names, by file and name.
fn cited(line: &str) -> impl Iterator<Item = (&str, &str)> {
    // Every second piece between backticks is code.
    let code = line.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once(".rs::").map(|(file, test)| (&code[..file.len() + 3], test)))
}

fn is_test(tree: &Tree, file: &str, test: &str) -> bool {
    let declared = format!("fn {test}(");
    tree.text(&format!("crates/{file}")).is_some_and(|text| {
        // The attribute stands above, with others or comments between at most.
        text.match_indices(&declared).any(|(at, _)| {
            let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let mut above = text[..line_start].lines().rev().take_while(|line| {
                let line = line.trim_start();
                line.starts_with("#[") || line.starts_with("//")
            });
            above.any(|line| line.trim() == "#[test]")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn what_is_cited_is_there() {
        let file = "#[test]\nfn one() {}\n\n#[test]\n#[ignore]\nfn two() {}\n\nfn three() {}\n";
        let table = [
            ("see `a/tests/x.rs::one` and `a/tests/x.rs::two`", ""),
            ("no code: a/tests/x.rs::four", ""),
            ("`x.rs` is a file, `Tree::of` a function", ""),
            ("`a/tests/x.rs::three`", "d.md:1: there is no test three in crates/a/tests/x.rs"),
            ("`a/tests/x.rs::on`", "d.md:1: there is no test on in crates/a/tests/x.rs"),
            ("`a/tests/y.rs::one`", "d.md:1: there is no test one in crates/a/tests/y.rs"),
        ];
        for (text, expected) in table {
            let found = findings(check, &[("crates/a/tests/x.rs", file), ("d.md", text)]);
            assert_eq!(found.join("\n"), expected, "{text}");
        }
    }
}
