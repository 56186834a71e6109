//! The composition root: it creates the log, the views and the actors, and connects them.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use actix_web::web;
use tokio::task::JoinHandle;

use crate::dispatch::messages::DrainWorkers;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::http::identity::Identity;
use crate::http::identity::verifiers::Verifiers;
use crate::http::plumbing::caller::Caller;
use crate::http::{self, AppState, Problem, accept};
use crate::projection::bulk_cancel::BULK_CANCEL;
use crate::projection::freshness::Freshness;
use crate::projection::metrics::{Metrics, MetricsRecorder};
use crate::projection::projector::Projector;
use crate::projection::reader::ViewsWriter;
use crate::projection::replay::Replayer;
use crate::projection::snapshots::Snapshots;
use crate::projection::stop::Stop;
use crate::push::messages::CloseAll;
use crate::reactions::scheduler::CreationLock;
use crate::store::{EventStore, LogSubscription, OpenError, ReadError, Via, new_id, now};
use crate::streams::create::{Accepted, UniqueKeys};
use crate::streams::registry::Registry;
use crate::task::{JsonText, Position, Status, TaskId};
use crate::tls::TlsError;
use crate::views::Views;
use crate::work::{BulkCancel, Drain, LocalWorker, NotRegistered};

mod actor_monitor;
mod channels;
mod file_size_signal;
mod http_server;
#[cfg(feature = "eventstore")]
mod log_access;
mod offline_token;
mod options;
mod rebuild;
#[cfg(feature = "testing")]
pub mod serve;
#[cfg(not(feature = "testing"))]
mod serve;
mod start_checks;
mod state;
mod subscribers;
mod threads;
mod tls;
mod views;

use actor_monitor::{ActorMonitor, MonitoredActor};
use channels::worker_channels;
#[cfg(feature = "eventstore")]
pub use offline_token::create_token_on_cluster;
pub use offline_token::{OfflineToken, OfflineTokenError, create_token_offline};
pub use options::Options;
pub use rebuild::{Rebuilt, rebuild_views};
pub use serve::run;
use state::app_state;
use subscribers::{SharedParts, SubscriberActors};
use threads::Threads;
use views::{open_log_and_views, split_and_compare, write_snapshots};

/// How long a stop waits for running attempts. The next start records attempts that are still running then as lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The shortest lease on a cluster. A server must be able to write three records of heartbeats within it.
const CLUSTER_LEASE_MIN: Duration = Duration::from_secs(3);

/// Why a Taskbell did not start, or why a server ended. No part of it runs any more, and the log is closed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log in a folder is damaged. Nothing of it was served, and no event was written.
    #[error(
        "the log is damaged: {what}; `taskbell log verify --data {}` lists all damage; replace the folder by a copy from before it",
        start_checks::shell_word(&data.display().to_string())
    )]
    Damaged {
        /// What is damaged, with its position.
        what: String,
        /// The data folder.
        data: PathBuf,
    },
    /// An operation failed. The first field says what failed, the second is the error.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// The files of the certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The settings contain a lease time that is too short for a cluster. The servers of a cluster inform each other of
    /// heartbeats through the database of the log, which takes time.
    #[error("the lease time {0:?} is too short: on a cluster it must be at least 3 s")]
    ShortLease(Duration),
    /// A handler could not be registered.
    #[error(transparent)]
    Handler(#[from] NotRegistered),
    /// The server requires authentication, but no client could be authenticated: its log, which is in this folder, holds no valid
    /// token.
    #[error(
        "authentication is required, and the log has no valid token: create one with `taskbell token create --data {} --role \
         admin --subject NAME`",
        start_checks::shell_word(&.0.display().to_string())
    )]
    NoToken(PathBuf),
    /// The server requires authentication, but no client could be authenticated: its log is in memory, and holds no token.
    #[error(
        "authentication is required, and a log in memory has no token: use the store sqlite or a cluster, or accept JWTs \
         ([auth.jwt]) or a proxy that authenticates ([auth.proxy])"
    )]
    NoTokenInMemory,
    /// A server ended itself, because the actor with this name stopped unexpectedly. The log is complete.
    #[error("{0} has stopped unexpectedly; the log is complete, and a new start continues from it")]
    ActorStopped(&'static str),
}

/// A Taskbell inside a program: its log, its actors and the handlers that run in this process.
///
/// It needs a running actix `System`; `#[actix_web::main]` starts one. Keep the value until the program ends, and then call
/// [`stop`](Self::stop).
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
    subscribers: SubscriberActors,
    actor_monitor: ActorMonitor,
    /// The tokio task that keeps [`Freshness`] up to date.
    freshness_task: JoinHandle<()>,
    /// The snapshots of a log in a folder, and the tokio task that writes them.
    snapshots: Option<Snapshots>,
    snapshot_task: Option<JoinHandle<()>>,
    threads: Threads,
}

impl Taskbell {
    /// Opens the log, rebuilds the views from it, and starts the actors and the handlers' threads. At the start,
    /// attempts of the previous process are recorded as lost. If such a task has attempts left, another attempt follows;
    /// otherwise the task fails.
    ///
    /// On a cluster this returns before the cluster has answered. Until the views have caught up with the log for the first
    /// time, no attempt starts, no timer fires, and every write is refused with a retryable 503. Use
    /// [`caught_up`](Self::caught_up) to wait for that.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        Self::start_checked(options, |_, _| Ok(())).await
    }

    /// As [`start`](Self::start). After the log is opened, and before anything is written to it, `check` may refuse the start.
    async fn start_checked(
        options: Options,
        check: impl FnOnce(&Options, &Views) -> Result<(), StartError>,
    ) -> Result<Self, StartError> {
        file_size_signal::ignore().map_err(|error| StartError::Io("can't handle the signal SIGXFSZ", error))?;
        let (store, views, snapshots) = open_log_and_views(&options).await?;
        if !store.is_shared() {
            check(&options, &views)?;
        }
        let freshness = Freshness::new(store.is_caught_up() && views.position() == store.head().position);
        let (writer, reader) = split_and_compare(views, &store);
        let threads = Threads::start();
        let registry = Registry::start(&store, &threads.shards);
        let kind_policies = Arc::new(options.kind_policies.with_defaults(options.handlers.policies()));
        if store.is_shared() && kind_policies.shortest_lease_time() < CLUSTER_LEASE_MIN {
            return Err(StartError::ShortLease(kind_policies.shortest_lease_time()));
        }
        let metrics =
            Metrics::new().map_err(|error| StartError::Io("can't create the metrics", io::Error::other(error)))?;
        let metrics_recorder = MetricsRecorder::new(metrics.clone(), kind_policies.names().chain([BULK_CANCEL]));
        let parts = SharedParts {
            store,
            reader,
            registry,
            queue_and_offers: Arc::new(QueueAndOffers::new(options.limits)),
            kind_policies,
            unique_keys: UniqueKeys::default(),
            creation_lock: CreationLock::default(),
            freshness: freshness.clone(),
        };
        let stall_timeout = options.client_limits.socket_stall_timeout;
        let subscribers = SubscriberActors::start(parts.clone(), stall_timeout, &threads);
        let projector = start_projector(&parts.store, writer, &subscribers, metrics_recorder, &threads);
        let (log, of_past) = (parts.store.clone(), snapshots.clone());
        let replayer = Replayer::start_in_arbiter(&threads.replay.handle(), move |_| Replayer::new(log, of_past));

        let mut handlers = options.handlers;
        handlers.register(BulkCancel {
            execute: parts.registry.recipient(),
            replayer: replayer.clone().recipient(),
            policies: parts.kind_policies.clone(),
        })?;
        let channels = worker_channels(&parts.registry, &subscribers.dispatcher, &projector);
        let worker = LocalWorker::new(handlers.clone(), options.slots, channels)
            .map_err(|error| StartError::Io("can't start the handlers' threads", error))?
            .start();
        let freshness_task = actix_rt::spawn(freshness.follow(parts.store.clone(), parts.reader.clone()));
        let snapshot_task = snapshots.clone().map(|snapshots| write_snapshots(snapshots, &parts.store, &parts.reader));
        let monitored = monitored_actors(&parts.registry, &subscribers, &projector, &replayer, &worker);
        let actor_monitor = ActorMonitor::start(monitored);
        let kinds = options.kinds.map(|kinds| Arc::new(kinds.into_iter().collect::<HashSet<_>>()));
        let verifiers = Verifiers::start(options.identity_sources, &options.client_limits, now());
        let shared = (handlers, kinds, metrics, options.client_limits, options.auth_required, verifiers);
        let state = AppState {
            allowed_origins: options.allowed_origins.into(),
            public_address: Arc::new(options.public_address),
            ..app_state(parts, shared, &subscribers, (projector, replayer), actor_monitor.actor_health())
        };
        Ok(Self { state, worker, subscribers, actor_monitor, freshness_task, snapshots, snapshot_task, threads })
    }

    /// Waits until the views have shown the whole log for the first time. Returns immediately unless the log is in a cluster.
    pub async fn caught_up(&self) {
        self.state.freshness.wait_until_caught_up().await;
    }

    /// Waits until one of the long-lived actors stops unexpectedly, and returns its name. That is a defect; after it this
    /// instance is not ready any more. A program that embeds Taskbell should wait for this beside its own work. When it
    /// returns, the program should end or start another instance. The log is complete.
    pub async fn actor_stopped(&self) -> &'static str {
        self.actor_monitor.actor_health().wait_for_stop().await
    }

    /// Stops the monitored actor with this name, as a defect in it would do.
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

    /// The routes of the HTTP API and of the web interface. Mount them at the root of an actix-web application with
    /// `App::new().configure(taskbell.routes())`.
    pub fn routes(&self) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
        let state = self.state.clone();
        move |config| http::routes(config, &AppState { registry: state.registry.host_shard_here(), ..state.clone() })
    }

    /// Creates a task of this kind, with the defaults of its handler. When this returns an id, the task is durable, and the
    /// views show it unless they are more than 5 s behind. The input is a [`serde_json::Value`], or a [`JsonText`] if every
    /// digit counts.
    ///
    /// # Errors
    /// The same [`Problem`] as in the response to `POST /v1/tasks`. Its `retryable` says whether a later call may succeed.
    pub async fn submit(&self, kind: &str, input: impl Into<JsonText>) -> Result<TaskId, Problem> {
        self.state.require_caught_up()?;
        let caller = Caller {
            identity: Identity::local(),
            address: None,
            via: Via::Library,
            correlation_id: new_id(),
            request_id: None,
        };
        match accept::accept(&self.state, &caller, accept::NewTask::new(kind, input.into()), None).await? {
            Accepted::New(id, receipt) => {
                // If this wait times out, the task is durable anyway, and the views show it later.
                self.state.reader.wait_for_revision(id, receipt.revision).await;
                Ok(id)
            }
            Accepted::Repeated(id) | Accepted::KeyHeld(id) => Ok(id),
        }
    }

    /// The status of a task, or `None` if the views show no task with this id.
    #[must_use]
    pub fn status(&self, task: TaskId) -> Option<Status> {
        self.state.reader.views().get(task).map(|row| row.status())
    }

    /// A subscription to the events after the position `after`, of all tasks, bells, queues and schedules. It returns the
    /// events that are in the log, and then each new event as soon as it is durable. `Position(0)` begins with the first event.
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

    /// Starts no more attempts, closes the websockets with code 1001, waits up to 2 s for the running attempts, and ends the actors and the handlers' threads.
    ///
    /// A handler that still runs after 2 s is dropped at its next `await`; a blocking step runs to its end. The attempt is
    /// lost: at the next start the task gets another attempt or fails. The log can be opened again after all
    /// applications with these routes were dropped.
    pub async fn stop(self) {
        self.drain().await;
        self.shut_down_actors().await;
    }

    async fn drain(&self) {
        self.subscribers.hub.do_send(CloseAll);
        self.subscribers.dispatcher.do_send(DrainWorkers);
        if let Ok(left @ 1..) = self.worker.send(Drain { within: DRAIN_TIMEOUT }).await {
            tracing::info!(attempts = left, "attempts are still running; the next start records them as lost");
        }
    }

    async fn shut_down_actors(self) {
        self.actor_monitor.stop();
        self.freshness_task.abort();
        if let Some(task) = self.snapshot_task {
            task.abort();
        }
        if let Some(snapshots) = &self.snapshots {
            snapshots.write_at_stop(&self.state.store, &self.state.reader).await;
        }
        self.worker.do_send(Stop);
        self.subscribers.stop();
        let threads = self.threads;
        // This fails only if the stop panics. Then there is nothing left to stop.
        let _ = web::block(move || threads.stop()).await;
    }
}

fn start_projector(
    store: &EventStore,
    writer: ViewsWriter,
    subscribers: &SubscriberActors,
    metrics_recorder: MetricsRecorder,
    threads: &Threads,
) -> Addr<Projector> {
    let (log, hub) = (store.clone(), subscribers.hub.clone().recipient());
    let subscribers = subscribers.for_projector();
    Projector::start_in_arbiter(&threads.projection.handle(), move |_| {
        Projector::new(log, writer, subscribers, hub, metrics_recorder)
    })
}

/// The long-lived actors, with the names that `/readyz` shows.
fn monitored_actors(
    registry: &Registry,
    subscribers: &SubscriberActors,
    projector: &Addr<Projector>,
    replayer: &Addr<Replayer>,
    worker: &Addr<LocalWorker>,
) -> Vec<MonitoredActor> {
    let registry = registry.clone();
    vec![
        MonitoredActor::new("a shard of the streams", move || registry.is_alive()),
        MonitoredActor::of_address("the projector", projector),
        MonitoredActor::of_address("the dispatcher", &subscribers.dispatcher),
        MonitoredActor::of_address("the hub", &subscribers.hub),
        MonitoredActor::of_address("the cascade", &subscribers.cascade),
        MonitoredActor::of_address("the scheduler", &subscribers.scheduler),
        MonitoredActor::of_address("the replayer", replayer),
        MonitoredActor::of_address("the worker inside the process", worker),
    ]
}
