//! Computes the views at an earlier position of the log, with a replay of the events up to that position.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, ResponseFuture};

use crate::store::{EventStore, ReadError};
use crate::task::{Position, TaskId};
use crate::views::{Filter, Views};

use super::bulk_cancel::bulk_cancel_targets;

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

impl Handler<BulkCancelTargetsAt> for Replayer {
    type Result = ResponseFuture<Result<Vec<(TaskId, Arc<str>)>, ReadError>>;

    fn handle(&mut self, request: BulkCancelTargetsAt, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move {
            let snapshot = views_at(&store, request.position).await?.snapshot();
            Ok(bulk_cancel_targets(&snapshot, &request.filter).map(|row| (row.id(), row.kind().into())).collect())
        })
    }
}

/// The views when `position` was the last position of the log.
///
/// # Errors
/// A [`ReadError`] if the log can't be read up to that position.
pub async fn views_at(store: &EventStore, position: Position) -> Result<Views, ReadError> {
    store.fold(position, Views::default(), |views, fact| drop(views.apply(fact))).await
}
