//! The cascade: when the cancel of a parent was requested, it requests the cancel of the children. These requests lead to
//! requests for the children's children in the same way. Each request is a command on the stream of the child.
//!
//! The request of a parent *covers* a child that is not final, if the child's present run began before the request, or if the
//! child was created after the request. It doesn't cover a run that began with a retry of the child after the request. All of
//! this can be computed from the log.
//!
//! If a process ends before all covered children have their request, the next process searches its views for them
//! ([`Cascade::catch_up`]): they are children of tasks whose present run has a request to cancel. If such a parent was retried
//! meanwhile, its present run has no such request, and its children get none.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use futures_util::future::join_all;
use tokio::task::{JoinError, spawn_blocking, yield_now};

use super::parents_to_cancel::{CHECKS_PER_ROUND, ChildBatch, ParentCancel, ParentsToCancel, lacks_cancel_request};
use crate::dispatch::policies::KindPolicies;
use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::{Committed, Update};
use crate::repeats::Repeats;
use crate::store::{EventStore, LogEvent, Meta, ReadError, Recorded, StreamName, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::streams::registry::Registry;
use crate::task::backoff::BackOff;
use crate::task::{Command, Event, Position, Revision, TaskId};
use crate::views::{Row, Snapshot};

/// The pauses after a failed round. They are short, so that the work goes on within 5 s after the log is available again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));

/// The actor; see the module.
pub struct Cascade {
    canceller: Canceller,
    parents: ParentsToCancel,
    /// The last search of the views covers the events up to this position.
    searched_position: Position,
    /// A round is under way, or the pause after a failed round is not over.
    is_busy: bool,
    back_off: BackOff,
    /// The rounds that have failed.
    failures: Repeats,
}

impl Cascade {
    /// A cascade. When its actor starts, it first searches for work that an earlier process did not finish.
    #[must_use]
    pub fn new(registry: Registry, reader: ViewsReader, store: EventStore, policies: Arc<KindPolicies>) -> Self {
        Self {
            canceller: Canceller { registry, reader, store, policies },
            parents: ParentsToCancel::default(),
            searched_position: Position(0),
            is_busy: false,
            back_off: BACK_OFF,
            failures: Repeats::new(),
        }
    }

    /// Searches the views for parents whose cancel was requested and that have children without a request, and adds them to
    /// the list. The search needs no events, so it also finds the work of events that this actor has missed. It runs on the
    /// pool for blocking work.
    pub fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let reader = self.canceller.reader.clone();
        let snapshot = reader.views().snapshot();
        self.searched_position = snapshot.position();
        let search = spawn_blocking(move || find_unfinished(&reader, &snapshot));
        ctx.spawn(search.into_actor(self).map(Self::end_search));
    }

    fn end_search(found: Result<Vec<ParentCancel>, JoinError>, this: &mut Self, ctx: &mut Context<Self>) {
        match found {
            Ok(found) => {
                if !found.is_empty() {
                    tracing::info!(
                        parents = found.len(),
                        "the remaining children of cancelled tasks are being cancelled"
                    );
                }
                this.parents.extend(found);
                this.advance(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the search for children of cancelled tasks has failed; trying again");
                ctx.run_later(this.back_off.next_pause(), Self::catch_up);
            }
        }
    }

    /// Begins the next round, if none is under way and the list of parents is not empty.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.is_busy || self.parents.is_empty() {
            return;
        }
        self.is_busy = true;
        let round = self.parents.take_round(&self.canceller.reader.views());
        let canceller = self.canceller.clone();
        let requests = async move {
            // Without this, a round that only checks children would never return to the executor, and other actors would not
            // run.
            yield_now().await;
            let requests = round.into_iter().map(async |batch| {
                let result = canceller.cancel_children(&batch).await;
                (batch, result)
            });
            join_all(requests).await
        };
        ctx.spawn(requests.into_actor(self).map(Self::end_round));
    }

    fn end_round(results: Vec<(ChildBatch, Result<(), TransientFailure>)>, this: &mut Self, ctx: &mut Context<Self>) {
        let mut failure = None;
        for (batch, result) in results {
            match result {
                Ok(()) => this.parents.extend(batch.rest),
                // Some children of the batch may have got their request. They are not cancellable any more, so they don't get
                // a second one.
                Err(TransientFailure(why)) => {
                    failure = Some(why);
                    this.parents.extend([batch.before]);
                }
            }
        }
        if let Some(why) = failure {
            if let Some(times) = this.failures.occurred(Instant::now()) {
                tracing::warn!(%why, times, "some children could not be cancelled; trying again");
            }
            ctx.run_later(this.back_off.next_pause(), Self::resume);
        } else {
            this.back_off.reset();
            this.failures.ended(Instant::now());
            this.resume(ctx);
        }
    }

    fn resume(&mut self, ctx: &mut Context<Self>) {
        self.is_busy = false;
        self.advance(ctx);
    }
}

/// The tasks whose present run has a request to cancel and that have a cancellable child. This locks the views several times,
/// each time for at most [`CHECKS_PER_ROUND`] children, so that the writer doesn't wait long.
fn find_unfinished(reader: &ViewsReader, snapshot: &Snapshot) -> Vec<ParentCancel> {
    let requested = snapshot.with_cancel_request().filter_map(|row| ParentCancel::of_all_children(&row));
    requested.filter(|cancel| has_child_without_cancel_request(reader, cancel.parent)).collect()
}

fn has_child_without_cancel_request(reader: &ViewsReader, parent: TaskId) -> bool {
    for page in 0.. {
        let views = reader.views();
        let children = views.children(parent).iter();
        let mut children = children.skip(page * CHECKS_PER_ROUND).take(CHECKS_PER_ROUND).peekable();
        if children.peek().is_none() {
            break;
        }
        if children.any(|child| views.get(*child).is_some_and(|row| lacks_cancel_request(&row))) {
            return true;
        }
    }
    false
}

/// Requests the cancel of children.
#[derive(Clone)]
struct Canceller {
    registry: Registry,
    reader: ViewsReader,
    store: EventStore,
    policies: Arc<KindPolicies>,
}

/// Why the log could not be read or written. A later try may succeed.
struct TransientFailure(String);

impl Canceller {
    async fn cancel_children(&self, batch: &ChildBatch) -> Result<(), TransientFailure> {
        if batch.children.is_empty() {
            return Ok(());
        }
        let Some(request) = self.read_request(batch.before).await? else { return Ok(()) };
        let children = batch.children.iter();
        let results = join_all(children.map(|child| self.cancel_child(batch.before, &request, *child))).await;
        results.into_iter().collect()
    }

    /// Reads the event of the parent's request. The requests of the children have the same actor, reason and correlation id.
    async fn read_request(&self, cancel: ParentCancel) -> Result<Option<Arc<Recorded>>, TransientFailure> {
        let before = Position(cancel.requested_position.0.saturating_sub(1));
        match self.store.read_all(before, 1).await {
            Ok(events) => Ok(events.into_iter().next()),
            Err(error) => skip_damaged(cancel.parent, &error).map(|()| None),
        }
    }

    async fn cancel_child(
        &self,
        cancel: ParentCancel,
        request: &Recorded,
        child: TaskId,
    ) -> Result<(), TransientFailure> {
        let LogEvent::Task(Event::CancelRequested(requested)) = &request.event else { return Ok(()) };
        let kind_and_covered = |row: Cow<Row>| (row.kind().to_owned(), row_shows_covered(&row, cancel));
        let found = self.reader.views().get(child).filter(|row| lacks_cancel_request(row)).map(kind_and_covered);
        let Some((kind, is_covered)) = found else { return Ok(()) };
        if !is_covered && !self.history_shows_covered(child, cancel).await? {
            return Ok(());
        }
        let meta = Meta { causation_id: Some(request.id), ..request.meta.clone() };
        let command =
            Command::RequestCancel { reason: requested.reason.clone(), policy: self.policies.cancel_ladder(&kind) };
        match self.registry.execute(Execute { task: child, command, at: now(), meta }).await {
            Ok(_) | Err(ExecuteError::Rejected(_)) => Ok(()),
            Err(ExecuteError::Read(error)) => skip_damaged(child, &error),
            Err(error @ (ExecuteError::Append(_) | ExecuteError::Busy(_))) => Err(TransientFailure(error.to_string())),
        }
    }

    /// Whether the parent's request covers the child. This reads the child's history: the child must not have been retried
    /// after the request.
    async fn history_shows_covered(&self, child: TaskId, cancel: ParentCancel) -> Result<bool, TransientFailure> {
        let events = match self.store.read_stream(&StreamName::task(child), Revision(0)).await {
            Ok(events) => events,
            Err(error) => return skip_damaged(child, &error).map(|()| false),
        };
        let is_retry = |recorded: &&Arc<Recorded>| matches!(recorded.event, LogEvent::Task(Event::Retried(_)));
        Ok(events.iter().rfind(is_retry).is_none_or(|retry| retry.position < cancel.requested_position))
    }
}

/// Whether the row of a child is enough to see that the parent's request covers the child: its last event lies before the
/// request, or its only event is its creation. Otherwise it may have been retried after the request, and its history must be
/// read.
fn row_shows_covered(row: &Row, cancel: ParentCancel) -> bool {
    row.position() < cancel.requested_position || row.revision() == Revision(0)
}

/// Logs a read error that will not pass, for example a damaged event. The task is left out, and the others go on. A read error
/// that may pass is returned as a failure.
fn skip_damaged(task: TaskId, error: &ReadError) -> Result<(), TransientFailure> {
    if error.is_transient() {
        return Err(TransientFailure(error.to_string()));
    }
    tracing::error!(%task, %error, "can't read the events of this task; the cascade skips it or its children");
    Ok(())
}

impl Actor for Cascade {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
    }
}

impl Cascade {
    /// Whether this actor needs the event.
    #[must_use]
    pub fn concerns(recorded: &Recorded) -> bool {
        match &recorded.event {
            LogEvent::Task(Event::CancelRequested(_)) => true,
            LogEvent::Task(Event::Created(created)) => created.parent.is_some(),
            LogEvent::Task(_)
            | LogEvent::Bell(_)
            | LogEvent::Queue(_)
            | LogEvent::Schedule(_)
            | LogEvent::Token(_)
            | LogEvent::Session(_) => false,
        }
    }

    fn apply(&mut self, committed: &Committed) {
        let views = self.canceller.reader.views();
        for recorded in committed.events.iter().filter(|recorded| recorded.position > self.searched_position) {
            self.parents.push_event(recorded, &views);
        }
    }
}

impl Handler<Update> for Cascade {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => {
                self.apply(&committed);
                self.advance(ctx);
            }
            Update::Missed => self.catch_up(ctx),
        }
    }
}

impl Handler<Stop> for Cascade {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
