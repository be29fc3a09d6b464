//! A server on a thread of its own.

use offshoot_rpc::{Backend, Reply, Request, RequestId, ResultText, Server};
use std::collections::VecDeque;
use std::io::{PipeWriter, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Answers as [`super::answer`], and holds each `hold` back until a `release`, newest first.
#[derive(Debug, Default)]
pub struct EchoBackend {
    pub submitted: u64,
    /// Connections that are gone, in the order in which that was told.
    pub closed: Vec<u64>,
    held: Vec<RequestId>,
    answered: VecDeque<(RequestId, Reply)>,
}

impl Backend for EchoBackend {
    fn submit(&mut self, id: RequestId, request: Request) {
        self.submitted += 1;
        match &*request.method {
            "hold" => self.held.push(id),
            "release" => {
                let held = std::mem::take(&mut self.held).into_iter().rev();
                self.answered.extend(held.map(|id| (id, ResultText::of(&true))));
                self.answered.push_back((id, ResultText::of(&true)));
            }
            _ => self.answered.push_back((id, super::answer(&request))),
        }
    }

    fn closed(&mut self, connection: u64) {
        let waits = |(id, _): &(RequestId, Reply)| id.connection() == connection;
        assert!(
            !self.answered.iter().any(waits) && !self.held.iter().any(|id| id.connection() == connection)
        );
        self.closed.push(connection);
    }

    fn poll(&mut self, replies: &mut Vec<(RequestId, Reply)>) {
        replies.extend(self.answered.drain(..));
    }
}

pub struct Running {
    dir: TempDir,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<EchoBackend>>,
}

impl Running {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::bind(&dir.path().join("sock")).unwrap();
        let (stopped, stop) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || {
            let mut backend = EchoBackend::default();
            server.run(&mut backend, stopped.as_fd()).unwrap();
            backend
        });
        Self { dir, stop: Some(stop), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }

    /// Tells the server to stop.
    pub fn begin_stop(&mut self) {
        // A pipe whose writer is gone is readable.
        self.stop = None;
    }

    /// Waits for the server to end.
    pub fn join(&mut self) -> EchoBackend {
        self.begin_stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes up to and with the next newline.
pub fn line(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    while bytes.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}
