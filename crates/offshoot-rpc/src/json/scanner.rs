//! Finds one JSON text after the other in a stream that is cut anywhere.

use super::document::{Document, Kind, Token};
use super::number::{self, Number};
use super::string::{self, Text};
use crate::limits::{NESTING_MAX, REQUEST_BYTES_MAX, REQUEST_VALUES_MAX};
use thiserror::Error;

/// What is taken at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of a text.
    pub(crate) bytes: usize,
    /// Values of a text, each name and both ends of an object or array counted.
    pub(crate) values: usize,
}

impl Limits {
    /// Of a request.
    pub(crate) const REQUEST: Self = Self { bytes: REQUEST_BYTES_MAX, values: REQUEST_VALUES_MAX };
}

/// Why a stream is no sequence of JSON texts. Nothing behind that place can be trusted to begin a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SyntaxError {
    /// A byte that cannot stand where it does.
    #[error("byte {byte:#04x} cannot stand at offset {offset} of the text")]
    Byte {
        /// The byte.
        byte: u8,
        /// Where, from the beginning of the text.
        offset: usize,
    },
    /// More bytes than are taken.
    #[error("a text of more than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// More values than are taken.
    #[error("a text of more than {max} values")]
    TooManyValues {
        /// The limit.
        max: usize,
    },
    /// Objects and arrays deeper than [`NESTING_MAX`].
    #[error("more than {max} objects and arrays within one another")]
    TooDeep {
        /// The limit.
        max: usize,
    },
}

/// A scanner of JSON texts, as strict as RFC 8259 (SPDK: `spdk_json_parse` without flags).
#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    /// The text so far.
    text: Vec<u8>,
    tokens: Vec<Token>,
    /// The tokens of the objects and arrays that are open.
    open: Vec<usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two texts.
    Outside,
    /// A value, or the end of the array that has just begun.
    ValueOrEnd,
    Value,
    /// A name, or the end of the object that has just begun.
    NameOrEnd,
    Name,
    Colon,
    CommaOrEnd,
    String(Text),
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Literal(&'static [u8]),
}

impl Scanner {
    /// A scanner at the beginning of a stream.
    pub(crate) fn new(limits: Limits) -> Self {
        let (text, tokens, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { limits, text, tokens, open, state: State::Outside }
    }

    /// Takes bytes up to the end of the first text, or all. Returns how many were taken, and the text if it is complete.
    /// A number that is a text by itself is complete with the byte behind it, which is not taken.
    ///
    /// # Errors
    /// [`SyntaxError`]. The scanner must not be used again.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<(usize, Option<Document>), SyntaxError> {
        for (index, &byte) in bytes.iter().enumerate() {
            if let State::Number(number) = self.state {
                match number.next(byte) {
                    number::Next::More(number) => {
                        self.state = State::Number(number);
                        self.keep(byte)?;
                        continue;
                    }
                    number::Next::Ended if self.end_value() => return Ok((index, Some(self.take()))),
                    number::Next::Ended => {}
                    number::Next::Invalid => return Err(self.wrong(byte)),
                }
            }
            if self.step(byte)? {
                return Ok((index + 1, Some(self.take())));
            }
        }
        Ok((bytes.len(), None))
    }

    /// Whether a text has begun and is not complete.
    fn is_inside(&self) -> bool {
        self.state != State::Outside
    }

    /// Takes one byte that does not go on a number. Returns whether the text is complete with it.
    fn step(&mut self, byte: u8) -> Result<bool, SyntaxError> {
        let (State::String(_) | State::Literal(_)) = self.state else {
            return self.structure(byte);
        };
        self.keep(byte)?;
        let complete = match self.state {
            State::String(text) => match text.next(byte) {
                string::Next::More(text) => {
                    self.state = State::String(text);
                    false
                }
                string::Next::Ended => self.end_value(),
                string::Next::Invalid => return Err(self.wrong_kept(byte)),
            },
            State::Literal([next, rest @ ..]) if *next == byte => {
                self.state = State::Literal(rest);
                rest.is_empty() && self.end_value()
            }
            _ => return Err(self.wrong_kept(byte)),
        };
        Ok(complete)
    }

    /// Takes one byte between values.
    fn structure(&mut self, byte: u8) -> Result<bool, SyntaxError> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            if self.is_inside() {
                self.keep(byte)?;
            }
            return Ok(false);
        }
        let is_name = matches!(self.state, State::Name | State::NameOrEnd);
        match (self.state, byte) {
            (State::CommaOrEnd, b',') => {
                let in_object = self.innermost() == Some(Kind::Object);
                self.state = if in_object { State::Name } else { State::Value };
                self.keep(byte)?;
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                self.keep(byte)?;
            }
            (State::NameOrEnd, b'}') => return self.close(byte, Kind::Object),
            (State::ValueOrEnd, b']') => return self.close(byte, Kind::Array),
            (State::CommaOrEnd, b'}') if self.innermost() == Some(Kind::Object) => {
                return self.close(byte, Kind::Object);
            }
            (State::CommaOrEnd, b']') if self.innermost() == Some(Kind::Array) => {
                return self.close(byte, Kind::Array);
            }
            (State::Name | State::NameOrEnd, b'"')
            | (
                State::Outside | State::Value | State::ValueOrEnd,
                b'"' | b'{' | b'[' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9',
            ) => self.begin(byte, is_name)?,
            _ => return Err(self.wrong(byte)),
        }
        Ok(false)
    }

    /// Begins a value or a name.
    fn begin(&mut self, byte: u8, is_name: bool) -> Result<(), SyntaxError> {
        let (kind, state) = match byte {
            b'"' if is_name => (Kind::Name, State::String(Text::Plain)),
            b'"' => (Kind::String, State::String(Text::Plain)),
            b'{' => (Kind::Object, State::NameOrEnd),
            b'[' => (Kind::Array, State::ValueOrEnd),
            b't' => (Kind::True, State::Literal(b"rue")),
            b'f' => (Kind::False, State::Literal(b"alse")),
            b'n' => (Kind::Null, State::Literal(b"ull")),
            _ => (Kind::Number, State::Number(Number::begin(byte))),
        };
        if matches!(kind, Kind::Object | Kind::Array) {
            if self.open.len() == NESTING_MAX {
                return Err(SyntaxError::TooDeep { max: NESTING_MAX });
            }
            self.open.push(self.tokens.len());
        }
        self.push(Token { kind, start: self.text.len(), end: self.text.len(), next: 0 })?;
        self.state = state;
        self.keep(byte)
    }

    /// Ends an object or array. Returns whether the text is complete.
    fn close(&mut self, byte: u8, kind: Kind) -> Result<bool, SyntaxError> {
        self.keep(byte)?;
        // The end is a value by SPDK's count, so it takes a token.
        self.push(Token { kind: Kind::End, start: self.text.len(), end: self.text.len(), next: 0 })?;
        let (end, next) = (self.text.len(), self.tokens.len());
        if let Some(token) = self.open.pop().and_then(|index| self.tokens.get_mut(index)) {
            debug_assert_eq!(token.kind, kind);
            (token.end, token.next) = (end, next);
        }
        Ok(self.after_value())
    }

    /// Ends a string, name, number or literal. Returns whether the text is complete.
    fn end_value(&mut self) -> bool {
        let (end, next) = (self.text.len(), self.tokens.len());
        let Some(token) = self.tokens.last_mut() else {
            return false;
        };
        (token.end, token.next) = (end, next);
        if token.kind == Kind::Name {
            self.state = State::Colon;
            return false;
        }
        self.after_value()
    }

    fn after_value(&mut self) -> bool {
        self.state = if self.open.is_empty() { State::Outside } else { State::CommaOrEnd };
        self.open.is_empty()
    }

    fn innermost(&self) -> Option<Kind> {
        self.open.last().and_then(|&index| self.tokens.get(index)).map(|token| token.kind)
    }

    fn push(&mut self, token: Token) -> Result<(), SyntaxError> {
        if self.tokens.len() >= self.limits.values {
            return Err(SyntaxError::TooManyValues { max: self.limits.values });
        }
        self.tokens.push(token);
        Ok(())
    }

    fn keep(&mut self, byte: u8) -> Result<(), SyntaxError> {
        if self.text.len() >= self.limits.bytes {
            return Err(SyntaxError::TooLong { max: self.limits.bytes });
        }
        self.text.push(byte);
        Ok(())
    }

    fn wrong(&self, byte: u8) -> SyntaxError {
        SyntaxError::Byte { byte, offset: self.text.len() }
    }

    /// Of a byte that was kept already.
    fn wrong_kept(&self, byte: u8) -> SyntaxError {
        SyntaxError::Byte { byte, offset: self.text.len() - 1 }
    }

    fn take(&mut self) -> Document {
        Document::new(std::mem::take(&mut self.text), std::mem::take(&mut self.tokens))
    }
}

impl Document {
    /// The one text that `text` is, within the limits of a request. `None` when it is not complete, or there is more.
    ///
    /// # Errors
    /// [`SyntaxError`].
    pub fn parse(text: &str) -> Result<Option<Self>, SyntaxError> {
        let mut scanner = Scanner::new(Limits::REQUEST);
        // A number is complete with what stands behind it.
        let padded = [text.as_bytes(), b" "].concat();
        let (taken, document) = scanner.scan(&padded)?;
        let alone = padded[taken..].iter().all(u8::is_ascii_whitespace);
        Ok(document.filter(|_| alone))
    }
}

#[cfg(test)]
mod tests;
