//! What a real SPDK was asked and answered (`testdata/transcripts`), through framing and types.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use offshoot_rpc::types::{bdev, lvol, lvstore, shallow_copy};
use offshoot_rpc::{Call, Connection, Dispatch, Document, Params, Reply, Request, ResultText, RpcError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A request, and what SPDK did.
#[derive(Debug, Deserialize)]
struct Exchange {
    method: Option<String>,
    params: Option<Value>,
    result: Option<Box<RawValue>>,
    error: Option<Value>,
    raw_request: Option<String>,
    raw_response: Option<String>,
}

fn exchanges() -> Vec<Exchange> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| serde_json::from_slice::<Vec<Exchange>>(&fs::read(path).unwrap()).unwrap();
    let all: Vec<Exchange> = files.iter().flat_map(|path| read(path)).collect();
    assert!(all.len() > 150, "only {} exchanges", all.len());
    all
}

/// What a stream is answered with.
fn respond(stream: &str, mut reply: impl FnMut(&Request) -> Reply) -> String {
    let mut connection = Connection::new();
    connection.handle_input(stream.as_bytes());
    while let Some((slot, request)) = connection.poll_request() {
        connection.handle_reply(slot, &reply(&request));
    }
    String::from_utf8(connection.output().to_vec()).unwrap()
}

/// A text without white space, its members in their order.
fn compact(text: &str) -> String {
    serde_json::to_string(&Document::parse(text).unwrap().unwrap()).unwrap()
}

/// The parameters of a call, once more as JSON.
fn params_of(call: &Call) -> Option<Value> {
    match call {
        Call::CreateLvstore(params) => some(params),
        Call::DeleteLvstore(params) => some(params),
        Call::GetLvstores(params) => params.as_ref().and_then(some),
        Call::RenameLvstore(params) => some(params),
        Call::GrowLvstore(params) => some(params),
        Call::CreateLvol(params) => some(params),
        Call::SnapshotLvol(params) => some(params),
        Call::CloneLvol(params) => some(params),
        Call::CloneBdev(params) => some(params),
        Call::RenameLvol(params) => some(params),
        Call::ResizeLvol(params) => some(params),
        Call::SetReadOnly(params) => some(params),
        Call::DeleteLvol(params) => some(params),
        Call::InflateLvol(params) => some(params),
        Call::DecoupleParent(params) => some(params),
        Call::GetLvols(params) => params.as_ref().and_then(some),
        Call::SetParent(params) | Call::SetParentBdev(params) => some(params),
        Call::StartShallowCopy(params) => some(params),
        Call::CheckShallowCopy(params) => some(params),
        Call::GetBdevs(params) => params.as_ref().and_then(some),
        Call::CreateAio(params) => some(params),
        Call::RescanAio(params) => some(params),
        Call::CreateMalloc(params) => some(params),
        other => panic!("no transcript has {other:?}"),
    }
}

fn some(params: &impl Serialize) -> Option<Value> {
    Some(serde_json::to_value(params).unwrap())
}

/// A result through the type that its method answers with.
fn retyped(method: &str, result: &RawValue) -> Reply {
    fn through<T: for<'de> Deserialize<'de> + Serialize>(result: &RawValue) -> Reply {
        ResultText::of(&serde_json::from_str::<T>(result.get()).unwrap())
    }
    match method {
        "bdev_lvol_get_lvstores" => through::<Vec<lvstore::Lvstore>>(result),
        "bdev_lvol_get_lvols" => through::<Vec<lvol::Lvol>>(result),
        "bdev_lvol_start_shallow_copy" => through::<shallow_copy::ShallowCopyStarted>(result),
        "bdev_lvol_check_shallow_copy" => through::<shallow_copy::ShallowCopyProgress>(result),
        "bdev_get_bdevs" => through::<Vec<bdev::Bdev>>(result),
        _ if result.get().starts_with('"') => through::<String>(result),
        _ => through::<bool>(result),
    }
}

/// Requests keep their meaning. Responses are those of SPDK to the byte.
#[test]
fn requests_and_answers_keep_their_meaning() {
    let dispatch = Dispatch::new(|_| true);
    for Exchange { method, params, result, error, .. } in exchanges() {
        let Some(method) = method else { continue };
        let mut request = json!({"jsonrpc": "2.0", "id": "a", "method": method});
        if let Some(params) = &params {
            request["params"] = params.clone();
        }
        let response = respond(&request.to_string(), |request| {
            let (_, call) = dispatch.call(request)?;
            // What was understood, said again, is understood in the same way and means the same.
            let said = params_of(&call);
            assert_eq!(said, params, "{method}");
            let document = said.and_then(|said| Document::parse(&said.to_string()).unwrap());
            let again = Request { method: method.clone(), params: document.map(Params::from) };
            assert_eq!(dispatch.call(&again).unwrap().1, call);
            selectors(&call)?;
            match (&result, &error) {
                (Some(result), _) => retyped(&method, result),
                (None, Some(error)) => Err(serde_json::from_value(error.clone()).unwrap()),
                (None, None) => panic!("{method} was not answered"),
            }
        });
        let answer = match (&result, &error) {
            (Some(result), _) => format!(r#""result":{}"#, compact(result.get())),
            (None, Some(Value::Object(error))) => {
                format!(r#""error":{{"code":{},"message":{}}}"#, error["code"], error["message"])
            }
            (None, _) => String::new(),
        };
        // The transcript does not say with which id; a request that is none gets it too, as far as it is right.
        assert_eq!(response, format!("{{\"jsonrpc\":\"2.0\",\"id\":\"a\",{answer}}}\n"), "{request}");
    }
}

/// What is refused before any store is looked at.
fn selectors(call: &Call) -> Result<(), RpcError> {
    match call {
        Call::DeleteLvstore(params) => params.lvstore().map(drop),
        Call::GetLvstores(Some(params)) => params.lvstore().map(drop),
        Call::GrowLvstore(params) => params.lvstore().map(drop),
        Call::CreateLvol(params) => params.lvstore().and(params.size_bytes()).map(drop),
        Call::GetLvols(Some(params)) => params.lvstore().map(drop),
        _ => Ok(()),
    }
}

/// What SPDK refuses for its form is refused here with no other knowledge than the form.
#[test]
fn wrong_forms_are_refused_as_spdk_refuses_them() {
    let dispatch = Dispatch::new(|_| true);
    let mut refused = 0;
    for exchange in exchanges() {
        let (Some(method), Some(error)) = (&exchange.method, &exchange.error) else { continue };
        let form = error["message"] == "spdk_json_decode_object failed"
            || error["code"] == json!(-32601)
            || error["code"] == json!(-32600);
        let mut request = json!({"id": 1, "method": method});
        if let Some(params) = &exchange.params {
            request["params"] = params.clone();
        }
        let ours = respond(&request.to_string(), |request| {
            dispatch.call(request).and_then(|(_, call)| selectors(&call))?;
            ResultText::of(&"understood")
        });
        let ours = serde_json::from_str::<Value>(&ours).unwrap().get("error").cloned();
        if form {
            refused += 1;
            assert_eq!(ours.as_ref(), Some(error), "{request}");
        } else if let Some(ours) = ours {
            assert_eq!(&ours, error, "{request}");
        }
    }
    assert!(refused >= 10, "only {refused}");
}

/// Bytes as they went over the socket, with the stores that SPDK had. One difference is meant: here the parse error
/// reaches the client.
#[test]
fn raw_exchanges() {
    let mut seen = 0;
    for exchange in exchanges() {
        let (Some(request), Some(response)) = (exchange.raw_request, exchange.raw_response) else { continue };
        seen += 1;
        let stores: Option<Vec<lvstore::Lvstore>> = response
            .split_once(r#""result":"#)
            .map(|(_, rest)| serde_json::Deserializer::from_str(rest).into_iter().next().unwrap().unwrap());
        let ours = respond(&request, |request| match &*request.method {
            "bdev_lvol_get_lvstores" => ResultText::of(&stores),
            "bdev_lvol_delete" => Err(RpcError::new(-19, "No such device")),
            "bdev_aio_delete" => ResultText::of(&true),
            _ => Err(RpcError::METHOD),
        });
        let answered = response.starts_with(['{', '[']);
        match &*request {
            "not json" => assert!(ours.contains("Parse error") && response.is_empty()),
            // SPDK was stuck.
            _ if request.contains("bdev_aio_delete") => assert!(!answered),
            _ => assert_eq!(ours, if answered { &*response } else { "" }, "{request}"),
        }
    }
    assert!(seen >= 8, "only {seen}");
}
