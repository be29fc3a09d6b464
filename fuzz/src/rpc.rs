//! One connection of the JSON-RPC server, from any bytes.
//!
//! The first byte says how the others are cut, and in which order requests are answered; the others are the stream.

use offshoot_rpc::{
    Call, Connection, Dispatch, Document, Errno, Params, Reply, Request, ResultText, RpcError, limits,
};

/// Answers a stream twice, cut and whole; each response is one JSON text, and what is held stays bounded.
pub fn run(bytes: &[u8]) {
    let Some((how, stream)) = bytes.split_first() else { return };
    let dispatch = Dispatch::new(|_| true);
    let whole = converse(&dispatch, std::iter::once(stream));
    assert_eq!(converse(&dispatch, stream.chunks(usize::from(*how).max(1))), whole, "cut elsewhere");
    for line in whole.split_terminator('\n') {
        assert!(matches!(Document::parse(line), Ok(Some(_))), "{line}");
    }
    out_of_order(&dispatch, usize::from(*how), stream);
}

/// What is sent when everything is answered at once.
fn converse<'s>(dispatch: &Dispatch, pieces: impl Iterator<Item = &'s [u8]>) -> String {
    let mut connection = Connection::new();
    let mut sent = Vec::new();
    for piece in pieces {
        if !connection.wants_input() {
            break;
        }
        connection.handle_input(piece);
        loop {
            while let Some((slot, request)) = connection.poll_request() {
                connection.handle_reply(slot, &reply(dispatch, &request));
            }
            let count = connection.output().len();
            if count == 0 {
                break;
            }
            sent.extend_from_slice(connection.output());
            connection.advance_output(count);
        }
    }
    String::from_utf8(sent).expect("responses are text")
}

/// Answers in another order, and never sends.
fn out_of_order(dispatch: &Dispatch, how: usize, stream: &[u8]) {
    let mut connection = Connection::new();
    connection.handle_input(stream);
    let mut requests: Vec<_> = std::iter::from_fn(|| connection.poll_request()).collect();
    while !requests.is_empty() {
        assert!(requests.len() <= limits::IN_FLIGHT_REQUESTS_MAX);
        let (slot, request) = requests.swap_remove(how % requests.len());
        connection.handle_reply(slot, &reply(dispatch, &request));
        requests.extend(std::iter::from_fn(|| connection.poll_request()));
    }
    assert_eq!(connection.in_flight(), 0);
    assert!(connection.output().len() <= limits::OUTPUT_BYTES_MAX + limits::OUTPUT_BYTES_HIGH);
    connection.handle_end();
    connection.advance_output(connection.output().len());
    while connection.poll_request().is_some() {}
}

fn reply(dispatch: &Dispatch, request: &Request) -> Reply {
    let (method, call) = dispatch.call(request)?;
    match call {
        Call::GetMethods(params) => ResultText::of(&dispatch.names(params.as_ref())),
        Call::CreateLvol(params) => {
            ResultText::of(&(params.lvstore()? == params.lvstore()?, params.size_bytes()?))
        }
        Call::RenameLvol(params) => ResultText::of(&params.lvol().aliases().collect::<Vec<_>>()),
        Call::GetLvols(Some(params)) => params.lvstore().and(Err(method.failed(Errno::NoDev))),
        Call::GetVersion => Err(RpcError::INTERNAL),
        _ => ResultText::of(&request.params.as_ref().map(Params::value)),
    }
}
