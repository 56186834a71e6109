//! The worker inside the server's process. It receives the same directives as a remote worker, as messages.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Message, ResponseFuture};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::channels::WorkerChannels;
use super::context::Context;
use super::drive::{drive, hand_back};
use super::handler::Handler;
use super::outcome::{Done, Failure};
use super::registry::Handlers;
use crate::dispatch::messages::{Assign, AttemptDirective, Directive, LocalOffer};
use crate::projection::projector::Stop;
use crate::task::TaskId;

/// Executes attempts with this process's handlers, on threads of its own (`taskbell-work`).
///
/// Attempts that still run when the process ends are recorded as lost by the dispatcher of the next one.
#[derive(Debug)]
pub struct LocalWorker {
    handlers: Handlers,
    slots: usize,
    channels: Arc<WorkerChannels>,
    /// `None` only while the worker is dropped.
    runtime: Option<Runtime>,
    running: HashMap<(TaskId, u32), Arc<Attempt>>,
    draining: bool,
}

/// To the worker: start no more attempts. Running handlers are not told. The answer comes when all attempts have ended or
/// `within` has passed: how many still run.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "usize")]
pub struct Drain {
    /// How long to wait for running attempts.
    pub within: Duration,
}

/// The attempt has ended and leaves the table.
#[derive(Message)]
#[rtype(result = "()")]
struct Forget(TaskId, u32);

impl LocalWorker {
    /// A worker with these handlers that executes at most `slots` attempts at once. It offers them to the dispatcher when
    /// it is started.
    ///
    /// # Errors
    /// The system gives it no threads.
    pub fn new(handlers: Handlers, slots: usize, channels: WorkerChannels) -> io::Result<Self> {
        let threads = available_parallelism().map_or(2, usize::from).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(slots.saturating_mul(2).clamp(16, 4096))
            .thread_name("taskbell-work")
            .enable_all()
            .build()?;
        let (channels, runtime) = (Arc::new(channels), Some(runtime));
        Ok(Self { handlers, slots, channels, runtime, running: HashMap::new(), draining: false })
    }

    fn offer(&self, slots: usize, ctx: &actix::Context<Self>) {
        let me = ctx.address();
        self.channels.offer.do_send(LocalOffer {
            worker: self.channels.worker.clone(),
            kinds: self.handlers.kinds().map(str::to_owned).collect(),
            slots,
            assignments: me.clone().recipient(),
            directives: me.recipient(),
        });
    }

    /// The `finished` tokens of the task's attempts whose code may still run.
    fn unfinished(&self, task: TaskId) -> Vec<CancellationToken> {
        self.running.iter().filter(|((of, _), _)| *of == task).map(|(_, attempt)| attempt.finished.clone()).collect()
    }
}

impl Drop for LocalWorker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Actor for LocalWorker {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.offer(self.slots, ctx);
    }
}

impl actix::Handler<Assign> for LocalWorker {
    type Result = ();

    fn handle(&mut self, assign: Assign, ctx: &mut Self::Context) {
        let Assign { task, attempt: number, created } = assign;
        let key = (task, number);
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.running.contains_key(&key)) else { return };
        let predecessors = self.unfinished(task);
        let handler = self.handlers.get(&created.kind).cloned();
        let (attempt, acknowledgements) = Attempt::new(task, number, created, runtime.handle().clone());
        self.running.insert(key, Arc::clone(&attempt));
        let (channels, me, draining) = (Arc::clone(&self.channels), ctx.address(), self.draining);
        actix::spawn(async move {
            if draining {
                hand_back(attempt, channels).await;
            } else {
                let handler = handler.unwrap_or_else(|| Arc::new(NoHandler));
                drive(attempt, handler, acknowledgements, channels, predecessors).await;
            }
            me.do_send(Forget(task, number));
        });
    }
}

impl actix::Handler<AttemptDirective> for LocalWorker {
    type Result = ();

    fn handle(&mut self, direct: AttemptDirective, _: &mut Self::Context) {
        let Some(attempt) = self.running.get(&(direct.task, direct.attempt)) else { return };
        match direct.directive {
            Directive::Cancel => attempt.request_cancel(),
            Directive::Interrupt => attempt.request_interrupt(),
            Directive::Lost => attempt.lose(),
            // A process that stops sends its own worker the message `Drain` instead.
            Directive::Drain => {}
        }
    }
}

impl actix::Handler<Forget> for LocalWorker {
    type Result = ();

    fn handle(&mut self, Forget(task, attempt): Forget, _: &mut Self::Context) {
        self.running.remove(&(task, attempt));
    }
}

impl actix::Handler<Drain> for LocalWorker {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, drain: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        // An attempt that is assigned from now on is handed back. Without slots the dispatcher doesn't assign it again.
        self.offer(0, ctx);
        let running: Vec<_> = self.running.values().map(|attempt| attempt.finished.clone()).collect();
        Box::pin(async move {
            let all = async {
                for finished in &running {
                    finished.cancelled().await;
                }
            };
            // A timeout shows in the count.
            let _ = tokio::time::timeout(drain.within, all).await;
            running.iter().filter(|finished| !finished.is_cancelled()).count()
        })
    }
}

impl actix::Handler<Stop> for LocalWorker {
    type Result = ();

    /// The runtime is dropped with the actor: handlers that still run are dropped at their next await.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Fails an attempt of a kind that was never offered.
struct NoHandler;

#[async_trait::async_trait]
impl Handler for NoHandler {
    fn kind(&self) -> &'static str {
        ""
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        Err(Failure::fatal("no_handler", format!("no handler here for {}", ctx.kind())))
    }
}
