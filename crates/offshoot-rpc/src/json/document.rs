//! A JSON text that was scanned, and its values.

use super::{number, string};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    /// Of a member. The token behind it is its value.
    Name,
    Array,
    Object,
    /// Of an array or object.
    End,
}

/// A value, a name or an end. Values stand in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The first byte of it, quotes and brackets included.
    pub(super) start: usize,
    /// The byte behind it.
    pub(super) end: usize,
    /// The token behind it and everything in it.
    pub(super) next: usize,
}

/// A valid JSON text, unchanged: the spelling of numbers, the order of members and doubled members are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    text: String,
    tokens: Box<[Token]>,
}

/// A value of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document,
    index: usize,
}

impl Document {
    pub(super) fn new(text: Vec<u8>, tokens: Vec<Token>) -> Self {
        let text = String::from_utf8(text).expect("the scanner lets only UTF-8 through");
        Self { text, tokens: tokens.into() }
    }

    /// The value that the text is.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        self.value(0)
    }

    /// The value of a token, which a [`Value`] of this document told.
    pub(crate) fn value(&self, index: usize) -> Value<'_> {
        Value { document: self, index }
    }
}

impl<'d> Value<'d> {
    /// Its spelling.
    #[must_use]
    pub fn raw(self) -> &'d str {
        let Token { start, end, .. } = self.token();
        self.document.text.get(start..end).unwrap_or_default()
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// Whether it is a number.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.kind() == Kind::Number
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// The characters of a string.
    #[must_use]
    pub fn as_str(self) -> Option<Cow<'d, str>> {
        if !matches!(self.kind(), Kind::String | Kind::Name) {
            return None;
        }
        let raw = self.raw();
        raw.get(1..raw.len().saturating_sub(1)).map(string::unescape)
    }

    /// The sign and value of a number that is an integer by SPDK's rules: `1e3` and `10.0` are, `0.0` is not.
    #[must_use]
    pub fn as_integer(self) -> Option<(bool, u64)> {
        if self.is_number() { number::integer(self.raw()) } else { None }
    }

    /// The elements of an array; nothing for other values.
    pub fn elements(self) -> impl Iterator<Item = Value<'d>> {
        std::iter::successors(self.first_element(), |element| element.next_element())
    }

    /// The members of an object, doubled ones too; nothing for other values.
    pub fn members(self) -> impl Iterator<Item = (Cow<'d, str>, Value<'d>)> {
        let mut next = self.inside(Kind::Object);
        std::iter::from_fn(move || {
            let name = self.document.value(next?);
            let value = self.document.value(name.next_sibling()?);
            next = value.next_sibling();
            Some((name.as_str()?, value))
        })
    }

    /// The first element of an array.
    pub(crate) fn first_element(self) -> Option<Self> {
        self.inside(Kind::Array).and_then(|index| self.value_at(index))
    }

    /// What follows it in its array.
    pub(crate) fn next_element(self) -> Option<Self> {
        self.next_sibling().and_then(|index| self.value_at(index))
    }

    /// Its token.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    pub(super) fn kind(self) -> Kind {
        self.token().kind
    }

    fn token(self) -> Token {
        self.document.tokens[self.index]
    }

    /// The token behind the beginning of a container.
    fn inside(self, container: Kind) -> Option<usize> {
        (self.kind() == container).then_some(self.index + 1)
    }

    fn value_at(self, index: usize) -> Option<Self> {
        let value = self.document.value(index);
        (value.kind() != Kind::End).then_some(value)
    }

    fn next_sibling(self) -> Option<usize> {
        let Token { kind, next, .. } = self.token();
        (kind != Kind::End).then_some(next)
    }
}

/// As it was, but for white space and the spelling of strings.
impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root().serialize(serializer)
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind() {
            Kind::Null | Kind::End => serializer.serialize_unit(),
            Kind::True => serializer.serialize_bool(true),
            Kind::False => serializer.serialize_bool(false),
            Kind::Number => {
                let raw: &RawValue = serde_json::from_str(self.raw()).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Kind::String | Kind::Name => serializer.serialize_str(&self.as_str().unwrap_or_default()),
            Kind::Array => {
                let mut seq = serializer.serialize_seq(None)?;
                self.elements().try_for_each(|element| seq.serialize_element(&element))?;
                seq.end()
            }
            Kind::Object => {
                let mut map = serializer.serialize_map(None)?;
                self.members().try_for_each(|(name, value)| map.serialize_entry(&name, &value))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_spelling_and_order() {
        let text = r#" {"b":[1e0, {"x":[]}, -0.50],"a":"\u0041\n","b":null, "":true} "#;
        let document = Document::parse(text).unwrap().unwrap();
        let members: Vec<_> =
            document.root().members().map(|(name, value)| (name.into_owned(), value.raw())).collect();
        let expected =
            [("b", r#"[1e0, {"x":[]}, -0.50]"#), ("a", r#""\u0041\n""#), ("b", "null"), ("", "true")];
        assert_eq!(members, expected.map(|(name, raw)| (name.to_owned(), raw)));
        let elements = |index: usize| document.root().members().nth(index).unwrap().1.elements();
        assert_eq!(elements(0).map(Value::raw).collect::<Vec<_>>(), ["1e0", r#"{"x":[]}"#, "-0.50"]);
        assert_eq!(elements(1).count(), 0);
        let again = serde_json::to_string(&document).unwrap();
        assert_eq!(again, r#"{"b":[1e0,{"x":[]},-0.50],"a":"A\n","b":null,"":true}"#);
    }

    #[test]
    fn one_text_and_no_more() {
        for (text, complete) in [(" 12", true), ("{} ", true), ("{}{}", false), ("[1", false), ("", false)] {
            assert_eq!(Document::parse(text).unwrap().is_some(), complete, "{text:?}");
        }
        assert!(Document::parse("x").is_err());
    }
}
