//! No file outgrows its reader: one idea per file.

use super::Finding;
use super::tree::Tree;

const LINES_MAX: usize = 900;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts("")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| Finding::of_file(path, format!("{lines} lines, at most {LINES_MAX} allowed")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_one_line_more_is_not() {
        let files = [("a.rs", "x\n".repeat(LINES_MAX)), ("b.rs", "x\n".repeat(LINES_MAX + 1))];
        let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
        assert_eq!(findings(check, &files), ["b.rs: 901 lines, at most 900 allowed"]);
    }
}
