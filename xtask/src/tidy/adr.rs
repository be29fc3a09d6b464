//! Decision records: `docs/adr/NNNN-title.md`, each with its number and a title in the first line, each listed in
//! `ARCHITECTURE.md`.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

const FOLDER: &str = "docs/adr/";
const LIST: &str = "ARCHITECTURE.md";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let list = tree.text(LIST).unwrap_or_default();
    let mut numbers = BTreeMap::new();
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        let Some(name) = path.strip_prefix(FOLDER).filter(|name| *name != "README.md") else {
            continue;
        };
        let Some(number) = number_of(name) else {
            findings.push(Finding::of_file(path, "is not named NNNN-title.md"));
            continue;
        };
        if let Some(other) = numbers.insert(number, path) {
            findings.push(Finding::of_file(path, format!("has the number of {other}")));
        }
        if !has_title(text, number) {
            findings.push(Finding::of_line(path, 1, format!("must read `# {number}: Title`")));
        }
        if !list.contains(name) {
            findings.push(Finding::of_file(path, format!("is not listed in {LIST}")));
        }
    }
    findings
}

/// The four digits that a record's file name starts with.
fn number_of(name: &str) -> Option<&str> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let is_number = number.len() == 4 && number.bytes().all(|digit| digit.is_ascii_digit());
    let is_title = !title.is_empty() && title.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    (is_number && is_title).then_some(number)
}

/// Accepts `# 0007: Title`, also with `ADR` before the number and a dot or a dash after it.
fn has_title(text: &str, number: &str) -> bool {
    let heading = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    let heading = heading.strip_prefix("ADR").unwrap_or(heading).trim_start_matches([' ', '-']);
    let title =
        heading.strip_prefix(number).and_then(|rest| rest.trim_start().strip_prefix([':', '.', '-', '—']));
    title.is_some_and(|title| !title.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn each_way_to_be_wrong_is_found() {
        let list = (LIST, "- [one](docs/adr/0001-one.md)\n- [two](docs/adr/0002-two.md)\n");
        for (path, text, expected) in [
            ("docs/adr/0001-one.md", "# 0001: One\n", &[][..]),
            ("docs/adr/0001-one.md", "# ADR 0001. One\n", &[]),
            ("docs/adr/README.md", "What this is\n", &[]),
            ("docs/adr/0001-one.md", "# One\n", &["docs/adr/0001-one.md:1: must read `# 0001: Title`"]),
            ("docs/adr/0001-one.md", "# 0001: \n", &["docs/adr/0001-one.md:1: must read `# 0001: Title`"]),
            ("docs/adr/0003-x.md", "# 0003: X\n", &["docs/adr/0003-x.md: is not listed in ARCHITECTURE.md"]),
            ("docs/adr/3-x.md", "# 3: X\n", &["docs/adr/3-x.md: is not named NNNN-title.md"]),
            ("docs/adr/0001 One.md", "# 0001: One\n", &["docs/adr/0001 One.md: is not named NNNN-title.md"]),
        ] {
            assert_eq!(findings(check, &[list, (path, text)]), expected, "{path} {text:?}");
        }
    }

    #[test]
    fn a_number_is_given_once() {
        let files = [
            (LIST, "0001-one.md 0001-other.md"),
            ("docs/adr/0001-one.md", "# 0001: One\n"),
            ("docs/adr/0001-other.md", "# 0001: Other\n"),
        ];
        assert_eq!(
            findings(check, &files),
            ["docs/adr/0001-other.md: has the number of docs/adr/0001-one.md"]
        );
    }
}
