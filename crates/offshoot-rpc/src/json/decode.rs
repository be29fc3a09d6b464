//! Values into types, by SPDK's rules (`spdk_json_decode_object` and its decoders) where serde_json's differ.
//!
//! Types derive `Deserialize` with `deny_unknown_fields`; serde refuses missing and doubled members. Here it is settled that
//! integers may be written `1e3`, that `null` is no value of an optional member, that an array is no object, and that
//! strings hold no NUL.

use super::document::{Kind, Value};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;

/// Why a value is not what it should be, for the log: SPDK's clients are told only that it is not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct DecodeError {
    message: String,
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string() }
    }
}

impl<'d> Value<'d> {
    fn text(self) -> Result<Cow<'d, str>, DecodeError> {
        let text = self.as_str().ok_or_else(|| self.unexpected("a string"))?;
        if text.contains('\0') {
            return Err(de::Error::custom("a string with a NUL"));
        }
        Ok(text)
    }

    fn unsigned(self) -> Result<u64, DecodeError> {
        match self.as_integer() {
            Some((false, value)) => Ok(value),
            // SPDK looks at the sign before the digits: -0 is refused.
            _ => Err(self.unexpected("an unsigned integer")),
        }
    }

    fn signed(self) -> Result<i64, DecodeError> {
        let signed = self.as_integer().and_then(|(negative, value)| match negative {
            true => 0_i64.checked_sub_unsigned(value),
            false => i64::try_from(value).ok(),
        });
        signed.ok_or_else(|| self.unexpected("an integer"))
    }

    fn unexpected(self, expected: &str) -> DecodeError {
        let found = match self.kind() {
            Kind::Null | Kind::End => Unexpected::Unit,
            Kind::True => Unexpected::Bool(true),
            Kind::False => Unexpected::Bool(false),
            Kind::Number => Unexpected::Other("this number"),
            Kind::String | Kind::Name => Unexpected::Other("a string"),
            Kind::Array => Unexpected::Seq,
            Kind::Object => Unexpected::Map,
        };
        de::Error::invalid_type(found, &expected)
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.kind() {
            Kind::Null | Kind::End => visitor.visit_unit(),
            Kind::True => visitor.visit_bool(true),
            Kind::False => visitor.visit_bool(false),
            Kind::Number => match self.as_integer() {
                Some((false, value)) => visitor.visit_u64(value),
                Some((true, _)) if self.signed().is_ok() => visitor.visit_i64(self.signed()?),
                _ => visitor.visit_f64(self.raw().parse().map_err(de::Error::custom)?),
            },
            Kind::String | Kind::Name => match self.text()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Kind::Array => visitor.visit_seq(SeqDeserializer::new(self.elements())),
            Kind::Object => visitor.visit_map(MapDeserializer::new(self.members())),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.unsigned()?)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i64(self.signed()?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i64(self.signed()?)
    }

    /// A member that is there has a value: `null` is none.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    /// Parameters go by name: serde would take an array too.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if !self.is_object() {
            return Err(self.unexpected("an object"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

impl<'d> IntoDeserializer<'d, DecodeError> for Value<'d> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::json::Document;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        DarkBlue,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Things {
        name: String,
        small: Option<u8>,
        number: Option<u32>,
        signed: Option<i32>,
        flag: Option<bool>,
        colour: Option<Colour>,
        names: Option<Vec<String>>,
    }

    fn decode(text: &str) -> Option<Things> {
        let document = Document::parse(text).unwrap().unwrap();
        Things::deserialize(document.root()).ok()
    }

    fn named(name: &str) -> Things {
        let name = name.to_owned();
        Things { name, small: None, number: None, signed: None, flag: None, colour: None, names: None }
    }

    #[test]
    fn accepts() {
        for (text, expected) in [
            (r#"{"name":"\u0061\t"}"#, named("a\t")),
            (r#"{"n\u0061me":""}"#, named("")),
            (r#"{"name":"a","number":4294967295}"#, Things { number: Some(u32::MAX), ..named("a") }),
            (r#"{"name":"a","number":1e3}"#, Things { number: Some(1000), ..named("a") }),
            (r#"{"name":"a","signed":-2147483648}"#, Things { signed: Some(i32::MIN), ..named("a") }),
            (r#"{"name":"a","signed":-0}"#, Things { signed: Some(0), ..named("a") }),
            (r#"{"flag":false,"name":"a"}"#, Things { flag: Some(false), ..named("a") }),
            (r#"{"name":"a","colour":"dark_blue"}"#, Things { colour: Some(Colour::DarkBlue), ..named("a") }),
            (r#"{"name":"a","names":["x"]}"#, Things { names: Some(vec!["x".into()]), ..named("a") }),
        ] {
            assert_eq!(decode(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "{}",
            "[]",
            r#"["a"]"#,
            "null",
            r#""a""#,
            r#"{"name":"a","name":"a"}"#,
            r#"{"name":"a","other":1}"#,
            r#"{"name":"a","Number":1}"#,
            r#"{"name":null}"#,
            r#"{"name":1}"#,
            r#"{"name":"a\u0000"}"#,
            r#"{"name":"a","number":null}"#,
            r#"{"name":"a","number":"1"}"#,
            r#"{"name":"a","number":-1}"#,
            r#"{"name":"a","number":-0}"#,
            r#"{"name":"a","number":1.5}"#,
            r#"{"name":"a","number":4294967296}"#,
            r#"{"name":"a","small":256}"#,
            r#"{"name":"a","signed":2147483648}"#,
            r#"{"name":"a","flag":1}"#,
            r#"{"name":"a","flag":"true"}"#,
            r#"{"name":"a","colour":"Red"}"#,
            r#"{"name":"a","colour":1}"#,
            r#"{"name":"a","colour":{"red":null}}"#,
            r#"{"name":"a","names":"x"}"#,
            r#"{"name":"a","names":[1]}"#,
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
