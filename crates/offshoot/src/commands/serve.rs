//! `offshoot serve`: lvols as network block devices, and JSON-RPC to change them.

use crate::external::External;
use crate::serve::{self, Rule, SealPace, ServeArgs, TlsFiles};
use crate::size::Size;
use anyhow::{Result, bail};
use clap::Args;
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
    /// Meanwhile, make the stores ones that SPDK can open once they are closed; what is left then, the next time does
    #[arg(long)]
    seal: bool,
    /// How many bytes a second sealing may write
    #[arg(long, value_name = "SIZE", requires = "seal")]
    rate: Option<Size>,
}

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
        seal: command.seal.then_some(SealPace { bytes_per_second }),
    })
}
