//! Fetches the keys of an issuer: one request over HTTP/1.1, with bounds for its time and its bytes. It follows no redirect and
//! uses no proxy, so the keys come from the address in the settings and from nowhere else.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::key::KEY_SET_MAX;
use super::key_url::KeyUrl;
use crate::tls::client::{Trust, client_config};

/// The longest time from the connection to the last byte of the response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches from one address.
pub(super) struct Fetcher {
    url: KeyUrl,
}

impl Fetcher {
    pub const fn new(url: KeyUrl) -> Self {
        Self { url }
    }

    pub const fn url(&self) -> &KeyUrl {
        &self.url
    }

    /// The text of the response.
    ///
    /// # Errors
    /// Why there is no such text, for the log.
    pub async fn fetch(&self) -> Result<String, String> {
        tokio::time::timeout(TIMEOUT, self.request()).await.unwrap_or_else(|_| Err("no response within 5 s".to_owned()))
    }

    async fn request(&self) -> Result<String, String> {
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await.map_err(text)?;
        if !self.url.is_https {
            return self.exchange(stream).await;
        }
        let name = ServerName::try_from(self.url.host.clone()).map_err(text)?;
        let config = tokio::task::spawn_blocking(tls_config).await.map_err(text)??;
        self.exchange(TlsConnector::from(config).connect(name, stream).await.map_err(text)?).await
    }

    async fn exchange(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<String, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
        let request = Request::get(&self.url.target)
            .header(HOST, &self.url.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("taskbell/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(text)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(text)?;
            if response.status() != StatusCode::OK {
                return Err(format!("the response has the status {}", response.status().as_u16()));
            }
            let body = Limited::new(response.into_body(), KEY_SET_MAX).collect().await.map_err(text)?;
            String::from_utf8(body.to_bytes().into()).map_err(text)
        };
        tokio::pin!(exchange);
        tokio::select! {
            result = &mut exchange => result,
            // The connection may end before the exchange has read what it received.
            _ = connection => exchange.await,
        }
    }
}

/// The configuration with the certificates that this machine trusts. They are read for each fetch, because they may change.
fn tls_config() -> Result<Arc<ClientConfig>, String> {
    client_config(Trust::SystemAnd(None)).map(Arc::new).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
