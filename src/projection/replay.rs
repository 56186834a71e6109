//! Computes the views at an earlier position of the log, with a replay of the events up to that position.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, ResponseFuture};

use crate::store::{EventStore, ReadError};
use crate::task::{Position, TaskId};
use crate::views::{Filter, Row, Snapshot, Views};

/// The kind of the task that cancels all tasks that match a filter. It cancels no tasks of this kind.
pub const BULK_CANCEL: &str = "taskbell.bulk-cancel";
/// How many events are read at once.
const READ_BATCH: usize = 10_000;

/// The tasks that a bulk cancel with this filter cancels, in the order of their creation.
pub fn cancellable<'a>(snapshot: &'a Snapshot, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
    snapshot.matching(filter).filter(|row| !row.status().is_final() && row.kind() != BULK_CANCEL)
}

/// Request to the replayer: the tasks that a bulk cancel has to cancel, with their kinds. These are the tasks that matched
/// `filter` when `position` was the last position of the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<(TaskId, Arc<str>)>, ReadError>")]
pub struct CancellableAt {
    /// The filter of the bulk cancel.
    pub filter: Filter,
    /// The position of the log.
    pub position: Position,
}

/// The actor that replays the log. It has an arbiter of its own, because a replay may take long.
pub struct Replayer {
    store: EventStore,
}

impl Replayer {
    /// A replayer of this log.
    #[must_use]
    pub const fn new(store: EventStore) -> Self {
        Self { store }
    }
}

impl Actor for Replayer {
    type Context = Context<Self>;
}

impl Handler<CancellableAt> for Replayer {
    type Result = ResponseFuture<Result<Vec<(TaskId, Arc<str>)>, ReadError>>;

    fn handle(&mut self, request: CancellableAt, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move {
            let snapshot = views_at(&store, request.position).await?.snapshot();
            Ok(cancellable(&snapshot, &request.filter).map(|row| (row.id(), row.kind().into())).collect())
        })
    }
}

/// The views when `position` was the last position of the log.
///
/// # Errors
/// A [`ReadError`] if the log can't be read up to that position.
pub async fn views_at(store: &EventStore, position: Position) -> Result<Views, ReadError> {
    let mut views = Views::default();
    while views.position() < position {
        let left = usize::try_from(position.0 - views.position().0).unwrap_or(READ_BATCH).min(READ_BATCH);
        let batch = store.read_all(views.position(), left).await?;
        if batch.is_empty() {
            return Err(ReadError::Unavailable(format!("the log does not reach position {position} yet")));
        }
        for recorded in &batch {
            views.apply(recorded);
        }
    }
    Ok(views)
}
