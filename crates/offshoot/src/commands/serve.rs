//! `offshoot serve`: lvols as network block devices, and JSON-RPC to change them.

use crate::external::External;
use crate::serve::{self, Rule, SealPace, ServeArgs, ServeLimits, TlsFiles};
use crate::size::Size;
use anyhow::{Result, bail};
use clap::Args;
use offshoot_nbd::Limits;
use offshoot_nbd::limits::PAYLOAD_BYTES_MAX;
use std::path::PathBuf;
use std::time::Duration;

/// Serve the lvols of stores as NBD exports, until SIGTERM or SIGINT
///
/// An export is called LVOL, or STORENAME/LVOL when several stores are served. Snapshots are read-only. The stores are
/// locked meanwhile, and closed in order at the end.
///
/// With --rpc the server answers SPDK's bdev_lvol_* and related methods on a Unix socket that only its owner can connect
/// to; stores can be opened, made and closed there too, so that none need be named.
#[derive(Debug, Args)]
pub(crate) struct ServeCommand {
    /// Files or block devices that hold stores
    #[arg(value_name = "STORE", required_unless_present_any = ["rpc", "config"])]
    stores: Vec<PathBuf>,
    /// Where to listen; may be given several times [default: the socket STORE.sock next to the first store]
    #[arg(long, value_name = "unix:PATH|tcp:ADDR")]
    nbd: Vec<String>,
    /// Answer JSON-RPC on this Unix socket
    #[arg(long, value_name = "PATH")]
    rpc: Option<PathBuf>,
    /// Make the calls of this file first, in the form of save_config, and what is new in it when SIGHUP comes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tell metrics in Prometheus' format there, to readers on this machine
    #[arg(long, value_name = "unix:PATH|ADDR:PORT")]
    metrics: Option<String>,
    /// Log requests that take this many milliseconds or more, ten a second at most
    #[arg(long, value_name = "MS")]
    slow_io: Option<u64>,
    /// File that is the external snapshot of this UUID; may be given several times
    #[arg(long = "external", value_name = "UUID=FILE")]
    externals: Vec<External>,
    /// Speak TLS with this certificate (PEM): on TCP, which may then be reached from elsewhere, always; on Unix sockets with
    /// clients that ask for it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Take only clients with a certificate that one of these authorities has signed (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// Who may open an export, or all whose names begin with PREFIX: cert:NAME, uid:NUMBER, addr:ADDRESS[/BITS]. The first
    /// that is about an export counts; it is not there for anybody else
    #[arg(long, value_name = "EXPORT|PREFIX*=CLIENT[,CLIENT]")]
    allow: Vec<Rule>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Meanwhile, make the stores ones that SPDK can open once they are closed; what is left then, the next time does
    #[arg(long)]
    seal: bool,
    /// How many bytes a second sealing may write
    #[arg(long, value_name = "SIZE", requires = "seal")]
    rate: Option<Size>,
}

/// Bounds on what clients may take, and on the end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// NBD connections; further ones wait
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Seconds that an NBD client may take to choose an export
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().negotiation.as_secs())]
    negotiation_timeout: u64,
    /// Requests of one NBD connection under way; above it the connection is not read
    #[arg(long, value_name = "NUMBER", default_value_t = Limits::default().requests)]
    max_requests: usize,
    /// Bytes that they and their unsent replies may hold; above it the connection is not read
    #[arg(long, value_name = "SIZE", default_value = "32M")]
    max_bytes: Size,
    /// Bytes that one NBD request may read or write, a power of two from 64K to 32M
    #[arg(long, value_name = "SIZE", default_value = "32M")]
    max_request: Size,
    /// Connections to the socket for JSON-RPC; further ones wait
    #[arg(long, value_name = "NUMBER", default_value_t = offshoot_rpc::limits::CONNECTIONS_DEFAULT)]
    max_rpc_connections: usize,
    /// Seconds that closing the stores may take at the end; one that takes longer is left as by a crash
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    shutdown_timeout: u64,
}

impl LimitArgs {
    fn limits(self) -> Result<ServeLimits> {
        for (flag, number) in [
            ("--max-connections", self.max_connections),
            ("--max-requests", self.max_requests),
            ("--max-rpc-connections", self.max_rpc_connections),
        ] {
            if number == 0 {
                bail!("{flag} 0: nobody could do anything");
            }
        }
        let request_bytes = self.max_request.bytes()?;
        let is_good = request_bytes.is_power_of_two()
            && (MAX_REQUEST_LEAST..=PAYLOAD_BYTES_MAX.into()).contains(&request_bytes);
        let request_bytes = u32::try_from(request_bytes).ok().filter(|_| is_good);
        let Some(request_bytes) = request_bytes else {
            bail!("--max-request: give a power of two from 64K to 32M");
        };
        let bytes = usize::try_from(self.max_bytes.bytes()?).unwrap_or(usize::MAX);
        if bytes == 0 {
            bail!("--max-bytes 0: nobody could do anything");
        }
        Ok(ServeLimits {
            nbd: Limits {
                connections: self.max_connections,
                negotiation: Duration::from_secs(self.negotiation_timeout),
                requests: self.max_requests,
                bytes,
                ..Limits::default()
            },
            request_bytes,
            rpc_connections: self.max_rpc_connections,
            closing: Duration::from_secs(self.shutdown_timeout),
        })
    }
}

/// Least that `--max-request` takes: what clients use at least, whatever they are told.
const MAX_REQUEST_LEAST: u64 = 64 << 10;

/// Serves.
///
/// # Errors
/// Why not, or not any more.
pub(crate) fn run(command: ServeCommand) -> Result<()> {
    let externals = command.externals.into_iter().map(|external| (external.id, external.file));
    let bytes_per_second = command.rate.map(Size::bytes).transpose()?;
    if bytes_per_second == Some(0) {
        bail!("--rate 0: sealing would never end");
    }
    serve::run(ServeArgs {
        stores: command.stores,
        nbd: command.nbd,
        rpc: command.rpc,
        metrics: command.metrics,
        externals: externals.collect(),
        config: command.config,
        slow_io: command.slow_io.map(Duration::from_millis),
        tls: command.tls_cert.zip(command.tls_key).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            clients: command.tls_ca,
        }),
        allowed: command.allow,
        limits: command.limits.limits()?,
        seal: command.seal.then_some(SealPace { bytes_per_second }),
    })
}
