//! A server on a thread of its own, and a client over a socket.

use super::memory::{Control, MemoryBackend};
use super::wire;
use offshoot_nbd::{ExportInfo, Server};
use std::io::{PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tempfile::TempDir;

pub struct Running {
    pub control: Arc<Control>,
    dir: TempDir,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<MemoryBackend>>,
    pub tcp_port: u16,
}

impl Running {
    pub fn start(exports: Vec<ExportInfo>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = MemoryBackend::new(exports);
        let control = Arc::clone(&backend.control);
        let mut server = Server::new(backend).unwrap();
        server.listen_unix(&dir.path().join("sock")).unwrap();
        let tcp_port = server.listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap().port();
        let (stopped, stop) = std::io::pipe().unwrap();
        let thread = std::thread::spawn(move || server.run(stopped.as_fd()).unwrap());
        Self { control, dir, stop: Some(stop), thread: Some(thread), tcp_port }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    pub fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// A file name in a directory that is removed at the end.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn connect(&self) -> RawClient {
        RawClient { stream: UnixStream::connect(self.socket()).unwrap() }
    }

    /// A client that has chosen an export, with structured replies.
    pub fn open(&self, export: &str) -> RawClient {
        let mut client = self.connect();
        client.greet();
        client.stream.write_all(&wire::option(8, &[])).unwrap();
        assert_eq!(client.option_reply().0, wire::ACK);
        client.stream.write_all(&wire::option(7, &wire::info(export, &[]))).unwrap();
        assert_eq!(client.option_reply().0, wire::INFO);
        assert_eq!(client.option_reply().0, wire::ACK);
        client
    }

    /// Tells the server to stop.
    pub fn begin_stop(&mut self) {
        // A pipe whose writer is gone is readable.
        self.stop = None;
    }

    /// Waits for the server to end.
    pub fn join(&mut self) -> MemoryBackend {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn stop(&mut self) -> MemoryBackend {
        self.begin_stop();
        self.join()
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

pub struct RawClient {
    pub stream: UnixStream,
}

impl RawClient {
    pub fn greet(&mut self) {
        let greeting = self.read(18);
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        self.stream.write_all(&3_u32.to_be_bytes()).unwrap();
    }

    pub fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Type and data of a reply to an option.
    pub fn option_reply(&mut self) -> (u32, Vec<u8>) {
        let head = self.read(20);
        let len = wire::u32_at(&head, 16) as usize;
        (wire::u32_at(&head, 12), self.read(len))
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next reply, simple (without payload) or structured: cookie, error, payload.
    pub fn reply(&mut self) -> (u64, u32, Vec<u8>) {
        let head = self.read(16);
        if wire::u32_at(&head, 0) == wire::SIMPLE_REPLY {
            return (wire::u64_at(&head, 8), wire::u32_at(&head, 4), Vec::new());
        }
        assert_eq!(wire::u32_at(&head, 0), wire::STRUCTURED_REPLY);
        let len = wire::u32_at(&self.read(4), 0) as usize;
        let payload = self.read(len);
        let error = if head[6] & 0x80 == 0 { 0 } else { wire::u32_at(&payload, 0) };
        (wire::u64_at(&head, 8), error, payload)
    }

    /// Waits until the server closes the connection, whatever it still has to say.
    pub fn expect_close(&mut self) {
        match std::io::copy(&mut self.stream, &mut std::io::sink()) {
            Ok(_) => {}
            // What the kernel reports when the server left bytes unread.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}
