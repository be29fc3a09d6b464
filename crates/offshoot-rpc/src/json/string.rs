//! Strings: escapes and UTF-8, byte by byte.

use std::borrow::Cow;

/// What a string waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// A character, an escape or the end.
    Plain,
    /// What stands behind a backslash.
    Escape,
    /// So many hexadecimal digits of `\uXXXX`.
    Hex { left: u8, unit: u16, after: Option<Surrogate> },
    /// The backslash of a low surrogate, which has to follow a high one.
    LowBackslash,
    /// Its `u`.
    LowU,
    /// The next byte of a character, within these, and how many come after that.
    Continuation { low: u8, high: u8, left: u8 },
}

/// The first half of a character was escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Surrogate;

/// How a string goes on with a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It does.
    More(Text),
    /// The byte is the quote at its end.
    Ended,
    /// It cannot go on so.
    Invalid,
}

impl Text {
    /// The state after one more byte.
    pub(super) fn next(self, byte: u8) -> Next {
        match (self, byte) {
            (Self::Plain, b'"') => Next::Ended,
            (Self::Plain, b'\\') => Next::More(Self::Escape),
            (Self::Plain, 0x20..=0x7f) => Next::More(Self::Plain),
            (Self::Plain, _) => first_of_many(byte).map_or(Next::Invalid, Next::More),
            (Self::Escape, b'b' | b'f' | b'n' | b'r' | b't' | b'/' | b'"' | b'\\') => Next::More(Self::Plain),
            (Self::Escape, b'u') => Next::More(Self::Hex { left: 4, unit: 0, after: None }),
            (Self::LowBackslash, b'\\') => Next::More(Self::LowU),
            (Self::LowU, b'u') => Next::More(Self::Hex { left: 4, unit: 0, after: Some(Surrogate) }),
            (Self::Hex { left, unit, after }, _) => hex(left, unit, after, byte),
            (Self::Continuation { low, high, left }, _) if (low..=high).contains(&byte) => {
                Next::More(match left {
                    0 => Self::Plain,
                    _ => Self::Continuation { low: 0x80, high: 0xbf, left: left - 1 },
                })
            }
            _ => Next::Invalid,
        }
    }
}

/// The state after the first byte of a character of several.
fn first_of_many(byte: u8) -> Option<Text> {
    let (low, high, left) = match byte {
        0xc2..=0xdf => (0x80, 0xbf, 0),
        0xe0 => (0xa0, 0xbf, 1),
        0xed => (0x80, 0x9f, 1),
        0xe1..=0xef => (0x80, 0xbf, 1),
        0xf0 => (0x90, 0xbf, 2),
        0xf1..=0xf3 => (0x80, 0xbf, 2),
        0xf4 => (0x80, 0x8f, 2),
        _ => return None,
    };
    Some(Text::Continuation { low, high, left })
}

fn hex(left: u8, unit: u16, after: Option<Surrogate>, byte: u8) -> Next {
    let Some(digit) = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()) else {
        return Next::Invalid;
    };
    let unit = unit << 4 | digit;
    if left > 1 {
        return Next::More(Text::Hex { left: left - 1, unit, after });
    }
    match (unit, after) {
        (0xdc00..=0xdfff, Some(Surrogate)) => Next::More(Text::Plain),
        (0xdc00..=0xdfff, None) | (_, Some(Surrogate)) => Next::Invalid,
        (0xd800..=0xdbff, None) => Next::More(Text::LowBackslash),
        (_, None) => Next::More(Text::Plain),
    }
}

/// The characters of a string that was scanned, without its quotes.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    let Some((head, mut rest)) = text.split_once('\\') else {
        return Cow::Borrowed(text);
    };
    let mut out = String::with_capacity(text.len());
    out.push_str(head);
    loop {
        let (unescaped, length) = match rest.as_bytes() {
            [b'u', ..] => unescape_unit(rest),
            [short, ..] => (short_escape(*short), 1),
            [] => break,
        };
        out.push(unescaped);
        rest = rest.get(length..).unwrap_or_default();
        match rest.split_once('\\') {
            Some((plain, behind)) => {
                out.push_str(plain);
                rest = behind;
            }
            None => {
                out.push_str(rest);
                break;
            }
        }
    }
    Cow::Owned(out)
}

/// The character of `uXXXX`, or of `uXXXX\uXXXX`, and how long that was.
fn unescape_unit(text: &str) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match (unit(1), unit(7)) {
        (Some(high @ 0xd800..=0xdbff), Some(low @ 0xdc00..=0xdfff)) => {
            let point = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
        }
        (unit, _) => (unit.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
    }
}

fn short_escape(byte: u8) -> char {
    match byte {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, expected) in [
            ("", ""),
            ("plain ä", "plain ä"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"a\u0041b\u00e4\u20AC", "aAbä€"),
            (r"\ud83d\ude00!", "😀!"),
            (r"x\\u0041", r"x\u0041"),
            (r"\u0000", "\0"),
            (r"\\", "\\"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }
}
