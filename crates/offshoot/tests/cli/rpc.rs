//! `rpc`, against a server of the same protocol.

use std::os::fd::AsFd as _;

use offshoot_rpc::{Backend, Errno, Reply, Request, RequestId, ResultText, RpcError, Server};

use super::bench::Bench;

/// Answers `echo` with its parameters, anything else with ENODEV.
#[derive(Default)]
struct Echo {
    answered: Vec<(RequestId, Reply)>,
}

impl Backend for Echo {
    fn submit(&mut self, id: RequestId, request: Request) {
        let reply = match (&*request.method, &request.params) {
            ("echo", Some(params)) => ResultText::of(&params.value()),
            ("echo", None) => ResultText::of(&()),
            _ => Err(RpcError::refused(Errno::NoDev)),
        };
        self.answered.push((id, reply));
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        replies.append(&mut self.answered);
    }
}

#[test]
fn prints_the_result_or_why_there_is_none() {
    let bench = Bench::new();
    let server = Server::bind(&bench.path("sock")).unwrap();
    let (stopped, stop) = std::io::pipe().unwrap();
    let thread = std::thread::spawn(move || server.run(&mut Echo::default(), stopped.as_fd()));
    // The order of members and the spelling of numbers are those of the server.
    let result = bench.ok(&["rpc", "--socket", "sock", "echo", r#"{"b":[1.0,{}],"a":18446744073709551615}"#]);
    assert_eq!(result, "{\n  \"b\": [\n    1.0,\n    {}\n  ],\n  \"a\": 18446744073709551615\n}\n");
    assert_eq!(bench.ok(&["rpc", "--socket", "sock", "echo"]), "null\n");
    let refusal = bench.refused(&["rpc", "--socket", "sock", "fail"]);
    assert_eq!(refusal, "fail: No such device (code -19)");
    drop(stop);
    thread.join().unwrap().unwrap();
    let refusal = bench.refused(&["rpc", "--socket", "sock", "echo"]);
    assert!(refusal.starts_with("cannot connect to sock: "), "{refusal}");
}

#[test]
fn parameters_are_an_object_or_array() {
    let bench = Bench::new();
    for params in ["1", "\"x\"", "{", "{}{}", "{'a':1}", ""] {
        let output = bench.output(&["rpc", "--socket", "sock", "echo", params]);
        assert_eq!(output.status.code(), Some(2), "{params}");
    }
}
