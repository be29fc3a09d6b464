//! What a client asks, and what it is told.

use crate::error::RpcError;
use crate::json::{DecodeError, Document, Value};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A request whose envelope is in order.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method. It may be one that there is not.
    pub method: String,
    /// An object or array; `None` when there were none, or `null`.
    pub params: Option<Params>,
}

/// The parameters of a request: a value of a document that it keeps alive.
#[derive(Clone, Debug)]
pub struct Params {
    document: Arc<Document>,
    index: usize,
}

impl Params {
    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'_> {
        self.document.value(self.index)
    }

    /// The parameters as a type, by SPDK's rules.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode<'p, T: Deserialize<'p>>(&'p self) -> Result<T, DecodeError> {
        T::deserialize(self.value())
    }
}

impl From<Document> for Params {
    fn from(document: Document) -> Self {
        let index = document.root().index();
        Self { document: Arc::new(document), index }
    }
}

/// A result as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultText(String);

impl ResultText {
    /// Of a value. One that JSON cannot express (a map whose keys are no strings) is [`RpcError::INTERNAL`].
    pub fn of(value: &impl Serialize) -> Reply {
        serde_json::to_string(value).map(Self).map_err(|_| RpcError::INTERNAL)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer to a [`Request`].
pub type Reply = Result<ResultText, RpcError>;

/// The id of a request as it was written, for the response. `None`: there was none, or `null`, and only an error is
/// answered.
pub(crate) type Id = Option<Box<str>>;

/// Takes the envelope off (SPDK: `parse_single_request`). What is wrong is looked for in SPDK's order, because only a
/// request that is right up to its id gets that id back.
pub(crate) fn open(document: &Arc<Document>, index: usize) -> (Id, Result<Request, RpcError>) {
    let mut id = None;
    let request = envelope(document.value(index), &mut id).map(|(method, params)| {
        let params = params.map(|value| Params { document: Arc::clone(document), index: value.index() });
        Request { method, params }
    });
    (id, request.ok_or(RpcError::REQUEST))
}

fn envelope<'d>(value: Value<'d>, id: &mut Id) -> Option<(String, Option<Value<'d>>)> {
    if !value.is_object() {
        return None;
    }
    let [mut version, mut method, mut params, mut found_id] = [None; 4];
    for (name, value) in value.members() {
        let member = match &*name {
            "jsonrpc" => &mut version,
            "method" => &mut method,
            "params" => &mut params,
            "id" => &mut found_id,
            _ => return None,
        };
        if member.replace(value).is_some() {
            return None;
        }
    }
    if version.is_some_and(|version: Value<'_>| version.as_str().as_deref() != Some("2.0")) {
        return None;
    }
    let method = method?.as_str()?.into_owned();
    *id = match found_id {
        Some(found) if found.is_number() || found.as_str().is_some() => Some(found.raw().into()),
        Some(found) if !found.is_null() => return None,
        _ => None,
    };
    let params = params.filter(|params: &Value<'_>| !params.is_null());
    if params.is_some_and(|params| !params.is_object() && !params.is_array()) {
        return None;
    }
    Some((method, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id, and the parameters of method `m` or the error's code.
    fn opened(text: &str) -> (Option<String>, Result<Option<String>, i32>) {
        let document = Arc::new(Document::parse(text).unwrap().unwrap());
        let (id, request) = open(&document, 0);
        let params = request.map(|Request { method, params }| {
            assert_eq!(method, "m");
            params.map(|params| params.value().raw().to_owned())
        });
        (id.map(String::from), params.map_err(|error| error.code))
    }

    #[test]
    fn requests() {
        for (text, id, params) in [
            (r#"{"method":"m"}"#, None, None),
            (r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"a":1}}"#, Some("7"), Some(r#"{"a":1}"#)),
            (r#"{"params":[1,2],"id":"\u0041ä","method":"m"}"#, Some(r#""\u0041ä""#), Some("[1,2]")),
            (r#"{"id":1.50e3,"method":"m","params":null}"#, Some("1.50e3"), None),
            (
                r#"{"id":123456789012345678901234567890,"method":"m"}"#,
                Some("123456789012345678901234567890"),
                None,
            ),
            (r#"{"id":null,"method":"\u006d"}"#, None, None),
            (r#"{"id":"","method":"m","params":{}}"#, Some(r#""""#), Some("{}")),
        ] {
            let expected = (id.map(str::to_owned), Ok(params.map(str::to_owned)));
            assert_eq!(opened(text), expected, "{text}");
        }
    }

    #[test]
    fn refusals_and_the_ids_that_they_echo() {
        for (text, id) in [
            ("1", None),
            ("null", None),
            ("[]", None),
            ("{}", None),
            (r#"{"id":1}"#, None),
            (r#"{"id":1,"method":"m","other":1}"#, None),
            (r#"{"id":1,"method":"m","Method":"m"}"#, None),
            (r#"{"id":1,"method":"m","method":"m"}"#, None),
            (r#"{"id":1,"id":1,"method":"m"}"#, None),
            (r#"{"id":1,"method":"m","params":{},"params":{}}"#, None),
            (r#"{"id":1,"method":7}"#, None),
            (r#"{"id":1,"method":null}"#, None),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, None),
            (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, None),
            (r#"{"jsonrpc":null,"id":1,"method":"m"}"#, None),
            (r#"{"id":true,"method":"m"}"#, None),
            (r#"{"id":{},"method":"m"}"#, None),
            (r#"{"id":[1],"method":"m"}"#, None),
            (r#"{"id":1,"method":"m","params":"x"}"#, Some("1")),
            (r#"{"id":"a","method":"m","params":1}"#, Some(r#""a""#)),
            (r#"{"id":1,"method":"m","params":false}"#, Some("1")),
        ] {
            assert_eq!(opened(text), (id.map(str::to_owned), Err(-32600)), "{text}");
        }
    }
}
