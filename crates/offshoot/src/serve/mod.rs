//! `offshoot serve`: the lvols of one or more stores as NBD exports, and SPDK's JSON-RPC to change them.
//!
//! One thread does everything: the NBD server sleeps in one `epoll_wait` over sockets, devices and signals, and
//! between two sleeps it moves every store along. The first SIGTERM or SIGINT ends it in order; later ones change nothing.

mod access;
mod backend;
mod content;
mod copying;
mod daemon;
mod errno;
mod exports;
mod histogram;
mod jobs;
mod listen;
mod logging;
mod lvol_device;
mod metrics;
mod notices;
mod openings;
mod qos;
mod rpc;
mod sealing;
mod served;
mod signals;
mod slow;
mod stats;
mod systemd;
mod transfers;
mod wakeup;

use access::Access;
pub(crate) use access::Rule;
use anyhow::{Context as _, Result, bail};
use backend::StoreBackend;
use daemon::{Daemon, Upkeep};
use listen::{Address, Listen};
pub(crate) use logging::LOG_VARIABLE;
use logging::Logging;
use metrics::Metrics;
use offshoot_nbd::{Limits, Server, Tls};
use openings::StoreId;
use rpc::Rpc;
pub(crate) use sealing::SealPace;
use served::Served;
use signals::{ReloadSignal, StopSignals};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use systemd::ServiceManager;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Files or block devices with a store. At least one, unless there is an RPC socket to open some over.
    pub(crate) stores: Vec<PathBuf>,
    /// `unix:PATH` or `tcp:ADDR[:PORT]`. None: [`default_socket`] of the first store.
    pub(crate) nbd: Vec<String>,
    /// The path of the socket for JSON-RPC.
    pub(crate) rpc: Option<PathBuf>,
    /// Where metrics are read: `unix:PATH`, or a loopback address and a port.
    pub(crate) metrics: Option<String>,
    /// External snapshots: the UUID under which clones name one, and the file that holds it.
    pub(crate) externals: Vec<(String, PathBuf)>,
    /// The configuration that is loaded at the start, and again when SIGHUP arrives.
    pub(crate) config: Option<PathBuf>,
    /// From how long on the log tells of requests.
    pub(crate) slow_io: Option<Duration>,
    /// What the server shows to clients that ask for TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// Who may open which exports.
    pub(crate) allowed: Vec<Rule>,
    /// What clients may take.
    pub(crate) limits: ServeLimits,
    /// Whether to seal the stores meanwhile, and how fast.
    pub(crate) seal: Option<SealPace>,
}

/// Bounds on what clients may take, and on the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServeLimits {
    pub(crate) nbd: Limits,
    /// Bytes of one NBD request.
    pub(crate) request_bytes: u32,
    /// Connections to the socket for JSON-RPC.
    pub(crate) rpc_connections: usize,
    /// How long closing the stores may take.
    pub(crate) closing: Duration,
}

/// Files in PEM.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    /// The server's certificate, and those between it and an authority.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// The authorities whose certificates clients have to show.
    pub(crate) clients: Option<PathBuf>,
}

/// Where a server listens that was not told: `STORE.sock` next to the file of its first store.
///
/// # Errors
/// When that store is a block device. Sockets do not belong into `/dev`.
pub(crate) fn default_socket(store: &Path) -> Result<PathBuf> {
    let is_block_device = store.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
    if is_block_device {
        bail!(
            "{} is a block device: say where to listen, as in --nbd unix:/run/offshoot.sock",
            store.display()
        );
    }
    let mut path = store.as_os_str().to_owned();
    path.push(".sock");
    Ok(path.into())
}

/// Serves until SIGTERM or SIGINT, then closes the stores.
///
/// # Errors
/// A store that cannot be opened or closed, or an address that cannot be listened on. Whatever was opened until then
/// has been closed.
pub(crate) fn run(args: ServeArgs) -> Result<()> {
    let logging = Logging::start();
    let listens = addresses(&args)?;
    let tls = args.tls.as_ref();
    let tls = tls.map(|files| Tls::from_pem(&files.certificate, &files.key, files.clients.as_deref()));
    let tls = tls.transpose()?;
    // Before anything is open: from here on a signal is an orderly end.
    let signals = StopSignals::install().context("cannot handle signals")?;
    let upkeep = Upkeep {
        config: args.config.clone(),
        reload: ReloadSignal::install().context("cannot handle signals")?,
        manager: ServiceManager::from_environment(),
    };
    let mut backend = StoreBackend::new(Access::new(args.allowed.clone()), args.limits.request_bytes)?;
    let listening = Listening { listens, tls };
    let served = serve(&mut backend, &args, listening, &signals, upkeep, logging);
    let closed = backend.close(Instant::now() + args.limits.closing);
    served.and(closed)
}

/// Where the server listens, and what it shows there.
struct Listening {
    listens: Vec<Listen>,
    tls: Option<Tls>,
}

fn serve(
    backend: &mut StoreBackend,
    args: &ServeArgs,
    listening: Listening,
    signals: &StopSignals,
    upkeep: Upkeep,
    logging: Logging,
) -> Result<()> {
    let metrics = args.metrics.as_deref().map(Metrics::bind).transpose()?;
    let (metrics, place) = metrics.unzip();
    let limits = args.limits;
    let mut rpc = Rpc::bind(args.rpc.as_deref(), limits.rpc_connections, args.externals.clone(), logging)?;
    backend.set_slow_io(args.slow_io);
    for path in &args.stores {
        let mut store = Served::open(path, &args.externals)?;
        let sealing = args.seal.map_or(Ok(()), |pace| store.seal(pace));
        let id = backend.add(store)?;
        rpc.adopt(path, id, backend);
        sealing?;
    }
    if let Some(config) = &args.config {
        rpc.configure(config, backend, signals.pending())?;
    }
    let mut server = Server::new(Daemon::new(backend, rpc, metrics, upkeep)?)?;
    server.set_limits(limits.nbd);
    let has_tls = listening.tls.is_some();
    if let Some(tls) = listening.tls {
        server.set_tls(tls);
    }
    rpc::listen_for_transfers(&mut server);
    let mut lines = Vec::new();
    for listen in listening.listens {
        let address = listen.start(&mut server, has_tls)?;
        let daemon = server.backend_mut();
        lines.extend(description(daemon.stores(), &address));
        daemon.rpc().add_address(address);
    }
    lines.extend(args.rpc.iter().map(|path| format!("serving RPC at {}", path.display())));
    lines.extend(place.map(|place| format!("serving metrics at {place}")));
    announce(&lines);
    server.backend_mut().tell_ready();
    let daemon = server.run(signals.pending())?;
    daemon.drain(signals.pending(), Instant::now() + limits.closing)
}

/// Where to listen. Looked at before any store is opened, since a typing error is cheap to tell then.
fn addresses(args: &ServeArgs) -> Result<Vec<Listen>> {
    match args.stores.first() {
        Some(first) if args.nbd.is_empty() => return Ok(vec![Listen::Unix(default_socket(first)?)]),
        None if args.rpc.is_none() && args.config.is_none() => {
            bail!("no store to serve: name one, or give --rpc to open some later, or --config")
        }
        _ => {}
    }
    args.nbd.iter().map(|text| text.parse()).collect()
}

/// What to tell about a listener: a line for each store.
fn description(backend: &StoreBackend, address: &Address) -> Vec<String> {
    let line = |(id, store): (StoreId, &Served)| {
        let path = store.path().display();
        let count = store.engine().state().lvols().count();
        let plural = if count == 1 { "" } else { "s" };
        let uri = address.uri(&backend.naming().name(id, "NAME"));
        format!("serving {path}: {count} lvol{plural} at {uri}")
    };
    backend.stores().map(line).collect()
}

/// Tells scripts on standard output that clients can come.
fn announce(lines: &[String]) {
    let mut out = io::stdout().lock();
    for line in lines {
        // Whoever closed standard output wants to be served without being told about it.
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "ready");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_stands_next_to_the_store() {
        assert_eq!(default_socket(Path::new("/vols/a.img")).unwrap(), Path::new("/vols/a.img.sock"));
    }
}
