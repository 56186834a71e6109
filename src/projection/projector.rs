//! The projector: it applies the events of the log to the views, and then sends them to its subscribers. It is the only writer
//! of the views.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient, StreamHandler};
use futures_util::stream::{self, Stream};

use crate::repeats::Repeats;
use crate::store::{EventStore, LogSubscription, ReadError, Recorded};
use crate::task::TaskId;
use crate::task::event::Progress;
use crate::views::Row;

use super::metrics::MetricsRecorder;
use super::reader::ViewsWriter;
use super::subscribers::{AppliedBatch, Subscriber};

/// The pause after a failed read of the log.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// The maximum number of progress reports that wait in the projector's mailbox.
const MAILBOX_CAPACITY: usize = 4096;
/// The time between two checks whether a subscriber that has missed events can be informed.
const MISSED_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The next events of the log, or why they can't be read.
type ReadResult = Result<Vec<Arc<Recorded>>, ReadError>;

/// From the projector to the hub: the views show new progress of a running attempt. It is not in the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ProgressShown {
    /// The task.
    pub row: Row,
}

/// From a worker to the projector: a progress report. The views show it while the attempt runs. It is not in the log.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ReportProgress {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The progress.
    pub progress: Progress,
}

/// The projector; see the module.
pub struct Projector {
    store: EventStore,
    views: ViewsWriter,
    subscribers: Vec<Subscriber>,
    hub: Recipient<ProgressShown>,
    metrics: MetricsRecorder,
    /// A check of the subscribers that have missed events is planned.
    has_planned_check: bool,
    failed_reads: Repeats,
}

impl Projector {
    /// A projector that applies the events after the position of the views.
    #[must_use]
    pub const fn new(
        store: EventStore,
        views: ViewsWriter,
        subscribers: Vec<Subscriber>,
        hub: Recipient<ProgressShown>,
        metrics: MetricsRecorder,
    ) -> Self {
        Self { store, views, subscribers, hub, metrics, has_planned_check: false, failed_reads: Repeats::new() }
    }

    /// Applies the batch under the lock of the views, then updates the metrics, sends the batch to the
    /// subscribers, and moves the watermark, in this order.
    fn apply(&mut self, events: Vec<Arc<Recorded>>, ctx: &mut Context<Self>) {
        let (mut changes, mut owners) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        let mut credentials_changed = false;
        let position = {
            let mut views = self.views.write();
            for recorded in &events {
                let effect = views.apply(recorded);
                changes.extend(effect.task);
                owners.extend(effect.owner);
                credentials_changed |= effect.credentials;
            }
            views.position()
        };
        self.metrics.apply(&events, &changes);
        let owners = Arc::new(owners.into_iter().collect());
        let batch = AppliedBatch { events: events.into(), changes: changes.into(), owners };
        for subscriber in &mut self.subscribers {
            subscriber.publish(&batch);
        }
        // A write is acknowledged only after this, and the batch is in the subscribers' mailboxes already. So if a client
        // creates a task and a worker then requests a lease, the dispatcher knows the task before the request arrives.
        self.views.show(position, &batch.changes);
        if credentials_changed {
            self.views.announce_credential_change();
        }
        self.inform_subscribers_that_missed(ctx);
    }

    /// Sends `Missed` to the subscribers that have missed events and have handled their backlogs. Calls itself again until
    /// there are no such subscribers left.
    fn inform_subscribers_that_missed(&mut self, ctx: &mut Context<Self>) {
        let uninformed = self
            .subscribers
            .iter_mut()
            .map(Subscriber::inform_if_missed)
            .filter(|is_uninformed| *is_uninformed)
            .count();
        if uninformed > 0 && !self.has_planned_check {
            self.has_planned_check = true;
            ctx.run_later(MISSED_CHECK_INTERVAL, |this, ctx| {
                this.has_planned_check = false;
                this.inform_subscribers_that_missed(ctx);
            });
        }
    }
}

impl Actor for Projector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        let from = self.views.write().position();
        ctx.add_stream(follow(self.store.subscribe(from)));
    }
}

/// The results of the subscription as a stream. After a transient read error, the stream pauses and continues. After a
/// permanent error, the stream ends.
fn follow(subscription: LogSubscription) -> impl Stream<Item = ReadResult> {
    stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        let result = subscription.next().await;
        let rest = match &result {
            Ok(_) => Some(subscription),
            Err(ReadError::Unavailable(_)) => {
                actix_rt::time::sleep(READ_PAUSE).await;
                Some(subscription)
            }
            Err(ReadError::Damaged(_) | ReadError::Unknown { .. }) => None,
        };
        Some((result, rest))
    })
}

impl StreamHandler<ReadResult> for Projector {
    fn handle(&mut self, result: ReadResult, ctx: &mut Context<Self>) {
        match result {
            Ok(events) => {
                self.failed_reads.ended(Instant::now());
                self.apply(events, ctx);
            }
            Err(ReadError::Unavailable(why)) => {
                if let Some(times) = self.failed_reads.occurred(Instant::now()) {
                    tracing::warn!(%why, times, "the log can't be read now; trying again");
                }
            }
            Err(error @ (ReadError::Damaged(_) | ReadError::Unknown { .. })) => self.views.fail(error.to_string()),
        }
    }

    /// The default would stop the actor. It must go on, because it handles progress reports.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<ReportProgress> for Projector {
    type Result = ();

    fn handle(&mut self, report: ReportProgress, _: &mut Context<Self>) {
        let row = self.views.write().set_live_progress(report.task, report.attempt, report.progress);
        if let Some(row) = row {
            // If the hub's mailbox is full, this push is left out. The next progress report or the end of the attempt follows.
            let _ = self.hub.try_send(ProgressShown { row });
        }
    }
}
