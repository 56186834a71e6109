//! The views as they were: a replay that stops earlier.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, ResponseFuture};

use crate::store::{EventStore, ReadError};
use crate::task::{Position, TaskId};
use crate::views::{Filter, Row, Snapshot, Views};

/// The kind of the task that cancels everything that matched a filter. It never cancels its own like.
pub const BULK_CANCEL: &str = "taskbell.bulk-cancel";
/// Events are read in batches of this many.
const BATCH: usize = 10_000;

/// The tasks that a bulk cancel with this filter means, oldest first.
pub fn cancellable<'a>(snapshot: &'a Snapshot, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
    snapshot.matching(filter).filter(|row| !row.status().is_final() && row.kind() != BULK_CANCEL)
}

/// Which tasks a bulk cancel meant: those that matched when the log ended at `position`, with their kinds.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<(TaskId, Arc<str>)>, ReadError>")]
pub struct CancellableAt {
    /// Which tasks.
    pub filter: Filter,
    /// When.
    pub position: Position,
}

/// Replays the log for those who ask how it was. Lives on an arbiter of its own: a replay takes its time.
pub struct Replayer {
    store: EventStore,
}

impl Replayer {
    /// A reader of this log.
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

    fn handle(&mut self, ask: CancellableAt, _: &mut Context<Self>) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move {
            let snapshot = views_at(&store, ask.position).await?.snapshot();
            Ok(cancellable(&snapshot, &ask.filter).map(|row| (row.id(), row.kind().into())).collect())
        })
    }
}

/// The views as they were when the log ended at `position`.
///
/// # Errors
/// Where the log can't be read up to there.
pub async fn views_at(store: &EventStore, position: Position) -> Result<Views, ReadError> {
    let mut views = Views::default();
    while views.position() < position {
        let left = usize::try_from(position.0 - views.position().0).unwrap_or(BATCH).min(BATCH);
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
