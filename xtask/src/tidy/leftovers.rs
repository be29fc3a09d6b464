//! Nothing of the workbench stays behind: no debug prints, no unfinished code, no notes to oneself.

use super::Finding;
use super::rust_code::{code_only, words};
use super::tree::Tree;

/// Macros, without their exclamation mark, that mark code as unfinished or under examination.
const MACROS: &[&str] = &["dbg", "todo", "unimplemented"];

/// Words in comments that mark a note to oneself. Put together here so that this file is not a finding.
const NOTES: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts(".rs").flat_map(|(path, text)| check_text(path, text)).collect()
}

fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let macros = code_only(text);
    let macros = words(&macros)
        .filter(|(_, word, next)| MACROS.contains(word) && *next == Some('!'))
        .map(|(line, word, _)| Finding::of_line(path, line, format!("leftover {word}!")));
    let notes = words(text)
        .filter(|(_, word, _)| NOTES.contains(word))
        .map(|(line, word, _)| Finding::of_line(path, line, format!("leftover {word}")));
    macros.chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn leftovers_are_found_and_lookalikes_are_not() {
        let note = concat!("fn f() {} // FIX", "ME later\n");
        let note_found = concat!("a.rs:1: leftover FIX", "ME");
        for (text, expected) in [
            ("fn f() {\n    dbg!(1);\n}\n", &["a.rs:2: leftover dbg!"][..]),
            ("fn f() { todo!() }\n", &["a.rs:1: leftover todo!"]),
            (note, &[note_found]),
            ("// dbg!(1) is not allowed\nfn todo() {}\nlet s = \"todo!\";\n", &[]),
        ] {
            assert_eq!(findings(check, &[("a.rs", text)]), expected, "{text:?}");
        }
    }
}
