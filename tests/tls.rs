//! Tests of the server over TLS, of its addresses, and of what proxies say.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use crate::support::{Server, certificate_file, trust};

mod clients;
mod connections;
mod elsewhere;
mod files;
mod prefix;
mod provider;
mod proxies;
mod reload;
mod settings;

/// The flags for this certificate of `tests/tls/certs`.
pub fn flags(name: &str) -> Vec<OsString> {
    let file = |end: &str| certificate_file(&format!("{name}.{end}")).into_os_string();
    vec!["--tls-cert".into(), file("pem"), "--tls-key".into(), file("key")]
}

/// A server with the first certificate and more flags.
pub fn start(more: &[&str]) -> Server {
    Server::with(flags("first").into_iter().chain(more.iter().map(Into::into)))
}

/// The first certificate in a PEM file.
fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Shakes hands over this connection. The client offers these protocols.
async fn shake_hands(socket: TcpStream, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config: ClientConfig = trust();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// A connection after its handshake.
async fn connect(server: &Server) -> TlsStream<TcpStream> {
    shake_hands(TcpStream::connect(server.address()).await.unwrap(), &["http/1.1"]).await.unwrap()
}

/// Sends the request and reads until the server closes the connection.
async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    // The server may close the connection without a goodbye.
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8_lossy(&response).into_owned()
}
