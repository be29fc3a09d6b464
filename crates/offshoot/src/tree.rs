//! Drawing families: what hangs under what.

use std::collections::HashSet;

/// Levels that are drawn side by side. A chain of snapshots may be a thousand times as deep.
const LEVELS_MAX: usize = 40;

/// Characters of one level.
const COLUMN: usize = 3;

/// The lines of a forest in depth-first order: for each element its index and what to draw before it. `below` names the
/// elements under one, in the order in which they are to be shown. Whatever it says, no element is drawn twice.
pub(crate) fn draw(roots: &[usize], below: impl Fn(usize) -> Vec<usize>) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut drawn = HashSet::new();
    // An element, what to draw under it for the elements to come, and its own line's prefix. No recursion: a chain of
    // snapshots may be longer than the stack is deep.
    let mut waiting: Vec<(usize, String, String)> =
        roots.iter().rev().map(|root| (*root, String::new(), String::new())).collect();
    while let Some((element, prefix, indent)) = waiting.pop() {
        if !drawn.insert(element) {
            continue;
        }
        lines.push((element, prefix));
        // Past the last column that is drawn, the trunks on the left run out of sight.
        let hidden = (indent.chars().count() / COLUMN).saturating_sub(LEVELS_MAX - 1);
        let indent: String = indent.chars().skip(hidden * COLUMN).collect();
        for (position, child) in below(element).into_iter().rev().enumerate() {
            let (branch, trunk) = if position == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            waiting.push((child, format!("{indent}{branch}"), format!("{indent}{trunk}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(roots: &[usize], edges: &[(usize, &[usize])], expected: &[&str]) {
        let below = |element: usize| {
            let edge = edges.iter().find(|(from, _)| *from == element);
            edge.map_or(Vec::new(), |(_, to)| to.to_vec())
        };
        let lines = draw(roots, below);
        let lines: Vec<String> =
            lines.into_iter().map(|(element, prefix)| format!("{prefix}{element}")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn families_are_drawn() {
        check(&[], &[], &[]);
        check(&[1, 2], &[], &["1", "2"]);
        check(
            &[0, 9],
            &[(0, &[1, 2, 3]), (1, &[4]), (3, &[5, 6])],
            &["0", "├─ 1", "│  └─ 4", "├─ 2", "└─ 3", "   ├─ 5", "   └─ 6", "9"],
        );
    }

    #[test]
    fn a_circle_ends() {
        check(&[0], &[(0, &[1]), (1, &[0])], &["0", "└─ 1"]);
    }

    #[test]
    fn a_long_chain_stays_on_the_screen_and_on_the_stack() {
        let lines = draw(&[0], |element| if element < 3000 { vec![element + 1] } else { vec![] });
        assert_eq!(lines.len(), 3001);
        assert_eq!(lines[3000].1.chars().count(), LEVELS_MAX * COLUMN);
        assert!(lines[3000].1.ends_with("└─ "));
    }
}
