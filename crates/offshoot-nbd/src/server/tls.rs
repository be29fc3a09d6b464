//! TLS around a connection: certificates, and records in the place of the socket's bytes.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why TLS cannot be offered.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file has no certificate in it.
    #[error("{}: no certificate in it", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of an authority cannot be used.
    #[error("{}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Certificate and key cannot be used, or not together.
    #[error("{} and {}: {source}", certificate.display(), key.display())]
    Identity {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with its key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Clients cannot be verified.
    #[error("{}: {reason}", path.display())]
    Verifier {
        /// The file with the authorities.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What a server shows to clients that ask for TLS, and what it wants to see of them.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// From PEM files: the server's certificate with those between it and an authority that clients know, its private key,
    /// and, if clients have to show a certificate, those of the authorities that sign them.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub fn from_pem(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| TlsError::Pem { path: key.to_owned(), source })?;
        let identity =
            |source| TlsError::Identity { certificate: certificate.to_owned(), key: key.to_owned(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(identity)?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots
                        .add(authority)
                        .map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let unusable = |error: rustls::server::VerifierBuilderError| TlsError::Verifier {
                    path: path.to_owned(),
                    reason: error.to_string(),
                };
                builder.with_client_cert_verifier(verifier.map_err(unusable)?)
            }
        };
        builder.with_single_cert(chain, private).map(|config| Self(Arc::new(config))).map_err(identity)
    }
}

/// The certificates in a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(failed)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

/// What is between a connection and its socket.
#[derive(Debug)]
pub(super) struct Session {
    records: Box<ServerConnection>,
    /// Bytes that were decrypted and not taken.
    unread: usize,
}

/// How a session ends before its time.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the client is gone: {0}")]
    Socket(#[from] Errno),
}

impl Session {
    pub(super) fn new(tls: &Tls) -> Result<Self, SessionError> {
        let records = Box::new(ServerConnection::new(Arc::clone(&tls.0))?);
        Ok(Self { records, unread: 0 })
    }

    /// Reads what is there into `slices`. 0 at the end, [`Errno::AGAIN`] when there is nothing.
    pub(super) fn read(
        &mut self,
        socket: &OwnedFd,
        slices: &mut [IoSliceMut<'_>],
    ) -> Result<usize, SessionError> {
        loop {
            match self.records.reader().read_vectored(slices) {
                Ok(count) => {
                    self.unread = self.unread.saturating_sub(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.unread = 0,
                // The client went without a word of TLS's. What it had to say in NBD's terms tells whether it was done.
                Err(_) => return Ok(0),
            }
            self.records.read_tls(&mut Socket(socket)).map_err(|error| errno(&error))?;
            match self.records.process_new_packets() {
                Ok(state) => self.unread = state.plaintext_bytes_to_read(),
                Err(error) => {
                    // The client is told why, if it is there to be told.
                    let _ = self.records.write_tls(&mut Socket(socket));
                    return Err(error.into());
                }
            }
        }
    }

    /// Takes what is to be sent, as much as there is room for.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
        // It is buffered: nothing can go wrong.
        self.records.writer().write_vectored(slices).unwrap_or(0)
    }

    /// Sends what was taken. Says whether all of it was.
    pub(super) fn flush(&mut self, socket: &OwnedFd) -> Result<bool, SessionError> {
        while self.records.wants_write() {
            match self.records.write_tls(&mut Socket(socket)).map_err(|error| errno(&error)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Whether something waits for the socket.
    pub(super) fn wants_output(&self) -> bool {
        self.records.wants_write()
    }

    /// Whether something was received that was not taken. The socket may have nothing more.
    pub(super) fn has_unread(&self) -> bool {
        self.unread > 0
    }

    /// Says that nothing more is sent, as far as the socket takes it at once.
    pub(super) fn end(&mut self, socket: &OwnedFd) {
        self.records.send_close_notify();
        let _ = self.flush(socket);
    }

    /// The DNS names of the certificate that the client has shown.
    pub(super) fn names(&self) -> Vec<String> {
        let certificate = self.records.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.and_then(|bytes| webpki::EndEntityCert::try_from(bytes).ok());
        certificate
            .map_or_else(Vec::new, |certificate| certificate.valid_dns_names().map(str::to_owned).collect())
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A socket as rustls wants it.
struct Socket<'s>(&'s OwnedFd);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
