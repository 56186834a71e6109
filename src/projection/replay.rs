//! Computes the views at an earlier position of the log: from the newest snapshot before it, with a replay of the events that
//! follow the snapshot.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, ResponseActFuture, WrapFuture as _,
};
use tokio::sync::Mutex;

use super::bulk_cancel::bulk_cancel_targets;
use super::snapshots::{Snapshots, Until};
use crate::store::{EventStore, Fact, ReadError};
use crate::task::{Position, TaskId, Timestamp};
use crate::views::{Filter, Views};

/// The views of the last request stay in memory for so long after it, for the next page of the same list.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// How many events are read before the replay looks whether a later time was reached.
const EVENTS_PER_LOOK: u64 = 100_000;

/// A moment in the past of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// When this was the last position.
    Position(Position),
    /// Before the first event with a later time.
    Time(Timestamp),
}

/// Request to the replayer: the tasks that a bulk cancel has to cancel, with their kinds. These are the tasks that matched
/// `filter` when `position` was the last position of the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<(TaskId, Arc<str>)>, ReadError>")]
pub struct BulkCancelTargetsAt {
    /// The filter of the bulk cancel.
    pub filter: Filter,
    /// The position of the log.
    pub position: Position,
}

/// Request to the replayer: the views as of a moment. The log must have the position.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Arc<Views>, ReadError>")]
pub struct ViewsAsOf(pub AsOf);

/// The actor that replays the log. It has an arbiter of its own, because a replay may take long.
///
/// One replay runs at a time, because the views of a large log take much memory. The other requests wait, and a request for the
/// moment of the last one gets the same views.
pub struct Replayer {
    past: Arc<Past>,
    /// Counts the requests, so that the views are dropped only if no other request has followed.
    requests: u64,
}

struct Past {
    log: EventStore,
    snapshots: Option<Snapshots>,
    last: Mutex<Option<(AsOf, Arc<Views>)>>,
}

impl Replayer {
    /// A replayer of this log.
    #[must_use]
    pub fn new(log: EventStore, snapshots: Option<Snapshots>) -> Self {
        Self { past: Arc::new(Past { log, snapshots, last: Mutex::default() }), requests: 0 }
    }
}

impl Actor for Replayer {
    type Context = Context<Self>;
}

impl Handler<BulkCancelTargetsAt> for Replayer {
    type Result = ResponseActFuture<Self, Result<Vec<(TaskId, Arc<str>)>, ReadError>>;

    fn handle(
        &mut self,
        BulkCancelTargetsAt { filter, position }: BulkCancelTargetsAt,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let past = Arc::clone(&self.past);
        let replay = async move {
            let snapshot = past.views(AsOf::Position(position)).await?.snapshot();
            Ok(bulk_cancel_targets(&snapshot, &filter).map(|row| (row.id(), row.kind().into())).collect())
        };
        Box::pin(replay.into_actor(self).map(Self::plan_drop))
    }
}

impl Handler<ViewsAsOf> for Replayer {
    type Result = ResponseActFuture<Self, Result<Arc<Views>, ReadError>>;

    fn handle(&mut self, ViewsAsOf(as_of): ViewsAsOf, _: &mut Context<Self>) -> Self::Result {
        let past = Arc::clone(&self.past);
        Box::pin(async move { past.views(as_of).await }.into_actor(self).map(Self::plan_drop))
    }
}

impl Replayer {
    /// Drops the views when no request has followed for a while.
    fn plan_drop<T>(answer: T, this: &mut Self, ctx: &mut Context<Self>) -> T {
        this.requests += 1;
        let requests = this.requests;
        ctx.run_later(KEPT_FOR, move |this, _| {
            if this.requests == requests
                && let Ok(mut last) = this.past.last.try_lock()
            {
                *last = None;
            }
        });
        answer
    }
}

impl Past {
    async fn views(&self, as_of: AsOf) -> Result<Arc<Views>, ReadError> {
        let mut last = self.last.lock().await;
        if let Some((_, views)) =
            last.as_ref().filter(|(asked, views)| *asked == as_of || as_of == AsOf::Position(views.position()))
        {
            return Ok(Arc::clone(views));
        }
        // The memory of the last views is free before others are made.
        *last = None;
        let views = match as_of {
            AsOf::Position(position) => views_at(&self.log, self.snapshots.as_ref(), position).await?,
            AsOf::Time(time) => views_before(&self.log, self.snapshots.as_ref(), time).await?,
        };
        let views = Arc::new(views);
        *last = Some((as_of, Arc::clone(&views)));
        Ok(views)
    }
}

/// The views when `position` was the last position of the log.
///
/// # Errors
/// A [`ReadError`] if the log can't be read up to that position.
pub async fn views_at(log: &EventStore, snapshots: Option<&Snapshots>, position: Position) -> Result<Views, ReadError> {
    let views = start(log, snapshots, Until { position, time: None }).await;
    log.fold((views.position(), position), views, |views, fact| drop(views.apply(fact))).await
}

/// The views before the first event with a later time than `time`.
async fn views_before(log: &EventStore, snapshots: Option<&Snapshots>, time: Timestamp) -> Result<Views, ReadError> {
    struct Replay {
        views: Views,
        time: Timestamp,
        has_ended: bool,
    }
    fn apply(replay: &mut Replay, fact: &Fact) {
        replay.has_ended |= fact.time > replay.time;
        if !replay.has_ended {
            replay.views.apply(fact);
        }
    }
    let head = log.head().position;
    let views = start(log, snapshots, Until { position: head, time: Some(time) }).await;
    let (mut position, mut replay) = (views.position(), Replay { views, time, has_ended: false });
    while position < head && !replay.has_ended {
        let next = Position(head.0.min(position.0 + EVENTS_PER_LOOK));
        replay = log.fold((position, next), replay, apply).await?;
        position = next;
    }
    Ok(replay.views)
}

/// The views from which a replay starts: those of a snapshot, or empty ones.
async fn start(log: &EventStore, snapshots: Option<&Snapshots>, until: Until) -> Views {
    match snapshots {
        Some(snapshots) => snapshots.newest(log, until).await.unwrap_or_default(),
        None => Views::default(),
    }
}
