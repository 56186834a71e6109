//! A dispatcher that misses events again and again, because its backlog can hold only one event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use futures_util::future::join_all;
use taskbell::dispatch::dispatcher::Dispatcher;
use taskbell::dispatch::messages::{GrantedLeases, TakeLeases};
use taskbell::dispatch::policies::KindPolicies;
use taskbell::dispatch::queue_and_offers::QueueAndOffers;
use taskbell::projection::metrics::{Metrics, MetricsRecorder};
use taskbell::projection::projector::Projector;
use taskbell::projection::reader::{ViewsReader, split_views};
use taskbell::projection::subscribers::Subscriber;
use taskbell::store::EventStore;
use taskbell::streams::registry::Registry;
use taskbell::task::{Revision, Status, TaskId};
use taskbell::views::{Limits, Views, WorkOffer};
use tokio::sync::oneshot;

use super::SubscriberHandle;
use crate::streams::{command, create, in_time, new_task, registry};
use crate::views::history::{KINDS, succeed};

const TASKS: usize = 100;
/// The most tasks of the kind that may run at the same time.
const LIMIT: u32 = 2;

struct DispatcherFixture {
    registry: Registry,
    read: ViewsReader,
    dispatcher: Addr<Dispatcher>,
    /// The thread of the dispatcher.
    thread: Arbiter,
}

impl DispatcherFixture {
    fn new() -> Self {
        let store = EventStore::memory();
        let registry = registry(&store, 1);
        let (write, read) = split_views(Views::default());
        let limits = Limits { kinds: [(KINDS[0].to_owned(), LIMIT)].into(), ..Limits::default() };
        let queue_and_offers = Arc::new(QueueAndOffers::new(limits));
        let kinds = Arc::new(KindPolicies::default());
        let dispatcher = Dispatcher::new(registry.clone(), read.clone(), queue_and_offers, kinds);
        let thread = Arbiter::new();
        let dispatcher = Dispatcher::start_in_arbiter(&thread.handle(), |_| dispatcher);
        let subscriber = Subscriber::new(dispatcher.clone().recipient(), Dispatcher::concerns).with_backlog_max(1);
        let progressed = SubscriberHandle::new().actor.recipient();
        let meter = MetricsRecorder::new(Metrics::new().unwrap(), ["k"]);
        Projector::start_in_arbiter(&Arbiter::new().handle(), move |_| {
            Projector::new(store, write, vec![subscriber], progressed, meter)
        });
        Self { registry, read, dispatcher, thread }
    }

    async fn take(&self) -> GrantedLeases {
        let (caller, given) = oneshot::channel();
        let take = TakeLeases {
            worker: "w-1".to_owned(),
            actor: None,
            offer: WorkOffer::default(),
            max: 1,
            wait: Duration::from_mins(10),
            is_client_gone: Box::new(|| false),
            caller,
        };
        in_time(self.dispatcher.send(take)).await.unwrap();
        in_time(given).await.unwrap()
    }

    /// Executes `count` attempts one after the other. Returns how often each task was executed.
    async fn work(&self, attempts: usize) -> HashMap<TaskId, usize> {
        let mut counts = HashMap::new();
        for _ in 0..attempts {
            let mut given = self.take().await;
            given.delivery.mark_arrived();
            for lease in given.leases {
                *counts.entry(lease.task).or_default() += 1;
                in_time(self.registry.execute(command(lease.task, 3, succeed(lease.attempt, "done")))).await.unwrap();
            }
        }
        counts
    }
}

#[actix_rt::test]
async fn each_task_of_a_burst_is_executed_once_and_the_limit_of_its_kind_loses_no_place() {
    let fixture = DispatcherFixture::new();
    // The thread of the dispatcher is blocked until all tasks are in the views.
    let (go_on, stands_still) = std::sync::mpsc::channel::<()>();
    fixture.thread.spawn_fn(move || _ = stands_still.recv());
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let task = new_task();
        let receipt = in_time(fixture.registry.execute(create(task))).await.unwrap();
        assert!(fixture.read.wait_for_revision(task, receipt.revision).await);
        tasks.push(task);
    }
    drop(go_on);
    let workers = join_all((0..4).map(|_| fixture.work(TASKS / 4))).await;
    let mut counts = HashMap::new();
    for (task, times) in workers.into_iter().flatten() {
        *counts.entry(task).or_default() += times;
    }
    assert_eq!(counts, tasks.iter().map(|task| (*task, 1)).collect());
    for task in tasks {
        assert!(fixture.read.wait_for_revision(task, Revision(2)).await);
        assert_eq!(fixture.read.views().get(task).unwrap().status(), Status::Succeeded);
    }
}
