//! The state that all handlers share.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Addr, Recipient};

use super::actor_health::ActorHealth;
use super::identity::tickets::Tickets;
use super::identity::token_uses::TokenUses;
use super::identity::verifiers::Verifiers;
use super::limits::ClientLimits;
use super::open_tasks::OpenTasks;
use super::plumbing::body::Bodies;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::origin::AllowedOrigin;
use super::plumbing::public_address::PublicAddress;
use super::plumbing::quota::Quota;
use super::plumbing::scans::Scans;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::projection::freshness::Freshness;
use crate::projection::metrics::Metrics;
use crate::projection::projector::ReportProgress;
use crate::projection::reader::ViewsReader;
use crate::projection::replay::Replayer;
use crate::push::hub::Hub;
use crate::reactions::scheduler::CreationLock;
use crate::store::{EventStore, now};
use crate::streams::ExecuteOnStream;
use crate::streams::create::UniqueKeys;
use crate::streams::keyed_lock::KeyedLock;
use crate::streams::registry::Registry;
use crate::task::bell::{Bell, MarkSeen};
use crate::task::event::CancelLadder;
use crate::task::{Position, TaskId};
use crate::work::Handlers;

/// The task that an idempotency key belongs to, and the hash of the body that the key came with.
pub type IdempotentTask = (TaskId, String);

/// The parts of the application that handlers use. A clone refers to the same application.
#[derive(Clone)]
pub struct AppState {
    /// Executes commands on tasks and other streams.
    pub registry: Registry,
    /// Reads the views, for queries.
    pub reader: ViewsReader,
    /// The log, for the events of one stream or of all streams.
    pub store: EventStore,
    /// Grants leases to workers and receives their heartbeats.
    pub dispatcher: Addr<Dispatcher>,
    /// Computes the views of the past.
    pub replayer: Addr<Replayer>,
    /// Receives the progress of running attempts.
    pub progress_recipient: Recipient<ReportProgress>,
    /// Sends frames to open websockets.
    pub hub: Addr<Hub>,
    /// The task handlers of this process.
    pub handlers: Handlers,
    /// Computes what a queued task waits for.
    pub queue_and_offers: Arc<QueueAndOffers>,
    /// The settings of each kind of task.
    pub policies: Arc<KindPolicies>,
    /// The kinds that clients may submit. `None` allows every kind.
    pub allowed_kinds: Option<Arc<HashSet<String>>>,
    /// Lets only one request at a time use an idempotency key of a caller.
    pub idempotency_keys: KeyedLock<IdempotentTask>,
    /// Lets only one request at a time use a unique key of an owner.
    pub unique_keys: UniqueKeys,
    /// Held while a task of a schedule is created. A request can wait until it is free.
    pub creation_lock: CreationLock,
    /// The request bodies that the server receives, within their budgets.
    pub bodies: Bodies,
    /// The metrics for Prometheus.
    pub metrics: Metrics,
    /// Holds the name of the first long-lived actor that has stopped.
    pub actor_health: ActorHealth,
    /// Shows whether the views have all events of the log.
    pub freshness: Freshness,
    /// What clients may send, and how much of this server they may use at the same time.
    pub limits: Arc<ClientLimits>,
    /// Whether a request without a credential is refused.
    pub auth_required: bool,
    /// The origins of pages, other than this server's own, that may use it.
    pub allowed_origins: Arc<[AllowedOrigin]>,
    /// The tickets for websockets that were issued and not used.
    pub tickets: Tickets,
    /// Verifies JWTs and the headers of a proxy, and counts the requests of each subject.
    pub verifiers: Verifiers,
    /// When each token was last used on this server.
    pub token_uses: TokenUses,
    /// Counts the open websockets.
    pub sockets: Quota,
    /// Counts the requests that wait.
    pub long_polls: Quota,
    /// Counts the tasks of each owner that are not final.
    pub open_tasks: OpenTasks,
    /// How clients reach this server.
    pub public_address: Arc<PublicAddress>,
    /// Lets a bounded number of queries read many rows at the same time.
    pub scans: Scans,
}

impl AppState {
    /// Returns the cancel ladder of this task's kind, or the default ladder if the views don't have the task.
    #[must_use]
    pub fn cancel_ladder(&self, id: TaskId) -> CancelLadder {
        let views = self.reader.views();
        views.get(id).map(|row| self.policies.cancel_ladder(row.kind())).unwrap_or_default()
    }

    /// Refuses a request if the views have not caught up with the log since this process started. Such views may lack events
    /// that the decision needs.
    ///
    /// # Errors
    /// 503 `behind`, retryable unless the log has failed.
    pub fn require_caught_up(&self) -> Result<(), Problem> {
        if self.freshness.has_caught_up() {
            return Ok(());
        }
        let reason = self.store.health().err().unwrap_or_else(|| "the last events are being applied".to_owned());
        let refusal = if self.store.has_failed() { Refusal::ViewsStopped } else { Refusal::Behind };
        Err(Problem::new(refusal, format!("this server has not received the whole log yet: {reason}")))
    }

    /// Records that the caller has seen the bell up to this position, and waits until the views show the record.
    ///
    /// # Errors
    /// 422 if the position is after the head of the log; 500 or 503 if the log can't be read or written.
    pub async fn mark_seen(&self, caller: &Caller, position: Position) -> Result<(), Problem> {
        self.require_caught_up()?;
        // Another server may have shown this position to the client before this server has received it.
        if self.store.is_shared() && !self.reader.wait_for_position(position).await && self.store.health().is_err() {
            return Err(Problem::behind(self.reader.failure().is_some()));
        }
        let command = MarkSeen { position, head: self.store.head().position };
        let execute =
            ExecuteOnStream::<Bell> { key: caller.subject().to_owned(), command, at: now(), meta: caller.meta() };
        if self.registry.execute_on_stream(execute).await?.appended > 0 {
            let head = self.store.head().position;
            self.reader.wait_for_position(head).await;
        }
        Ok(())
    }
}
