//! Finds the actor of a task, or starts it, on the shard that its id chooses; forgets it when it has been idle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, Arbiter, AsyncContext, Context, Handler, MailboxError, Recipient, ResponseActFuture,
    ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;

use crate::store::{EventStore, Recorded, StreamName};
use crate::task::bell::Bell;
use crate::task::queue::Queue;
use crate::task::schedule::Schedule;
use crate::task::{Command, Rejection, TaskId};

use super::commit::{Logged, begin_many};
use super::messages::{Execute, ExecuteError, ExecuteMany, Receipt};
use super::task::{Ask, StreamActor, TaskActor};

/// An actor that nobody talked to for so long is passivated: the log is its memory.
const IDLE: Duration = Duration::from_secs(30);
/// How often a shard looks for idle actors.
const SWEEP: Duration = Duration::from_secs(5);
/// Actors that a shard keeps at most, apart from those whose attempt runs. An actor takes some 2 kB.
const LIVE_MAX: usize = 20_000;

/// The door to all tasks, bells, queues and schedules: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Registry {
    store: EventStore,
    shards: Arc<[Addr<Shard>]>,
    door: Addr<Door>,
}

impl Registry {
    /// Starts one shard on each arbiter.
    ///
    /// # Panics
    /// Where there is no arbiter.
    #[must_use]
    pub fn start(store: &EventStore, arbiters: &[Arbiter]) -> Self {
        let shards: Arc<[Addr<Shard>]> = arbiters
            .iter()
            .map(|arbiter| {
                let store = store.clone();
                Shard::start_in_arbiter(&arbiter.handle(), move |_| Shard::new(store))
            })
            .collect();
        let door = Door { shards: shards.clone() }.start();
        Self { store: store.clone(), shards, door }
    }

    /// Takes on new tasks, all of them in one write. A task that begins has no stream yet, so it needs no actor: that starts
    /// with the first command about it. The answers come in the same order.
    pub async fn begin_many(&self, asks: Vec<Execute>) -> Vec<Result<Receipt, ExecuteError>> {
        begin_many(&self.store, asks).await
    }

    /// Has the task's actor decide the command; what it led to is durable when this answers.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute(&self, ask: Execute) -> Result<Receipt, ExecuteError> {
        if matches!(ask.command, Command::Create(_)) {
            let begun = self.begin_many(vec![ask]).await.pop();
            return begun.unwrap_or(Err(ExecuteError::Busy("the log gave no answer")));
        }
        shard_of(&self.shards, ask.task).send(ask).await.unwrap_or_else(|error| Err(stopped(error)))
    }

    /// Has many tasks decide their commands, side by side; the answers come in the same order.
    pub async fn execute_many(&self, asks: Vec<Execute>) -> Vec<Result<Receipt, ExecuteError>> {
        let mut by_shard: Vec<(Vec<usize>, Vec<Execute>)> = vec![<_>::default(); self.shards.len()];
        let mut answers: Vec<_> =
            asks.iter().map(|_| Err(ExecuteError::Busy("the task's actor gave no answer"))).collect();
        for (place, ask) in asks.into_iter().enumerate() {
            let (places, asks) = &mut by_shard[shard_index(self.shards.len(), ask.task)];
            places.push(place);
            asks.push(ask);
        }
        let parts = self.shards.iter().zip(by_shard).filter(|(_, (places, _))| !places.is_empty());
        let parts = join_all(parts.map(|(shard, (places, asks))| async move {
            let answers = shard.send(ExecuteMany(asks)).await;
            (places, answers)
        }));
        for (places, part) in parts.await {
            match part {
                Ok(part) => places.into_iter().zip(part).for_each(|(place, answer)| answers[place] = answer),
                Err(error) => places.into_iter().for_each(|place| answers[place] = Err(stopped(error))),
            }
        }
        answers
    }

    /// Has a bell, a queue or a schedule decide the command; answers what it is afterwards, and how many events that took.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn ask<D>(&self, ask: Ask<D>) -> Result<(D, usize), ExecuteError>
    where
        D: Aside,
    {
        let shard =
            ask.stream.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_add(byte.into())) % self.shards.len();
        self.shards[shard].send(ask).await.unwrap_or_else(|error| Err(stopped(error)))
    }

    /// The same door for somebody who knows messages only.
    #[must_use]
    pub fn door(&self) -> Recipient<Execute> {
        self.door.clone().recipient()
    }
}

fn stopped(error: MailboxError) -> ExecuteError {
    ExecuteError::Busy(match error {
        MailboxError::Closed => "the task's actor has stopped",
        MailboxError::Timeout => "the task's actor did not answer in time",
    })
}

fn shard_of(shards: &[Addr<Shard>], id: TaskId) -> &Addr<Shard> {
    &shards[shard_index(shards.len(), id)]
}

fn shard_index(shards: usize, id: TaskId) -> usize {
    // The last bytes of a UUIDv7 are random; the first are the time.
    let random = id.uuid().as_u64_pair().1;
    usize::try_from(random % shards as u64).unwrap_or(0)
}

/// Forwards to the right shard.
struct Door {
    shards: Arc<[Addr<Shard>]>,
}

impl Actor for Door {
    type Context = Context<Self>;
}

impl Handler<Execute> for Door {
    type Result = ResponseFuture<Result<Receipt, ExecuteError>>;

    fn handle(&mut self, ask: Execute, _: &mut Context<Self>) -> Self::Result {
        let shard = shard_of(&self.shards, ask.task).clone();
        Box::pin(async move { shard.send(ask).await.unwrap_or_else(|error| Err(stopped(error))) })
    }
}

struct Live {
    actor: Addr<TaskActor>,
    used: Instant,
    /// An attempt runs: more will be said of this task soon.
    active: bool,
}

/// One part of the tasks, on an arbiter of its own.
pub struct Shard {
    store: EventStore,
    tasks: HashMap<TaskId, Live>,
    bells: Actors<Bell>,
    queues: Actors<Queue>,
    schedules: Actors<Schedule>,
}

impl Shard {
    fn new(store: EventStore) -> Self {
        Self { store, tasks: HashMap::new(), bells: HashMap::new(), queues: HashMap::new(), schedules: HashMap::new() }
    }

    fn find_or_start(&mut self, ask: &Execute) -> Addr<TaskActor> {
        let now = Instant::now();
        let store = &self.store;
        let live = self.tasks.entry(ask.task).or_insert_with(|| Live {
            actor: TaskActor::of(store.clone(), StreamName::task(ask.task)).start(),
            used: now,
            active: false,
        });
        live.used = now;
        live.actor.clone()
    }

    /// Starts the actor of a task whose past has been read already, unless somebody was quicker.
    fn start_with(&mut self, id: TaskId, past: &[Arc<Recorded>]) {
        let store = &self.store;
        self.tasks.entry(id).or_insert_with(|| Live {
            actor: TaskActor::with_past(store.clone(), id, past).start(),
            used: Instant::now(),
            active: false,
        });
    }

    /// What an answer tells about the actor that gave it.
    fn note(&mut self, id: TaskId, answer: &Result<Receipt, ExecuteError>) {
        match answer {
            Ok(receipt) => {
                if let Some(live) = self.tasks.get_mut(&id) {
                    live.active = receipt.task.status.is_active();
                }
            }
            // A task that isn't there needs no actor, however often rubbish asks for one.
            Err(
                ExecuteError::Rejected(Rejection::NotFound | Rejection::Invalid(_))
                | ExecuteError::Append(_)
                | ExecuteError::Read(_),
            ) => {
                self.tasks.remove(&id);
            }
            Err(ExecuteError::Rejected(_) | ExecuteError::Busy(_)) => {}
        }
    }

    /// Passivation is forgetting the address: an actor ends when nobody has its address any more, and whoever waits for
    /// an answer still has it. A command that comes meanwhile starts a second owner of the stream; the expected revision
    /// keeps the two apart.
    fn sweep(&mut self) {
        let now = Instant::now();
        let keep = |live: &Live, idle: Duration| live.active || now.duration_since(live.used) < idle;
        self.tasks.retain(|_, live| keep(live, IDLE));
        if self.tasks.len() > LIVE_MAX {
            self.tasks.retain(|_, live| keep(live, SWEEP));
        }
        self.bells.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        self.queues.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
        self.schedules.retain(|_, (_, used)| now.duration_since(*used) < IDLE);
    }
}

/// The actors of streams that are no task's, and when each was used last.
pub type Actors<D> = HashMap<StreamName, (Addr<StreamActor<D>>, Instant)>;

/// What owns a stream beside the tasks.
pub trait Aside: Logged<Command: Send + 'static> + Unpin + Send {
    /// Where a shard keeps its actors.
    fn actors(shard: &mut Shard) -> &mut Actors<Self>;
}

impl Aside for Bell {
    fn actors(shard: &mut Shard) -> &mut Actors<Self> {
        &mut shard.bells
    }
}

impl Aside for Queue {
    fn actors(shard: &mut Shard) -> &mut Actors<Self> {
        &mut shard.queues
    }
}

impl Aside for Schedule {
    fn actors(shard: &mut Shard) -> &mut Actors<Self> {
        &mut shard.schedules
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(SWEEP, |this, _| this.sweep());
    }
}

impl Handler<Execute> for Shard {
    type Result = ResponseActFuture<Self, Result<Receipt, ExecuteError>>;

    fn handle(&mut self, ask: Execute, _: &mut Context<Self>) -> Self::Result {
        let (id, actor) = (ask.task, self.find_or_start(&ask));
        Box::pin(actor.send(ask).into_actor(self).map(move |answer, this, _| {
            let answer = answer.unwrap_or_else(|error| Err(stopped(error)));
            this.note(id, &answer);
            answer
        }))
    }
}

impl Handler<ExecuteMany> for Shard {
    type Result = ResponseActFuture<Self, Vec<Result<Receipt, ExecuteError>>>;

    /// The streams of tasks that have no actor yet are read in one go, before their actors are started.
    fn handle(&mut self, ExecuteMany(asks): ExecuteMany, _: &mut Context<Self>) -> Self::Result {
        let unread = asks.iter().filter(|ask| !self.tasks.contains_key(&ask.task));
        let unread: Vec<TaskId> = unread.map(|ask| ask.task).collect();
        let store = self.store.clone();
        let read = async move {
            if unread.is_empty() {
                return Vec::new();
            }
            let streams = unread.iter().copied().map(StreamName::task).collect();
            // Where this fails the actors read for themselves, and say why they can't.
            unread.into_iter().zip(store.read_streams(streams).await.unwrap_or_default()).collect()
        };
        Box::pin(
            read.into_actor(self)
                .then(|pasts, this, _| {
                    for (id, past) in pasts {
                        this.start_with(id, &past);
                    }
                    let sent = asks.into_iter().map(|ask| (ask.task, this.find_or_start(&ask).send(ask)));
                    let sent = join_all(sent.map(|(id, answer)| async move { (id, answer.await) }).collect::<Vec<_>>());
                    sent.into_actor(this)
                })
                .map(|answers, this, _| {
                    let noted = answers.into_iter().map(|(id, answer)| {
                        let answer = answer.unwrap_or_else(|error| Err(stopped(error)));
                        this.note(id, &answer);
                        answer
                    });
                    noted.collect()
                }),
        )
    }
}

impl<D: Aside> Handler<Ask<D>> for Shard {
    type Result = ResponseFuture<Result<(D, usize), ExecuteError>>;

    fn handle(&mut self, ask: Ask<D>, _: &mut Context<Self>) -> Self::Result {
        let (store, stream) = (self.store.clone(), ask.stream.clone());
        let start = move || (StreamActor::of(store, stream).start(), Instant::now());
        let (actor, used) = D::actors(self).entry(ask.stream.clone()).or_insert_with(start);
        *used = Instant::now();
        let actor = actor.clone();
        Box::pin(async move { actor.send(ask).await.unwrap_or_else(|error| Err(stopped(error))) })
    }
}
