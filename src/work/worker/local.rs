//! The worker inside the server's process. It receives the same directives as a remote worker, but as messages.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Message, ResponseFuture};
use tokio::runtime::{Builder, Runtime};

use super::attempt::Attempt;
use super::context::Context;
use super::handler::Handler;
use super::latch::Latch;
use super::local_reporter::LocalReporter;
use super::outcome::{Done, Failure};
use super::registry::Handlers;
use super::run_attempt::{release, run_attempt};
use crate::dispatch::messages::{Assign, AttemptDirective, Directive, LocalOffer};
use crate::projection::projector::Stop;
use crate::task::TaskId;

/// Executes attempts with the handlers of this process, on threads of its own (`taskbell-work`).
///
/// If attempts still run when the process ends, the dispatcher of the next process records them as lost.
#[derive(Debug)]
pub struct LocalWorker {
    handlers: Handlers,
    slots: usize,
    reporter: Arc<LocalReporter>,
    /// `None` only while the worker is dropped.
    runtime: Option<Runtime>,
    running: HashMap<(TaskId, u32), Arc<Attempt>>,
    is_draining: bool,
}

/// A message to the worker: it starts no more attempts. Running handlers get no notice. The response is sent when all
/// attempts have ended or `within` has passed. It is the number of attempts that still run.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "usize")]
pub struct Drain {
    /// How long to wait for running attempts.
    pub within: Duration,
}

/// A message of the worker to itself: the attempt has ended and is removed from `running`.
#[derive(Message)]
#[rtype(result = "()")]
struct RemoveAttempt(TaskId, u32);

impl LocalWorker {
    /// Makes a worker with these handlers that executes at most `slots` attempts at once. When its actor starts, it
    /// sends the kinds and the slots to the dispatcher.
    ///
    /// # Errors
    /// The system can't start the threads.
    pub fn new(handlers: Handlers, slots: usize, reporter: LocalReporter) -> io::Result<Self> {
        let threads = available_parallelism().map_or(2, usize::from).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(slots.saturating_mul(2).clamp(16, 4096))
            .thread_name("taskbell-work")
            .enable_all()
            .build()?;
        let (reporter, runtime) = (Arc::new(reporter), Some(runtime));
        Ok(Self { handlers, slots, reporter, runtime, running: HashMap::new(), is_draining: false })
    }

    /// Sends the dispatcher the kinds of this worker and the number of its slots.
    fn offer(&self, slots: usize, ctx: &actix::Context<Self>) {
        let address = ctx.address();
        self.reporter.offer.do_send(LocalOffer {
            worker: self.reporter.worker.clone(),
            kinds: self.handlers.kinds().map(str::to_owned).collect(),
            slots,
            assignments: address.clone().recipient(),
            directives: address.recipient(),
        });
    }

    /// Returns the latches `finished` of the task's attempts whose code may still run.
    fn unfinished(&self, task: TaskId) -> Vec<Latch> {
        self.running
            .iter()
            .filter(|((other, _), _)| *other == task)
            .map(|(_, attempt)| attempt.finished.clone())
            .collect()
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
        let (reporter, address, is_draining) = (Arc::clone(&self.reporter), ctx.address(), self.is_draining);
        actix::spawn(async move {
            if is_draining {
                release(attempt, reporter).await;
            } else {
                let handler = handler.unwrap_or_else(|| Arc::new(NoHandler));
                run_attempt(attempt, handler, acknowledgements, reporter, predecessors).await;
            }
            address.do_send(RemoveAttempt(task, number));
        });
    }
}

impl actix::Handler<AttemptDirective> for LocalWorker {
    type Result = ();

    fn handle(&mut self, message: AttemptDirective, _: &mut Self::Context) {
        let Some(attempt) = self.running.get(&(message.task, message.attempt)) else { return };
        match message.directive {
            Directive::Cancel => attempt.request_cancel(),
            Directive::Interrupt => attempt.request_interrupt(),
            Directive::Lost => attempt.lose(),
            // This directive is for remote workers. Before it stops, the process sends this worker the message `Drain`.
            Directive::Drain => {}
        }
    }
}

impl actix::Handler<RemoveAttempt> for LocalWorker {
    type Result = ();

    fn handle(&mut self, RemoveAttempt(task, attempt): RemoveAttempt, _: &mut Self::Context) {
        self.running.remove(&(task, attempt));
    }
}

impl actix::Handler<Drain> for LocalWorker {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, drain: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.is_draining = true;
        // If the dispatcher assigns an attempt after this, the attempt is released. Because the worker has no slots
        // now, the dispatcher doesn't assign the attempt to it again.
        self.offer(0, ctx);
        let running: Vec<_> = self.running.values().map(|attempt| attempt.finished.clone()).collect();
        Box::pin(async move {
            let all_finished = async {
                for finished in &running {
                    finished.wait().await;
                }
            };
            // After a timeout, the count below is above zero.
            let _ = tokio::time::timeout(drain.within, all_finished).await;
            running.iter().filter(|finished| !finished.is_set()).count()
        })
    }
}

impl actix::Handler<Stop> for LocalWorker {
    type Result = ();

    /// The runtime is dropped with the actor. Handlers that still run are dropped at their next await.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Fails each attempt. It is used for a kind without a handler.
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
