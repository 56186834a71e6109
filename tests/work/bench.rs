//! A real worker without a server. In place of the dispatcher and the log stands a desk: it decides commands by the real
//! rules and reports each message that it receives to the test.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Context as Ctx, Message};
use serde_json::Value;
use taskbell::dispatch::messages::{Assign, Direct, Directive, Offer, Stopped};
use taskbell::projection::projector::NoteProgress;
use taskbell::store::Meta;
use taskbell::streams::messages::{Execute, ExecuteError, Receipt};
use taskbell::task::event::{
    CancelAcknowledged, CancelPolicy, Completed, Created, Event, Outcome, Progress, TaskError,
};
use taskbell::task::{Command, Decider, Revision, Task, TaskId, TaskStream, Timestamp};
use taskbell::work::{Context, Done, Failure, Handler, Handlers, LocalWorker, WorkerChannels};
use tokio::sync::mpsc;
use uuid::Uuid;

/// A test fails if a message does not arrive within this time.
const PATIENCE: Duration = Duration::from_mins(1);

/// A message that the desk received.
pub enum Said {
    Offered(Offer),
    /// A command of the worker recorded these events.
    Recorded(Vec<Event>, Meta),
    Refused(Command, ExecuteError),
    Noted(Progress),
    Stopped(u32),
}

struct Desk {
    tasks: HashMap<TaskId, TaskStream>,
    /// The errors that the next commands of the worker get.
    fails: VecDeque<ExecuteError>,
    report: mpsc::UnboundedSender<Said>,
}

/// Makes the next commands of the worker fail with these errors, one each.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail(Vec<ExecuteError>);

impl Actor for Desk {
    type Context = Ctx<Self>;
}

impl actix::Handler<Execute> for Desk {
    type Result = Result<Receipt, ExecuteError>;

    fn handle(&mut self, execute: Execute, _: &mut Ctx<Self>) -> Self::Result {
        let from_worker = execute.meta.actor == "local/test/1";
        if from_worker && let Some(error) = self.fails.pop_front() {
            self.report.send(Said::Refused(execute.command, error.clone())).ok();
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
                    self.report.send(Said::Recorded(events, execute.meta)).ok();
                }
                Ok(Receipt { revision: Revision(0), appended, task })
            }
            Err(rejected) => {
                self.report.send(Said::Refused(execute.command, rejected.clone().into())).ok();
                Err(rejected.into())
            }
        }
    }
}

macro_rules! reports {
    ($message:ty, $said:expr) => {
        impl actix::Handler<$message> for Desk {
            type Result = ();

            fn handle(&mut self, message: $message, _: &mut Ctx<Self>) {
                self.report.send($said(message)).ok();
            }
        }
    };
}
reports!(Offer, Said::Offered);
reports!(Stopped, |stopped: Stopped| Said::Stopped(stopped.attempt));
reports!(NoteProgress, |note: NoteProgress| Said::Noted(note.progress));

impl actix::Handler<Fail> for Desk {
    type Result = ();

    fn handle(&mut self, Fail(errors): Fail, _: &mut Ctx<Self>) {
        self.fails.extend(errors);
    }
}

pub struct Bench {
    desk: Addr<Desk>,
    pub worker: Addr<LocalWorker>,
    received: mpsc::UnboundedReceiver<Said>,
    /// All progress that was received so far.
    pub notes: Vec<Progress>,
}

/// How an attempt ended, and the acknowledgements before that.
#[derive(Debug)]
pub struct Ended {
    pub acknowledged: Vec<CancelAcknowledged>,
    pub last: Option<Event>,
}

impl Ended {
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

impl Bench {
    pub async fn with(handler: impl Handler) -> Self {
        let (report, received) = mpsc::unbounded_channel();
        let desk = Desk { tasks: HashMap::new(), fails: VecDeque::new(), report }.start();
        let mut handlers = Handlers::new();
        let kind = handler.kind().to_owned();
        handlers.register(handler).unwrap();
        let channels = WorkerChannels {
            worker: "local/test/1".to_owned(),
            execute: desk.clone().recipient(),
            offer: desk.clone().recipient(),
            stopped: desk.clone().recipient(),
            progress: desk.clone().recipient(),
        };
        let worker = LocalWorker::new(handlers, 4, channels).unwrap().start();
        let mut bench = Self { desk, worker, received, notes: Vec::new() };
        let Said::Offered(offer) = bench.hear().await else { panic!("no offer first") };
        assert_eq!((offer.worker.as_str(), offer.kinds, offer.slots), ("local/test/1", vec![kind], 4));
        bench
    }

    /// The next message.
    pub async fn hear(&mut self) -> Said {
        tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("no message within a minute").unwrap()
    }

    pub async fn fail(&self, errors: Vec<ExecuteError>) {
        self.desk.send(Fail(errors)).await.unwrap();
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
        self.desk.send(Execute { task, command, at, meta }).await.unwrap().unwrap().task
    }

    /// Creates a task and starts its first attempt.
    pub async fn begin(&self, input: Value) -> TaskId {
        self.begin_as(Created { input: input.into(), ..created() }).await
    }

    pub async fn begin_as(&self, created: Created) -> TaskId {
        let task = TaskId::from_uuid(Uuid::now_v7());
        self.execute(task, Command::Create(Arc::new(created))).await;
        self.attempt(task).await;
        task
    }

    /// Starts the next attempt of a queued task.
    pub async fn attempt(&self, task: TaskId) {
        let start = Command::Start { worker: "local/test/1".to_owned(), lease: "hash".to_owned() };
        let Task { attempt, created, .. } = self.execute(task, start).await;
        self.worker.send(Assign { task, attempt, created }).await.unwrap();
    }

    pub async fn direct(&self, task: TaskId, directive: Directive) {
        self.worker.send(Direct { task, attempt: 1, directive }).await.unwrap();
    }

    /// Requests a cancel, and sends the directive that the dispatcher would send.
    pub async fn cancel(&self, task: TaskId) {
        self.execute(task, Command::RequestCancel { reason: None, policy: CancelPolicy::default() }).await;
        self.direct(task, Directive::Cancel).await;
    }

    /// Waits until the worker reports that the attempt is over.
    pub async fn end(&mut self) -> Ended {
        let mut ended = Ended { acknowledged: Vec::new(), last: None };
        loop {
            match self.hear().await {
                Said::Recorded(events, _) => {
                    for event in events {
                        match event {
                            Event::CancelAcknowledged(ack) => ended.acknowledged.push(ack),
                            other => ended.last = Some(other),
                        }
                    }
                }
                Said::Noted(progress) => self.notes.push(progress),
                Said::Stopped(_) => return ended,
                Said::Refused(command, error) => panic!("refused: {command:?}: {error}"),
                Said::Offered(offer) => assert_eq!(offer.slots, 0, "offered twice"),
            }
        }
    }

    /// Waits until a cancel is acknowledged.
    pub async fn acknowledgement(&mut self) -> CancelAcknowledged {
        loop {
            match self.hear().await {
                Said::Recorded(events, _) => match events.into_iter().next() {
                    Some(Event::CancelAcknowledged(ack)) => return ack,
                    other => panic!("{other:?} came before the acknowledgement"),
                },
                Said::Noted(progress) => self.notes.push(progress),
                Said::Stopped(_) | Said::Offered(_) | Said::Refused(..) => panic!("no acknowledgement"),
            }
        }
    }

    /// Waits for progress that `is` accepts.
    pub async fn noted(&mut self, is: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            match self.hear().await {
                Said::Noted(progress) => {
                    self.notes.push(progress.clone());
                    if is(&progress) {
                        return progress;
                    }
                }
                Said::Recorded(events, _) => panic!("{events:?} came before that progress"),
                Said::Stopped(_) | Said::Offered(_) | Said::Refused(..) => panic!("no such progress"),
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

type Doing = Pin<Box<dyn Future<Output = Result<Done, Failure>> + Send>>;

/// A handler that runs a function of the test.
pub struct Act(Box<dyn Fn(Context) -> Doing + Send + Sync>);

pub fn act<F: Future<Output = Result<Done, Failure>> + Send + 'static>(
    run: impl Fn(Context) -> F + Send + Sync + 'static,
) -> Act {
    Act(Box::new(move |ctx| Box::pin(run(ctx))))
}

#[taskbell::async_trait]
impl Handler for Act {
    fn kind(&self) -> &'static str {
        "test.act"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        (self.0)(ctx).await
    }
}

/// A signal that handlers wait for. Each opening lets one wait pass.
#[derive(Clone)]
pub struct Gate(Arc<tokio::sync::Semaphore>);

impl Gate {
    pub fn shut() -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.add_permits(1);
    }

    /// Waits for one opening.
    pub async fn pass(&self) {
        let pass = tokio::time::timeout(PATIENCE, self.0.acquire()).await;
        pass.expect("the gate stayed shut for a minute").unwrap().forget();
    }

    /// The same, on a blocking thread.
    pub fn pass_blocking(&self) {
        tokio::runtime::Handle::current().block_on(self.pass());
    }
}
