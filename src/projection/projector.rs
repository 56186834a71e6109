//! The log becomes views: the only writer of them. What it has applied it passes on to the hub and the dispatcher.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, StreamHandler};
use futures_util::stream::{self, Stream};

use crate::store::{EventStore, LogSubscription, ReadError, Recorded};
use crate::task::TaskId;
use crate::task::event::Progress;
use crate::views::{Changed, Row};

use super::reader::ViewsWriter;

/// After trouble with the log it is read again so much later.
const PAUSE: Duration = Duration::from_secs(1);

type Next = Result<Vec<Arc<Recorded>>, ReadError>;

/// These events are durable and in the views.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Committed {
    /// The events, oldest first.
    pub events: Arc<[Arc<Recorded>]>,
    /// What they did to tasks, in the same order.
    pub changes: Arc<[Changed]>,
    /// Whose counters may have changed.
    pub owners: Arc<[Arc<str>]>,
}

/// A running task has come further: shown, never logged.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Progressed {
    /// The task.
    pub row: Row,
}

/// To an actor that nobody needs any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// From a worker to the projector: a passing remark, shown while the attempt runs; not in the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NoteProgress {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub attempt: u32,
    /// How far it has come.
    pub progress: Progress,
}

/// The projector; see the module.
pub struct Projector {
    store: EventStore,
    side: ViewsWriter,
    committed: Vec<Recipient<Committed>>,
    progressed: Recipient<Progressed>,
}

impl Projector {
    /// Follows the log from where the views behind `side` stand.
    #[must_use]
    pub fn new(
        store: EventStore,
        side: ViewsWriter,
        committed: Vec<Recipient<Committed>>,
        progressed: Recipient<Progressed>,
    ) -> Self {
        Self { store, side, committed, progressed }
    }

    /// Applies the batch, lets readers in, and only then tells anybody.
    fn apply(&self, batch: Vec<Arc<Recorded>>) {
        let (mut changes, mut owners) = (Vec::with_capacity(batch.len()), Vec::new());
        let position = {
            let mut views = self.side.write();
            for recorded in &batch {
                let applied = views.apply(recorded);
                changes.extend(applied.task);
                if let Some(owner) = applied.owner.filter(|owner| !owners.contains(owner)) {
                    owners.push(owner);
                }
            }
            views.position()
        };
        self.side.publish(position);
        let committed = Committed { events: batch.into(), changes: changes.into(), owners: owners.into() };
        for recipient in &self.committed {
            recipient.do_send(committed.clone());
        }
    }
}

impl Actor for Projector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let from = self.side.write().position();
        ctx.add_stream(follow(self.store.subscribe(from)));
    }
}

/// The log as it grows, from one place on: trouble that may pass is waited out, damage ends it.
fn follow(subscription: LogSubscription) -> impl Stream<Item = Next> {
    stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        let next = subscription.next().await;
        let following = match &next {
            Ok(_) => Some(subscription),
            Err(ReadError::Unavailable(_)) => {
                actix_rt::time::sleep(PAUSE).await;
                Some(subscription)
            }
            Err(ReadError::Damaged(_) | ReadError::Unknown { .. }) => None,
        };
        Some((next, following))
    })
}

impl StreamHandler<Next> for Projector {
    fn handle(&mut self, next: Next, _: &mut Context<Self>) {
        match next {
            Ok(batch) => self.apply(batch),
            Err(ReadError::Unavailable(why)) => tracing::warn!(%why, "the log can't be followed at the moment"),
            Err(error @ (ReadError::Damaged(_) | ReadError::Unknown { .. })) => self.side.fail(error.to_string()),
        }
    }

    /// The views stay readable, and say that they are stale.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<NoteProgress> for Projector {
    type Result = ();

    fn handle(&mut self, note: NoteProgress, _: &mut Context<Self>) {
        let row = self.side.write().note_progress(note.task, note.attempt, note.progress);
        if let Some(row) = row {
            self.progressed.do_send(Progressed { row });
        }
    }
}
