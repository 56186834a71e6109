//! The remote worker: takes leases while slots are free, runs their attempts, and drains when it is to stop.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::finish::{LeaseReporter, send_finishes};
use super::heartbeat::{expire_leases, keep_leases, keep_sending_progress};
use super::http::{ANSWER_WITHIN, HttpClient, RETRIES, RequestError, retry_pause};
use super::leases::HeldLeases;
use super::link::Link;
use super::note::{Note, RemoteError, Watcher};
use super::outbox::PendingFinish;
use super::wire::{self, GrantedLease, TakeReply, TakeRequest};
use crate::task::limits::{is_line, is_name};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::drive::{drive, hand_back};
use crate::work::worker::registry::Handlers;

/// How long a request for leases may wait for one, in seconds.
const WAIT_S: u64 = 30;
/// The most attempts at once; a request for leases asks for no more.
const CONCURRENCY_MAX: usize = 1000;
/// A worker's name, in bytes.
const NAME_MAX: usize = 128;
/// An empty answer that comes sooner than this was not kept waiting: the server is about to stop, or too many workers wait.
const EARLY_ANSWER: Duration = Duration::from_secs(20);
/// How long attempts that were interrupted at the end of the grace are waited for.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// A worker in a process of its own: takes leases from a server, executes their attempts with its handlers, and reports how
/// they ended.
///
/// It survives a server that restarts or can't be reached for a while: reports are repeated until they are answered, and
/// attempts go on. An attempt whose lease can't be kept alive is given up before the lease ends. Handlers run on the runtime
/// that [`Self::run`] is called on; code that blocks belongs into [`Context::blocking`](crate::work::Context::blocking).
///
/// ```no_run
/// # use taskbell::{Context, Done, Failure, Handler, Handlers, RemoteWorker};
/// # struct Greet;
/// # #[taskbell::async_trait]
/// # impl Handler for Greet {
/// #     fn kind(&self) -> &str { "demo.greet" }
/// #     async fn run(&self, _: Context) -> Result<Done, Failure> { Ok(Done::new("greeted")) }
/// # }
/// # async fn work() -> Result<(), Box<dyn std::error::Error>> {
/// let mut handlers = Handlers::new();
/// handlers.register(Greet)?;
/// let until = async { _ = tokio::signal::ctrl_c().await };
/// RemoteWorker::connect("http://127.0.0.1:7070").concurrency(8).handlers(handlers).run(until).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RemoteWorker {
    server: String,
    token: Option<String>,
    name: String,
    queues: Vec<String>,
    concurrency: usize,
    grace: Duration,
    handlers: Handlers,
    watcher: Option<Watcher>,
}

impl RemoteWorker {
    /// A worker of the server at this address, like `http://127.0.0.1:7070`. It sends nothing before [`Self::run`].
    #[must_use]
    pub fn connect(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            token: None,
            name: default_name(),
            queues: Vec::new(),
            concurrency: 1,
            grace: Duration::from_secs(25),
            handlers: Handlers::new(),
            watcher: None,
        }
    }

    /// Authenticates by this bearer token.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// Its name, which people see: one line, 1 to 128 bytes. The default is `<program>/<host>/<process>/<random>`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Takes tasks from these queues only. The default, an empty list, means all.
    #[must_use]
    pub fn queues<Q: Into<String>>(self, queues: impl IntoIterator<Item = Q>) -> Self {
        Self { queues: queues.into_iter().map(Into::into).collect(), ..self }
    }

    /// How many attempts run at once: 1, the default, to 1,000. Values beyond are clamped.
    #[must_use]
    pub fn concurrency(self, attempts: usize) -> Self {
        Self { concurrency: attempts.clamp(1, CONCURRENCY_MAX), ..self }
    }

    /// The handlers of the kinds that it executes. Their `check`, `title` and `defaults` count only in the server's process
    /// and are not called here.
    #[must_use]
    pub fn handlers(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }

    /// How long running attempts may go on when the worker stops, before they are interrupted and handed back. The default
    /// is 25 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Calls `watcher` with each event. It must not block.
    #[must_use]
    pub fn watch(self, watcher: impl Fn(&Note<'_>) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Arc::new(watcher)), ..self }
    }

    /// Works until `until` resolves. Then it takes no more leases, waits for running attempts, and interrupts and hands back
    /// those that still run after the grace. Returns the number of attempts whose code had not stopped even then: those
    /// with a blocking step that goes on. Their leases expire.
    ///
    /// Dropping the future interrupts all attempts, and their leases expire.
    ///
    /// # Errors
    /// The configuration is not valid, or the server refuses it leases for good. A server that can't be reached is no error:
    /// the worker waits for it.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<usize, RemoteError> {
        let (finishes, incoming) = mpsc::unbounded_channel();
        let link = Arc::new(self.link(finishes)?);
        let _guard = LoseOnDrop(Arc::clone(&link));
        let working = async {
            let stopped = tokio::select! {
                // First, so that leases that have arrived are begun.
                biased;
                refused = self.take(&link) => Err(refused),
                () = until => Ok(()),
            };
            let running = drain(&link, self.grace).await;
            stopped.map(|()| running)
        };
        tokio::select! {
            done = working => done,
            never = keep_leases(&link) => match never {},
            never = keep_sending_progress(&link) => match never {},
            never = expire_leases(&link) => match never {},
            never = send_finishes(&link, incoming) => match never {},
        }
    }

    fn link(&self, finishes: mpsc::UnboundedSender<PendingFinish>) -> Result<Link, RemoteError> {
        if !is_line(&self.name, NAME_MAX) || self.name.starts_with("local/") {
            return Err(RemoteError::Name(self.name.clone()));
        }
        if let Some(wrong) = self.queues.iter().find(|queue| !is_name(queue)) {
            return Err(RemoteError::Queue(wrong.clone()));
        }
        if self.handlers.kinds().next().is_none() {
            return Err(RemoteError::NoHandlers);
        }
        let http = HttpClient::new(&self.server, self.token.as_deref(), self.watcher.clone())?;
        let (worker, leases) = (self.name.clone(), HeldLeases::default());
        Ok(Link { http, worker, leases, sending_progress: Mutex::default(), finishes })
    }

    /// Takes leases whenever a slot is free, until the server refuses them for good.
    async fn take(&self, link: &Arc<Link>) -> RemoteError {
        let mut retries = RETRIES;
        let kinds: Vec<&str> = self.handlers.kinds().collect();
        loop {
            let max = self.concurrency.saturating_sub(link.leases.len());
            if max == 0 {
                link.leases.removed.notified().await;
                continue;
            }
            let request =
                TakeRequest { worker: &self.name, kinds: kinds.clone(), queues: &self.queues, max, wait_s: WAIT_S };
            let within = Duration::from_secs(WAIT_S) + ANSWER_WITHIN;
            let sent = Instant::now();
            let reply = link.http.post(wire::TAKE, &request, within).await;
            let pause = match reply.and_then(|reply| reply.read::<TakeReply>()) {
                Ok(reply) if reply.leases.is_empty() && sent.elapsed() < EARLY_ANSWER => None,
                Ok(reply) => {
                    retries.reset();
                    reply.leases.into_iter().for_each(|lease| self.begin(link, lease));
                    continue;
                }
                Err(RequestError::Retryable { after, .. }) => after,
                Err(RequestError::Refused { status, problem }) => {
                    return RemoteError::Refused { status, code: problem.code, detail: problem.detail };
                }
            };
            sleep(retry_pause(&mut retries, pause)).await;
        }
    }

    /// Begins the attempt of a lease that has just arrived.
    fn begin(&self, link: &Arc<Link>, lease: GrantedLease) {
        let (task, number, token) = (lease.task_id, lease.attempt, lease.lease.clone());
        let left = Duration::from_millis(lease.left_ms);
        let created = Arc::new(lease.into_created());
        let predecessors = link.leases.unfinished(task);
        let (attempt, acknowledgements) = Attempt::new(task, number, Arc::clone(&created), Handle::current());
        link.leases.add(token.clone(), Arc::clone(&attempt), left);
        let reporter = Arc::new(LeaseReporter { link: Arc::clone(link), lease: token });
        let Some(handler) = self.handlers.get(&created.kind).cloned() else {
            tokio::spawn(hand_back(attempt, reporter));
            return;
        };
        link.http.notify(&Note::Begun { task, attempt: number, kind: &created.kind, title: &created.title });
        tokio::spawn(drive(attempt, handler, acknowledgements, reporter, predecessors));
    }
}

impl fmt::Debug for RemoteWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut worker = f.debug_struct("RemoteWorker");
        worker.field("server", &self.server).field("name", &self.name).field("handlers", &self.handlers);
        worker.finish_non_exhaustive()
    }
}

/// Loses all attempts when the worker is dropped: nothing keeps their leases alive any more.
struct LoseOnDrop(Arc<Link>);

impl Drop for LoseOnDrop {
    fn drop(&mut self) {
        for attempt in self.0.leases.attempts() {
            attempt.lose();
        }
    }
}

/// Waits for running attempts, hands back those that still run after the grace, and counts those that don't stop even then.
async fn drain(link: &Link, grace: Duration) -> usize {
    let attempts = link.leases.attempts();
    let mut finished = pin!(async {
        for attempt in &attempts {
            attempt.finished.cancelled().await;
        }
    });
    if timeout(grace, &mut finished).await.is_err() {
        attempts.iter().filter(|attempt| !attempt.finished.is_cancelled()).for_each(|attempt| attempt.hand_back());
        // A timeout shows in the count.
        let _ = timeout(INTERRUPT_GRACE, finished).await;
    }
    attempts.iter().filter(|attempt| !attempt.finished.is_cancelled()).count()
}

/// `<program>/<host>/<process>/<random>`
fn default_name() -> String {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let part = |text: &str| text.chars().filter(char::is_ascii_graphic).take(40).collect::<String>();
    let random = Uuid::new_v4().simple().to_string();
    format!("{}/{}/{}/{}", part(program.as_deref().unwrap_or("worker")), part(&host), std::process::id(), &random[..8])
}
