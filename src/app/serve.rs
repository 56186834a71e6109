//! The server process: an HTTP server with the routes of a [`Taskbell`], and the signals that end it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::pin;
#[cfg(feature = "eventstore")]
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use tokio::signal::unix::{SignalKind, signal};

use super::http_server::HttpServer;
#[cfg(feature = "eventstore")]
use super::log_access::{TokensInViews, connection_limits};
#[cfg(feature = "eventstore")]
use super::start_checks::{needs_token, warn_without_token};
use super::start_checks::{require_a_credential, warn_without_host};
use super::tls::ReloadingTls;
use super::{Options, StartError, Taskbell};
use crate::config::{AuthMode, Config};
use crate::http::PublicAddress;
use crate::http::plumbing::http1::limits::ConnectionLimits;
#[cfg(feature = "eventstore")]
use crate::wire::{LogAuthenticator, ServeOptions};
use crate::work::Handlers;
use crate::work::kinds::distribute::{ContentRoots, Distribute};

/// After an actor has stopped unexpectedly, `/readyz` shows its name for this long before the server ends.
const STOPPED_ACTOR_SHOWN_FOR: Duration = Duration::from_secs(1);

/// Runs a server in this process until SIGINT or SIGTERM, and blocks the calling thread meanwhile. It starts an actix
/// `System` of its own. The first line on stdout is the server's address: `listening on http://127.0.0.1:7070`, or `https://`
/// with a certificate.
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
        let tls = config.tls.clone().map(ReloadingTls::start).transpose()?;
        #[cfg(feature = "eventstore")]
        let log_listen = config.log_listen;
        let taskbell = start(config).await?;
        #[cfg(feature = "eventstore")]
        let log_server = serve_log(&taskbell, log_listen, tls.as_ref()).await?;
        let result = serve(taskbell, listen, tls).await;
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
    tls: Option<&ReloadingTls>,
) -> Result<Option<crate::wire::WireServer>, StartError> {
    let Some(addr) = addr else { return Ok(None) };
    let start_error = |error| StartError::Io("can't serve the log", io::Error::other(error));
    let state = &taskbell.state;
    let tokens: Arc<dyn LogAuthenticator> = Arc::new(TokensInViews::new(state));
    let options = ServeOptions {
        tls: tls.map(ReloadingTls::certificate),
        authenticator: state.auth_required.then_some(tokens),
        limits: connection_limits(state.limits.header_timeout),
    };
    let started = crate::wire::serve(state.store.clone(), addr, options).await;
    let server = started.map_err(start_error)?;
    tracing::info!("the log is served read-only on esdb://{}?tls={}", server.addr(), tls.is_some());
    Ok(Some(server))
}

async fn start(config: Config) -> Result<Taskbell, StartError> {
    let mut handlers = Handlers::new();
    let roots = ContentRoots::new(&config.content_roots)
        .map_err(|error| StartError::Io("can't use the content root", error))?;
    handlers.register(Distribute::new(roots, config.content_bytes_per_s.and_then(NonZeroU64::new)))?;
    let options = Options {
        data: config.data,
        accept_truncation: config.accept_truncation,
        #[cfg(feature = "eventstore")]
        store: config.store,
        slots: config.slots,
        kinds: config.kinds,
        handlers,
        kind_policies: config.kind_policies,
        limits: config.limits,
        client_limits: config.client_limits,
        public_address: PublicAddress { is_https: config.tls.is_some(), ..config.public_address },
        auth_required: match config.auth {
            Some(mode) => mode == AuthMode::Required,
            None => config.identity_sources.is_set(),
        },
        identity_sources: config.identity_sources,
        allowed_origins: config.allowed_origins,
    };
    warn_without_host(&options.public_address);
    #[cfg(feature = "eventstore")]
    let cluster_without_check = options.store.clone().filter(|_| needs_token(&options));
    let taskbell = Taskbell::start_checked(options, require_a_credential).await?;
    #[cfg(feature = "eventstore")]
    if let Some(cluster) = cluster_without_check {
        actix_rt::spawn(warn_without_token(&taskbell, cluster));
    }
    Ok(taskbell)
}

/// Serves HTTP on this address, with a certificate over TLS, until the process gets SIGINT or SIGTERM, or until an actor stops
/// unexpectedly.
///
/// # Errors
/// [`StartError::Io`] if the server can't listen on the address or fails later, and [`StartError::ActorStopped`] if an
/// actor stopped unexpectedly.
pub async fn serve(taskbell: Taskbell, listen: SocketAddr, tls: Option<ReloadingTls>) -> Result<(), StartError> {
    let certificate = tls.as_ref().map(ReloadingTls::certificate);
    let limits = ConnectionLimits::from(&*taskbell.state.limits);
    let HttpServer { address, server, draining } = HttpServer::bind(listen, certificate, limits, taskbell.routes())
        .map_err(|error| StartError::Io("can't listen", error))?;
    let stop_signal = stop_signal().map_err(|error| StartError::Io("can't listen to signals", error))?;
    // The write fails if the parent process has closed our stdout. The server goes on without it.
    let (scheme, prefix) = (if tls.is_some() { "https" } else { "http" }, &taskbell.state.public_address.path_prefix);
    let _ = writeln!(io::stdout(), "listening on {scheme}://{address}{prefix}");
    let (handle, mut server) = (server.handle(), pin!(server));
    let stop = || {
        draining.cancel();
        handle.stop(true)
    };
    let mut stopped_actor = None;
    let result = tokio::select! {
        result = &mut server => result,
        () = stop_signal => tokio::join!(server, stop(), taskbell.drain()).0,
        actor = taskbell.actor_stopped() => {
            stopped_actor = Some(actor);
            // In this time the last requests end, and a monitor can read the name of the actor from `/readyz`.
            tokio::time::sleep(STOPPED_ACTOR_SHOWN_FOR).await;
            tokio::join!(server, stop(), taskbell.drain()).0
        }
    };
    taskbell.shut_down_actors().await;
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
