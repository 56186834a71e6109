//! The log becomes views: the only writer of them. What it has applied it passes on to its subscribers.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, StreamHandler};
use futures_util::stream::{self, Stream};

use crate::store::{EventStore, LogSubscription, ReadError, Recorded};
use crate::task::TaskId;
use crate::task::event::Progress;
use crate::views::Row;

use super::metrics::Meter;
use super::reader::ViewsWriter;
use super::subscribers::{Batch, Subscriber};

/// The pause after a failed read of the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Progress that waits to be noted, at most.
const MAILBOX: usize = 4096;
/// A subscriber that has missed something is looked at this often.
const CATCH_UP: Duration = Duration::from_millis(20);

type Next = Result<Vec<Arc<Recorded>>, ReadError>;

/// A running task has come further: shown, never logged.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Progressed {
    /// The task.
    pub row: Row,
}

/// To an actor whose process or `Taskbell` ends: stop.
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
    views: ViewsWriter,
    subscribers: Vec<Subscriber>,
    progressed: Recipient<Progressed>,
    meter: Meter,
    /// A look at subscribers that have missed something is planned.
    catching_up: bool,
}

impl Projector {
    /// Follows the log from where the views stand.
    #[must_use]
    pub const fn new(
        store: EventStore,
        views: ViewsWriter,
        subscribers: Vec<Subscriber>,
        progressed: Recipient<Progressed>,
        meter: Meter,
    ) -> Self {
        Self { store, views, subscribers, progressed, meter, catching_up: false }
    }

    /// Applies the batch under the lock, tells the subscribers after it, and ends the waits for this position last.
    fn apply(&mut self, events: Vec<Arc<Recorded>>, ctx: &mut Context<Self>) {
        let (mut changes, mut owners) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        let position = {
            let mut views = self.views.write();
            for recorded in &events {
                let applied = views.apply(recorded);
                changes.extend(applied.task);
                owners.extend(applied.owner);
            }
            views.position()
        };
        self.meter.apply(&events, &changes);
        let owners = Arc::new(owners.into_iter().collect());
        let batch = Batch { events: events.into(), changes: changes.into(), owners };
        for subscriber in &mut self.subscribers {
            subscriber.publish(&batch);
        }
        // The batch is in the subscribers' mailboxes before a write is acknowledged: a worker that asks for a lease after a
        // create was answered gets that task.
        self.views.publish(position);
        self.catch_up(ctx);
    }

    /// Looks again and again at the subscribers that have missed something, until each is told so.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let behind = self.subscribers.iter_mut().map(Subscriber::catch_up).filter(|behind| *behind).count();
        if behind > 0 && !self.catching_up {
            self.catching_up = true;
            ctx.run_later(CATCH_UP, |this, ctx| {
                this.catching_up = false;
                this.catch_up(ctx);
            });
        }
    }
}

impl Actor for Projector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        let from = self.views.write().position();
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
    fn handle(&mut self, next: Next, ctx: &mut Context<Self>) {
        match next {
            Ok(batch) => self.apply(batch, ctx),
            Err(ReadError::Unavailable(why)) => tracing::warn!(%why, "the log can't be followed at the moment"),
            Err(error @ (ReadError::Damaged(_) | ReadError::Unknown { .. })) => self.views.fail(error.to_string()),
        }
    }

    /// The views stay readable, and say that they are stale.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<NoteProgress> for Projector {
    type Result = ();

    fn handle(&mut self, note: NoteProgress, _: &mut Context<Self>) {
        let row = self.views.write().note_progress(note.task, note.attempt, note.progress);
        if let Some(row) = row {
            // Left out where the hub has a backlog: the next progress or the end of the attempt says more.
            let _ = self.progressed.try_send(Progressed { row });
        }
    }
}
