//! Rust source reduced to its code: comments and the contents of literals become blanks, so that a rule that
//! looks for a word is not misled by prose. Lines keep their numbers.

use std::iter::Peekable;
use std::str::Chars;

/// `source` with comments, string and character literals blanked out.
pub(crate) fn code_only(source: &str) -> String {
    let mut scanner = Scanner { rest: source.chars().peekable(), code: String::with_capacity(source.len()) };
    while let Some(c) = scanner.rest.next() {
        scanner.step(c);
    }
    scanner.code
}

/// The identifiers and keywords of `code`, with the number of their line (from 1) and the character that
/// follows them.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str, Option<char>)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        let boundaries = line.match_indices(|c: char| !is_word(c)).map(|(at, _)| at).chain([line.len()]);
        let mut start = 0;
        boundaries.filter_map(move |end| {
            let word = &line[start..end];
            let next = line[end..].chars().next();
            start = end + next.map_or(0, char::len_utf8);
            (!word.is_empty()).then_some((index + 1, word, next))
        })
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Scanner<'a> {
    rest: Peekable<Chars<'a>>,
    code: String,
}

impl Scanner<'_> {
    fn step(&mut self, c: char) {
        match (c, self.rest.peek().copied()) {
            ('/', Some('/')) => self.blank_line_comment(),
            ('/', Some('*')) => self.blank_block_comment(),
            ('"', _) => self.blank_until_quote('"'),
            ('\'', _) => self.blank_character_or_keep_lifetime(),
            ('r', Some('"' | '#')) if self.at_start_of_literal() => self.blank_raw_string(),
            _ => self.code.push(c),
        }
    }

    /// Whether an `r` that comes next starts a literal: it starts a word, or follows the `b` or `c` that does.
    fn at_start_of_literal(&self) -> bool {
        let before = self.code.strip_suffix(['b', 'c']).unwrap_or(&self.code);
        !before.ends_with(is_word)
    }

    fn blank_line_comment(&mut self) {
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0_usize;
        let mut last = '/';
        while let Some(c) = self.rest.next() {
            self.keep_newline(c);
            match (last, c) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    last = c;
                    continue;
                }
            }
            if depth == 0 {
                return;
            }
            // The two characters are used up: `/*/` opens a comment and does not close it.
            last = ' ';
        }
    }

    fn blank_until_quote(&mut self, quote: char) {
        self.code.push(quote);
        while let Some(c) = self.rest.next() {
            self.keep_newline(c);
            if c == '\\' {
                if let Some(escaped) = self.rest.next() {
                    self.keep_newline(escaped);
                }
            } else if c == quote {
                break;
            }
        }
        self.code.push(quote);
    }

    fn blank_character_or_keep_lifetime(&mut self) {
        let mut ahead = self.rest.clone();
        let first = ahead.next();
        if first == Some('\\') || ahead.next() == Some('\'') {
            self.blank_until_quote('\'');
        } else {
            self.code.push('\'');
        }
    }

    fn blank_raw_string(&mut self) {
        let mut ahead = self.rest.clone();
        let mut hashes = 0_usize;
        while ahead.next_if_eq(&'#').is_some() {
            hashes += 1;
        }
        if ahead.next() != Some('"') {
            // A raw identifier such as r#type.
            self.code.push('r');
            return;
        }
        self.rest = ahead;
        self.code.push('"');
        while let Some(c) = self.rest.next() {
            self.keep_newline(c);
            if c == '"' && (0..hashes).all(|_| self.rest.next_if_eq(&'#').is_some()) {
                break;
            }
        }
        self.code.push('"');
    }

    fn keep_newline(&mut self, c: char) {
        if c == '\n' {
            self.code.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        for (source, code) in [
            ("a // b\nc", "a \nc"),
            ("a /* b /* c */ d */ e", "a  e"),
            ("a /*/ b */ c", "a  c"),
            ("a /* b\n */ c", "a \n c"),
            (r#"f("x // y", 1)"#, r#"f("", 1)"#),
            (r#"f("a\"b", c)"#, r#"f("", c)"#),
            (r##"f(r#"a " b"#, c)"##, r#"f("", c)"#),
            (r##"f(br#"a"#, c)"##, r#"f(b"", c)"#),
            ("r#type = 1", "r#type = 1"),
            ("var\"x\"", "var\"\""),
            ("('\"', b'\\'', 'x')", "('', b'', '')"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }

    #[test]
    fn words_come_with_line_and_what_follows() {
        let found: Vec<_> = words("dbg!(x)\nunsafe_fn unsafe {").collect();
        let expected = [
            (1, "dbg", Some('!')),
            (1, "x", Some(')')),
            (2, "unsafe_fn", Some(' ')),
            (2, "unsafe", Some(' ')),
        ];
        assert_eq!(found, expected);
    }
}
