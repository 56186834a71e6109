//! What every handler can reach.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Addr, Recipient};

use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::vitals::Vitals;
use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::projection::freshness::Freshness;
use crate::projection::metrics::Metrics;
use crate::projection::projector::NoteProgress;
use crate::projection::reader::ViewsReader;
use crate::push::hub::Hub;
use crate::reactions::scheduler::Firing;
use crate::store::{EventStore, now};
use crate::streams::ExecuteOn;
use crate::streams::create::UniqueKeys;
use crate::streams::keyed_lock::KeyedLock;
use crate::streams::registry::Registry;
use crate::task::bell::{Bell, MarkSeen};
use crate::task::event::CancelPolicy;
use crate::task::{Position, TaskId};
use crate::work::Handlers;

/// The task that an idempotency key belongs to, and the hash of the body that the key came with.
pub type IdempotentTask = (TaskId, String);

/// The ends of the application that handlers use. A clone is another handle on the same application.
#[derive(Clone)]
pub struct AppState {
    /// Takes commands to tasks and other streams.
    pub registry: Registry,
    /// Answers queries.
    pub read: ViewsReader,
    /// Holds the histories.
    pub store: EventStore,
    /// Grants leases to workers and takes their heartbeats.
    pub dispatcher: Addr<Dispatcher>,
    /// Takes the progress of running attempts.
    pub progress: Recipient<NoteProgress>,
    /// Sends frames to open sockets.
    pub hub: Addr<Hub>,
    /// The handlers of this process.
    pub handlers: Handlers,
    /// Says what a queued task waits for.
    pub capacity: Arc<Capacity>,
    /// The settings of each kind.
    pub settings: Arc<KindPolicies>,
    /// The only kinds that clients may submit; none where every kind is allowed.
    pub kinds: Option<Arc<HashSet<String>>>,
    /// Lets one request at a time use an idempotency key of a caller.
    pub keys: KeyedLock<IdempotentTask>,
    /// Lets one request at a time use a unique key of an owner.
    pub unique: UniqueKeys,
    /// Says when a removed schedule creates no more tasks.
    pub firing: Firing,
    /// Figures for Prometheus.
    pub metrics: Metrics,
    /// Says which long-lived actor has stopped, if one has.
    pub vitals: Vitals,
    /// Says whether the views show the present.
    pub freshness: Freshness,
}

impl AppState {
    /// The cancel ladder of this task's kind; the default ladder where the views don't show the task.
    #[must_use]
    pub fn cancel_policy(&self, id: TaskId) -> CancelPolicy {
        let views = self.read.views();
        views.get(id).map(|row| self.settings.cancel(row.kind())).unwrap_or_default()
    }

    /// Refuses work that must not be decided on views that have never caught up with the log.
    ///
    /// # Errors
    /// 503 `behind`, retryable unless the log has failed.
    pub fn require_caught_up(&self) -> Result<(), Problem> {
        if self.freshness.has_caught_up() {
            return Ok(());
        }
        let why = self.store.health().err().unwrap_or_else(|| "the last events are being applied".to_owned());
        let refusal = if self.store.has_failed() { Refusal::ViewsStopped } else { Refusal::Behind };
        Err(Problem::new(refusal, format!("this server has not received the whole log yet: {why}")))
    }

    /// Records that the caller has seen the bell up to this position, and waits until the views show it.
    ///
    /// # Errors
    /// 422 where the position lies beyond the head of the log; 500 or 503 where the log can't be read or written.
    pub async fn mark_seen(&self, caller: &Caller, position: Position) -> Result<(), Problem> {
        self.require_caught_up()?;
        // Another server may have shown it already.
        if self.store.is_shared() && !self.read.wait_for_position(position).await && self.store.health().is_err() {
            return Err(Problem::behind(self.read.failure().is_some()));
        }
        let command = MarkSeen { position, head: self.store.head().position };
        let execute = ExecuteOn::<Bell> { key: caller.subject.clone(), command, at: now(), meta: caller.meta() };
        if self.registry.execute_on(execute).await?.appended > 0 {
            let head = self.store.head().position;
            self.read.wait_for_position(head).await;
        }
        Ok(())
    }
}
