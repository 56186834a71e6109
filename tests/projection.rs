//! Tests of the projector: which messages each subscriber receives, also when it is slow.

mod burst;
mod gap;
mod missed;
mod rebuild;
mod snapshots;
pub mod visible;

use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Context, Handler, Message};
use taskbell::projection::metrics::{Metrics, MetricsRecorder};
use taskbell::projection::projector::{ProgressShown, Projector};
use taskbell::projection::reader::{ViewsReader, split_views};
use taskbell::projection::subscribers::{Subscriber, Update};
use taskbell::store::{Append, EventStore, Expected, LogEvent, NewEvent, Recorded, StreamName, new_id, now};
use taskbell::task::queue::{Paused, QueueEvent};
use taskbell::task::{Event, Position};
use taskbell::views::Views;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::streams::{in_time, meta, new_task};
use super::views::history::plain;

/// A subscriber that passes each message to the test. A message stays in its backlog until the test drops it.
struct HoldingSubscriber(UnboundedSender<Update>);

impl Actor for HoldingSubscriber {
    type Context = Context<Self>;
}

impl Handler<Update> for HoldingSubscriber {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Context<Self>) {
        let _ = self.0.send(update);
    }
}

impl Handler<ProgressShown> for HoldingSubscriber {
    type Result = ();

    fn handle(&mut self, _: ProgressShown, _: &mut Context<Self>) {}
}

/// A message that the subscriber handles after all messages that were sent before it.
#[derive(Message)]
#[rtype(result = "()")]
struct Ping;

impl Handler<Ping> for HoldingSubscriber {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

/// The test's access to a [`HoldingSubscriber`].
struct SubscriberHandle {
    actor: Addr<HoldingSubscriber>,
    updates: UnboundedReceiver<Update>,
}

impl SubscriberHandle {
    fn new() -> Self {
        let (sender, updates) = unbounded_channel();
        Self { actor: HoldingSubscriber(sender).start(), updates }
    }

    fn subscriber(&self, concerns: impl Fn(&Recorded) -> bool + Send + 'static) -> Subscriber {
        Subscriber::new(self.actor.clone().recipient(), concerns)
    }

    /// Waits for the next message.
    async fn next(&mut self) -> Update {
        in_time(self.updates.recv()).await.unwrap()
    }

    /// The messages that were sent up to now.
    async fn until_now(&mut self) -> Vec<Update> {
        in_time(self.actor.send(Ping)).await.unwrap();
        std::iter::from_fn(|| self.updates.try_recv().ok()).collect()
    }
}

/// The positions of the events; `None` for the message about missed events.
fn positions(update: &Update) -> Option<Vec<u64>> {
    match update {
        Update::Committed(committed) => Some(committed.events.iter().map(|event| event.position.0).collect()),
        Update::Missed => None,
    }
}

/// A log, a projector and two subscribers: a slow one, and after it a fast one.
struct ProjectorFixture {
    store: EventStore,
    read: ViewsReader,
    slow: SubscriberHandle,
    fast: SubscriberHandle,
    /// The last position that the fast subscriber has received.
    last_position: u64,
}

impl ProjectorFixture {
    fn new(limit: usize, concerns: impl Fn(&Recorded) -> bool + Send + 'static) -> Self {
        let store = EventStore::memory();
        let (write, read) = split_views(Views::default());
        let (slow, fast) = (SubscriberHandle::new(), SubscriberHandle::new());
        let subscribers = vec![slow.subscriber(concerns).with_backlog_max(limit), fast.subscriber(|_| true)];
        let progressed = fast.actor.clone().recipient();
        let meter = MetricsRecorder::new(Metrics::new().unwrap(), ["k"]);
        let projector = Projector::new(store.clone(), write, subscribers, progressed, meter);
        Projector::start_in_arbiter(&Arbiter::current(), |_| projector);
        Self { store, read, slow, fast, last_position: 0 }
    }

    /// Writes `count` tasks in one batch, and waits until the fast subscriber has received all of them.
    async fn tasks(&mut self, count: usize) {
        let event = || LogEvent::Task(Event::Created(Arc::new(plain("ann", "a task"))));
        let appends = (0..count).map(|_| append(StreamName::task(new_task()), event())).collect();
        self.write(appends).await;
    }

    async fn write(&mut self, appends: Vec<Append>) {
        assert!(self.store.append_many(appends).await.iter().all(Result::is_ok));
        while self.last_position < self.store.head().position.0 {
            let update = self.fast.next().await;
            let events = positions(&update).expect("the fast subscriber misses nothing");
            for position in events {
                assert_eq!(position, self.last_position + 1, "in order and without a gap");
                self.last_position = position;
            }
        }
    }

    /// The messages that the slow subscriber has received up to now.
    async fn slow(&mut self) -> Vec<Update> {
        self.slow.until_now().await
    }
}

fn append(stream: StreamName, event: LogEvent) -> Append {
    let events = vec![NewEvent { id: new_id(), time: now(), meta: meta(), event }];
    Append { stream, expected: Expected::NoStream, events }
}

fn all_positions(updates: &[Update]) -> Vec<Option<Vec<u64>>> {
    updates.iter().map(positions).collect()
}

#[actix_rt::test]
async fn a_slow_subscriber_misses_what_passes_its_limit_and_gets_one_message_about_it_after_its_backlog() {
    let mut fixture = ProjectorFixture::new(3, |_| true);
    for _ in 0..6 {
        fixture.tasks(1).await;
    }
    let mut backlog = fixture.slow().await;
    assert_eq!(all_positions(&backlog), [Some(vec![1]), Some(vec![2]), Some(vec![3])]);
    backlog.pop();
    backlog.pop();
    fixture.tasks(1).await;
    assert_eq!(all_positions(&fixture.slow().await), [], "one event of its backlog is left");
    drop(backlog);
    let missed = fixture.slow.next().await;
    assert_eq!(positions(&missed), None);
    assert_eq!(fixture.read.position(), Position(7), "the views hold what was left out");
    fixture.tasks(2).await;
    fixture.tasks(1).await;
    let after = fixture.slow().await;
    assert_eq!(all_positions(&after), [Some(vec![8, 9]), Some(vec![10])], "batches again, and no second message");
}

#[actix_rt::test]
async fn a_subscriber_is_behind_again_after_it_has_caught_up_and_gets_another_message() {
    let mut fixture = ProjectorFixture::new(1, |_| true);
    for round in 0..5 {
        let first = 3 * round + 1;
        for _ in 0..3 {
            fixture.tasks(1).await;
        }
        let backlog = fixture.slow().await;
        assert_eq!(all_positions(&backlog), [Some(vec![first])]);
        drop(backlog);
        assert_eq!(positions(&fixture.slow.next().await), None);
    }
    assert_eq!(all_positions(&fixture.slow().await), []);
}

#[actix_rt::test]
async fn a_batch_larger_than_the_limit_is_sent_to_a_subscriber_without_a_backlog() {
    let mut fixture = ProjectorFixture::new(3, |_| true);
    fixture.tasks(10).await;
    let batch = fixture.slow().await;
    assert_eq!(all_positions(&batch), [Some((1..=10).collect::<Vec<_>>())]);
    fixture.tasks(1).await;
    assert_eq!(all_positions(&fixture.slow().await), []);
    drop(batch);
    assert_eq!(positions(&fixture.slow.next().await), None);
}

#[actix_rt::test]
async fn a_batch_in_which_nothing_concerns_a_subscriber_is_neither_sent_to_it_nor_missed_by_it() {
    let mut fixture = ProjectorFixture::new(1, |recorded| matches!(recorded.event, LogEvent::Queue(_)));
    let pause = |queue: &str| append(StreamName::queue(queue), QueueEvent::Paused(Paused { reason: None }).into());
    fixture.tasks(3).await;
    fixture.write(vec![pause("disk")]).await;
    fixture.tasks(1).await;
    let batch = fixture.slow().await;
    assert_eq!(all_positions(&batch), [Some(vec![4])]);
    fixture.tasks(5).await;
    drop(batch);
    fixture.write(vec![pause("tape")]).await;
    assert_eq!(all_positions(&fixture.slow().await), [Some(vec![11])], "what was left out didn't concern it");
}
