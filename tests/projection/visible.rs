//! What the sockets of callers with different rights get: the counters of their bells, and no task of another owner.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use serde_json::{Value, json};
use taskbell::dispatch::queue_and_offers::QueueAndOffers;
use taskbell::projection::freshness::Freshness;
use taskbell::projection::metrics::{Metrics, MetricsRecorder};
use taskbell::projection::projector::{Projector, ReportProgress};
use taskbell::projection::reader::{ViewsReader, split_views};
use taskbell::projection::subscribers::Subscriber;
use taskbell::push::hub::Hub;
use taskbell::push::messages::{SocketRequest, Subscription};
use taskbell::push::open_sockets::OpenSockets;
use taskbell::store::{EventStore, now};
use taskbell::streams::registry::Registry;
use taskbell::task::event::Progress;
use taskbell::task::{Command, TaskId};
use taskbell::views::{Limits, Scope, Views};
use tokio::sync::mpsc::UnboundedReceiver;

use super::missed::{next_frame, open};
use crate::streams::{command, in_time, new_task, registry};
use crate::views::history::{plain, start};

/// A log whose events reach a hub as in a server.
pub struct HubFixture {
    registry: Registry,
    projector: Addr<Projector>,
    read: ViewsReader,
    pub hub: Addr<Hub>,
}

impl HubFixture {
    pub fn new() -> Self {
        let (store, (write, read)) = (EventStore::memory(), split_views(Views::default()));
        let (queue, fresh) = (Arc::new(QueueAndOffers::new(Limits::default())), Freshness::new(true));
        let sockets = OpenSockets::default();
        let hub = Hub::new(read.clone(), queue, store.clone(), fresh, sockets, Duration::from_secs(30)).start();
        let subscribers = vec![Subscriber::new(hub.clone().recipient(), |_| true)];
        let meter = MetricsRecorder::new(Metrics::new().unwrap(), ["k"]);
        let projector = Projector::new(store.clone(), write, subscribers, hub.clone().recipient(), meter);
        let projector = Projector::start_in_arbiter(&Arbiter::current(), |_| projector);
        Self { registry: registry(&store, 1), projector, read, hub }
    }

    /// Executes the command, and waits until the views show its events.
    async fn execute(&self, task: TaskId, step: Command) {
        let receipt = in_time(self.registry.execute(command(task, 2, step))).await.unwrap();
        assert!(self.read.wait_for_revision(task, receipt.revision).await);
    }

    pub async fn create(&self, owner: &str) -> TaskId {
        let task = new_task();
        self.execute(task, Command::Create(Arc::new(plain(owner, "a task")))).await;
        task
    }

    /// A socket of this caller, which has subscribed.
    async fn subscribed(
        &self,
        id: u64,
        (viewer, visible): (&str, &Scope),
        to: Subscription,
    ) -> UnboundedReceiver<Value> {
        let mut frames = open(&self.hub, id, viewer, visible).await;
        in_time(self.hub.send(SocketRequest::Subscribe(id, to))).await.unwrap();
        next_frame(&mut frames, "subscribed").await;
        frames
    }
}

/// Reads frames until this condition holds for a task in them. Returns the owners of all tasks in these frames.
async fn owners_until(frames: &mut UnboundedReceiver<Value>, is_last: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let mut owners = BTreeSet::new();
    loop {
        let frame = next_frame(frames, "tasks").await;
        let items = frame["items"].as_array().unwrap();
        owners.extend(items.iter().map(|task| task["owner"].as_str().unwrap().to_owned()));
        if items.iter().any(&is_last) {
            return owners;
        }
    }
}

fn everything() -> Subscription {
    Subscription::Matching(Box::default())
}

#[actix_rt::test]
async fn a_socket_gets_no_task_that_its_caller_may_not_see_whatever_it_subscribes_to() {
    let fixture = HubFixture::new();
    let tasks = [fixture.create("bob").await, fixture.create("ann").await];
    let ids = || Subscription::Ids(tasks.into_iter().collect());
    let (ann, all) = (Scope::of("ann"), Scope::Everyone);
    let mut sockets = Vec::new();
    for (n, (scope, to)) in
        [(&ann, everything()), (&ann, ids()), (&all, everything()), (&all, ids())].into_iter().enumerate()
    {
        sockets.push((scope, fixture.subscribed(n as u64, ("ann", scope), to).await));
    }
    for task in tasks {
        fixture.execute(task, start("w-1")).await;
        let progress = Progress { fraction: Some(0.5), message: None, at: now() };
        in_time(fixture.projector.send(ReportProgress { task, attempt: 1, progress })).await.unwrap();
    }
    let is_last = |task: &Value| task["id"] == tasks[1].to_string() && task["progress"]["fraction"] == 0.5;
    for (scope, frames) in &mut sockets {
        let expected: &[&str] = if **scope == ann { &["ann"] } else { &["ann", "bob"] };
        assert!(owners_until(frames, is_last).await.iter().eq(expected), "{scope:?}");
    }
}

#[actix_rt::test]
async fn a_socket_for_everyone_gets_counters_after_a_change_of_any_owner_and_each_names_the_one_before() {
    let fixture = HubFixture::new();
    let mut all = open(&fixture.hub, 1, "operator", &Scope::Everyone).await;
    let mut ann = open(&fixture.hub, 2, "ann", &Scope::of("ann")).await;
    let mut previous = json!(0);
    for (n, owner) in ["bob", "cleo", "ann"].into_iter().enumerate() {
        fixture.create(owner).await;
        let counters = next_frame(&mut all, "counters").await;
        assert_eq!((&counters["previous"], &counters["counts"]["queued"]), (&previous, &json!(n + 1)), "{counters}");
        previous = counters["position"].clone();
    }
    let own = next_frame(&mut ann, "counters").await;
    assert_eq!((&own["previous"], &own["position"], &own["counts"]["queued"]), (&json!(0), &json!(3), &json!(1)));
}
