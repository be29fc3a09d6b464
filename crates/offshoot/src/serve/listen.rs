//! Where the server listens, and how clients write that.

use anyhow::{Result, anyhow};
use offshoot_nbd::{Backend, Server};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

/// The port that IANA keeps for NBD.
const NBD_PORT: u16 = 10809;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// On a Unix socket.
    Unix(PathBuf),
    /// On an address: a loopback address, or any with TLS.
    Tcp(SocketAddr),
}

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
    /// The address, with the port that was taken, and whether clients have to speak TLS there.
    Tcp(SocketAddr, bool),
}

impl FromStr for Listen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Self::Unix(path.into())),
            Some(("tcp", address)) => parse_address(address).map(Self::Tcp),
            _ => None,
        };
        parsed
            .ok_or_else(|| anyhow!("\"{text}\" is no place to listen: give unix:PATH or tcp:ADDRESS[:PORT]"))
    }
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse().ok();
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, NBD_PORT)))
}

impl Listen {
    /// Opens the listener.
    pub(super) fn start(&self, server: &mut Server<impl Backend>, has_tls: bool) -> Result<Address> {
        match self {
            Self::Unix(path) => {
                server.listen_unix(path)?;
                Ok(Address::Unix(std::path::absolute(path)?))
            }
            Self::Tcp(addr) => Ok(Address::Tcp(server.listen_tcp(*addr)?, has_tls)),
        }
    }
}

impl Address {
    /// The URI of an export, as the NBD project's `doc/uri.md` defines it.
    pub(super) fn uri(&self, export: &str) -> String {
        let export = encoded(export.as_bytes());
        match self {
            Self::Unix(path) => {
                let path = encoded(path.as_os_str().as_bytes());
                format!("nbd+unix:///{export}?socket={path}")
            }
            Self::Tcp(addr, false) => format!("nbd://{addr}/{export}"),
            Self::Tcp(addr, true) => format!("nbds://{addr}/{export}"),
        }
    }
}

/// Bytes with all but the unreserved characters of RFC 3986 and the slash as `%XX`.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed() {
        let tcp = |text: &str| Some(Listen::Tcp(text.parse().unwrap()));
        for (text, expected) in [
            ("unix:/run/a b.sock", Some(Listen::Unix("/run/a b.sock".into()))),
            ("unix:a:b", Some(Listen::Unix("a:b".into()))),
            ("tcp:127.0.0.1:4000", tcp("127.0.0.1:4000")),
            ("tcp:127.0.0.1", tcp("127.0.0.1:10809")),
            ("tcp:[::1]:0", tcp("[::1]:0")),
            ("tcp:::1", tcp("[::1]:10809")),
            ("unix:", None),
            ("tcp:", None),
            ("tcp:localhost:1", None),
            ("tcp:127.0.0.1:65536", None),
            ("/run/a.sock", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn uris_are_encoded() {
        let unix = Address::Unix("/run/a b?.sock".into());
        assert_eq!(unix.uri("vols/x&y"), "nbd+unix:///vols/x%26y?socket=/run/a%20b%3F.sock");
        let tcp = |has_tls| Address::Tcp("[::1]:4000".parse().unwrap(), has_tls);
        assert_eq!(tcp(false).uri("größe"), "nbd://[::1]:4000/gr%C3%B6%C3%9Fe");
        assert_eq!(tcp(true).uri("vol"), "nbds://[::1]:4000/vol");
    }
}
