//! A dispatcher that has missed events rebuilds its tables from the views. In these tests it misses all events.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use taskbell::dispatch::capacity::Capacity;
use taskbell::dispatch::dispatcher::Dispatcher;
use taskbell::dispatch::lease_table::{HeartbeatReply, LeaseHeartbeat};
use taskbell::dispatch::messages::{Assign, Direct, Directive, Given, Granted, Heartbeat, Offer, Take};
use taskbell::dispatch::policies::KindPolicies;
use taskbell::projection::subscribers::Update;
use taskbell::store::{StreamName, now};
use taskbell::task::event::TaskError;
use taskbell::task::queue::QueueCommand;
use taskbell::task::{Command, Position, TaskId};
use taskbell::views::{Limits, WorkOffer};
use tokio::sync::{mpsc, oneshot};

use super::gap::Gap;
use crate::streams::{in_time, new_task};
use crate::views::history::{Created, KINDS, cancel, plain};

/// No request of these tests ends because its time is over.
const LONG: Duration = Duration::from_mins(10);

/// A dispatcher that gets no events.
struct World {
    gap: Gap,
    dispatcher: Addr<Dispatcher>,
}

impl Deref for World {
    type Target = Gap;

    fn deref(&self) -> &Gap {
        &self.gap
    }
}

impl World {
    fn new() -> Self {
        let gap = Gap::new();
        let capacity = Arc::new(Capacity::new(Limits::default()));
        let kinds = Arc::new(KindPolicies::default());
        let dispatcher = Dispatcher::new(gap.registry.clone(), gap.read.clone(), capacity, kinds).start();
        Self { gap, dispatcher }
    }

    /// The dispatcher has missed events.
    async fn missed(&self) {
        in_time(self.dispatcher.send(Update::Missed)).await.unwrap();
    }

    /// The views come to the end of the log, and the dispatcher has missed it.
    async fn miss(&self) {
        self.project().await;
        self.missed().await;
    }

    async fn take(&self) -> oneshot::Receiver<Given> {
        let (answer, given) = oneshot::channel();
        let (worker, wants, gone) = ("w-1".to_owned(), WorkOffer::default(), Box::new(|| false));
        in_time(self.dispatcher.send(Take { worker, wants, max: 9, wait: LONG, gone, answer })).await.unwrap();
        given
    }

    /// A new task that a worker outside the process executes; the views show it as queued.
    async fn lease(&self) -> Granted {
        self.task().await;
        self.missed().await;
        granted(self.take().await).await
    }

    async fn heartbeat(&self, lease: &Granted) -> oneshot::Receiver<HeartbeatReply> {
        let (answer, reply) = oneshot::channel();
        let secret = blake3::hash(lease.secret.as_bytes()).to_hex().to_string();
        let beats = vec![LeaseHeartbeat { task: lease.task, attempt: lease.attempt, secret, seen: None }];
        let heartbeat = Heartbeat { worker: "w-1".to_owned(), beats, wait: LONG, answer };
        in_time(self.dispatcher.send(heartbeat)).await.unwrap();
        reply
    }

    /// The attempt ends without its worker.
    async fn lose(&self, task: TaskId, attempt: u32) {
        let error = TaskError { code: "timed_out".to_owned(), message: "m".to_owned() };
        self.executes(task, Command::LoseAttempt { attempt, error, progress: None }).await;
    }
}

/// The only lease of the answer, which arrives at its worker.
async fn granted(given: oneshot::Receiver<Given>) -> Granted {
    let mut given = in_time(given).await.unwrap();
    given.delivery.arrived();
    let [lease] = &given.leases[..] else { panic!("{given:?}") };
    lease.clone()
}

async fn directives(reply: oneshot::Receiver<HeartbeatReply>) -> Vec<(usize, Directive)> {
    in_time(reply).await.unwrap().directives
}

#[actix_rt::test]
async fn a_request_for_leases_that_waits_gets_a_task_that_was_created_meanwhile() {
    let world = World::new();
    let given = world.take().await;
    let task = world.task().await;
    world.missed().await;
    assert_eq!(granted(given).await.task, task);
}

#[actix_rt::test]
async fn a_heartbeat_that_waits_gets_a_cancel_that_was_requested_meanwhile() {
    let world = World::new();
    let lease = world.lease().await;
    let reply = world.heartbeat(&lease).await;
    world.executes(lease.task, cancel(None)).await;
    world.miss().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)]);
}

#[actix_rt::test]
async fn a_lease_whose_attempt_has_ended_meanwhile_is_lost() {
    let world = World::new();
    let lease = world.lease().await;
    let reply = world.heartbeat(&lease).await;
    world.lose(lease.task, lease.attempt).await;
    world.miss().await;
    assert_eq!(directives(reply).await, [(0, Directive::Lost)]);
    assert_eq!(directives(world.heartbeat(&lease).await).await, [(0, Directive::Lost)], "each later one too");
}

#[actix_rt::test]
async fn a_lease_whose_start_the_views_do_not_show_yet_is_not_lost() {
    let world = World::new();
    let lease = world.lease().await;
    let reply = world.heartbeat(&lease).await;
    world.missed().await;
    world.executes(lease.task, cancel(None)).await;
    world.miss().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)], "the attempt ran all the time");
}

/// The worker inside the process: passes on to the test what it gets.
struct Local {
    assigned: mpsc::UnboundedSender<Assign>,
    directed: mpsc::UnboundedSender<Direct>,
}

impl Actor for Local {
    type Context = Context<Self>;
}

impl Handler<Assign> for Local {
    type Result = ();

    fn handle(&mut self, assign: Assign, _: &mut Context<Self>) {
        let _ = self.assigned.send(assign);
    }
}

impl Handler<Direct> for Local {
    type Result = ();

    fn handle(&mut self, direct: Direct, _: &mut Context<Self>) {
        let _ = self.directed.send(direct);
    }
}

/// An attempt in the process, whose start the views don't show yet, and the directives for it.
async fn local_attempt(world: &World) -> (Assign, mpsc::UnboundedReceiver<Direct>) {
    let ((assigned, mut assigns), (directed, directs)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let local = Local { assigned, directed }.start();
    world.task().await;
    world.missed().await;
    let offer = Offer {
        worker: "local/test/1".to_owned(),
        kinds: vec![KINDS[0].to_owned()],
        slots: 1,
        assign: local.clone().recipient(),
        direct: local.recipient(),
    };
    in_time(world.dispatcher.send(offer)).await.unwrap();
    (in_time(assigns.recv()).await.unwrap(), directs)
}

#[actix_rt::test]
async fn an_attempt_in_the_process_that_has_ended_meanwhile_is_lost() {
    let world = World::new();
    let (attempt, mut directs) = local_attempt(&world).await;
    world.lose(attempt.task, attempt.attempt).await;
    world.miss().await;
    let direct = in_time(directs.recv()).await.unwrap();
    assert_eq!((direct.task, direct.attempt, direct.directive), (attempt.task, attempt.attempt, Directive::Lost));
}

#[actix_rt::test]
async fn an_attempt_in_the_process_whose_start_the_views_do_not_show_yet_is_not_lost() {
    let world = World::new();
    let (attempt, mut directs) = local_attempt(&world).await;
    world.missed().await;
    world.executes(attempt.task, cancel(None)).await;
    world.miss().await;
    let direct = in_time(directs.recv()).await.unwrap();
    assert_eq!((direct.task, direct.directive), (attempt.task, Directive::Cancel), "the attempt ran all the time");
}

#[actix_rt::test]
async fn an_attempt_that_another_server_started_meanwhile_gets_its_directives() {
    let world = World::new();
    let task = world.task().await;
    let secret = "secret".to_owned();
    let lease = blake3::hash(secret.as_bytes()).to_hex().to_string();
    world.executes(task, Command::Start { worker: "w-1".to_owned(), lease }).await;
    world.miss().await;
    let created = Arc::new(plain("ann", "a task"));
    let reply = world.heartbeat(&Granted { task, attempt: 1, secret, created, left: LONG }).await;
    world.executes(task, cancel(None)).await;
    world.miss().await;
    assert_eq!(directives(reply).await, [(0, Directive::Cancel)]);
}

#[actix_rt::test]
async fn a_queue_that_was_paused_meanwhile_gives_no_task_until_its_resume_which_is_missed_too() {
    let world = World::new();
    world.on_queue(QueueCommand::Pause { reason: None }).await;
    let task = world.task().await;
    let other = world.task_in("slow").await;
    world.missed().await;
    assert_eq!(granted(world.take().await).await.task, other, "its queue is not paused, and both were ready");
    let given = world.take().await;
    world.on_queue(QueueCommand::Resume { reason: None }).await;
    world.miss().await;
    assert_eq!(granted(given).await.task, task);
}

#[actix_rt::test]
async fn a_task_that_was_scheduled_meanwhile_is_queued_when_its_time_comes() {
    let world = World::new();
    let created = Created { run_at: Some(now().plus(Duration::from_millis(1))), ..plain("ann", "a task") };
    let task = new_task();
    world.executes(task, Command::Create(Arc::new(created))).await;
    world.miss().await;
    let queued = in_time(world.store.subscribe(Position(1)).next()).await.unwrap();
    assert_eq!((queued[0].kind, &queued[0].stream), ("Queued", &StreamName::task(task)));
}
