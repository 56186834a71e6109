//! The certificate of a server, from two files. When they change, new connections get the new certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{TlsError, provider};

/// The mode of a file that every user of the machine may read.
const READABLE_BY_OTHERS: u32 = 0o004;

/// The two files of a server's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate first, and then the certificates of the authorities between it and a root.
    pub cert: PathBuf,
    /// The private key of the server's certificate.
    pub key: PathBuf,
}

/// The present certificate of a server.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// The contents that were read last, whether or not they could be used.
    contents: Contents,
    http: Arc<ServerConfig>,
    #[cfg(feature = "eventstore")]
    grpc: Arc<ServerConfig>,
}

/// The bytes of both files.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files have not changed.
    Unchanged,
    /// New connections get the new certificate.
    Replaced,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contents(…)")
    }
}

impl ServerTls {
    /// Reads both files.
    ///
    /// # Errors
    /// A file can't be read or has the wrong contents, or the key is not that of the certificate.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = Current::new(&files, files.read()?)?;
        files.warn_about_mode();
        Ok(Self { files, current: Mutex::new(current) })
    }

    /// The configuration for a new connection over HTTP/1.1.
    #[must_use]
    pub fn http(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().http)
    }

    /// The configuration for a new connection over gRPC.
    #[cfg(feature = "eventstore")]
    #[must_use]
    pub fn grpc(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().grpc)
    }

    /// Reads both files again. Files that can't be used are reported once, and the former certificate is kept.
    ///
    /// # Errors
    /// The files have changed, and can't be used.
    pub fn reload(&self) -> Result<Reload, TlsError> {
        let contents = self.files.read()?;
        if self.lock().contents == contents {
            return Ok(Reload::Unchanged);
        }
        match Current::new(&self.files, contents.clone()) {
            Ok(current) => {
                *self.lock() = current;
                self.files.warn_about_mode();
                Ok(Reload::Replaced)
            }
            Err(error) => {
                self.lock().contents = contents;
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // The value is whole whenever the lock is released.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Each configuration has its own memory of sessions. So no client resumes a session of a former certificate.
    fn new(files: &TlsFiles, contents: Contents) -> Result<Self, TlsError> {
        let key = Arc::new(files.parse(&contents)?);
        Ok(Self {
            http: configuration(&key, b"http/1.1")?,
            #[cfg(feature = "eventstore")]
            grpc: configuration(&key, b"h2")?,
            contents,
        })
    }
}

fn configuration(key: &Arc<CertifiedKey>, protocol: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        Ok(Contents { cert: read(&self.cert)?, key: read(&self.key)? })
    }

    fn parse(&self, contents: &Contents) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert, &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| wrong(&self.key, "it contains no private key in PEM"))?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert: self.cert.clone(), key: self.key.clone() },
            rustls::Error::InvalidCertificate(_) => wrong(&self.cert, &error.to_string()),
            error => wrong(&self.key, &error.to_string()),
        })
    }

    fn warn_about_mode(&self) {
        let mode = fs::metadata(&self.key).map_or(0, |metadata| metadata.permissions().mode());
        if mode & READABLE_BY_OTHERS != 0 {
            let key = self.key.display();
            tracing::warn!("every user of this machine can read the private key in {key}; chmod 600 prevents that");
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn wrong(path: &Path, why: &str) -> TlsError {
    TlsError::Contents { path: path.to_owned(), why: why.to_owned() }
}

/// The certificates in a file, in their order; at least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(wrong(path, "it contains no certificates in PEM")),
    }
}
