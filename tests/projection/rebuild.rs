//! A dispatcher that has missed events rebuilds its tables from the views. In these tests it misses all events.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use taskbell::dispatch::dispatcher::Dispatcher;
use taskbell::dispatch::lease_table::{HeartbeatDirectives, LeaseRenewal};
use taskbell::dispatch::messages::{
    Assign, AttemptDirective, Directive, GrantedLease, GrantedLeases, Heartbeat, LocalOffer, TakeLeases,
};
use taskbell::dispatch::policies::KindPolicies;
use taskbell::dispatch::queue_and_offers::QueueAndOffers;
use taskbell::projection::subscribers::Update;
use taskbell::store::{StreamName, now};
use taskbell::task::event::TaskError;
use taskbell::task::queue::QueueCommand;
use taskbell::task::{Command, Position, TaskId};
use taskbell::views::{Limits, WorkOffer};
use tokio::sync::{mpsc, oneshot};

use super::gap::GapFixture;
use crate::streams::{in_time, new_task};
use crate::views::history::{Created, KINDS, cancel, plain};

/// A wait so long that no request of these tests ends because of it.
const LONG_WAIT: Duration = Duration::from_mins(10);

/// A dispatcher that receives no events.
struct DispatcherFixture {
    gap: GapFixture,
    dispatcher: Addr<Dispatcher>,
}

impl Deref for DispatcherFixture {
    type Target = GapFixture;

    fn deref(&self) -> &GapFixture {
        &self.gap
    }
}

impl DispatcherFixture {
    fn new() -> Self {
        let gap = GapFixture::new();
        let queue_and_offers = Arc::new(QueueAndOffers::new(Limits::default()));
        let kinds = Arc::new(KindPolicies::default());
        let dispatcher = Dispatcher::new(gap.registry.clone(), gap.read.clone(), queue_and_offers, kinds).start();
        Self { gap, dispatcher }
    }

    /// Tells the dispatcher that it has missed events.
    async fn notify_missed(&self) {
        in_time(self.dispatcher.send(Update::Missed)).await.unwrap();
    }

    /// Applies all events of the log to the views, and tells the dispatcher that it has missed events.
    async fn apply_and_notify_missed(&self) {
        self.apply_to_views().await;
        self.notify_missed().await;
    }

    /// Sends a request for leases that waits; the response arrives at the receiver.
    async fn take(&self) -> oneshot::Receiver<GrantedLeases> {
        let (caller, given) = oneshot::channel();
        let (worker, wants, gone) = ("w-1".to_owned(), WorkOffer::default(), Box::new(|| false));
        in_time(self.dispatcher.send(TakeLeases {
            worker,
            actor: None,
            offer: wants,
            max: 9,
            wait: LONG_WAIT,
            is_client_gone: gone,
            caller,
        }))
        .await
        .unwrap();
        given
    }

    /// Creates a task for remote workers. The views show the task as still queued.
    async fn take_new_lease(&self) -> GrantedLease {
        self.task().await;
        self.notify_missed().await;
        granted(self.take().await).await
    }

    /// Sends a heartbeat that waits; the response arrives at the receiver.
    async fn heartbeat(&self, lease: &GrantedLease) -> oneshot::Receiver<HeartbeatDirectives> {
        let (caller, reply) = oneshot::channel();
        let secret = blake3::hash(lease.secret.reveal().as_bytes()).to_hex().to_string();
        let beats = vec![LeaseRenewal { task: lease.task, attempt: lease.attempt, secret_hash: secret, seen: None }];
        let heartbeat = Heartbeat { worker: "w-1".to_owned(), leases: beats, wait: LONG_WAIT, caller };
        in_time(self.dispatcher.send(heartbeat)).await.unwrap();
        reply
    }

    /// Ends the attempt without its worker.
    async fn lose(&self, task: TaskId, attempt: u32) {
        let error = TaskError { code: "timed_out".to_owned(), message: "m".to_owned() };
        self.execute(task, Command::LoseAttempt { attempt, error, progress: None }).await;
    }
}

/// The only lease in the response. Confirms that the response has reached the worker.
async fn granted(given: oneshot::Receiver<GrantedLeases>) -> GrantedLease {
    let mut given = in_time(given).await.unwrap();
    given.delivery.mark_arrived();
    let [lease] = &given.leases[..] else { panic!("{given:?}") };
    lease.clone()
}

async fn directives(reply: oneshot::Receiver<HeartbeatDirectives>) -> Vec<(usize, Directive)> {
    in_time(reply).await.unwrap().directives
}

#[actix_rt::test]
async fn a_request_for_leases_that_waits_gets_a_task_that_was_created_meanwhile() {
    let fixture = DispatcherFixture::new();
    let given = fixture.take().await;
    let task = fixture.task().await;
    fixture.notify_missed().await;
    assert_eq!(granted(given).await.task, task);
}

#[actix_rt::test]
async fn a_heartbeat_that_waits_gets_a_cancel_that_was_requested_meanwhile() {
    let fixture = DispatcherFixture::new();
    let lease = fixture.take_new_lease().await;
    let reply = fixture.heartbeat(&lease).await;
    fixture.execute(lease.task, cancel(None)).await;
    fixture.apply_and_notify_missed().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)]);
}

#[actix_rt::test]
async fn a_lease_whose_attempt_has_ended_meanwhile_is_lost() {
    let fixture = DispatcherFixture::new();
    let lease = fixture.take_new_lease().await;
    let reply = fixture.heartbeat(&lease).await;
    fixture.lose(lease.task, lease.attempt).await;
    fixture.apply_and_notify_missed().await;
    assert_eq!(directives(reply).await, [(0, Directive::Lost)]);
    assert_eq!(directives(fixture.heartbeat(&lease).await).await, [(0, Directive::Lost)], "each later one too");
}

#[actix_rt::test]
async fn a_lease_whose_start_the_views_do_not_show_yet_is_not_lost() {
    let fixture = DispatcherFixture::new();
    let lease = fixture.take_new_lease().await;
    let reply = fixture.heartbeat(&lease).await;
    fixture.notify_missed().await;
    fixture.execute(lease.task, cancel(None)).await;
    fixture.apply_and_notify_missed().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)], "the attempt ran all the time");
}

/// An actor in place of the worker inside the process. It forwards its messages to the test.
struct FakeLocalWorker {
    assigned: mpsc::UnboundedSender<Assign>,
    directed: mpsc::UnboundedSender<AttemptDirective>,
}

impl Actor for FakeLocalWorker {
    type Context = Context<Self>;
}

impl Handler<Assign> for FakeLocalWorker {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Context<Self>) {
        let _ = self.assigned.send(assign);
    }
}

impl Handler<AttemptDirective> for FakeLocalWorker {
    type Result = ();

    fn handle(&mut self, direct: AttemptDirective, _: &mut Context<Self>) {
        let _ = self.directed.send(direct);
    }
}

/// Starts an attempt in the process whose start the views don't show yet. Returns it and the directives for it.
async fn local_attempt(fixture: &DispatcherFixture) -> (Assign, mpsc::UnboundedReceiver<AttemptDirective>) {
    let ((assigned, mut assigns), (directed, directs)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let local = FakeLocalWorker { assigned, directed }.start();
    fixture.task().await;
    fixture.notify_missed().await;
    let offer = LocalOffer {
        worker: "local/test/1".to_owned(),
        kinds: vec![KINDS[0].to_owned()],
        slots: 1,
        assignments: local.clone().recipient(),
        directives: local.recipient(),
    };
    in_time(fixture.dispatcher.send(offer)).await.unwrap();
    (in_time(assigns.recv()).await.unwrap(), directs)
}

#[actix_rt::test]
async fn an_attempt_in_the_process_that_has_ended_meanwhile_is_lost() {
    let fixture = DispatcherFixture::new();
    let (attempt, mut directs) = local_attempt(&fixture).await;
    fixture.lose(attempt.task, attempt.attempt).await;
    fixture.apply_and_notify_missed().await;
    let direct = in_time(directs.recv()).await.unwrap();
    assert_eq!((direct.task, direct.attempt, direct.directive), (attempt.task, attempt.attempt, Directive::Lost));
}

#[actix_rt::test]
async fn an_attempt_in_the_process_whose_start_the_views_do_not_show_yet_is_not_lost() {
    let fixture = DispatcherFixture::new();
    let (attempt, mut directs) = local_attempt(&fixture).await;
    fixture.notify_missed().await;
    fixture.execute(attempt.task, cancel(None)).await;
    fixture.apply_and_notify_missed().await;
    let direct = in_time(directs.recv()).await.unwrap();
    assert_eq!((direct.task, direct.directive), (attempt.task, Directive::Cancel), "the attempt ran all the time");
}

#[actix_rt::test]
async fn an_attempt_that_another_server_started_meanwhile_gets_its_directives() {
    let fixture = DispatcherFixture::new();
    let task = fixture.task().await;
    let secret = "secret".to_owned();
    let lease = blake3::hash(secret.as_bytes()).to_hex().to_string();
    fixture.execute(task, Command::Start { worker: "w-1".to_owned(), lease_hash: lease }).await;
    fixture.apply_and_notify_missed().await;
    let created = Arc::new(plain("ann", "a task"));
    let reply = fixture
        .heartbeat(&GrantedLease { task, attempt: 1, secret: secret.into(), created, time_left: LONG_WAIT })
        .await;
    fixture.execute(task, cancel(None)).await;
    fixture.apply_and_notify_missed().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)]);
}

#[actix_rt::test]
async fn a_queue_that_was_paused_meanwhile_gives_no_task_until_its_resume_which_is_missed_too() {
    let fixture = DispatcherFixture::new();
    fixture.execute_on_queue(QueueCommand::Pause { reason: None }).await;
    let task = fixture.task().await;
    let other = fixture.task_in("slow").await;
    fixture.notify_missed().await;
    assert_eq!(granted(fixture.take().await).await.task, other, "its queue is not paused, and both were ready");
    let given = fixture.take().await;
    fixture.execute_on_queue(QueueCommand::Resume { reason: None }).await;
    fixture.apply_and_notify_missed().await;
    assert_eq!(granted(given).await.task, task);
}

#[actix_rt::test]
async fn a_task_that_was_scheduled_meanwhile_is_queued_when_its_time_comes() {
    let fixture = DispatcherFixture::new();
    let created = Created { run_at: Some(now().plus(Duration::from_millis(1))), ..plain("ann", "a task") };
    let task = new_task();
    fixture.execute(task, Command::Create(Arc::new(created))).await;
    fixture.apply_and_notify_missed().await;
    let queued = in_time(fixture.store.subscribe(Position(1)).next()).await.unwrap();
    assert_eq!((queued[0].event_type, &queued[0].stream), ("Queued", &StreamName::task(task)));
}
