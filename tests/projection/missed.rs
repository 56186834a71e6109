//! The hub, the cascade and the scheduler after they have missed events.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use serde_json::Value;
use taskbell::dispatch::policies::KindPolicies;
use taskbell::dispatch::queue_and_offers::QueueAndOffers;
use taskbell::projection::freshness::Freshness;
use taskbell::projection::subscribers::Update;
use taskbell::push::backlog::Backlog;
use taskbell::push::hub::Hub;
use taskbell::push::messages::{Push, SocketOpened, SocketRequest, Subscription, bytes_of};
use taskbell::push::open_sockets::OpenSockets;
use taskbell::push::pusher::Pusher;
use taskbell::reactions::cascade::Cascade;
use taskbell::reactions::scheduler::{CreationLock, Scheduler};
use taskbell::store::{Append, Expected, LogEvent, LogSubscription, NewEvent, StreamName, StreamSubject, new_id, now};
use taskbell::streams::ExecuteOnStream;
use taskbell::streams::create::UniqueKeys;
use taskbell::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, ScheduleEvent};
use taskbell::task::{Command, Event, Position, TaskId, Timestamp};
use taskbell::views::{Limits, Scope};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::gap::GapFixture;
use crate::streams::{in_time, meta};
use crate::support::task_template;
use crate::views::history::{cancel, plain, start};

/// An actor in place of a websocket. It forwards its messages to the test, and its connection takes
/// every frame at once.
struct FakeSocket(UnboundedSender<Value>, Backlog);

impl Actor for FakeSocket {
    type Context = Context<Self>;
}

impl Handler<Push> for FakeSocket {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Context<Self>) {
        let Push::Frames(frames) = push else { panic!("{push:?}") };
        self.1.remove(bytes_of(&frames));
        for frame in frames {
            let _ = self.0.send(serde_json::from_str(&frame).unwrap());
        }
    }
}

/// The next frame of this type. Skips other frames. The timeout is for the whole wait, because the hub sends beats all
/// the time.
pub(super) async fn next_frame(frames: &mut UnboundedReceiver<Value>, kind: &str) -> Value {
    let next = async {
        loop {
            let frame = frames.recv().await.unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    };
    in_time(next).await
}

/// Opens a socket of this caller, who may see these tasks, with the bell of all of them. Returns the frames that follow the
/// first ones.
pub(super) async fn open(hub: &Addr<Hub>, socket: u64, viewer: &str, visible: &Scope) -> UnboundedReceiver<Value> {
    let (sender, mut frames) = unbounded_channel();
    let backlog = Backlog::default();
    let to = FakeSocket(sender, backlog.clone()).start().recipient();
    let opened = SocketOpened {
        socket,
        bell: visible.clone(),
        viewer: viewer.into(),
        visible: visible.clone(),
        recipient: to,
        pusher: Pusher::of_this_thread(),
        backlog,
        abort: Box::new(|| {}),
    };
    in_time(hub.send(opened)).await.unwrap();
    next_frame(&mut frames, "snapshot").await;
    frames
}

async fn own(hub: &Addr<Hub>, socket: u64, owner: &str) -> UnboundedReceiver<Value> {
    open(hub, socket, owner, &Scope::of(owner)).await
}

#[actix_rt::test]
async fn after_events_that_the_hub_missed_every_socket_gets_its_counts_and_a_subscribed_one_reads_its_tasks_again() {
    let gap = GapFixture::new();
    let queue_and_offers = Arc::new(QueueAndOffers::new(Limits::default()));
    let hub = Hub::new(
        gap.read.clone(),
        queue_and_offers,
        gap.store.clone(),
        Freshness::new(true),
        OpenSockets::default(),
        Duration::from_secs(30),
    );
    let hub = hub.start();
    let [mut ann, mut bob] = [own(&hub, 1, "ann").await, own(&hub, 2, "bob").await];
    let subscription = Subscription::Matching(Box::default());
    in_time(hub.send(SocketRequest::Subscribe(1, subscription))).await.unwrap();
    next_frame(&mut ann, "subscribed").await;
    for owner in ["ann", "ann", "bob"] {
        gap.create(plain(owner, "a task")).await;
    }
    in_time(hub.send(Update::Missed)).await.unwrap();
    for (frames, queued) in [(&mut ann, 2), (&mut bob, 1)] {
        let counters = next_frame(frames, "counters").await;
        assert_eq!((&counters["previous"], &counters["position"]), (&0.into(), &3.into()), "{counters}");
        assert_eq!(counters["counts"]["queued"], queued, "{counters}");
    }
    assert_eq!(next_frame(&mut ann, "tasks_changed").await["position"], 3);
    assert!(bob.try_recv().is_err(), "it has no subscription");
}

fn cascade(gap: &GapFixture) -> Addr<Cascade> {
    Cascade::new(gap.registry.clone(), gap.read.clone(), gap.store.clone(), Arc::new(KindPolicies::default())).start()
}

/// The tasks of the next `count` requests to cancel in the log.
async fn cancelled(log: &mut LogSubscription, count: usize) -> Vec<TaskId> {
    let mut tasks = Vec::new();
    while tasks.len() < count {
        for recorded in in_time(log.next()).await.unwrap() {
            if let (Some(StreamSubject::Task(task)), LogEvent::Task(Event::CancelRequested(_))) =
                (recorded.stream.subject(), &recorded.event)
            {
                tasks.push(task);
            }
        }
    }
    tasks.sort_unstable();
    tasks
}

#[actix_rt::test]
async fn children_of_a_parent_that_was_cancelled_in_the_gap_are_cancelled_also_those_that_were_created_after_that() {
    let gap = GapFixture::new();
    let parent = gap.task().await;
    let mut children = vec![gap.child_of(parent).await, gap.child_of(parent).await];
    let cascade = cascade(&gap);
    gap.execute(parent, start("w-1")).await;
    gap.execute(parent, cancel(None)).await;
    children.push(gap.child_of(parent).await);
    children.sort_unstable();
    let mut log = gap.store.subscribe(gap.store.head().position);
    in_time(cascade.send(Update::Missed)).await.unwrap();
    assert_eq!(cancelled(&mut log, 3).await, children);
}

#[actix_rt::test]
async fn a_child_that_was_retried_in_the_gap_after_the_cancel_of_its_parent_is_left_alone() {
    let gap = GapFixture::new();
    let parent = gap.task().await;
    let [retried, child] = [gap.child_of(parent).await, gap.child_of(parent).await];
    let cascade = cascade(&gap);
    gap.execute(parent, cancel(None)).await;
    gap.execute(retried, cancel(None)).await;
    gap.execute(retried, Command::Retry { reason: None }).await;
    gap.apply_to_views().await;
    let mut log = gap.store.subscribe(gap.store.head().position);
    in_time(cascade.send(Update::Missed)).await.unwrap();
    assert_eq!(cancelled(&mut log, 1).await, [child]);
    // Cancelled after both are handled: the turn of its parent holds all of the children before it.
    gap.apply_to_views().await;
    let last = gap.task().await;
    let last_child = gap.child_of(last).await;
    gap.execute(last, cancel(None)).await;
    gap.apply_to_views().await;
    in_time(cascade.send(Update::Missed)).await.unwrap();
    let mut tasks = vec![last, last_child];
    tasks.sort_unstable();
    assert_eq!(cancelled(&mut log, 2).await, tasks);
}

fn every_minute(title: &str) -> ScheduleCreated {
    let mut task = task_template();
    title.clone_into(&mut task.title);
    ScheduleCreated { cron: "* * * * *".to_owned(), time_zone: "Etc/UTC".to_owned(), missed: Missed::RunOnce, task }
}

/// Creates a schedule whose creation was an hour ago, and applies it to the views. Its latest run is due at once.
async fn schedule(gap: &GapFixture, title: &str) -> Uuid {
    let (id, hour) = (Uuid::now_v7(), 3_600_000_000);
    let event = LogEvent::Schedule(ScheduleEvent::ScheduleCreated(Box::new(every_minute(title))));
    let time = Timestamp::from_micros(now().as_micros() - hour);
    let events = vec![NewEvent { id: new_id(), time, meta: meta(), event }];
    gap.store.append(Append { stream: StreamName::schedule(id), expected: Expected::NoStream, events }).await.unwrap();
    gap.apply_to_views().await;
    id
}

async fn remove(gap: &GapFixture, key: Uuid) {
    let command = ScheduleCommand::Remove { reason: None };
    in_time(gap.registry.execute_on_stream(ExecuteOnStream::<Schedule> { key, command, at: now(), meta: meta() }))
        .await
        .unwrap();
    gap.apply_to_views().await;
}

/// The schedule of the next task in the log.
async fn next_run(log: &mut LogSubscription) -> Option<Uuid> {
    loop {
        for recorded in in_time(log.next()).await.unwrap() {
            if let LogEvent::Task(Event::Created(created)) = &recorded.event {
                return created.schedule;
            }
        }
    }
}

#[actix_rt::test]
async fn a_schedule_that_was_created_in_the_gap_is_in_force_and_one_that_was_removed_in_it_is_not() {
    let gap = GapFixture::new();
    let (keys, firing) = (UniqueKeys::default(), CreationLock::default());
    let scheduler = Scheduler::new(gap.registry.clone(), gap.read.clone(), keys, firing.clone()).start();
    let mut log = gap.store.subscribe(Position(0));
    let removed = schedule(&gap, "removed").await;
    remove(&gap, removed).await;
    let in_force = schedule(&gap, "in force").await;
    in_time(scheduler.send(Update::Missed)).await.unwrap();
    assert_eq!(next_run(&mut log).await, Some(in_force));
    gap.apply_to_views().await;
    remove(&gap, in_force).await;
    let later = schedule(&gap, "later").await;
    in_time(scheduler.send(Update::Missed)).await.unwrap();
    // If a new minute has begun, the old schedule may have had one more run before it was removed.
    let mut next = next_run(&mut log).await;
    while next == Some(in_force) {
        next = next_run(&mut log).await;
    }
    assert_eq!(next, Some(later));
}

#[actix_rt::test]
async fn on_a_cluster_a_schedule_that_was_removed_creates_nothing_also_where_the_views_still_show_it() {
    let gap = GapFixture::new();
    let (keys, firing) = (UniqueKeys::default(), CreationLock::default());
    let [key, in_force] = [schedule(&gap, "removed").await, schedule(&gap, "in force").await];
    let command = ScheduleCommand::Remove { reason: None };
    in_time(gap.registry.execute_on_stream(ExecuteOnStream::<Schedule> { key, command, at: now(), meta: meta() }))
        .await
        .unwrap();
    let mut log = gap.store.subscribe(gap.store.head().position);
    let scheduler = Scheduler::new(gap.registry.clone(), gap.read.clone(), keys, firing.clone());
    scheduler.on_cluster(gap.store.clone()).start();
    assert_eq!(next_run(&mut log).await, Some(in_force));
    in_time(firing.wait_until_idle()).await;
    let runs = gap.store.read_all(Position(0), 100).await.unwrap();
    let is_of_removed =
        |event: &LogEvent| matches!(event, LogEvent::Task(Event::Created(run)) if run.schedule == Some(key));
    assert!(!runs.iter().any(|run| is_of_removed(&run.event)));
}
