//! `offshoot rpc`: one call of a server's JSON-RPC.

use crate::json;
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use offshoot_rpc::{Client, DEFAULT_SOCKET, Document};
use std::path::PathBuf;

/// Call a method of a running server over JSON-RPC
///
/// Prints the result as JSON. The server is one of `serve --rpc`, or SPDK's.
#[derive(Debug, Args)]
pub(crate) struct RpcArgs {
    /// The Unix socket of the server
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// The method, as in `bdev_lvol_get_lvols`
    method: String,
    /// Its parameters, a JSON object or array
    #[arg(value_name = "JSON", value_parser = params)]
    params: Option<Document>,
}

/// Calls the method.
///
/// # Errors
/// There is no server, or it answers with an error.
pub(crate) fn run(args: &RpcArgs) -> Result<()> {
    let mut client = Client::connect(&args.socket)
        .with_context(|| format!("cannot connect to {}", args.socket.display()))?;
    // Said here in full: that the server went away while it was written to is not what ends a pipeline quietly.
    let response = client
        .call_document(&args.method, args.params.as_ref())
        .map_err(|error| anyhow!("{}: {error}", args.method))?;
    json::print(&response.result())
}

fn params(text: &str) -> Result<Document> {
    match Document::parse(text)? {
        Some(document) if document.root().is_object() || document.root().is_array() => Ok(document),
        Some(_) => bail!("parameters are a JSON object or array"),
        None => bail!("not one complete JSON text"),
    }
}
