//! The HTTP server of a process: its socket, its open connections, and the application behind them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::{AppConfig, Server};
use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::http::plumbing::connection::ClientConnection;
use crate::http::plumbing::http1::connections::{Connections, RESERVE};
use crate::http::plumbing::http1::exchange::end_exchange;
use crate::http::plumbing::http1::limits::ConnectionLimits;
use crate::http::plumbing::http1::socket::Socket as ClientSocket;
use crate::http::plumbing::http1::stream::RequestStream;
use crate::http::plumbing::http1::transport::{Transport, shake_hands};
use crate::http::plumbing::middleware::finish_library_response;
use crate::tls::server::ServerTls;

/// The kernel closes a connection if the client has acknowledged no bytes for this long; see `http::live`. It is longer than
/// the time after which the hub closes the socket of a client that reads too slowly. So a client that reads again before this
/// timeout receives the close frame with the reason.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long the server waits for open connections when it stops, in seconds.
const SHUTDOWN_S: u64 = 2;
/// Connections that wait for the server to accept them.
const BACKLOG: i32 = 2048;
/// How long the server reads on after a response to a request whose body it has not read.
const LINGER: Duration = Duration::from_secs(1);

/// The HTTP server before it runs.
pub(super) struct HttpServer {
    /// The address that it listens on.
    pub(super) address: SocketAddr,
    /// The server; it runs as long as this is polled.
    pub(super) server: Server,
    /// Makes open connections end with their present response.
    pub(super) draining: CancellationToken,
}

impl HttpServer {
    /// Listens on this address, with TLS if there is a certificate.
    ///
    /// # Errors
    /// The address can't be used.
    pub(super) fn bind<R>(
        listen: SocketAddr,
        tls: Option<Arc<ServerTls>>,
        limits: ConnectionLimits,
        routes: R,
    ) -> io::Result<Self>
    where
        R: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    {
        let listener = listener(listen)?;
        let address = listener.local_addr()?;
        let connections_max = connections_within_open_files();
        let acceptor = Acceptor { connections: Connections::new(connections_max), limits: Arc::new(limits), tls };
        let draining = CancellationToken::new();
        let drained = draining.clone();
        let service = move || service(acceptor.clone(), drained.clone(), routes.clone());
        let server = Server::build()
            .shutdown_timeout(SHUTDOWN_S)
            .max_concurrent_connections(accepted_by_thread(connections_max))
            // The HTTP server's own signal handling would stop the whole `System`. That would stop the actors too, before they
            // have recorded how the running attempts end.
            .disable_signals()
            .listen("http", listener, service)?
            .run();
        Ok(Self { address, server, draining })
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Raises the limit of open files as far as the system allows; how many connections there may be within it.
fn connections_within_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    let open_files =
        getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    // A system without this folder doesn't say how many files are open; the server has opened fewer than 100 by now.
    let used = std::fs::read_dir("/proc/self/fd").map_or(100, Iterator::count);
    let connections = Connections::limit_within(open_files, used);
    tracing::debug!(open_files, used, connections, "the limit of open files");
    connections
}

/// How many connections each HTTP thread accepts before it has looked at them. More of them stay with the kernel and take no
/// file descriptor.
fn accepted_by_thread(connections_max: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    connections_max.saturating_add(2 * RESERVE).div_ceil(threads)
}

/// The service of one connection: the stream of its requests, and the application.
fn service<R>(
    acceptor: Acceptor,
    draining: CancellationToken,
    routes: R,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    R: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let app = App::new().configure(routes).service(http::nowhere());
    let app = app.wrap(from_fn(finish_library_response)).wrap(from_fn(end_exchange));
    let http = HttpService::build()
        // The stream of a connection knows when it is idle, and how long a head takes.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(LINGER)
        // If a client closes its side of the connection, its waiting request ends at once, without a response.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || draining.clone().cancelled_owned())
        .on_connect_ext(|stream: &RequestStream<Transport>, data| {
            data.insert(ClientConnection::from_socket(stream.socket().observer()));
            data.insert(stream.exchange());
        })
        .h1(map_config(app.into_factory(), |()| AppConfig::default()));
    fn_service(move |stream| acceptor.clone().accept(stream)).and_then(http)
}

/// Takes over the connections of clients.
#[derive(Clone)]
struct Acceptor {
    connections: Connections,
    limits: Arc<ConnectionLimits>,
    tls: Option<Arc<ServerTls>>,
}

type Accepted = (RequestStream<Transport>, Option<SocketAddr>);

impl Acceptor {
    /// A connection has its place from the beginning, so that handshakes count too. A handshake may take as long as a head.
    async fn accept(self, stream: TcpStream) -> Result<Accepted, DispatchError> {
        let connection = self.connections.open().ok_or(DispatchError::DisconnectTimeout)?;
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let peer = stream.peer_addr().ok();
        let socket = ClientSocket::new(stream);
        let transport = match &self.tls {
            None => Transport::Plain(socket),
            Some(tls) => {
                let handshake = shake_hands(socket, tls.http(), &connection, self.limits.head_timeout).await;
                handshake.inspect_err(|error| tracing::debug!(?peer, %error, "a TLS handshake has failed"))?
            }
        };
        Ok((RequestStream::new(transport, connection, self.limits), peer))
    }
}
