//! The composition root: what a Taskbell is made of, put together in one place.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_web::web;
use tokio::task::JoinHandle;

use crate::dispatch::capacity::Capacity;
use crate::dispatch::messages::SendAway;
use crate::dispatch::policies::KindPolicies;
use crate::http::plumbing::caller::{Caller, LOCAL_USER};
use crate::http::vitals::Vitals;
use crate::http::{self, AppState, Problem, accept};
use crate::projection::freshness::Freshness;
use crate::projection::metrics::{Meter, Metrics};
use crate::projection::projector::{Projector, Stop};
use crate::projection::reader::{ViewsWriter, sides};
use crate::projection::replay::{BULK_CANCEL, Replayer, views_at};
use crate::reactions::scheduler::Firing;
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::store::{EventStore, LogSubscription, OpenError, ReadError, Via, new_id};
use crate::streams::create::{Accepted, UniqueKeys};
use crate::streams::keyed_lock::KeyedLock;
use crate::streams::registry::Registry;
use crate::task::{Position, Status, TaskId};
use crate::views::{Limits, Row, Views};
use crate::work::{BulkCancel, Drain, Handler, Handlers, LocalWorker, NotRegistered};

mod channels;
#[cfg(feature = "testing")]
pub mod serve;
#[cfg(not(feature = "testing"))]
mod serve;
mod subscribers;
mod threads;
mod watch;

use channels::worker_channels;
pub use serve::run;
use subscribers::{Parts, Subscribers};
use threads::Threads;
use watch::{Watch, Watched};

/// How long running attempts are waited for on the way out; what still runs then is recorded as lost by the next start.
const DRAIN: Duration = Duration::from_secs(2);
/// The shortest lease on a cluster: within it a server has to write three records.
const CLUSTER_LEASE_MIN: Duration = Duration::from_secs(3);

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
    /// A lease is set that is too short for a cluster, whose servers tell each other of heartbeats through the log's database.
    #[error("a lease of {0:?} is too short: on a cluster a lease lives for at least 3 s")]
    ShortLease(Duration),
    /// A handler could not be registered.
    #[error(transparent)]
    Handler(#[from] NotRegistered),
    /// A server had started and ended itself, because the actor of this name had stopped and nothing else can do its work. A
    /// supervisor starts it again; the log holds everything.
    #[error("{0} has stopped unexpectedly; the log is complete, and a new start goes on from it")]
    ActorStopped(&'static str),
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
    state: AppState,
    worker: Addr<LocalWorker>,
    subscribers: Subscribers,
    watch: Watch,
    /// Keeps [`Freshness`] up to date.
    freshness: JoinHandle<()>,
    threads: Threads,
}

/// The settings of a [`Taskbell`]. The default keeps its log in `./taskbell-data`, runs 4 attempts at once, accepts any kind,
/// has no handlers and no limits.
pub struct Options {
    /// The folder of the log; it is created where it is missing, and only one process at a time can open it. None keeps the
    /// log in memory: it ends with the process.
    pub data: Option<PathBuf>,
    /// The log of a cluster, which several servers share: `"esdb://db.example:2113".parse()?`. Where it is set, `data` is not
    /// used and no folder is created.
    #[cfg(feature = "eventstore")]
    pub store: Option<StoreUrl>,
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
            #[cfg(feature = "eventstore")]
            store: None,
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
    /// A start on a cluster waits for no answer of it. Until the views have caught up with its log for the first time, no
    /// attempt is started, no timer fires, and every write is refused with a retryable 503; [`caught_up`](Self::caught_up) waits.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (store, views) = open(&options).await?;
        let freshness = Freshness::new(store.is_caught_up() && views.position() == store.head().position);
        let (write, read) = sides(views);
        let threads = Threads::start();
        let registry = Registry::start(&store, &threads.shards);
        let settings = Arc::new(options.settings.with_defaults(options.handlers.policies()));
        if store.is_shared() && settings.shortest_lease() < CLUSTER_LEASE_MIN {
            return Err(StartError::ShortLease(settings.shortest_lease()));
        }
        let metrics = Metrics::new().map_err(|error| StartError::Io("metrics", io::Error::other(error)))?;
        let meter = Meter::new(metrics.clone(), settings.names().chain([BULK_CANCEL]));
        let parts = Parts {
            store,
            read,
            registry,
            capacity: Arc::new(Capacity::new(options.limits)),
            settings,
            unique: UniqueKeys::default(),
            firing: Firing::default(),
            freshness: freshness.clone(),
        };
        let subscribers = Subscribers::start(parts.clone(), &threads);
        let projector = start_projector(&parts.store, write, &subscribers, meter, &threads);
        let log = parts.store.clone();
        let replayer = Replayer::start_in_arbiter(&threads.replay.handle(), move |_| Replayer::new(log));

        let mut handlers = options.handlers;
        handlers.register(BulkCancel {
            execute: parts.registry.recipient(),
            history: replayer.clone().recipient(),
            kinds: parts.settings.clone(),
        })?;
        let channels = worker_channels(&parts.registry, &subscribers.dispatcher, &projector);
        let worker = LocalWorker::new(handlers.clone(), options.slots, channels)
            .map_err(|error| StartError::Io("no threads for the handlers", error))?
            .start();
        let freshness = actix_rt::spawn(freshness.follow(parts.store.clone(), parts.read.clone()));
        let watch = Watch::start(watched(&parts.registry, &subscribers, &projector, &replayer, &worker));
        let kinds = options.kinds.map(|kinds| Arc::new(kinds.into_iter().collect::<HashSet<_>>()));
        let state = app_state(parts, (handlers, kinds, metrics), &subscribers, projector, watch.vitals());
        Ok(Self { state, worker, subscribers, watch, freshness, threads })
    }

    /// Waits until the views show the whole log for the first time. They do so at once, unless the log is in a cluster.
    pub async fn caught_up(&self) {
        self.state.freshness.wait_until_caught_up().await;
    }

    /// The name of the first of the long-lived actors that stops without being asked to: a defect, after which this instance
    /// is not ready any more. A program that embeds Taskbell waits for it beside its own work, and ends or starts another
    /// instance: the log holds everything.
    pub async fn actor_stopped(&self) -> &'static str {
        self.watch.vitals().wait_for_stop().await
    }

    /// Stops one of the actors that are watched, as a defect would.
    #[cfg(feature = "testing")]
    pub fn stop_actor(&self, name: &str) {
        match name {
            "the dispatcher" => self.subscribers.dispatcher.do_send(Stop),
            "the hub" => self.subscribers.hub.do_send(Stop),
            "the cascade" => self.subscribers.cascade.do_send(Stop),
            "the scheduler" => self.subscribers.scheduler.do_send(Stop),
            "the worker inside the process" => self.worker.do_send(Stop),
            other => tracing::warn!(other, "no actor of this name can be stopped"),
        }
    }

    /// The HTTP API and the web interface, to be mounted at the root of an actix-web application:
    /// `App::new().configure(taskbell.routes())`.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
        let state = self.state.clone();
        move |config| http::routes(config, &AppState { registry: state.registry.hosted_here(), ..state.clone() })
    }

    /// Creates a task of this kind, with the defaults of its handler. When this returns, the task is durable and visible.
    ///
    /// # Errors
    /// The problem that `POST /v1/tasks` would answer with; its `retryable` says whether a later try may succeed.
    pub async fn submit(&self, kind: &str, input: serde_json::Value) -> Result<TaskId, Problem> {
        self.state.require_caught_up()?;
        let caller =
            Caller { subject: LOCAL_USER.to_owned(), via: Via::Library, correlation_id: new_id(), request_id: None };
        match accept::accept(&self.state, &caller, accept::NewTask::new(kind, input.into()), None).await? {
            Accepted::New(id, receipt) => {
                // The task is durable in any case; views that are behind show it later.
                self.state.read.wait_for_revision(id, receipt.revision).await;
                Ok(id)
            }
            Accepted::Known(id) | Accepted::Held(id) => Ok(id),
        }
    }

    /// The status of a task, or `None` if no task has this id. A task that [`submit`](Self::submit) accepted is there.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        self.state.read.views().get(task).map(Row::status)
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
        self.state.store.subscribe(after)
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
        self.watch.stop();
        self.freshness.abort();
        self.worker.do_send(Stop);
        self.subscribers.stop();
        let threads = self.threads;
        // An arbiter that panicked has ended as well.
        let _ = web::block(move || threads.stop()).await;
    }
}

/// The log, and the views of all that it holds. The end of a cluster's log is not known yet: its views begin empty.
async fn open(options: &Options) -> Result<(EventStore, Views), StartError> {
    let store = open_log(options)?;
    let views = views_at(&store, store.head().position).await?;
    tracing::info!(position = %views.position(), "the views are rebuilt");
    Ok((store, views))
}

fn open_log(options: &Options) -> Result<EventStore, OpenError> {
    #[cfg(feature = "eventstore")]
    if let Some(url) = &options.store {
        tracing::info!(%url, "the log is in a cluster");
        return EventStore::connect(url.clone());
    }
    options.data.as_deref().map_or_else(|| Ok(EventStore::memory()), EventStore::open)
}

fn start_projector(
    store: &EventStore,
    write: ViewsWriter,
    subscribers: &Subscribers,
    meter: Meter,
    threads: &Threads,
) -> Addr<Projector> {
    let (log, told, progressed) = (store.clone(), subscribers.subscribers(), subscribers.hub.clone().recipient());
    Projector::start_in_arbiter(&threads.projection.handle(), move |_| {
        Projector::new(log, write, told, progressed, meter)
    })
}

/// The long-lived actors, by the names that `/readyz` shows.
fn watched(
    registry: &Registry,
    subscribers: &Subscribers,
    projector: &Addr<Projector>,
    replayer: &Addr<Replayer>,
    worker: &Addr<LocalWorker>,
) -> Vec<Watched> {
    let registry = registry.clone();
    vec![
        Watched::new("a shard of the streams", move || registry.is_alive()),
        Watched::actor("the projector", projector),
        Watched::actor("the dispatcher", &subscribers.dispatcher),
        Watched::actor("the hub", &subscribers.hub),
        Watched::actor("the cascade", &subscribers.cascade),
        Watched::actor("the scheduler", &subscribers.scheduler),
        Watched::actor("the replayer", replayer),
        Watched::actor("the worker inside the process", worker),
    ]
}

fn app_state(
    parts: Parts,
    (handlers, kinds, metrics): (Handlers, Option<Arc<HashSet<String>>>, Metrics),
    subscribers: &Subscribers,
    projector: Addr<Projector>,
    vitals: Vitals,
) -> AppState {
    let Parts { store, read, registry, capacity, settings, unique, firing, freshness } = parts;
    AppState {
        registry,
        read,
        store,
        dispatcher: subscribers.dispatcher.clone(),
        progress: projector.recipient(),
        hub: subscribers.hub.clone(),
        handlers,
        capacity,
        settings,
        kinds,
        keys: KeyedLock::default(),
        unique,
        firing,
        metrics,
        vitals,
        freshness,
    }
}
