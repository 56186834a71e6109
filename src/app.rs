//! The composition root: what a Taskbell is made of, put together in one place.

use std::collections::HashSet;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, System};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, ResponseError, web};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::messages::SendAway;
use crate::dispatch::policies::KindPolicies;
use crate::http::plumbing::caller::{Caller, LOCAL_USER};
use crate::http::plumbing::connection::ClientConnection;
use crate::http::{self, AppState, Problem, accept};
use crate::projection::metrics::{Meter, Metrics};
use crate::projection::projector::Projector;
use crate::projection::projector::Stop;
use crate::projection::reader::sides;
use crate::projection::replay::{BULK_CANCEL, Replayer, views_at};
use crate::reactions::scheduler::Firing;
use crate::store::{EventStore, LogSubscription, OpenError, ReadError, Via, new_id};
use crate::streams::create::{Accepted, UniqueKeys};
use crate::streams::keyed_lock::KeyedLock;
use crate::streams::registry::Registry;
use crate::task::{Position, Status, TaskId};
use crate::views::{Limits, Row, Views};
use crate::work::kinds::distribute::{Distribute, Roots};
use crate::work::{BulkCancel, Doors, Drain, Handler, Handlers, LocalWorker, NotRegistered};

mod subscribers;

use subscribers::{Parts, Subscribers, Threads};

/// A connection whose peer takes nothing for so long is ended by the kernel; see `http::live`. Longer than the hub's
/// patience with a stalled reader, so that one who reads again in between finds out why it was let go.
const USER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long running attempts are waited for on the way out; what still runs then is recorded as lost by the next start.
const DRAIN: Duration = Duration::from_secs(2);
/// How long open connections are waited for on the way out, in seconds.
const SHUTDOWN_S: u64 = 2;

/// Threads of single actors: the projector, replays, the dispatcher, pushes, reactions.
const OWN_THREADS: usize = 5;

/// Why a Taskbell did not start. Nothing runs and the log is closed again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An operation of the operating system failed: what was tried, and its error.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// A handler could not be registered.
    #[error(transparent)]
    Handler(#[from] NotRegistered),
}

/// A Taskbell inside a program: its log, its actors and the handlers that run in this process.
///
/// It needs an actix `System`, which `#[actix_web::main]` starts. Keep it for as long as the program runs, and call
/// [`stop`](Self::stop) at the end.
///
/// ```no_run
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use taskbell::{Options, Taskbell};
///
/// let options = Options { data: Some("/var/lib/shop/taskbell".into()), slots: 8, ..Options::default() };
/// let taskbell = Taskbell::start(options).await?;
/// let task = taskbell.submit("invoice.render", serde_json::json!({"number": 42})).await?;
/// println!("{task} is {:?}", taskbell.status(task));
/// taskbell.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Taskbell {
    edge: AppState,
    worker: Addr<LocalWorker>,
    subscribers: Subscribers,
    /// The threads that the actors live on; they end with it.
    arbiters: Vec<Arbiter>,
}

/// The settings of a [`Taskbell`]. The default keeps its log in `./taskbell-data`, runs 4 attempts at once, accepts any kind,
/// has no handlers and no limits.
pub struct Options {
    /// The folder of the log; it is created where it is missing, and only one process at a time can open it. None keeps the
    /// log in memory: it ends with the process.
    pub data: Option<PathBuf>,
    /// Attempts that run at once in this process.
    pub slots: usize,
    /// The only kinds that requests may name; none: any. A kind without a handler waits for a worker elsewhere.
    pub kinds: Option<Vec<String>>,
    /// The kinds that this process executes itself.
    pub handlers: Handlers,
    /// The settings of each kind: lease, cancel ladder, attempts and timeout.
    pub settings: KindPolicies,
    /// How many tasks may run at once.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: Some("taskbell-data".into()),
            slots: 4,
            kinds: None,
            handlers: Handlers::new(),
            settings: KindPolicies::default(),
            limits: Limits::default(),
        }
    }
}

impl Options {
    /// The same options with one more handler.
    ///
    /// # Errors
    /// [`NotRegistered`] if the handler's kind is not a valid name, or has a handler already.
    pub fn handler(mut self, handler: impl Handler) -> Result<Self, NotRegistered> {
        self.handlers.register(handler)?;
        Ok(self)
    }
}

impl Taskbell {
    /// Opens the log, rebuilds the views from it, and starts the actors and the handlers' threads. Attempts that ran when the
    /// former process ended are lost; each is retried or fails, as its task says.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (store, views) = open(options.data.as_deref()).await?;
        let (write, read) = sides(views);
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let arbiters: Vec<Arbiter> = (0..cores + OWN_THREADS).map(|_| Arbiter::new()).collect();
        let (own, shards) = arbiters.split_at(OWN_THREADS);
        let [projection, replay, dispatch, push, reactions] = own else { unreachable!() };

        let registry = Registry::start(&store, shards);
        let settings = Arc::new(options.settings.with_defaults(options.handlers.policies()));
        let capacity = Arc::new(Capacity::new(options.limits));
        let (keys, unique, firing) = (KeyedLock::default(), UniqueKeys::default(), Firing::default());
        let metrics = Metrics::new().map_err(|error| StartError::Io("metrics", io::Error::other(error)))?;
        let meter = Meter::new(metrics.clone(), settings.names().chain([BULK_CANCEL]));
        let parts = Parts {
            store: store.clone(),
            read: read.clone(),
            registry: registry.clone(),
            capacity: capacity.clone(),
            settings: settings.clone(),
            unique: unique.clone(),
            firing: firing.clone(),
        };
        let subscribers = Subscribers::start(parts, &Threads { dispatch, push, reactions });
        let (log, told, progressed) = (store.clone(), subscribers.subscribers(), subscribers.hub.clone().recipient());
        let projector = Projector::start_in_arbiter(&projection.handle(), move |_| {
            Projector::new(log, write, told, progressed, meter)
        });
        let log = store.clone();
        let replayer = Replayer::start_in_arbiter(&replay.handle(), move |_| Replayer::new(log));

        let mut handlers = options.handlers;
        handlers.register(BulkCancel {
            execute: registry.recipient(),
            history: replayer.recipient(),
            kinds: settings.clone(),
        })?;
        let doors = doors(&registry, &subscribers.dispatcher, &projector);
        let worker = LocalWorker::new(handlers.clone(), options.slots, doors)
            .map_err(|error| StartError::Io("no threads for the handlers", error))?
            .start();
        let kinds = options.kinds.map(|kinds| Arc::new(kinds.into_iter().collect::<HashSet<_>>()));
        let progress = projector.recipient();
        let edge = AppState {
            registry,
            read,
            store,
            dispatcher: subscribers.dispatcher.clone(),
            progress,
            hub: subscribers.hub.clone(),
            handlers,
            capacity,
            settings,
            kinds,
            keys,
            unique,
            firing,
            metrics,
        };
        Ok(Self { edge, worker, subscribers, arbiters })
    }

    /// The HTTP API and the web interface, to be mounted at the root of an actix-web application:
    /// `App::new().configure(taskbell.routes())`.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
        let edge = self.edge.clone();
        move |config| http::routes(config, &AppState { registry: edge.registry.hosted_here(), ..edge.clone() })
    }

    /// Creates a task of this kind, with the defaults of its handler. When this returns, the task is durable and visible.
    ///
    /// # Errors
    /// The problem that `POST /v1/tasks` would answer with; its `retryable` says whether a later try may succeed.
    pub async fn submit(&self, kind: &str, input: serde_json::Value) -> Result<TaskId, Problem> {
        let caller =
            Caller { subject: LOCAL_USER.to_owned(), via: Via::Library, correlation_id: new_id(), request_id: None };
        let body = serde_json::json!({"kind": kind, "input": input});
        match accept::accept(&self.edge, &caller, body, None).await? {
            Accepted::New(id, receipt) => {
                // The task is durable in any case; views that are behind show it later.
                self.edge.read.wait_for_revision(id, receipt.revision).await;
                Ok(id)
            }
            Accepted::Known(id) | Accepted::Held(id) => Ok(id),
        }
    }

    /// The status of a task, or `None` if no task has this id. A task that [`submit`](Self::submit) accepted is there.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        self.edge.read.views().get(task).map(Row::status)
    }

    /// The events after `after`, of all tasks, bells, queues and schedules: those in the log, then each new one as soon as it
    /// is durable. `Position(0)` begins with the first event.
    ///
    /// ```no_run
    /// # async fn follow(taskbell: &taskbell::Taskbell) -> Result<(), taskbell::ReadError> {
    /// use taskbell::event::Event;
    /// use taskbell::{LogEvent, Position};
    ///
    /// let mut events = taskbell.events(Position(0));
    /// loop {
    ///     for recorded in events.next().await? {
    ///         if let LogEvent::Task(Event::Completed(end)) = &recorded.event {
    ///             println!("{} {:?}", recorded.stream, end.outcome);
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self, after: Position) -> LogSubscription {
        self.edge.store.subscribe(after)
    }

    /// Starts no more attempts, waits up to 2 s for those that run, and ends the actors and the handlers' threads. A handler
    /// that still runs then is dropped at its next await; a blocking step runs to its end. Its attempt is lost, and the next
    /// start retries or fails it. The log can be opened again when the last application with the routes is gone too.
    pub async fn stop(self) {
        self.drain().await;
        self.end().await;
    }

    async fn drain(&self) {
        self.subscribers.dispatcher.do_send(SendAway);
        if let Ok(left @ 1..) = self.worker.send(Drain { within: DRAIN }).await {
            tracing::info!(attempts = left, "attempts are cut off; the next start ends them");
        }
    }

    async fn end(self) {
        self.worker.do_send(Stop);
        self.subscribers.stop();
        let arbiters = self.arbiters;
        let ended = web::block(move || {
            for arbiter in arbiters {
                arbiter.stop();
                // An arbiter that panicked has ended as well.
                let _ = arbiter.join();
            }
        });
        let _ = ended.await;
    }
}

/// The log, and the views of all that it holds.
async fn open(data: Option<&Path>) -> Result<(EventStore, Views), StartError> {
    let store = match data {
        Some(dir) => EventStore::open(dir)?,
        None => EventStore::memory(),
    };
    let views = views_at(&store, store.head().position).await?;
    tracing::info!(position = %views.position(), "the views are rebuilt");
    Ok((store, views))
}

/// Where the worker inside the process sends what it has to say, and its name: another one after each start.
fn doors(registry: &Registry, dispatcher: &Addr<Dispatcher>, projector: &Addr<Projector>) -> Doors {
    Doors {
        worker: format!("local/{}/{}", host_name(), new_id().simple()),
        execute: registry.recipient(),
        offer: dispatcher.clone().recipient(),
        stopped: dispatcher.clone().recipient(),
        progress: projector.clone().recipient(),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.').collect();
    if name.is_empty() { "server".to_owned() } else { name }
}

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
    System::new().block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), StartError> {
    let mut handlers = Handlers::new();
    let roots = Roots::new(&config.content_roots).map_err(|error| StartError::Io("content root", error))?;
    handlers.register(Distribute::new(roots, config.content_bytes_per_s.and_then(NonZeroU64::new)))?;
    let taskbell = Taskbell::start(Options {
        data: config.data,
        slots: config.slots,
        kinds: config.kinds,
        handlers,
        settings: config.settings,
        limits: config.limits,
    })
    .await?;
    let routes = taskbell.routes();
    let server = HttpServer::new(move || {
        let nothing = web::to(|| async { Problem::not_found().error_response() });
        let nowhere =
            web::scope("").wrap(from_fn(http::plumbing::middleware::same_origin_only)).default_service(nothing);
        App::new().configure(routes.clone()).service(nowhere)
    })
    .on_connect(|connection, data| {
        if let Some(socket) = connection.downcast_ref::<actix_rt::net::TcpStream>() {
            data.insert(ClientConnection::of(socket));
            let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(USER_TIMEOUT));
        }
    })
    // Whoever closes its side has left: a long poll is not kept for it.
    .h1_allow_half_closed(false)
    .shutdown_timeout(SHUTDOWN_S)
    // Its own way with signals stops the whole `System` at once, and with it the actors that record how attempts end.
    .disable_signals()
    .bind(config.listen)
    .map_err(|error| StartError::Io("can't listen", error))?;
    let told = told_to_stop().map_err(|error| StartError::Io("can't listen to signals", error))?;
    for address in server.addrs() {
        // Whoever started us may have closed our output; that ends nobody's work.
        let _ = writeln!(io::stdout(), "listening on http://{address}");
    }
    let server = server.run();
    let (handle, mut server) = (server.handle(), pin!(server));
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = told => tokio::join!(server, handle.stop(true), taskbell.drain()).0,
    };
    taskbell.end().await;
    ended.map_err(|error| StartError::Io("the server stopped", error))
}

/// Is over when the process is told to stop.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
