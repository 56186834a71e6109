//! The remote worker: takes leases while slots are free, runs their attempts, and drains before it stops.

use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::event::{EventCallback, RemoteError, WorkerEvent};
use super::finish::{LeaseReporter, send_finishes};
use super::heartbeat::{keep_sending_progress, renew_leases, watch_deadlines};
use super::http::{HttpClient, RESPONSE_TIMEOUT, RETRIES, RequestError, retry_pause};
use super::leases::HeldLeases;
use super::outbox::PendingFinish;
use super::protocol::{self, GrantedLease, TakeRequest, TakeResponse};
use super::state::WorkerState;
use super::token::WorkerToken;
use crate::secret::Secret;
use crate::task::limits::{is_line, is_name};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::registry::Handlers;
use crate::work::worker::run_attempt::{release, run_attempt};

/// How long the server may wait for a task before it responds to a request for leases, in seconds.
const TAKE_WAIT_S: u64 = 30;
/// The most attempts at once, which is also the most leases in one request.
const CONCURRENCY_MAX: usize = 1000;
/// The longest name of a worker, in bytes.
const NAME_MAX: usize = 128;
/// If an empty response arrives sooner than this, the server did not wait for a task: it is about to stop, or too many
/// workers wait. Then the next request is sent after a pause.
const EARLY_RESPONSE: Duration = Duration::from_secs(20);
/// How long the worker waits for attempts that it has interrupted at the end of the grace.
const INTERRUPT_GRACE: Duration = Duration::from_secs(5);

/// A worker in a process of its own: it takes leases from a server, executes the attempts with its handlers, and
/// reports their ends.
///
/// While the server restarts or can't be reached, the attempts continue, and reports are repeated until the server
/// responds. If a lease can't be renewed, its attempt is stopped before the lease ends. Handlers run on the runtime on
/// which [`Self::run`] is called. Use [`Context::blocking`](crate::work::Context::blocking) for code that blocks.
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
/// RemoteWorker::new("http://127.0.0.1:7070").concurrency(8).handlers(handlers).run(until).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RemoteWorker {
    server: String,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    name: String,
    queues: Vec<String>,
    concurrency: usize,
    grace: Duration,
    handlers: Handlers,
    on_event: Option<EventCallback>,
}

impl RemoteWorker {
    /// Makes a worker of the server at this address, for example `http://127.0.0.1:7070`. It sends no request before
    /// [`Self::run`].
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            token: None,
            token_file: None,
            ca_file: None,
            name: default_name(),
            queues: Vec::new(),
            concurrency: 1,
            grace: Duration::from_secs(25),
            handlers: Handlers::new(),
            on_event: None,
        }
    }

    /// Sets the bearer token that the worker sends. It replaces [`Self::token_file`].
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(Secret::from(token.into())), token_file: None, ..self }
    }

    /// Sets the file with the bearer token that the worker sends. It replaces [`Self::token`]. The file is read when the worker
    /// starts, and again when the server refuses the token with 401. If it then holds another token, the worker goes on with
    /// that one. So write the next token to the file before you revoke the former one.
    #[must_use]
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        Self { token: None, token_file: Some(path.into()), ..self }
    }

    /// Sets a PEM file with the certificates of authorities that the worker trusts besides those of the system. It matters
    /// for a server whose address begins with `https://`.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(path.into()), ..self }
    }

    /// Sets the name, which the web interface and the log show: one line, 1 to 128 bytes. The default is
    /// `<program>/<host>/<process>/<random>`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the queues from which the worker takes tasks. The default, an empty list, means all queues.
    #[must_use]
    pub fn queues<Q: Into<String>>(self, queues: impl IntoIterator<Item = Q>) -> Self {
        Self { queues: queues.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets how many attempts run at once: 1 to 1,000. Other values are clamped. The default is 1.
    #[must_use]
    pub fn concurrency(self, attempts: usize) -> Self {
        Self { concurrency: attempts.clamp(1, CONCURRENCY_MAX), ..self }
    }

    /// Sets the handlers. The worker takes tasks of their kinds. Their methods `check`, `title` and `defaults` are not
    /// called here; only a server calls the methods of its own handlers.
    #[must_use]
    pub fn handlers(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }

    /// Sets how long running attempts may continue when the worker stops. After this time they are interrupted and
    /// released, so that their tasks are queued again. The default is 25 s.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Sets a function that the worker calls with each event. The function must not block.
    #[must_use]
    pub fn on_event(self, on_event: impl Fn(&WorkerEvent<'_>) + Send + Sync + 'static) -> Self {
        Self { on_event: Some(Arc::new(on_event)), ..self }
    }

    /// Runs the worker until `until` resolves. Then the worker takes no more leases and waits for the running attempts.
    /// After the grace it interrupts and releases those that still run. Returns the number of attempts whose code has
    /// not stopped even then, because a blocking step continues. Their leases expire.
    ///
    /// If the future is dropped, all attempts are interrupted, and their leases expire.
    ///
    /// # Errors
    /// The configuration is invalid, or the server finally refuses requests for leases. A server that can't be reached
    /// is not an error: the worker waits until it responds.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<usize, RemoteError> {
        let (finishes, incoming) = mpsc::unbounded_channel();
        let state = Arc::new(self.new_state(finishes)?);
        let _guard = LoseAttemptsOnDrop(Arc::clone(&state));
        let working = async {
            let stopped = tokio::select! {
                // The request for leases is polled first, so that leases that have already arrived are begun.
                biased;
                refused = self.take_leases(&state) => Err(refused),
                () = until => Ok(()),
            };
            let running = drain(&state, self.grace).await;
            stopped.map(|()| running)
        };
        tokio::select! {
            result = working => result,
            never = renew_leases(&state) => match never {},
            never = keep_sending_progress(&state) => match never {},
            never = watch_deadlines(&state) => match never {},
            never = send_finishes(&state, incoming) => match never {},
        }
    }

    /// Checks the configuration and makes the shared state.
    fn new_state(&self, finishes: mpsc::UnboundedSender<PendingFinish>) -> Result<WorkerState, RemoteError> {
        if !is_line(&self.name, NAME_MAX) || self.name.starts_with("local/") {
            return Err(RemoteError::Name(self.name.clone()));
        }
        if let Some(wrong) = self.queues.iter().find(|queue| !is_name(queue)) {
            return Err(RemoteError::Queue(wrong.clone()));
        }
        if self.handlers.kinds().next().is_none() {
            return Err(RemoteError::NoHandlers);
        }
        let token = match &self.token_file {
            Some(path) => WorkerToken::in_file(path.clone())?,
            None => WorkerToken::fixed(self.token.as_ref())?,
        };
        let http = HttpClient::new(&self.server, token, self.ca_file.as_deref(), self.on_event.clone())?;
        let (worker, leases) = (self.name.clone(), HeldLeases::default());
        Ok(WorkerState { http, worker, leases, progress_lock: Mutex::default(), finishes })
    }

    /// Takes leases whenever a slot is free, until the server finally refuses a request.
    async fn take_leases(&self, state: &Arc<WorkerState>) -> RemoteError {
        let mut retries = RETRIES;
        let kinds: Vec<&str> = self.handlers.kinds().collect();
        loop {
            let max = self.concurrency.saturating_sub(state.leases.len());
            if max == 0 {
                state.leases.lease_removed.notified().await;
                continue;
            }
            let request = TakeRequest {
                worker: &self.name,
                kinds: kinds.clone(),
                queues: &self.queues,
                max,
                wait_s: TAKE_WAIT_S,
            };
            let timeout = Duration::from_secs(TAKE_WAIT_S) + RESPONSE_TIMEOUT;
            let sent = Instant::now();
            let response = state.http.post(protocol::TAKE_PATH, &request, timeout).await;
            let pause = match response.and_then(|response| response.read::<TakeResponse>()) {
                Ok(taken) if taken.leases.is_empty() && sent.elapsed() < EARLY_RESPONSE => None,
                Ok(taken) => {
                    retries.reset();
                    taken.leases.into_iter().for_each(|lease| self.begin(state, lease));
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
    fn begin(&self, state: &Arc<WorkerState>, lease: GrantedLease) {
        let (task, number, lease_text) = (lease.task_id, lease.attempt, lease.lease.clone());
        let time_left = Duration::from_millis(lease.left_ms);
        let created = Arc::new(lease.into_created());
        let predecessors = state.leases.unfinished(task);
        let (attempt, acknowledgements) = Attempt::new(task, number, Arc::clone(&created), Handle::current());
        state.leases.add(lease_text.clone(), Arc::clone(&attempt), time_left);
        let reporter = Arc::new(LeaseReporter { state: Arc::clone(state), lease: lease_text });
        let Some(handler) = self.handlers.get(&created.kind).cloned() else {
            tokio::spawn(release(attempt, reporter));
            return;
        };
        state.http.notify(&WorkerEvent::Begun { task, attempt: number, kind: &created.kind, title: &created.title });
        tokio::spawn(run_attempt(attempt, handler, acknowledgements, reporter, predecessors));
    }
}

impl fmt::Debug for RemoteWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut worker = f.debug_struct("RemoteWorker");
        worker.field("server", &self.server).field("name", &self.name).field("handlers", &self.handlers);
        worker.finish_non_exhaustive()
    }
}

/// Marks all attempts as lost when the worker is dropped, because their leases are not renewed any more.
struct LoseAttemptsOnDrop(Arc<WorkerState>);

impl Drop for LoseAttemptsOnDrop {
    fn drop(&mut self) {
        for attempt in self.0.leases.attempts() {
            attempt.lose();
        }
    }
}

/// Waits for running attempts, and releases those that still run after the grace. Returns how many have not stopped even
/// then.
async fn drain(state: &WorkerState, grace: Duration) -> usize {
    let attempts = state.leases.attempts();
    let mut finished = pin!(async {
        for attempt in &attempts {
            attempt.finished.wait().await;
        }
    });
    if timeout(grace, &mut finished).await.is_err() {
        attempts.iter().filter(|attempt| !attempt.finished.is_set()).for_each(|attempt| attempt.release());
        // After a timeout, the returned count is above zero.
        let _ = timeout(INTERRUPT_GRACE, finished).await;
    }
    attempts.iter().filter(|attempt| !attempt.finished.is_set()).count()
}

/// Makes the default name, `<program>/<host>/<process>/<random>`.
fn default_name() -> String {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let shorten = |text: &str| text.chars().filter(char::is_ascii_graphic).take(40).collect::<String>();
    let random = Uuid::new_v4().simple().to_string();
    format!(
        "{}/{}/{}/{}",
        shorten(program.as_deref().unwrap_or("worker")),
        shorten(&host),
        std::process::id(),
        &random[..8]
    )
}
