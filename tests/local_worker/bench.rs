//! A test bench for the worker inside the process, without a server. A stub replaces the dispatcher and the log. It
//! decides the worker's commands by the real rules, and forwards each message that it receives to the test.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context as Ctx, Message};
use serde_json::Value;
use taskbell::dispatch::messages::{Assign, AttemptDirective, AttemptStopped, Directive, LocalOffer};
use taskbell::projection::projector::ReportProgress;
use taskbell::store::Meta;
use taskbell::streams::messages::{Execute, ExecuteError, Receipt};
use taskbell::task::event::{
    CancelAcknowledged, CancelLadder, Completed, Created, Event, Outcome, Progress, TaskError,
};
use taskbell::task::{Command, Decider, Revision, Task, TaskId, TaskStream, Timestamp};
use taskbell::work::{Context, Done, Failure, Handler, Handlers, LocalReporter, LocalWorker};
use tokio::sync::mpsc;
use uuid::Uuid;

/// A test fails if a message doesn't arrive within this time.
const MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);

/// A message that the stub received from the worker.
pub enum WorkerMessage {
    Offered(LocalOffer),
    /// A command of the worker recorded these events.
    Recorded(Vec<Event>, Meta),
    Refused(Command, ExecuteError),
    Progress(Progress),
    Stopped(u32),
}

struct StubDispatcher {
    tasks: HashMap<TaskId, TaskStream>,
    /// The results of the worker's next commands, one error each.
    command_errors: VecDeque<ExecuteError>,
    report: mpsc::UnboundedSender<WorkerMessage>,
}

/// Makes the worker's next commands fail, one with each of these errors.
#[derive(Message)]
#[rtype(result = "()")]
struct FailNextCommands(Vec<ExecuteError>);

impl Actor for StubDispatcher {
    type Context = Ctx<Self>;
}

impl actix::Handler<Execute> for StubDispatcher {
    type Result = Result<Receipt, ExecuteError>;

    fn handle(&mut self, execute: Execute, _: &mut Ctx<Self>) -> Self::Result {
        let from_worker = execute.meta.actor == "local/test/1";
        if from_worker && let Some(error) = self.command_errors.pop_front() {
            self.report.send(WorkerMessage::Refused(execute.command, error.clone())).ok();
            return Err(error);
        }
        let stream = self.tasks.entry(execute.task).or_default();
        match stream.decide(&execute.command, execute.at) {
            Ok(events) => {
                for event in &events {
                    stream.evolve(event);
                }
                let (appended, task) = (events.len(), stream.0.clone().unwrap());
                if from_worker {
                    self.report.send(WorkerMessage::Recorded(events, execute.meta)).ok();
                }
                Ok(Receipt { revision: Revision(0), appended, task })
            }
            Err(rejected) => {
                self.report.send(WorkerMessage::Refused(execute.command, rejected.clone().into())).ok();
                Err(rejected.into())
            }
        }
    }
}

macro_rules! reports {
    ($message:ty, $said:expr) => {
        impl actix::Handler<$message> for StubDispatcher {
            type Result = ();

            fn handle(&mut self, message: $message, _: &mut Ctx<Self>) {
                self.report.send($said(message)).ok();
            }
        }
    };
}
reports!(LocalOffer, WorkerMessage::Offered);
reports!(AttemptStopped, |stopped: AttemptStopped| WorkerMessage::Stopped(stopped.attempt));
reports!(ReportProgress, |note: ReportProgress| WorkerMessage::Progress(note.progress));

impl actix::Handler<FailNextCommands> for StubDispatcher {
    type Result = ();

    fn handle(&mut self, FailNextCommands(errors): FailNextCommands, _: &mut Ctx<Self>) {
        self.command_errors.extend(errors);
    }
}

/// A real worker, and the stub with which it communicates.
pub struct WorkerBench {
    stub: Addr<StubDispatcher>,
    pub worker: Addr<LocalWorker>,
    received: mpsc::UnboundedReceiver<WorkerMessage>,
    /// All progress received so far.
    pub progress: Vec<Progress>,
}

/// The last event of an attempt, and the acknowledgements before it.
#[derive(Debug)]
pub struct AttemptEnd {
    pub acknowledged: Vec<CancelAcknowledged>,
    pub last: Option<Event>,
}

impl AttemptEnd {
    pub fn completed(self) -> Completed {
        match self.last {
            Some(Event::Completed(completed)) => completed,
            other => panic!("not completed: {other:?}"),
        }
    }

    /// The error of the attempt, and whether another attempt follows.
    pub fn error(self) -> (TaskError, bool) {
        match self.last {
            Some(Event::Completed(completed)) if completed.outcome == Outcome::Failed => {
                (completed.error.unwrap(), false)
            }
            Some(Event::AttemptFailed(failed)) => (failed.error, true),
            other => panic!("not failed: {other:?}"),
        }
    }
}

impl WorkerBench {
    pub async fn with(handler: impl Handler) -> Self {
        let (report, received) = mpsc::unbounded_channel();
        let stub = StubDispatcher { tasks: HashMap::new(), command_errors: VecDeque::new(), report }.start();
        let mut handlers = Handlers::new();
        let kind = handler.kind().to_owned();
        handlers.register(handler).unwrap();
        let channels = LocalReporter {
            worker: "local/test/1".to_owned(),
            execute: stub.clone().recipient(),
            offer: stub.clone().recipient(),
            stopped: stub.clone().recipient(),
            progress: stub.clone().recipient(),
        };
        let worker = LocalWorker::new(handlers, 4, channels).unwrap().start();
        let mut bench = Self { stub, worker, received, progress: Vec::new() };
        let WorkerMessage::Offered(offer) = bench.next_message().await else { panic!("no offer first") };
        assert_eq!((offer.worker.as_str(), offer.kinds, offer.slots), ("local/test/1", vec![kind], 4));
        bench
    }

    /// Waits for the next message from the worker.
    pub async fn next_message(&mut self) -> WorkerMessage {
        tokio::time::timeout(MESSAGE_TIMEOUT, self.received.recv()).await.expect("no message within a minute").unwrap()
    }

    pub async fn fail_next_commands(&self, errors: Vec<ExecuteError>) {
        self.stub.send(FailNextCommands(errors)).await.unwrap();
    }

    pub async fn execute(&self, task: TaskId, command: Command) -> Task {
        let meta = Meta {
            actor: "ada".to_owned(),
            via: taskbell::store::Via::Http,
            correlation_id: Uuid::nil(),
            causation_id: None,
            request_id: None,
        };
        let at = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
        self.stub.send(Execute { task, command, at, meta }).await.unwrap().unwrap().task
    }

    /// Creates a task and starts its first attempt.
    pub async fn create_with_input_and_start(&self, input: Value) -> TaskId {
        self.create_and_start(Created { input: input.into(), ..created() }).await
    }

    pub async fn create_and_start(&self, created: Created) -> TaskId {
        let task = TaskId::from_uuid(Uuid::now_v7());
        self.execute(task, Command::Create(Arc::new(created))).await;
        self.start_attempt(task).await;
        task
    }

    /// Starts the next attempt of a queued task.
    pub async fn start_attempt(&self, task: TaskId) {
        let start = Command::Start { worker: "local/test/1".to_owned(), lease_hash: "hash".to_owned() };
        let Task { attempt, created, .. } = self.execute(task, start).await;
        self.worker.send(Assign { task, attempt, created }).await.unwrap();
    }

    pub async fn send_directive(&self, task: TaskId, directive: Directive) {
        self.worker.send(AttemptDirective { task, attempt: 1, directive }).await.unwrap();
    }

    /// Requests a cancel, and sends the directive that the dispatcher would send.
    pub async fn cancel(&self, task: TaskId) {
        self.execute(task, Command::RequestCancel { reason: None, policy: CancelLadder::default() }).await;
        self.send_directive(task, Directive::Cancel).await;
    }

    /// Waits until the worker reports that the attempt has stopped.
    pub async fn wait_for_end(&mut self) -> AttemptEnd {
        let mut ended = AttemptEnd { acknowledged: Vec::new(), last: None };
        loop {
            match self.next_message().await {
                WorkerMessage::Recorded(events, _) => {
                    for event in events {
                        match event {
                            Event::CancelAcknowledged(ack) => ended.acknowledged.push(ack),
                            other => ended.last = Some(other),
                        }
                    }
                }
                WorkerMessage::Progress(progress) => self.progress.push(progress),
                WorkerMessage::Stopped(_) => return ended,
                WorkerMessage::Refused(command, error) => panic!("refused: {command:?}: {error}"),
                WorkerMessage::Offered(offer) => assert_eq!(offer.slots, 0, "offered twice"),
            }
        }
    }

    /// Waits until a cancel is acknowledged.
    pub async fn wait_for_acknowledgement(&mut self) -> CancelAcknowledged {
        loop {
            match self.next_message().await {
                WorkerMessage::Recorded(events, _) => match events.into_iter().next() {
                    Some(Event::CancelAcknowledged(ack)) => return ack,
                    other => panic!("{other:?} came before the acknowledgement"),
                },
                WorkerMessage::Progress(progress) => self.progress.push(progress),
                WorkerMessage::Stopped(_) | WorkerMessage::Offered(_) | WorkerMessage::Refused(..) => {
                    panic!("no acknowledgement")
                }
            }
        }
    }

    /// Waits until the worker reports progress that `is` accepts, and returns it.
    pub async fn wait_for_progress(&mut self, is: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            match self.next_message().await {
                WorkerMessage::Progress(progress) => {
                    self.progress.push(progress.clone());
                    if is(&progress) {
                        return progress;
                    }
                }
                WorkerMessage::Recorded(events, _) => panic!("{events:?} came before that progress"),
                WorkerMessage::Stopped(_) | WorkerMessage::Offered(_) | WorkerMessage::Refused(..) => {
                    panic!("no such progress")
                }
            }
        }
    }
}

pub fn created() -> Created {
    Created {
        kind: "test.act".to_owned(),
        title: "Act".to_owned(),
        owner: "ada".to_owned(),
        input: Value::Null.into(),
        queue: "default".to_owned(),
        priority: 0,
        run_at: None,
        max_attempts: 2,
        timeout_s: None,
        labels: [("team".to_owned(), "web".to_owned())].into(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }
}

type HandlerFuture = Pin<Box<dyn Future<Output = Result<Done, Failure>> + Send>>;

/// A handler that runs a function of the test.
pub struct ClosureHandler(Box<dyn Fn(Context) -> HandlerFuture + Send + Sync>);

pub fn closure_handler<F: Future<Output = Result<Done, Failure>> + Send + 'static>(
    run: impl Fn(Context) -> F + Send + Sync + 'static,
) -> ClosureHandler {
    ClosureHandler(Box::new(move |ctx| Box::pin(run(ctx))))
}

#[taskbell::async_trait]
impl Handler for ClosureHandler {
    fn kind(&self) -> &'static str {
        "test.act"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        (self.0)(ctx).await
    }
}

/// A gate at which handlers wait. Each call of `open` lets one of them continue.
#[derive(Clone)]
pub struct Gate(Arc<tokio::sync::Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.add_permits(1);
    }

    /// Waits until the gate is opened once for this caller.
    pub async fn pass(&self) {
        let permit = tokio::time::timeout(MESSAGE_TIMEOUT, self.0.acquire()).await;
        permit.expect("the gate stayed closed for a minute").unwrap().forget();
    }

    /// The same as [`pass`](Self::pass), for a blocking thread.
    pub fn pass_blocking(&self) {
        tokio::runtime::Handle::current().block_on(self.pass());
    }
}
