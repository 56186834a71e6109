//! TLS: the certificate of a server ([`server`]), and which servers a client trusts ([`client`]).
//!
//! Every configuration names its crypto provider. This crate never installs a default provider for the process: the client of
//! EventStoreDB installs its own, and fails in a process that has one already.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

// A server is a client of the issuer of its JWTs, and uses a part of this.
#[cfg_attr(not(feature = "worker"), allow(dead_code))]
pub mod client;
#[cfg(feature = "server")]
pub mod server;

/// The crypto provider of all configurations.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// A file of certificates or the file of a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The file has the wrong contents.
    #[error("{}: {why}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The two files don't belong together.
    #[error("the key in {} is not the key of the first certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificates.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The library refuses the configuration, which is a fault of this crate.
    #[error("TLS can't be configured: {0}")]
    Configuration(#[from] rustls::Error),
}
