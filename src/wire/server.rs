//! The thread that serves a backend.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use super::backend::WireBackend;
use super::cluster::ClusterService;
use super::gate::Gate;
use super::incoming::IncomingConnections;
use super::limits::{ConnectionLimits, OpenConnections};
use super::proto::gossip::gossip_server::GossipServer;
use super::proto::server_features::server_features_server::ServerFeaturesServer;
use super::proto::streams::streams_server::StreamsServer;
use super::service::StreamsService;
use crate::tls::server::ServerTls;

/// The largest message that is received or sent, in bytes. The size limit of an append is lower and has its own error.
const MESSAGE_MAX: usize = 17 * 1024 * 1024;

/// The largest request that a read-only server receives, in bytes.
const READ_REQUEST_MAX: usize = 16 * 1024;
/// The requests whose messages a read-only server receives on one connection at the same time. Further ones wait.
const RECEIVED_MAX: usize = 16;
/// The bytes that the client of a read-only server may send on one connection before the server has taken them.
const UNREAD_MAX: u32 = 64 * 1024;
/// The requests and subscriptions that one connection may have at the same time.
const STREAMS_MAX: u32 = 100;
/// The largest sum of the headers of a request, in bytes.
const HEADERS_MAX: u32 = 16 * 1024;
/// A connection whose client answers no ping within this time is closed.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why the server has not started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Without TLS or without authentication, only programs of this machine may connect.
    #[error(
        "{0} is not a loopback address; on any other address `--log-listen` needs `--auth required`, `--tls-cert` and `--tls-key`"
    )]
    NotLoopback(SocketAddr),
    /// The server can't listen on the address, or its thread can't be started.
    #[error("{addr}: {source}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct WireServer {
    addr: SocketAddr,
    stop: CancellationToken,
    stopped: Option<oneshot::Receiver<()>>,
}

impl WireServer {
    /// Starts a thread that serves the backend until the server is stopped or dropped. `backend` creates the backend from
    /// the address on which the server listens; its port may have been chosen by the system. Without `limits` a client may do
    /// what it likes.
    pub(super) async fn start<B: WireBackend>(
        addr: SocketAddr,
        tls: Option<Arc<ServerTls>>,
        limits: Option<ConnectionLimits>,
        backend: impl FnOnce(SocketAddr) -> B + Send + 'static,
    ) -> io::Result<Self> {
        let (started_sender, started_receiver) = oneshot::channel();
        let (stopped_sender, stopped_receiver) = oneshot::channel();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        std::thread::Builder::new().name("taskbell-wire".to_owned()).spawn(move || {
            run(addr, (tls, limits), backend, started_sender, &stopping);
            // An error means that the server was dropped, so no caller waits for its end.
            let _ = stopped_sender.send(());
        })?;
        let addr = started_receiver.await.map_err(|_| io::Error::other("the thread ended before it listened"))??;
        Ok(Self { addr, stop, stopped: Some(stopped_receiver) })
    }

    /// The address on which it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops at once: cuts every connection, even if it has running requests. The port is free when this returns.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
            // An error means that the thread has ended too.
            let _ = stopped.await;
        }
    }
}

impl Drop for WireServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the server on the current thread. At the end the runtime is dropped, which closes every connection.
fn run<B: WireBackend>(
    addr: SocketAddr,
    (tls, limits): (Option<Arc<ServerTls>>, Option<ConnectionLimits>),
    backend: impl FnOnce(SocketAddr) -> B,
    started: oneshot::Sender<io::Result<SocketAddr>>,
    stop: &CancellationToken,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        match listen(addr).await {
            Ok((listener, addr)) => {
                let connections = IncomingConnections::new(listener, tls, limits.map(OpenConnections::new));
                let serving = serve(connections, limits, Arc::new(backend(addr)));
                if started.send(Ok(addr)).is_err() {
                    // The caller has dropped its future, so nothing could stop the server later.
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    served = serving => if let Err(error) = served {
                        tracing::error!(%addr, %error, "the log is no longer served");
                    },
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
}

async fn listen(addr: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn serve<B: WireBackend>(
    connections: IncomingConnections,
    limits: Option<ConnectionLimits>,
    backend: Arc<B>,
) -> Result<(), tonic::transport::Error> {
    let request_max = if backend.is_writable() { MESSAGE_MAX } else { READ_REQUEST_MAX };
    let streams = StreamsServer::new(StreamsService::new(Arc::clone(&backend)));
    let streams = streams.max_decoding_message_size(request_max).max_encoding_message_size(MESSAGE_MAX);
    let gossip = GossipServer::new(ClusterService(Arc::clone(&backend)));
    let features = ServerFeaturesServer::new(ClusterService(Arc::clone(&backend)));
    // Their requests are empty.
    let (gossip, features) = (gossip.max_decoding_message_size(0), features.max_decoding_message_size(0));
    builder(limits)
        .add_service(InterceptedService::new(streams, Gate::for_readers(&backend)))
        .add_service(InterceptedService::new(gossip, Gate::public(&backend)))
        .add_service(InterceptedService::new(features, Gate::public(&backend)))
        .serve_with_incoming(connections)
        .await
}

/// A server with these limits on its connections.
fn builder(limits: Option<ConnectionLimits>) -> tonic::transport::Server {
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE));
    let Some(limits) = limits else { return server };
    server
        // The time until the response begins. Responses may last as long as they like.
        .timeout(limits.request_timeout)
        .concurrency_limit_per_connection(RECEIVED_MAX)
        .initial_connection_window_size(UNREAD_MAX)
        .initial_stream_window_size(UNREAD_MAX)
}
