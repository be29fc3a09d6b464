//! The other end: one request at a time, blocking.

use crate::error::RpcError;
use crate::json::{Document, Limits, Scanner, SyntaxError, Value};
use crate::limits::RESPONSE_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use thiserror::Error;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// Of the last request.
    id: u64,
}

/// Why there is no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server's error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The connection is gone. What was asked may have been done.
    #[error("the connection to the server is gone: {0}")]
    Io(#[from] io::Error),
    /// What the server sent is no JSON.
    #[error("the server answered with something that is not JSON: {0}")]
    Syntax(#[from] SyntaxError),
    /// What the server sent is JSON, but no response to the request.
    #[error("the server answered with something that is not a response: {text}")]
    NotAResponse {
        /// The beginning of it.
        text: String,
    },
    /// The result is not what the caller expects.
    #[error("the server answered with an unexpected result: {0}")]
    Result(serde_json::Error),
    /// The parameters cannot be written as JSON.
    #[error("the parameters cannot be written as JSON: {0}")]
    Params(serde_json::Error),
}

/// Bytes of a strange response that are shown.
const SHOWN_BYTES: usize = 200;

#[derive(Serialize)]
struct RequestText<'r, P> {
    jsonrpc: &'static str,
    id: u64,
    method: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'r P>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or the caller may not connect.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(path)?, id: 0 })
    }

    /// Connects to a name in the abstract namespace, if the process that listens there is `pid`.
    ///
    /// # Errors
    /// Nobody listens there, or another process.
    pub fn connect_abstract(name: &[u8], pid: u32) -> io::Result<Self> {
        Ok(Self { stream: connect_abstract(name, pid)?, id: 0 })
    }

    /// Calls a method and waits for its result, as long as that takes.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Rpc`] is the server's. After any other the connection is of no more use.
    pub fn call<P: Serialize, R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: Option<&P>,
    ) -> Result<R, ClientError> {
        let result = self.call_document(method, params)?;
        serde_json::from_str(result.member("result").map_or("null", Value::raw)).map_err(ClientError::Result)
    }

    /// Calls a method and waits for its response, whose member `result` is there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_document<P: Serialize>(
        &mut self,
        method: &str,
        params: Option<&P>,
    ) -> Result<Response, ClientError> {
        self.id += 1;
        let request = RequestText { jsonrpc: "2.0", id: self.id, method, params };
        let text = serde_json::to_vec(&request).map_err(ClientError::Params)?;
        self.stream.write_all(&text)?;
        let response = Response { document: self.receive()? };
        let id = response.member("id");
        let is_ours = id.is_some_and(|id| id.is_null() || id.as_integer() == Some((false, self.id)));
        if let Some(error) = response.member("error").filter(|_| is_ours)
            && let Ok(error) = serde_json::from_str::<RpcError>(error.raw())
        {
            return Err(error.into());
        }
        if !is_ours || response.member("result").is_none() {
            let text: String = response.document.root().raw().chars().take(SHOWN_BYTES).collect();
            return Err(ClientError::NotAResponse { text });
        }
        Ok(response)
    }

    /// The next text from the server.
    fn receive(&mut self) -> Result<Document, ClientError> {
        let mut scanner = Scanner::new(Limits { bytes: RESPONSE_BYTES_MAX, values: RESPONSE_BYTES_MAX });
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            // One request is under way, so that nothing but a newline follows its response.
            if let (_, Some(document)) = scanner.scan(&buffer[..count])? {
                return Ok(document);
            }
        }
    }
}

/// Connects to a name in the abstract namespace of Unix sockets, if the process that listens there is `pid`.
///
/// # Errors
/// Nobody listens there, or another process.
pub fn connect_abstract(name: &[u8], pid: u32) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?.pid.as_raw_pid();
    if u32::try_from(peer) != Ok(pid) {
        return Err(io::Error::other("another process listens there"));
    }
    Ok(stream)
}

/// A response that is no error.
#[derive(Clone, Debug)]
pub struct Response {
    document: Document,
}

impl Response {
    /// The result as it was written.
    #[must_use]
    pub fn result(&self) -> Value<'_> {
        self.member("result").unwrap_or_else(|| self.document.root())
    }

    fn member(&self, name: &str) -> Option<Value<'_>> {
        self.document.root().members().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}
