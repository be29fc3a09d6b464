//! The server and the client over a real socket.
#![allow(clippy::unwrap_used, reason = "everything here is a test")]

mod common;

use common::running::{EchoBackend, Running, line};
use offshoot_reactor::{Interest, Poller};
use offshoot_rpc::{BindError, Client, ClientError, Document, ListenError, Server, limits};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

const HOLD: &[u8] = br#"{"id":"held","method":"hold"}"#;
const RELEASE: &[u8] = br#"{"id":"release","method":"release"}"#;

fn result(id: &str, result: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n")
}

#[test]
fn a_client_calls() {
    let running = Running::start();
    let mut client = Client::connect(&running.socket()).unwrap();
    let result: Vec<u64> = client.call("echo", Some(&[1, u64::MAX])).unwrap();
    assert_eq!(result, [1, u64::MAX]);
    let document = Document::parse(r#"{"b":1.0,"a":"\u0041"}"#).unwrap().unwrap();
    let response = client.call_document("echo", Some(&document)).unwrap();
    assert_eq!(serde_json::to_string(&response.result()).unwrap(), r#"{"b":1.0,"a":"A"}"#);
    let error = client.call::<(), ()>("fail", None).unwrap_err();
    assert!(matches!(&error, ClientError::Rpc(error) if error.code == -19), "{error}");
    assert_eq!(error.to_string(), "No such device (code -19)");
    let long: String = client.call("fill", Some(&[5_000_000])).unwrap();
    assert_eq!(long.len(), 5_000_000);
}

#[test]
fn responses_overtake_one_another() {
    let running = Running::start();
    let (mut first, mut second) = (running.connect(), running.connect());
    first.write_all(HOLD).unwrap();
    first.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
    assert_eq!(line(&mut first), result("1", "null"));
    second.write_all(RELEASE).unwrap();
    assert_eq!(line(&mut first), result("\"held\"", "true"));
    assert_eq!(line(&mut second), result("\"release\"", "true"));
}

#[test]
fn what_is_asked_before_the_end_of_the_stream_is_answered() {
    let running = Running::start();
    let mut stream = running.connect();
    stream.write_all(&br#"{"id":1,"method":"echo"}"#.repeat(1000)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, result("1", "null").repeat(1000));
}

#[test]
fn the_end_of_a_connection_is_told_once_its_requests_are_answered() {
    let mut running = Running::start();
    let mut first = running.connect();
    first.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
    assert_eq!(line(&mut first), result("1", "null"));
    let mut second = running.connect();
    second.write_all(HOLD).unwrap();
    second.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
    assert_eq!(line(&mut second), result("1", "null"));
    drop(second);
    first.write_all(RELEASE).unwrap();
    assert_eq!(line(&mut first), result("\"release\"", "true"));
    drop(first);
    let mut closed = running.join().closed;
    closed.sort_unstable();
    assert_eq!(closed, [0, 1]);
}

#[test]
fn bytes_that_are_no_json_end_the_connection_and_no_other() {
    let running = Running::start();
    let mut other = running.connect();
    let mut stream = running.connect();
    stream.write_all(b"not json").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("Parse error"));
    other.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
    assert_eq!(line(&mut other), result("1", "null"));
}

#[test]
fn a_client_that_does_not_read_stalls_nobody() {
    let running = Running::start();
    let mut lazy = running.connect();
    lazy.set_nonblocking(true).unwrap();
    // The server stops reading from it, so that the socket takes no more.
    let request = br#"{"id":1,"method":"fill","params":[100000]}"#;
    let mut asked = Vec::new();
    while lazy.write_all(request).is_ok() {
        asked.extend_from_slice(request);
        assert!(asked.len() < 64 << 20, "it is still read from");
    }
    let mut client = Client::connect(&running.socket()).unwrap();
    assert_eq!(client.call::<_, [u8; 1]>("echo", Some(&[1])).unwrap(), [1]);
    // When it reads at last, it gets what it asked for.
    lazy.set_nonblocking(false).unwrap();
    assert_eq!(line(&mut lazy).len(), result("1", "").len() + 100_002);
}

#[test]
fn there_is_a_limit_to_connections() {
    let running = Running::start();
    let mut streams: Vec<UnixStream> = (0..limits::CONNECTIONS_DEFAULT).map(|_| running.connect()).collect();
    for stream in &mut streams {
        stream.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
        assert_eq!(line(stream), result("1", "null"));
    }
    // The next one waits until another leaves.
    let mut waiting = running.connect();
    waiting.write_all(br#"{"id":2,"method":"echo"}"#).unwrap();
    waiting.set_nonblocking(true).unwrap();
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(streams.pop());
    waiting.set_nonblocking(false).unwrap();
    assert_eq!(line(&mut waiting), result("2", "null"));
}

#[test]
fn a_client_that_leaves_leaves_nothing() {
    let mut running = Running::start();
    let mut leaving = running.connect();
    leaving.write_all(HOLD).unwrap();
    let mut staying = running.connect();
    staying.write_all(br#"{"id":1,"method":"echo"}"#).unwrap();
    line(&mut staying);
    drop(leaving);
    staying.write_all(RELEASE).unwrap();
    assert_eq!(line(&mut staying), result("\"release\"", "true"));
    drop(staying);
    assert_eq!(running.join().submitted, 3);
}

#[test]
fn stopping_answers_what_is_under_way() {
    let mut running = Running::start();
    let mut streams: Vec<UnixStream> = (0..10).map(|_| running.connect()).collect();
    for stream in &mut streams {
        stream.write_all(br#"{"id":1,"method":"fill","params":[1000000]}"#).unwrap();
        // One byte of the response says that the request was taken.
        stream.read_exact(&mut [0]).unwrap();
    }
    running.begin_stop();
    for stream in &mut streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.len(), result("1", "").len() + 1_000_001);
    }
    running.join();
    assert!(!running.socket().exists());
}

#[test]
fn the_socket_is_the_owners_and_a_stale_one_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    drop(UnixListener::bind(&path).unwrap());
    let server = Server::bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let second = Server::bind(&path);
    assert!(matches!(second, Err(BindError::Listen(ListenError::InUse { .. }))));
    drop(server);
    assert!(!path.exists());
}

/// As a reactor that serves something else too drives it.
#[test]
fn a_server_is_driven_in_turns_by_a_reactor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let mut server = Server::bind(&path).unwrap();
    let mut backend = EchoBackend::default();
    let mut reactor = Poller::new().unwrap();
    reactor.add(&server, 1, Interest::INPUT).unwrap();
    reactor.wait(Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(reactor.ready_count(), 0, "nothing to do");
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(&path).unwrap();
        client.call::<_, String>("fill", Some(&[3_000_000])).unwrap().len()
    });
    while !client.is_finished() {
        let timeout =
            if server.busy() { std::time::Duration::ZERO } else { std::time::Duration::from_millis(100) };
        reactor.wait(Some(timeout)).unwrap();
        server.turn(&mut backend).unwrap();
    }
    assert_eq!(client.join().unwrap(), 3_000_000);
    assert_eq!((server.deadline(), server.is_drained()), (None, false));
    server.begin_stop();
    while !server.is_drained() {
        server.turn(&mut backend).unwrap();
    }
}
