//! Which servers a client trusts.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::{TlsError, provider};

/// What a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// No server. For clients that connect without TLS: the roots of the system are not read.
    Nothing,
    /// The servers with a certificate of an authority that the system trusts, or that this PEM file contains.
    SystemAnd(Option<&'a Path>),
}

impl<'a> Trust<'a> {
    /// What a client of the server at this URL trusts.
    #[must_use]
    pub fn for_url(url: &str, ca_file: Option<&'a Path>) -> Self {
        if url.starts_with("https:") { Self::SystemAnd(ca_file) } else { Self::Nothing }
    }
}

/// The configuration of a client that speaks HTTP/1.1.
///
/// # Errors
/// The file can't be read, or contains no certificates.
pub fn client_config(trust: Trust<'_>) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(trust: Trust<'_>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Trust::SystemAnd(ca_file) = trust else { return Ok(roots) };
    // A certificate that can't be read is of no use to this client, and another one may be enough.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let pem = std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })?;
    let wrong = |why: &str| TlsError::Contents { path: path.to_owned(), why: why.to_owned() };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| wrong("it contains something that is no certificate in PEM"))?;
        roots.add(certificate).map_err(|error| wrong(&error.to_string()))?;
        count += 1;
    }
    if count == 0 { Err(wrong("it contains no certificates in PEM")) } else { Ok(()) }
}
