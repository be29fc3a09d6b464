//! Links between the documents lead somewhere. Links to the outside are not followed.

use super::Finding;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        for (line, target) in targets(text) {
            let Some(file) = file_part(&target) else { continue };
            let problem = match resolve(path, file) {
                None => "leads out of the repository",
                Some(resolved) if !tree.contains(&resolved) => "leads nowhere",
                Some(_) => continue,
            };
            findings.push(Finding::of_line(path, line, format!("the link to {target} {problem}")));
        }
    }
    findings
}

/// The targets of inline links, `[text](target)`, and of definitions, `[text]: target`, with the number of
/// their line. Code, fenced or in backticks, holds none.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut targets = Vec::new();
    let mut fence = None;
    for (index, line) in text.lines().enumerate() {
        let marker = ["```", "~~~"].into_iter().find(|marker| line.trim_start().starts_with(marker));
        match (fence, marker) {
            (None, Some(_)) => fence = marker,
            (Some(open), Some(close)) if open == close => fence = None,
            (None, None) => targets.extend(line_targets(line).into_iter().map(|target| (index + 1, target))),
            (Some(_), _) => {}
        }
    }
    targets
}

fn line_targets(line: &str) -> Vec<String> {
    // Every second piece between backticks is code.
    let prose: Vec<&str> = line.split('`').step_by(2).collect();
    let prose = prose.join("`");
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let definition =
        prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    inline
        .chain(definition)
        // A title may follow the target.
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect()
}

/// The file that `target` names, without the place in it; `None` for the outside and for the same document.
fn file_part(target: &str) -> Option<&str> {
    let is_outside = target.contains("://") || target.starts_with("mailto:");
    let file = target.split('#').next().unwrap_or_default();
    (!is_outside && !file.is_empty()).then_some(file)
}

/// The path from the root that `file` means in the document at `from`; `None` if it climbs above the root.
fn resolve(from: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn a_link_must_lead_to_a_file_or_folder_of_the_repository() {
        for (text, expected) in [
            ("[a](format.md) and [b](../README.md#use), [c](../crates)\n", &[][..]),
            ("[web](https://example.org/x) [mail](mailto:a@b.c) [here](#part)\n", &[]),
            ("`[a](nowhere)` text\n```\n[a](nowhere)\n```\n", &[]),
            ("[a](format.md \"the format\") [b](<format.md>)\n", &[]),
            ("x\n[a](formats.md)\n", &["docs/a.md:2: the link to formats.md leads nowhere"]),
            ("[`code`](gone.md#x)\n", &["docs/a.md:1: the link to gone.md#x leads nowhere"]),
            ("[a]: gone.md\n", &["docs/a.md:1: the link to gone.md leads nowhere"]),
            ("[a](../../x.md)\n", &["docs/a.md:1: the link to ../../x.md leads out of the repository"]),
        ] {
            let files =
                [("docs/a.md", text), ("docs/format.md", ""), ("README.md", ""), ("crates/x/src/lib.rs", "")];
            assert_eq!(findings(check, &files), expected, "{text:?}");
        }
    }
}
