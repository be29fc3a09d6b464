//! `serve --metrics`: what the server and its stores do, in Prometheus' text format over HTTP.
//!
//! The event loop accepts a client and writes the report; a thread of its own speaks HTTP with it, so that a slow client
//! keeps nobody waiting but other readers of metrics. Only this machine can connect.

mod exposition;
mod http;
mod report;

use super::backend::StoreBackend;
use anyhow::{Context as _, Result, anyhow, bail};
use offshoot_reactor::UnixListener;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use tracing::{debug, warn};

/// Readers that may wait for the one before them. More are cut off.
const WAITING_MAX: usize = 16;

/// Where metrics are read.
#[derive(Debug)]
pub(super) struct Metrics {
    listener: Listener,
    readers: SyncSender<http::Reader>,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Metrics {
    /// Listens on a Unix socket, which only its owner can connect to, or on a loopback address. Tells where.
    ///
    /// # Errors
    /// It cannot be listened on, or others could connect.
    pub(super) fn bind(place: &str) -> Result<(Self, String)> {
        let (listener, place) = listen(place).with_context(|| format!("--metrics {place}"))?;
        let (readers, waiting) = mpsc::sync_channel::<http::Reader>(WAITING_MAX);
        let serve = move || waiting.into_iter().for_each(http::Reader::answer);
        thread::Builder::new().name("metrics".to_owned()).spawn(serve).context("no thread for metrics")?;
        Ok((Self { listener, readers }, place))
    }

    /// Hands a report to everybody who has come.
    pub(super) fn turn(&self, stores: &StoreBackend) {
        while let Some(reader) = self.accept() {
            let reader = reader.with_report(report::report(stores));
            if self.readers.try_send(reader).is_err() {
                warn!("too many read metrics at once");
            }
        }
    }

    fn accept(&self) -> Option<http::Connection> {
        let accepted = match &self.listener {
            Listener::Unix(listener) => {
                listener.accept().map(http::Connection::from_unix).map_err(io::Error::from)
            }
            Listener::Tcp(listener) => {
                listener.accept().map(|(stream, _)| http::Connection::from_tcp(stream))
            }
        };
        match accepted {
            Ok(connection) => Some(connection),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => {
                debug!(%error, "a reader of metrics is gone");
                None
            }
        }
    }
}

fn listen(place: &str) -> Result<(Listener, String)> {
    if let Some(path) = place.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok((Listener::Unix(UnixListener::bind(Path::new(path))?), place.to_owned()));
    }
    let address = place.strip_prefix("tcp:").unwrap_or(place).parse::<SocketAddr>();
    let address = address.map_err(|_| anyhow!("is no place to listen: give unix:PATH or ADDRESS:PORT"))?;
    if !address.ip().to_canonical().is_loopback() {
        bail!("is not a loopback address");
    }
    let (listener, address) = tcp(address)?;
    Ok((Listener::Tcp(listener), format!("http://{address}/metrics")))
}

fn tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Readable when somebody has come.
impl AsFd for Metrics {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        }
    }
}
