//! The thread that serves a backend.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::cluster::ClusterService;
use super::connection::Incoming;
use super::proto::gossip::gossip_server::GossipServer;
use super::proto::server_features::server_features_server::ServerFeaturesServer;
use super::proto::streams::streams_server::StreamsServer;
use super::service::StreamsService;

/// Largest message that is received, in bytes. The limit of an append is lower and has its own error.
const MESSAGE_MAX: usize = 17 * 1024 * 1024;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There are no identities yet, so that only this machine may connect.
    #[error("{0} is not a loopback address: the log is served on loopback only")]
    NotLoopback(SocketAddr),
    /// The address can't be listened on, or there is no thread.
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
pub struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Server {
    /// Serves on a thread and runtime of its own, until it is stopped or dropped. `backend` makes the backend from the
    /// address, whose port the system may have chosen.
    pub(super) async fn start<B: Backend>(
        addr: SocketAddr,
        backend: impl FnOnce(SocketAddr) -> B + Send + 'static,
    ) -> io::Result<Self> {
        let (started, start) = oneshot::channel();
        let (ended, stopped) = oneshot::channel();
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        std::thread::Builder::new().name("taskbell-wire".to_owned()).spawn(move || {
            run(addr, backend, started, &stopping);
            // Nothing receives it if the server was dropped and not stopped.
            let _ = ended.send(());
        })?;
        let addr = start.await.map_err(|_| io::Error::other("the thread ended before it listened"))??;
        Ok(Self { addr, stop, stopped: Some(stopped) })
    }

    /// The address on which it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops at once: every connection is cut, whatever its requests are doing, and the port is free when this returns.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
            // An error means that the thread is gone too.
            let _ = stopped.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the server; the runtime is dropped at the end, and with it every connection.
fn run<B: Backend>(
    addr: SocketAddr,
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
                let serving = serve(listener, Arc::new(backend(addr)));
                if started.send(Ok(addr)).is_err() {
                    // The caller has given up, and nothing would stop the server.
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

async fn serve<B: Backend>(listener: TcpListener, backend: Arc<B>) -> Result<(), tonic::transport::Error> {
    let streams = StreamsServer::new(StreamsService::new(Arc::clone(&backend)));
    tonic::transport::Server::builder()
        .add_service(streams.max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX))
        .add_service(GossipServer::new(ClusterService(Arc::clone(&backend))))
        .add_service(ServerFeaturesServer::new(ClusterService(backend)))
        .serve_with_incoming(Incoming::new(listener))
        .await
}
