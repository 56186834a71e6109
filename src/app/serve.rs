//! A server in a process of its own: the HTTP server around a [`Taskbell`], and the signals that end it.

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

/// The kernel ends a connection whose peer takes no bytes for so long; see `http::live`. Longer than the hub waits for a
/// stalled reader, so that a client that reads again in between receives the close frame with the reason.
const USER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long the server waits for open connections when it stops, in seconds.
const SHUTDOWN_S: u64 = 2;

/// How long a server that has lost an actor shows so before it ends.
const REASON_SHOWN: Duration = Duration::from_secs(1);

/// Runs a server in this process until SIGINT or SIGTERM. The first line on stdout is its address:
/// `listening on http://127.0.0.1:7070`. Blocks, and starts an actix `System` of its own.
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
        let log = serve_log(&taskbell, log_listen).await?;
        let served = serve(taskbell, listen).await;
        #[cfg(feature = "eventstore")]
        if let Some(log) = log {
            log.stop().await;
        }
        served
    })
}

/// Serves the log to clients of EventStoreDB, where an address is set.
#[cfg(feature = "eventstore")]
async fn serve_log(
    taskbell: &Taskbell,
    addr: Option<SocketAddr>,
) -> Result<Option<crate::wire::WireServer>, StartError> {
    let Some(addr) = addr else { return Ok(None) };
    let failed = |error| StartError::Io("can't serve the log", io::Error::other(error));
    let server = crate::wire::serve(taskbell.state.store.clone(), addr).await.map_err(failed)?;
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
    })
    .await
}

/// Serves HTTP on this address until a signal asks the process to stop, or an actor has stopped unexpectedly.
///
/// # Errors
/// [`StartError::Io`] where the address can't be used, [`StartError::ActorStopped`].
pub async fn serve(taskbell: Taskbell, listen: SocketAddr) -> Result<(), StartError> {
    let routes = taskbell.routes();
    let server = HttpServer::new(move || {
        let nothing = web::to(|| async { Problem::not_found().error_response() });
        let nowhere = web::scope("").wrap(from_fn(check_origin_only)).default_service(nothing);
        App::new().configure(routes.clone()).service(nowhere)
    })
    .on_connect(|connection, data| {
        if let Some(socket) = connection.downcast_ref::<actix_rt::net::TcpStream>() {
            data.insert(ClientConnection::from_socket(socket));
            let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(USER_TIMEOUT));
        }
    })
    // A client that closes its side of the connection gets no answer: its long poll ends.
    .h1_allow_half_closed(false)
    .shutdown_timeout(SHUTDOWN_S)
    // The HTTP server's own signal handling stops the whole `System`, and with it the actors that record how attempts end.
    .disable_signals()
    .bind(listen)
    .map_err(|error| StartError::Io("can't listen", error))?;
    let signalled = signal_to_stop().map_err(|error| StartError::Io("can't listen to signals", error))?;
    for address in server.addrs() {
        // A parent process that has closed our stdout must not end the server.
        let _ = writeln!(io::stdout(), "listening on http://{address}");
    }
    let server = server.run();
    let (handle, mut server) = (server.handle(), pin!(server));
    let mut stopped_actor = None;
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = signalled => tokio::join!(server, handle.stop(true), taskbell.drain()).0,
        actor = taskbell.actor_stopped() => {
            stopped_actor = Some(actor);
            // Time for the last requests, and for a monitor to read the reason from `/readyz`.
            tokio::time::sleep(REASON_SHOWN).await;
            tokio::join!(server, handle.stop(true), taskbell.drain()).0
        }
    };
    taskbell.end().await;
    ended.map_err(|error| StartError::Io("the server stopped", error))?;
    stopped_actor.map_or(Ok(()), |actor| Err(StartError::ActorStopped(actor)))
}

/// Ends with the first signal that asks the process to stop.
fn signal_to_stop() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
