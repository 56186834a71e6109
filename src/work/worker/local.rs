//! The worker inside the process: a worker without a wire. The same messages, the same ladder.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Message, Recipient, ResponseFuture};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::drive::{drive, hand_back};
use super::handler::{Done, Failure, Handler};
use super::registry::Handlers;
use crate::dispatch::messages::{Assign, Direct, Directive, Offer, Stopped};
use crate::projection::projector::{NoteProgress, Stop};
use crate::streams::messages::Execute;
use crate::task::TaskId;

/// The worker's name and the doors by which it speaks.
#[derive(Clone)]
pub struct Doors {
    /// Its name, `local/<server>/<boot>`.
    pub worker: String,
    /// By which all commands go.
    pub execute: Recipient<Execute>,
    /// The dispatcher: what can be executed here.
    pub offer: Recipient<Offer>,
    /// The dispatcher: a slot is free.
    pub stopped: Recipient<Stopped>,
    /// The projector: passing remarks.
    pub progress: Recipient<NoteProgress>,
}

impl fmt::Debug for Doors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doors").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// Executes attempts with this process's handlers, on threads of its own (`taskbell-work`).
///
/// A process that stops cuts running attempts off; the dispatcher of the next one records them as lost.
#[derive(Debug)]
pub struct LocalWorker {
    handlers: Handlers,
    slots: usize,
    doors: Arc<Doors>,
    /// Taken only on the way out.
    runtime: Option<Runtime>,
    running: HashMap<(TaskId, u32), Arc<Attempt>>,
    draining: bool,
}

/// To the worker: begin nothing more. Answers how many attempts still run when all are over or `within` has passed;
/// running handlers are told nothing.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "usize")]
pub struct Drain {
    /// How long to wait for running attempts.
    pub within: Duration,
}

/// From an attempt's own end, to be forgotten.
#[derive(Message)]
#[rtype(result = "()")]
struct Forget(TaskId, u32);

impl LocalWorker {
    /// A worker with these hands that executes at most `slots` attempts at once. It offers itself when it is started.
    ///
    /// # Errors
    /// What the system says where it gives no threads.
    pub fn new(handlers: Handlers, slots: usize, doors: Doors) -> io::Result<Self> {
        let threads = available_parallelism().map_or(2, usize::from).max(2);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(slots.saturating_mul(2).clamp(16, 4096))
            .thread_name("taskbell-work")
            .enable_all()
            .build()?;
        let (doors, runtime) = (Arc::new(doors), Some(runtime));
        Ok(Self { handlers, slots, doors, runtime, running: HashMap::new(), draining: false })
    }

    fn offer(&self, slots: usize, ctx: &actix::Context<Self>) {
        let me = ctx.address();
        self.doors.offer.do_send(Offer {
            worker: self.doors.worker.clone(),
            kinds: self.handlers.kinds().map(str::to_owned).collect(),
            slots,
            assign: me.clone().recipient(),
            direct: me.recipient(),
        });
    }

    /// The lives of attempts of this task whose code may still run.
    fn formers(&self, task: TaskId) -> Vec<CancellationToken> {
        self.running.iter().filter(|((of, _), _)| *of == task).map(|(_, attempt)| attempt.over.clone()).collect()
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
        let formers = self.formers(task);
        let handler = self.handlers.get(&created.kind).cloned();
        let (attempt, acks) = Attempt::new(task, number, created, runtime.handle().clone());
        self.running.insert(key, Arc::clone(&attempt));
        let (doors, me, draining) = (Arc::clone(&self.doors), ctx.address(), self.draining);
        actix::spawn(async move {
            if draining {
                hand_back(attempt, doors).await;
            } else {
                let handler = handler.unwrap_or_else(|| Arc::new(NoHandler));
                drive(attempt, handler, acks, doors, formers).await;
            }
            me.do_send(Forget(task, number));
        });
    }
}

impl actix::Handler<Direct> for LocalWorker {
    type Result = ();

    fn handle(&mut self, direct: Direct, _: &mut Self::Context) {
        let Some(attempt) = self.running.get(&(direct.task, direct.attempt)) else { return };
        match direct.directive {
            Directive::Cancel => attempt.ask(),
            Directive::Interrupt => {
                attempt.ask();
                attempt.cut.cancel();
            }
            Directive::Lost => attempt.lose(),
            // On its way out the process drains its worker by a message of its own.
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
        // What is on its way already is handed back; nothing must be assigned again for that.
        self.offer(0, ctx);
        let lives: Vec<_> = self.running.values().map(|attempt| attempt.over.clone()).collect();
        Box::pin(async move {
            let all = async {
                for life in &lives {
                    life.cancelled().await;
                }
            };
            // Out of time is an answer too: it is in the count.
            let _ = tokio::time::timeout(drain.within, all).await;
            lives.iter().filter(|life| !life.is_cancelled()).count()
        })
    }
}

impl actix::Handler<Stop> for LocalWorker {
    type Result = ();

    /// With the actor goes the runtime: what still runs is dropped at its next await.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Stands in where an attempt of a kind arrives that was never offered.
struct NoHandler;

#[async_trait::async_trait]
impl Handler for NoHandler {
    fn kind(&self) -> &'static str {
        ""
    }

    async fn run(&self, ctx: crate::work::Context) -> Result<Done, Failure> {
        Err(Failure::fatal("no_handler", format!("no handler here for {}", ctx.kind())))
    }
}
