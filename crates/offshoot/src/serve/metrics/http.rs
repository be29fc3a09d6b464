//! As much of HTTP/1.1 as a reader of metrics needs: one request, one response.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tracing::debug;

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// How long a client may take for each read and write.
const PATIENCE: Duration = Duration::from_secs(2);

/// Somebody who has connected.
#[derive(Debug)]
pub(super) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Somebody who wants to read a report.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    report: String,
}

impl Connection {
    pub(super) fn from_unix(socket: OwnedFd) -> Self {
        Self::Unix(socket.into())
    }

    pub(super) fn from_tcp(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }

    pub(super) fn with_report(self, report: String) -> Reader {
        Reader { connection: self, report }
    }
}

impl Reader {
    /// Reads the request and answers it. Who is too slow is cut off.
    pub(super) fn answer(self) {
        let answered = match self.connection {
            Connection::Unix(stream) => prepare_unix(&stream).and_then(|()| answer(stream, &self.report)),
            Connection::Tcp(stream) => prepare_tcp(&stream).and_then(|()| answer(stream, &self.report)),
        };
        if let Err(error) = answered {
            debug!(%error, "a reader of metrics was cut off");
        }
    }
}

fn prepare_unix(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn prepare_tcp(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn answer(mut stream: impl Read + Write, report: &str) -> io::Result<()> {
    let head = head(&mut stream)?;
    let response = response(&head, report);
    stream.write_all(response.as_bytes())?;
    stream.flush()
}

/// The request up to its empty line.
fn head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        head.extend_from_slice(&buffer[..count]);
        if count == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

fn response(head: &[u8], report: &str) -> String {
    let mut words = head.split(|byte| byte.is_ascii_whitespace());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        (b"GET", b"/metrics") => ("200 OK", report),
        (b"GET", _) => ("404 Not Found", "metrics are at /metrics\n"),
        _ => ("405 Method Not Allowed", "only GET is known\n"),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_thing_is_served() {
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "200 OK"),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("\r\n\r\n", "405 Method Not Allowed"),
        ] {
            let response = response(request.as_bytes(), "a 1\n");
            assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
        }
        assert!(
            response(b"GET /metrics HTTP/1.1\r\n\r\n", "a 1\n")
                .ends_with("Content-Length: 4\r\nConnection: close\r\n\r\na 1\n")
        );
    }

    #[test]
    fn heads_have_an_end() {
        let long = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert!(head(&mut &long[..]).is_err());
        assert!(head(&mut &b"GET / HTTP/1.1\r\n"[..]).is_err());
    }
}
