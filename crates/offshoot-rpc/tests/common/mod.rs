//! What the tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses some of it, and one that cannot go on has failed"
)]

pub mod running;

use offshoot_rpc::{Connection, Errno, Reply, Request, ResultText, RpcError};

/// Answers `echo` with its parameters, `fill` with a string of so many bytes, and `fail` with ENODEV.
pub fn answer(request: &Request) -> Reply {
    let params = request.params.as_ref();
    match &*request.method {
        "echo" => params.map_or(ResultText::of(&()), |params| ResultText::of(&params.value())),
        "fill" => {
            let [count]: [usize; 1] =
                params.ok_or(RpcError::PARAMS)?.decode().map_err(|_| RpcError::PARAMS)?;
            ResultText::of(&"x".repeat(count))
        }
        "fail" => Err(RpcError::refused(Errno::NoDev)),
        _ => Err(RpcError::METHOD),
    }
}

/// Lets a machine answer each request at once and sends everything. Returns what was sent.
pub fn settle(connection: &mut Connection) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        while let Some((slot, request)) = connection.poll_request() {
            connection.handle_reply(slot, &answer(&request));
        }
        let count = connection.output().len();
        if count == 0 {
            return sent;
        }
        sent.extend_from_slice(connection.output());
        connection.advance_output(count);
    }
}

/// What a machine sends in answer to pieces of a stream, and whether it is finished before the client ends.
pub fn converse<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (String, bool) {
    let mut connection = Connection::new();
    let mut sent = settle(&mut connection);
    for piece in pieces {
        if !connection.wants_input() {
            break;
        }
        connection.handle_input(piece);
        sent.extend(settle(&mut connection));
    }
    (String::from_utf8(sent).unwrap(), connection.is_finished())
}
