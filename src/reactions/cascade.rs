//! A request to cancel a parent is passed on to its children, each in its own stream; their requests go on to theirs.
//!
//! It holds no truth. Which children are meant follows from the log: those that are not final, and whose present run existed
//! when the parent's cancel was requested, or that were created after it. A child that was retried since then is left alone.
//!
//! A process that ends leaves some children without a request. The next process finds them in its views
//! ([`Cascade::catch_up`]): they are the children of the tasks whose present run has a request. A parent that was retried in
//! between has none any more, so it passes on none.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use futures_util::future::join_all;
use tokio::task::{JoinError, spawn_blocking, yield_now};

use super::backlog::{Backlog, Batch, CHECKS, ParentCancel, is_open};
use crate::dispatch::policies::KindPolicies;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::{Committed, Update};
use crate::store::{EventStore, LogEvent, Meta, ReadError, Recorded, StreamName, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::streams::registry::Registry;
use crate::task::backoff::BackOff;
use crate::task::{Command, Event, Position, Revision, TaskId};
use crate::views::{Filter, Row, Snapshot};

/// The pauses after a failed turn. Within 5 s of the return of a log all work goes on.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));

/// The actor; see the module.
pub struct Cascade {
    canceller: Canceller,
    backlog: Backlog,
    /// A search of the views covers the events up to here.
    covered: Position,
    /// A turn is under way, or the pause after a failed one is not over.
    is_busy: bool,
    back_off: BackOff,
}

impl Cascade {
    /// A cascade that begins when its actor starts, with what a former process left undone.
    #[must_use]
    pub fn new(registry: Registry, read: ViewsReader, store: EventStore, kinds: Arc<KindPolicies>) -> Self {
        Self {
            canceller: Canceller { registry, read, store, kinds },
            backlog: Backlog::default(),
            covered: Position(0),
            is_busy: false,
            back_off: BACK_OFF,
        }
    }

    /// Searches the views for parents with a child that has no request yet, whatever events were missed. The search runs on
    /// the pool for blocking work; what it finds joins the backlog.
    pub fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let read = self.canceller.read.clone();
        let snapshot = read.views().snapshot();
        self.covered = snapshot.position();
        let search = spawn_blocking(move || find_unfinished(&read, &snapshot));
        ctx.spawn(search.into_actor(self).map(Self::caught_up));
    }

    fn caught_up(found: Result<Vec<ParentCancel>, JoinError>, this: &mut Self, ctx: &mut Context<Self>) {
        match found {
            Ok(found) => {
                if !found.is_empty() {
                    tracing::info!(parents = found.len(), "children of cancelled tasks are cancelled that are not yet");
                }
                this.backlog.extend(found);
                this.advance(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "the search for children of cancelled tasks broke off; trying again");
                ctx.run_later(this.back_off.failed(), Self::catch_up);
            }
        }
    }

    /// One turn: requests for some children of the parents at the front of the backlog.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.is_busy || self.backlog.is_empty() {
            return;
        }
        self.is_busy = true;
        let turn = self.backlog.take_turn(&self.canceller.read.views());
        let canceller = self.canceller.clone();
        let requests = async move {
            // A turn of checks alone must not keep other actors of this thread from theirs.
            yield_now().await;
            let requests = turn.into_iter().map(async |batch| {
                let answer = canceller.cancel_children(&batch).await;
                (batch, answer)
            });
            join_all(requests).await
        };
        ctx.spawn(requests.into_actor(self).map(Self::advanced));
    }

    fn advanced(turn: Vec<(Batch, Result<(), TryLater>)>, this: &mut Self, ctx: &mut Context<Self>) {
        let mut failure = None;
        for (batch, answer) in turn {
            match answer {
                Ok(()) => this.backlog.extend(batch.rest),
                // The children that got their request are not open any more, so they don't get a second one.
                Err(TryLater(why)) => {
                    failure = Some(why);
                    this.backlog.extend([batch.cancel]);
                }
            }
        }
        if let Some(why) = failure {
            tracing::warn!(%why, "some children could not be cancelled; trying again");
            ctx.run_later(this.back_off.failed(), Self::resume);
        } else {
            this.back_off.succeeded();
            this.resume(ctx);
        }
    }

    fn resume(&mut self, ctx: &mut Context<Self>) {
        self.is_busy = false;
        self.advance(ctx);
    }
}

/// The tasks whose present run has a request and that have a child without one. It takes the lock of the views again and
/// again, each time for at most [`CHECKS`] children.
fn find_unfinished(read: &ViewsReader, snapshot: &Snapshot) -> Vec<ParentCancel> {
    let all = Filter::default();
    let requested = snapshot.matching(&all).filter_map(ParentCancel::of_all_children);
    requested.filter(|cancel| has_open_child(read, cancel.parent)).collect()
}

fn has_open_child(read: &ViewsReader, parent: TaskId) -> bool {
    for page in 0.. {
        let views = read.views();
        let mut children = views.children(parent).iter().skip(page * CHECKS).take(CHECKS).peekable();
        if children.peek().is_none() {
            break;
        }
        if children.any(|child| views.get(*child).is_some_and(is_open)) {
            return true;
        }
    }
    false
}

/// Sends the requests; clones do the same.
#[derive(Clone)]
struct Canceller {
    registry: Registry,
    read: ViewsReader,
    store: EventStore,
    kinds: Arc<KindPolicies>,
}

/// The log could not be read or written, and why; a later try may do better.
struct TryLater(String);

impl Canceller {
    async fn cancel_children(&self, batch: &Batch) -> Result<(), TryLater> {
        if batch.children.is_empty() {
            return Ok(());
        }
        let Some(request) = self.request_of(batch.cancel).await? else { return Ok(()) };
        let children = batch.children.iter();
        let answers = join_all(children.map(|child| self.cancel_child(batch.cancel, &request, *child))).await;
        answers.into_iter().collect()
    }

    /// The event of the parent's request: its actor, its reason and its correlation id go on to the children.
    async fn request_of(&self, cancel: ParentCancel) -> Result<Option<Arc<Recorded>>, TryLater> {
        let before = Position(cancel.requested.0.saturating_sub(1));
        match self.store.read_all(before, 1).await {
            Ok(events) => Ok(events.into_iter().next()),
            Err(error) => skip_damaged(cancel.parent, &error).map(|()| None),
        }
    }

    async fn cancel_child(&self, cancel: ParentCancel, request: &Recorded, child: TaskId) -> Result<(), TryLater> {
        let LogEvent::Task(Event::CancelRequested(requested)) = &request.event else { return Ok(()) };
        let shown = |row: &Row| (row.kind().to_owned(), is_surely_meant(row, cancel));
        let found = self.read.views().get(child).filter(|row| is_open(row)).map(shown);
        let Some((kind, is_sure)) = found else { return Ok(()) };
        if !is_sure && !self.is_meant(child, cancel).await? {
            return Ok(());
        }
        let meta = Meta { causation_id: Some(request.id), ..request.meta.clone() };
        let command = Command::RequestCancel { reason: requested.reason.clone(), policy: self.kinds.cancel(&kind) };
        match self.registry.execute(Execute { task: child, command, at: now(), meta }).await {
            Ok(_) | Err(ExecuteError::Rejected(_)) => Ok(()),
            Err(ExecuteError::Read(error)) => skip_damaged(child, &error),
            Err(error @ (ExecuteError::Append(_) | ExecuteError::Busy(_))) => Err(TryLater(error.to_string())),
        }
    }

    /// Whether the child's history says that its present run existed when the parent's cancel was requested.
    async fn is_meant(&self, child: TaskId, cancel: ParentCancel) -> Result<bool, TryLater> {
        let events = match self.store.read_stream(&StreamName::task(child), Revision(0)).await {
            Ok(events) => events,
            Err(error) => return skip_damaged(child, &error).map(|()| false),
        };
        let is_retry = |recorded: &&Arc<Recorded>| matches!(recorded.event, LogEvent::Task(Event::Retried(_)));
        Ok(events.iter().rfind(is_retry).is_none_or(|retry| retry.position < cancel.requested))
    }
}

/// Whether the child's row alone shows that its present run is meant: nothing has happened to it since the request, or
/// nothing but its creation ever. Else it may have been retried since.
fn is_surely_meant(row: &Row, cancel: ParentCancel) -> bool {
    row.position() < cancel.requested || row.revision() == Revision(0)
}

/// A history that is damaged stays so: its task is left out, and the others don't wait for it.
fn skip_damaged(task: TaskId, error: &ReadError) -> Result<(), TryLater> {
    if error.is_transient() {
        return Err(TryLater(error.to_string()));
    }
    tracing::error!(%task, %error, "a history can't be read, so its task or the children of it are not cancelled");
    Ok(())
}

impl Actor for Cascade {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
    }
}

impl Cascade {
    /// Whether the event may make this actor do something.
    #[must_use]
    pub fn concerns(recorded: &Recorded) -> bool {
        match &recorded.event {
            LogEvent::Task(Event::CancelRequested(_)) => true,
            LogEvent::Task(Event::Created(created)) => created.parent.is_some(),
            LogEvent::Task(_) | LogEvent::Bell(_) | LogEvent::Queue(_) | LogEvent::Schedule(_) => false,
        }
    }

    fn apply(&mut self, committed: &Committed) {
        let views = self.canceller.read.views();
        for recorded in committed.events.iter().filter(|recorded| recorded.position > self.covered) {
            self.backlog.push_event(recorded, &views);
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
