//! The server process: an HTTP server with the routes of a [`Taskbell`], and the signals that end it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::pin;
use std::time::Duration;

use actix::System;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, ResponseError, web};
use tokio::signal::unix::{SignalKind, signal};

use super::{Options, StartError, Taskbell};
use crate::config::Config;
use crate::http::Problem;
use crate::http::plumbing::connection::ClientConnection;
use crate::http::plumbing::middleware::check_origin_only;
use crate::work::Handlers;
use crate::work::kinds::distribute::{ContentRoots, Distribute};

/// The kernel closes a connection if the client has acknowledged no bytes for this long. It is longer than the default time
/// after which the hub closes the websocket of a client that doesn't read. So a client that reads again before the hub ends
/// the connection receives the close frame with the reason.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long the server waits for open connections when it stops, in seconds.
const SHUTDOWN_S: u64 = 2;

/// After an actor has stopped unexpectedly, `/readyz` shows its name for this long before the server ends.
const STOPPED_ACTOR_SHOWN_FOR: Duration = Duration::from_secs(1);

/// Runs a server in this process until SIGINT or SIGTERM, and blocks the calling thread meanwhile. It starts an actix
/// `System` of its own. The first line on stdout is the server's address: `listening on http://127.0.0.1:7070`.
///
/// # Errors
/// See [`StartError`].
///
/// ```no_run
/// use taskbell::server::{Config, run};
///
/// fn main() -> Result<(), taskbell::StartError> {
///     run(Config { data: Some("/var/lib/taskbell".into()), ..Config::default() })
/// }
/// ```
pub fn run(config: Config) -> Result<(), StartError> {
    System::new().block_on(async {
        let listen = config.listen;
        #[cfg(feature = "eventstore")]
        let log_listen = config.log_listen;
        let taskbell = start(config).await?;
        #[cfg(feature = "eventstore")]
        let log_server = serve_log(&taskbell, log_listen).await?;
        let result = serve(taskbell, listen).await;
        #[cfg(feature = "eventstore")]
        if let Some(log_server) = log_server {
            log_server.stop().await;
        }
        result
    })
}

/// Starts the server that offers the log to clients of EventStoreDB; `None` if no address is set.
#[cfg(feature = "eventstore")]
async fn serve_log(
    taskbell: &Taskbell,
    addr: Option<SocketAddr>,
) -> Result<Option<crate::wire::WireServer>, StartError> {
    let Some(addr) = addr else { return Ok(None) };
    let start_error = |error| StartError::Io("can't serve the log", io::Error::other(error));
    let server = crate::wire::serve(taskbell.state.store.clone(), addr).await.map_err(start_error)?;
    tracing::info!("the log is served read-only on esdb://{}?tls=false", server.addr());
    Ok(Some(server))
}

async fn start(config: Config) -> Result<Taskbell, StartError> {
    let mut handlers = Handlers::new();
    let roots = ContentRoots::new(&config.content_roots).map_err(|error| StartError::Io("content root", error))?;
    handlers.register(Distribute::new(roots, config.content_bytes_per_s.and_then(NonZeroU64::new)))?;
    Taskbell::start(Options {
        data: config.data,
        #[cfg(feature = "eventstore")]
        store: config.store,
        slots: config.slots,
        kinds: config.kinds,
        handlers,
        settings: config.settings,
        limits: config.limits,
        sockets: config.sockets,
    })
    .await
}

/// Serves HTTP on this address until the process gets SIGINT or SIGTERM, or until an actor stops unexpectedly.
///
/// # Errors
/// [`StartError::Io`] if the server can't listen on the address or fails later, and [`StartError::ActorStopped`] if an
/// actor stopped unexpectedly.
pub async fn serve(taskbell: Taskbell, listen: SocketAddr) -> Result<(), StartError> {
    let routes = taskbell.routes();
    let server = HttpServer::new(move || {
        let not_found = web::to(|| async { Problem::not_found().error_response() });
        let all_other_paths = web::scope("").wrap(from_fn(check_origin_only)).default_service(not_found);
        App::new().configure(routes.clone()).service(all_other_paths)
    })
    .on_connect(|connection, data| {
        if let Some(socket) = connection.downcast_ref::<actix_rt::net::TcpStream>() {
            data.insert(ClientConnection::from_socket(socket));
            let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        }
    })
    // If a client closes its side of the connection, its waiting request ends at once, without a response.
    .h1_allow_half_closed(false)
    .shutdown_timeout(SHUTDOWN_S)
    // The HTTP server's own signal handling would stop the whole `System`. That would stop the actors too, before they have
    // recorded how the running attempts end.
    .disable_signals()
    .bind(listen)
    .map_err(|error| StartError::Io("can't listen", error))?;
    let stop_signal = stop_signal().map_err(|error| StartError::Io("can't listen to signals", error))?;
    for address in server.addrs() {
        // The write fails if the parent process has closed our stdout. The server goes on without it.
        let _ = writeln!(io::stdout(), "listening on http://{address}");
    }
    let server = server.run();
    let (handle, mut server) = (server.handle(), pin!(server));
    let mut stopped_actor = None;
    let result = tokio::select! {
        result = &mut server => result,
        () = stop_signal => tokio::join!(server, handle.stop(true), taskbell.drain()).0,
        actor = taskbell.actor_stopped() => {
            stopped_actor = Some(actor);
            // In this time the last requests end, and a monitor can read the name of the actor from `/readyz`.
            tokio::time::sleep(STOPPED_ACTOR_SHOWN_FOR).await;
            tokio::join!(server, handle.stop(true), taskbell.drain()).0
        }
    };
    taskbell.end().await;
    result.map_err(|error| StartError::Io("the server stopped", error))?;
    stopped_actor.map_or(Ok(()), |actor| Err(StartError::ActorStopped(actor)))
}

/// A future that completes when the process gets SIGINT or SIGTERM.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
