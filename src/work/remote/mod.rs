//! The worker over the wire: the same handlers, in another process, against a server's HTTP API.
//!
//! Reading order: this file (taking leases, and leaving), `held` (what is held, and what each lease was told), `beat`
//! (heartbeats and progress), `finish` (how ends are told), `wire` (the requests as they are written), `http` (what is
//! tried again).

mod beat;
mod finish;
mod held;
mod http;
mod wire;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::worker::attempt::Attempt;
use super::worker::drive::{drive, hand_back};
use super::worker::registry::Handlers;
use crate::task::TaskId;
use crate::task::limits::{is_line, is_name};
use finish::{Ending, Leased};
use held::Leases;
use http::{Backoff, Http, Trouble};
use wire::{Granted, Take, Taken};

/// How long a request for leases may wait for one, in seconds.
const WAIT_S: u64 = 30;
/// Attempts at once; a request for leases asks for no more.
const CONCURRENCY_MAX: usize = 1000;
/// A worker's name, in bytes.
const NAME_MAX: usize = 128;
/// A request that is answered with nothing so much before its time was not kept waiting: the server is about to go, or too
/// many workers wait.
const SENT_AWAY: Duration = Duration::from_secs(20);
/// How long attempts that were cut at the end are waited for.
const CUT_WITHIN: Duration = Duration::from_secs(5);

/// What a worker says to whoever watches it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// An attempt begins.
    Begun {
        /// Of this task.
        task: TaskId,
        /// Which one.
        attempt: u32,
        /// What sort of work.
        kind: &'a str,
        /// What people read.
        title: &'a str,
    },
    /// An attempt is over, and the server knows how.
    Ended {
        /// Of this task.
        task: TaskId,
        /// Which one.
        attempt: u32,
        /// `succeeded`, `failed`, `cancelled`, `released`, or `lost` where somebody else ended it.
        outcome: &'a str,
        /// What was said about it.
        words: Option<&'a str>,
    },
    /// The server can't be spoken to; it is tried again until it can.
    Away {
        /// What is the matter.
        why: &'a str,
    },
    /// The server answers again.
    Back,
}

type Watcher = Arc<dyn Fn(&Note<'_>) + Send + Sync>;

/// Why a worker did not begin, or went home early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The server's address can't be used.
    #[error("{0}")]
    Address(String),
    /// The token can't be sent.
    #[error("the token holds characters that can't be sent")]
    Token,
    /// There is no HTTP client.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// Its name can't be a worker's.
    #[error("{0:?} can't be a worker's name: one line of 1 to 128 bytes is needed, and local/ is the server's own")]
    Name(String),
    /// A queue's name is none.
    #[error("{0:?} can't be a queue: 1 to 64 of a-z, 0-9, '.', '_', '-' are needed")]
    Queue(String),
    /// It has no handlers.
    #[error("a worker without handlers has nothing to do")]
    NoHandlers,
    /// The server gives it no leases, and never will to a request like this.
    #[error("the server gives no leases: {detail} ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The problem in words.
        detail: String,
    },
}

/// A worker in a process of its own: takes leases from a server, executes them with its handlers, and tells how they ended.
///
/// It lives through a server that restarts or can't be reached for a while: what it has to say is said again until it is
/// heard, and attempts go on. Only what could not be kept alive past its lease is given up. Handlers run on the runtime
/// that [`Self::run`] is called on; one that blocks belongs into [`super::Context::blocking`].
///
/// ```no_run
/// # use taskbell::work::{Context, Done, Failure, Handler, Handlers, RemoteWorker};
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

/// What all parts of a worker share.
struct Link {
    http: Http,
    worker: String,
    leases: Leases,
    /// Held while progress is told.
    speaking: Mutex<()>,
    endings: mpsc::UnboundedSender<Ending>,
}

impl RemoteWorker {
    /// A worker of the server at this address, like `http://127.0.0.1:7070`. Nothing is sent before [`Self::run`].
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

    /// Sent as a bearer token.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// How people see it: one line, 1 to 128 bytes. Without this it is `<program>/<host>/<process>/<random>`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Takes from these queues only; none named: from all.
    #[must_use]
    pub fn queues<Q: Into<String>>(self, queues: impl IntoIterator<Item = Q>) -> Self {
        Self { queues: queues.into_iter().map(Into::into).collect(), ..self }
    }

    /// How many attempts run at once, 1 to 1,000; 1 where this isn't said.
    #[must_use]
    pub fn concurrency(self, attempts: usize) -> Self {
        Self { concurrency: attempts.clamp(1, CONCURRENCY_MAX), ..self }
    }

    /// What it executes: all kinds that there are handlers for. Their `check`, `title` and `defaults` are the server's
    /// business and are not looked at here.
    #[must_use]
    pub fn handlers(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }

    /// How long running attempts may go on when the worker leaves, before they are cut and handed back; 25 s where this
    /// isn't said.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Calls `watcher` with what happens. It must not block.
    #[must_use]
    pub fn watch(self, watcher: impl Fn(&Note<'_>) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Arc::new(watcher)), ..self }
    }

    /// Works until `until` is over. Then it takes nothing more, waits for what runs, hands back
    /// what still runs after the grace, and answers how many attempts' code even then had not stopped (0, unless a blocking
    /// step goes on): those run on, and their leases expire.
    ///
    /// Dropping the future cuts all attempts, and their leases expire.
    ///
    /// # Errors
    /// What it was given can't be used, or the server refuses it leases for good. A server that can't be reached is none:
    /// it is waited for.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<usize, RemoteError> {
        let (endings, waiting) = mpsc::unbounded_channel();
        let link = Arc::new(self.link(endings)?);
        let _cut = Cut(Arc::clone(&link));
        let working = async {
            let left = tokio::select! {
                // First, so that leases that have arrived are not left lying.
                biased;
                refused = self.take(&link) => Err(refused),
                () = until => Ok(()),
            };
            let running = leave(&link, self.grace).await;
            left.map(|()| running)
        };
        tokio::select! {
            done = working => done,
            never = beat::keep(&link) => match never {},
            never = beat::progress(&link) => match never {},
            never = beat::expire(&link) => match never {},
            never = finish::send(&link, waiting) => match never {},
        }
    }

    fn link(&self, endings: mpsc::UnboundedSender<Ending>) -> Result<Link, RemoteError> {
        if !is_line(&self.name, NAME_MAX) || self.name.starts_with("local/") {
            return Err(RemoteError::Name(self.name.clone()));
        }
        if let Some(wrong) = self.queues.iter().find(|queue| !is_name(queue)) {
            return Err(RemoteError::Queue(wrong.clone()));
        }
        if self.handlers.kinds().next().is_none() {
            return Err(RemoteError::NoHandlers);
        }
        let http = Http::new(&self.server, self.token.as_deref(), self.watcher.clone())?;
        let (worker, leases) = (self.name.clone(), Leases::default());
        Ok(Link { http, worker, leases, speaking: Mutex::default(), endings })
    }

    /// Takes leases whenever a slot is free, until the server refuses them for good.
    async fn take(&self, link: &Arc<Link>) -> RemoteError {
        let mut backoff = Backoff::new();
        let kinds: Vec<&str> = self.handlers.kinds().collect();
        loop {
            let max = self.concurrency.saturating_sub(link.leases.len());
            if max == 0 {
                link.leases.freed.notified().await;
                continue;
            }
            let ask = Take { worker: &self.name, kinds: kinds.clone(), queues: &self.queues, max, wait_s: WAIT_S };
            let within = Duration::from_secs(WAIT_S) + beat::ANSWER_WITHIN;
            let asked = Instant::now();
            let taken = link.http.post(wire::TAKE, &ask, within).await;
            match taken.and_then(|reply| Ok((reply.read::<Taken>()?, reply))) {
                Ok((taken, _)) if taken.leases.is_empty() && asked.elapsed() < SENT_AWAY => backoff.pause(None).await,
                Ok((taken, reply)) => {
                    backoff.reset();
                    for lease in taken.leases {
                        let deadline = reply.by_our_clock(lease.deadline);
                        self.begin(link, lease, deadline);
                    }
                }
                Err(Trouble::Later { after, .. }) => backoff.pause(after).await,
                Err(Trouble::Refused { status, problem }) => {
                    return RemoteError::Refused { status, code: problem.code, detail: problem.detail };
                }
            }
        }
    }

    fn begin(&self, link: &Arc<Link>, lease: Granted, deadline: Instant) {
        let (task, number, token) = (lease.task_id, lease.attempt, lease.lease.clone());
        let created = Arc::new(lease.into_created());
        let formers = link.leases.formers(task);
        let (attempt, acks) = Attempt::new(task, number, Arc::clone(&created), Handle::current());
        link.leases.add(token.clone(), Arc::clone(&attempt), deadline);
        let voice = Arc::new(Leased { link: Arc::clone(link), lease: token });
        let Some(handler) = self.handlers.get(&created.kind).cloned() else {
            tokio::spawn(hand_back(attempt, voice));
            return;
        };
        link.http.say(&Note::Begun { task, attempt: number, kind: &created.kind, title: &created.title });
        tokio::spawn(drive(attempt, handler, acks, voice, formers));
    }
}

impl fmt::Debug for RemoteWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut worker = f.debug_struct("RemoteWorker");
        worker.field("server", &self.server).field("name", &self.name).field("handlers", &self.handlers);
        worker.finish_non_exhaustive()
    }
}

/// Cuts what still runs when the worker is over, so that nothing goes on that nobody speaks for.
struct Cut(Arc<Link>);

impl Drop for Cut {
    fn drop(&mut self) {
        for attempt in self.0.leases.attempts() {
            attempt.lose();
        }
    }
}

/// Waits for what runs, hands back what is left, and counts what does not even then stop.
async fn leave(link: &Link, grace: Duration) -> usize {
    let attempts = link.leases.attempts();
    let mut over = pin!(async {
        for attempt in &attempts {
            attempt.over.cancelled().await;
        }
    });
    if tokio::time::timeout(grace, &mut over).await.is_err() {
        attempts.iter().filter(|attempt| !attempt.over.is_cancelled()).for_each(|attempt| attempt.hand_back());
        // Out of time is an answer too: it is in the count.
        let _ = tokio::time::timeout(CUT_WITHIN, over).await;
    }
    attempts.iter().filter(|attempt| !attempt.over.is_cancelled()).count()
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
