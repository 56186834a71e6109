//! A server of key sets on a loopback address, which counts its requests.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use taskbell::tls::server::{ServerTls, TlsFiles};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::support::{TEST_TIMEOUT, certificate_file};

/// The server. Its requests end when the value is dropped.
pub struct KeyServer {
    pub url: String,
    requests: watch::Receiver<usize>,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

/// What the test sets, for each further request.
#[derive(Clone)]
struct Shared {
    response: Arc<Mutex<String>>,
    /// A response needs a permit.
    permits: Arc<Semaphore>,
    /// The certificate of a server over https.
    certificate: Arc<Mutex<Option<Arc<ServerTls>>>>,
    counter: watch::Sender<usize>,
}

/// A response with the status 200 and this body.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl KeyServer {
    pub async fn start(set: &Value) -> Self {
        Self::start_with(set, None).await
    }

    /// A server over https with this certificate of `tests/tls/certs`.
    pub async fn start_over_tls(set: &Value, certificate: &str) -> Self {
        Self::start_with(set, Some(load(certificate))).await
    }

    async fn start_with(set: &Value, certificate: Option<Arc<ServerTls>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys?v=1", listener.local_addr().unwrap());
        let (counter, requests) = watch::channel(0);
        let shared = Shared {
            response: Arc::new(Mutex::new(ok(&set.to_string()))),
            permits: Arc::new(Semaphore::new(1_000_000)),
            certificate: Arc::new(Mutex::new(certificate)),
            counter,
        };
        let of_task = shared.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(accept(stream, of_task.clone()));
            }
        });
        Self { url, requests, shared, task }
    }

    /// The certificate for each further connection.
    pub fn present(&self, certificate: &str) {
        *self.shared.certificate.lock().unwrap() = Some(load(certificate));
    }

    /// The complete response to each further request.
    pub fn respond(&self, response: String) {
        *self.shared.response.lock().unwrap() = response;
    }

    /// Requests wait until `release` is called.
    pub fn hold(&self) {
        self.shared.permits.forget_permits(usize::MAX);
    }

    pub fn release(&self) {
        self.shared.permits.add_permits(1_000_000);
    }

    /// How many requests have arrived, and handshakes have failed.
    pub fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Waits until so many requests have arrived.
    pub async fn wait_for(&self, requests: usize) {
        let mut counted = self.requests.clone();
        let reached = counted.wait_for(|counted| *counted >= requests);
        tokio::time::timeout(TEST_TIMEOUT, reached).await.expect("a request in time").unwrap();
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn load(certificate: &str) -> Arc<ServerTls> {
    let file = |end: &str| certificate_file(&format!("{certificate}.{end}"));
    Arc::new(ServerTls::load(TlsFiles { cert: file("pem"), key: file("key") }).unwrap())
}

async fn accept(stream: TcpStream, shared: Shared) {
    let certificate = shared.certificate.lock().unwrap().clone();
    match certificate {
        None => serve(stream, shared).await,
        // A client that doesn't trust the certificate ends the handshake.
        Some(certificate) => match TlsAcceptor::from(certificate.http()).accept(stream).await {
            Ok(stream) => serve(stream, shared).await,
            Err(_) => shared.counter.send_modify(|count| *count += 1),
        },
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Shared) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.extend(byte);
    }
    assert!(head.starts_with(b"GET /keys?v=1 HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&head));
    shared.counter.send_modify(|count| *count += 1);
    shared.permits.acquire().await.unwrap().forget();
    let response = shared.response.lock().unwrap().clone();
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
}
