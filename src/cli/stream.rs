//! A connection to a server, with TLS if its address begins with `https://`.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::client::Client;

/// Bytes in both directions.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Connects to the client's server.
///
/// # Errors
/// The server can't be reached, or the client doesn't trust it.
pub(super) async fn connect(client: &Client) -> io::Result<Box<dyn ByteStream>> {
    let url = client.url();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, url.port_or_known_default().unwrap_or_default())).await?;
    let _ = socket.set_nodelay(true);
    if url.scheme() != "https" {
        return Ok(Box::new(socket));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(client.tls().clone()));
    Ok(Box::new(connector.connect(name, socket).await?))
}
