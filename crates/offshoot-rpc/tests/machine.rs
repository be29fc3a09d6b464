//! The connection machine alone: what it answers to what, streams cut anywhere, clients that do not read.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::{answer, converse, settle};
use offshoot_rpc::{Connection, limits};
use proptest::prelude::*;

const PARSE_ERROR: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#;
const INVALID: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request"}}"#;

/// A stream is answered with these lines, and the connection ends or not.
fn check(stream: &str, lines: &[&str], ends: bool) {
    let expected: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    assert_eq!(converse([stream.as_bytes()]), (expected, ends), "{stream}");
}

#[test]
fn requests() {
    let result = |id: &str, result: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    let seven = &*result("7", r#"{"a":[1e0]}"#);
    check(r#"{"jsonrpc":"2.0","id":7,"method":"echo","params":{"a":[1e0]}}"#, &[seven], false);
    check(r#"{"params":{"a":[1e0]},"method":"echo","id":7}"#, &[seven], false);
    let null = |id: &str| result(id, "null");
    check(r#"{"id":"a\u0062","method":"echo"}"#, &[&null(r#""a\u0062""#)], false);
    check(r#"{"id":-1.50e3,"method":"echo","params":null}"#, &[&null("-1.50e3")], false);
    // One after the other, with and without white space.
    check(r#"{"id":1,"method":"echo"}{"id":2,"method":"echo"} "#, &[&null("1"), &null("2")], false);
    // A notification is answered only when it fails.
    check(r#"{"method":"echo"}{"id":null,"method":"echo"}"#, &[], false);
    let no_device = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-19,"message":"No such device"}}"#;
    check(r#"{"method":"fail"}"#, &[no_device], false);
    let not_found = r#"{"jsonrpc":"2.0","id":"abc","error":{"code":-32601,"message":"Method not found"}}"#;
    check(r#"{"jsonrpc":"2.0","id":"abc","method":"zz"}"#, &[not_found], false);
}

#[test]
fn what_is_no_request_is_answered_and_the_connection_goes_on() {
    for stream in ["1 ", "true", r#""text""#, "[]", "{}", r#"{"id":1}"#, r#"{"id":1,"method":"m","x":1}"#] {
        check(stream, &[INVALID], false);
        let with_more = format!("{stream}{}", r#"{"id":1,"method":"echo"}"#);
        check(&with_more, &[INVALID, r#"{"jsonrpc":"2.0","id":1,"result":null}"#], false);
    }
}

#[test]
fn what_is_no_json_ends_the_connection() {
    let deep = "[".repeat(65);
    let long = format!(r#"{{"method":"{}"#, "x".repeat(limits::REQUEST_BYTES_MAX));
    let many = format!("[{}", "1,".repeat(limits::REQUEST_VALUES_MAX));
    for stream in ["not json", "]", r#"{"a":1,}"#, "\"\n", "{'a':1}", &deep, &long, &many] {
        check(stream, &[PARSE_ERROR], true);
    }
    // What came before is answered.
    let first = r#"{"jsonrpc":"2.0","id":1,"result":null}"#;
    check(r#"{"id":1,"method":"echo"}x{"id":2,"method":"echo"}"#, &[first, PARSE_ERROR], true);
}

#[test]
fn the_limits_are_reached_exactly() {
    let frame = r#"{"id":1,"method":"echo","params":[""]}"#;
    let text = "x".repeat(limits::REQUEST_BYTES_MAX - frame.len());
    let request = frame.replace(r#"[""]"#, &format!(r#"["{text}"]"#));
    assert_eq!(request.len(), limits::REQUEST_BYTES_MAX);
    check(&request, &[&format!(r#"{{"jsonrpc":"2.0","id":1,"result":["{text}"]}}"#)], false);
    check(&request.replace("[\"", "[ \""), &[PARSE_ERROR], true);
}

#[test]
fn batches() {
    let [one, two] = ["1", "2"].map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":null}}"#));
    let batch = r#"[{"id":1,"method":"echo"},{"method":"echo"},{"id":2,"method":"echo"}]"#;
    check(batch, &[&format!("[{one},{two}]")], false);
    check(r#"[{"method":"echo"}]"#, &[], false);
    check(r#"[1,{"id":2,"method":"echo"},[]]"#, &[&format!("[{INVALID},{two},{INVALID}]")], false);
}

#[test]
fn responses_come_in_the_order_of_the_replies() {
    let mut connection = Connection::new();
    let batch = r#"[{"id":1,"method":"echo"},{"id":2,"method":"echo"}]{"id":3,"method":"echo"}"#;
    connection.handle_input(batch.as_bytes());
    let requests: Vec<_> = std::iter::from_fn(|| connection.poll_request()).collect();
    assert_eq!((requests.len(), connection.in_flight()), (3, 3));
    connection.handle_end();
    assert!(!connection.wants_input() && !connection.is_finished());
    for index in [1, 2, 0] {
        let (slot, request) = &requests[index];
        connection.handle_reply(*slot, &answer(request));
    }
    let [one, two, three] = [1, 2, 3].map(|id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":null}}"#));
    assert_eq!(connection.output(), format!("{three}\n[{two},{one}]\n").as_bytes());
    connection.advance_output(connection.output().len());
    assert!(connection.is_finished());
}

#[test]
fn an_abandoned_connection_waits_for_its_requests() {
    let mut connection = Connection::new();
    connection
        .handle_input(br#"[{"id":1,"method":"echo"},{"id":2,"method":"echo"}]{"id":3,"method":"echo"}"#);
    let first = connection.poll_request().unwrap();
    connection.abandon();
    assert!(connection.poll_request().is_none() && !connection.is_finished());
    connection.handle_reply(first.0, &answer(&first.1));
    assert!(connection.output().is_empty() && connection.is_finished());
}

#[test]
fn requests_under_way_are_bounded() {
    let mut connection = Connection::new();
    let batch = format!("[{}1]", r#"{"id":1,"method":"echo"},"#.repeat(100));
    for stream in [batch.as_bytes(), &br#"{"id":1,"method":"echo"}"#.repeat(100)] {
        connection.handle_input(stream);
        let mut requests: Vec<_> = std::iter::from_fn(|| connection.poll_request()).collect();
        assert_eq!(requests.len(), limits::IN_FLIGHT_REQUESTS_MAX);
        assert!(!connection.wants_input());
        // With each reply there is room for one more.
        while let Some((slot, request)) = requests.pop() {
            connection.handle_reply(slot, &answer(&request));
            connection.advance_output(connection.output().len());
            requests.extend(connection.poll_request());
        }
        assert!(connection.wants_input());
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut connection = Connection::new();
    let request = br#"{"id":1,"method":"fill","params":[3000000]}"#;
    connection.handle_input(&request.repeat(100));
    let requests: Vec<_> = std::iter::from_fn(|| connection.poll_request()).collect();
    for (slot, request) in &requests {
        connection.handle_reply(*slot, &answer(request));
    }
    // The results beyond the limit became errors.
    let held = connection.output().len();
    assert!(held > limits::OUTPUT_BYTES_MAX - 3_000_100 && held < limits::OUTPUT_BYTES_MAX + 64 * 200);
    assert!(connection.output().ends_with(b"\"message\":\"Response too large\"}}\n"));
    assert!(connection.poll_request().is_none() && !connection.wants_input());
    // Nothing is lost: what waited is taken up again.
    let sent = settle(&mut connection);
    assert_eq!(sent.iter().filter(|byte| **byte == b'\n').count(), 100);
    assert!(connection.wants_input());
}

#[test]
fn a_batch_of_large_results_is_bounded() {
    let batch = format!("[{}1]", r#"{"id":1,"method":"fill","params":[3000000]},"#.repeat(100));
    let (sent, _) = converse([batch.as_bytes()]);
    assert!(sent.len() < limits::OUTPUT_BYTES_MAX + 101 * 200);
    assert_eq!(sent.matches("Response too large").count(), 100 - limits::OUTPUT_BYTES_MAX / 3_000_000);
    // Short results are never dropped.
    let short = format!("{}{}", batch, r#"{"id":1,"method":"fill","params":[4000]}"#);
    assert!(converse([short.as_bytes()]).0.ends_with("xxx\"}\n"));
}

/// Requests, batches, what is neither, and now and then what is no JSON.
fn message() -> impl Strategy<Value = String> {
    let id = prop_oneof![Just("1"), Just("\"ä\\n\""), Just("null"), Just("2.5e1"), Just("true")];
    let method = prop_oneof![Just("echo"), Just("fail"), Just("zz")];
    let params = prop_oneof![Just("{}"), Just("[1,\"ü\\ud83d\\ude00\"]"), Just("null"), Just("3")];
    let request = (id, method, params, prop::bool::ANY).prop_map(|(id, method, params, spaced)| {
        let space = if spaced { " \r\n\t" } else { "" };
        format!(r#"{{"id"{space}:{id},{space}"method":"{method}","params":{params}{space}}}{space}"#)
    });
    let batch = prop::collection::vec(request.clone(), 0..5)
        .prop_map(|requests| format!("[{}]", requests.join(" , ")));
    let other = prop_oneof![Just("12 "), Just("[1,{},null]"), Just("{\"id\":1}"), Just("\"x\""), Just("}")];
    prop_oneof![8 => request, 3 => batch, 2 => other.prop_map(str::to_owned)]
}

/// A stream in pieces.
fn cut(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places.windows(2).map(|range| stream[range[0]..range[1]].to_vec()).collect()
}

proptest! {
    #[test]
    fn any_cuts_make_no_difference(
        messages in prop::collection::vec(message(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let stream = messages.concat();
        let whole = converse([stream.as_bytes()]);
        prop_assert_eq!(&converse(stream.as_bytes().chunks(1)), &whole);
        let pieces = cut(stream.as_bytes(), &cuts);
        prop_assert_eq!(&converse(pieces.iter().map(Vec::as_slice)), &whole);
    }

    #[test]
    fn any_bytes_are_answered_or_end_the_connection(
        bytes in prop::collection::vec(
            prop_oneof![4 => prop::sample::select(&b"{}[]\",:\\u01e-.tn \n"[..]), 1 => any::<u8>()],
            0..200,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let whole = converse([&bytes[..]]);
        let pieces = cut(&bytes, &cuts);
        prop_assert_eq!(&converse(pieces.iter().map(Vec::as_slice)), &whole);
        for line in whole.0.lines() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
        }
    }

    #[test]
    fn the_order_of_replies_changes_only_the_order_of_responses(
        messages in prop::collection::vec(message().prop_filter("no JSON", |text| text != "}"), 0..12),
        order in any::<prop::sample::Index>(),
    ) {
        let stream = messages.concat();
        let ids = |text: &str| {
            let mut all: Vec<String> = text.split(['[', ']', '\n']).flat_map(|part| part.split(",{")).map(
                |part| part.trim_matches(['{', ',']).to_owned()).collect();
            all.retain(|part| !part.is_empty());
            all.sort();
            all
        };
        let mut connection = Connection::new();
        connection.handle_input(stream.as_bytes());
        let mut requests: Vec<_> = std::iter::from_fn(|| connection.poll_request()).collect();
        let mut sent = Vec::new();
        while !requests.is_empty() {
            let (slot, request) = requests.swap_remove(order.index(requests.len()));
            connection.handle_reply(slot, &answer(&request));
            requests.extend(std::iter::from_fn(|| connection.poll_request()));
        }
        sent.extend(settle(&mut connection));
        prop_assert_eq!(ids(&String::from_utf8(sent).unwrap()), ids(&converse([stream.as_bytes()]).0));
    }
}
