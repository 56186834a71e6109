//! One part of the streams, on an arbiter of its own: the actors that own them, and how they are forgotten.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseActFuture, ResponseFuture, WrapFuture,
};
use futures_util::future::join_all;

use crate::store::{EventStore, StreamName};
use crate::task::bell::Bell;
use crate::task::queue::Queue;
use crate::task::schedule::Schedule;
use crate::task::{Rejection, TaskId, TaskStream};

use super::actor::{Ask, StreamActor, TaskActor};
use super::commit::{Logged, StreamState, execute_many};
use super::messages::{Execute, ExecuteError, ExecuteMany, Receipt};
use super::registry::stopped;

/// An actor that nobody talked to for so long is passivated: the log is its memory.
const IDLE: Duration = Duration::from_secs(30);
/// One whose attempt runs is kept longer: its end will come.
const IDLE_ACTIVE: Duration = Duration::from_mins(5);
/// How often a shard looks for idle actors.
const SWEEP: Duration = Duration::from_secs(5);
/// Actors that a shard keeps at most, apart from those whose attempt runs. An actor takes some 2 kB.
const LIVE_MAX: usize = 20_000;

struct Live {
    actor: Addr<TaskActor>,
    used: Instant,
    /// An attempt runs: more will be said of this task soon.
    active: bool,
}

/// One part of the tasks, on an arbiter of its own.
pub struct Shard {
    store: EventStore,
    live: HashMap<TaskId, Live>,
    /// Tasks that run and that nobody has talked to alone: what their streams hold, and since when.
    resting: HashMap<TaskId, (StreamState<TaskStream>, Instant)>,
    bells: Actors<Bell>,
    queues: Actors<Queue>,
    schedules: Actors<Schedule>,
}

impl Shard {
    pub(super) fn new(store: EventStore) -> Self {
        Self {
            store,
            live: HashMap::new(),
            resting: HashMap::new(),
            bells: HashMap::new(),
            queues: HashMap::new(),
            schedules: HashMap::new(),
        }
    }

    /// Asks the task's actor, which is started where there is none: with what a batch left of the task, if it did.
    fn ask(&mut self, ask: Execute) -> impl Future<Output = Answer> + use<> {
        let (now, store, resting) = (Instant::now(), &self.store, &mut self.resting);
        let live = self.live.entry(ask.task).or_insert_with(|| {
            let owned = resting.remove(&ask.task).map(|(owned, _)| owned);
            let owned = owned.unwrap_or_else(|| StreamState::unread(StreamName::task(ask.task)));
            Live { actor: TaskActor::new(store.clone(), owned).start(), used: now, active: false }
        });
        live.used = now;
        let answer = live.actor.send(ask);
        async move { answer.await.unwrap_or_else(|error| Err(stopped(error))) }
    }

    /// Keeps a task whose attempt runs: its end comes soon.
    ///
    /// If an actor was started while the batch was under way, that is the task's owner now.
    fn rest(&mut self, task: TaskId, owned: StreamState<TaskStream>, answer: &Answer) {
        if self.live.contains_key(&task) {
            return;
        }
        if answer.as_ref().is_ok_and(|receipt| receipt.task.status.is_active()) {
            self.resting.insert(task, (owned, Instant::now()));
        }
    }

    /// What an answer tells about the actor that gave it.
    fn note(&mut self, id: TaskId, answer: &Result<Receipt, ExecuteError>) {
        match answer {
            Ok(receipt) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.active = receipt.task.status.is_active();
                }
            }
            // A task that isn't there needs no actor, however often rubbish asks for one.
            Err(
                ExecuteError::Rejected(Rejection::NotFound | Rejection::Invalid(_))
                | ExecuteError::Append(_)
                | ExecuteError::Read(_),
            ) => {
                self.live.remove(&id);
            }
            Err(ExecuteError::Rejected(_) | ExecuteError::Busy(_)) => {}
        }
    }

    /// Passivation is forgetting the address: an actor ends when nobody has its address any more, and whoever waits for
    /// an answer still has it. A command that comes meanwhile starts a second owner of the stream; the expected revision
    /// keeps the two apart.
    fn sweep(&mut self) {
        let now = Instant::now();
        let keep =
            |live: &Live, idle: Duration| now.duration_since(live.used) < if live.active { IDLE_ACTIVE } else { idle };
        self.live.retain(|_, live| keep(live, IDLE));
        if self.live.len() > LIVE_MAX {
            self.live.retain(|_, live| keep(live, SWEEP));
        }
        // A long attempt is read again at its end.
        let idle = if self.resting.len() > LIVE_MAX { SWEEP } else { IDLE };
        self.resting.retain(|_, (_, since)| now.duration_since(*since) < idle);
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
        let (id, answer) = (ask.task, self.ask(ask));
        Box::pin(answer.into_actor(self).map(move |answer, this, _| {
            this.note(id, &answer);
            answer
        }))
    }
}

impl Handler<ExecuteMany> for Shard {
    type Result = ResponseActFuture<Self, Vec<Result<Receipt, ExecuteError>>>;

    /// Tasks that nobody talks to need no actor for this: the shard holds their streams meanwhile, reads them in one go and
    /// writes what they decide in one go. A task that has an actor, or is asked twice, is asked by itself afterwards.
    fn handle(&mut self, ExecuteMany(asks): ExecuteMany, _: &mut Context<Self>) -> Self::Result {
        let mut answers: Vec<Option<Answer>> = asks.iter().map(|_| None).collect();
        let (mut together, mut alone, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for (place, ask) in asks.into_iter().enumerate() {
            if self.live.contains_key(&ask.task) || !seen.insert(ask.task) {
                alone.push((place, ask));
            } else {
                let resting = self.resting.remove(&ask.task).map(|(owned, _)| owned);
                together.push((place, resting, ask));
            }
        }
        let work = decide_together(self.store.clone(), together).into_actor(self);
        let work = work.then(move |done, this, _| {
            for (place, owned, task, answer) in done {
                this.rest(task, owned, &answer);
                answers[place] = Some(answer);
            }
            let sent: Vec<_> = alone.into_iter().map(|(place, ask)| (place, ask.task, this.ask(ask))).collect();
            let answered = join_all(sent.into_iter().map(async |(place, task, answer)| (place, task, answer.await)));
            answered.into_actor(this).map(move |alone, this, _| {
                for (place, task, answer) in alone {
                    this.note(task, &answer);
                    answers[place] = Some(answer);
                }
                let none = || Err(ExecuteError::Busy("the task gave no answer"));
                answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect()
            })
        });
        Box::pin(work)
    }
}

type Answer = Result<Receipt, ExecuteError>;

/// Reads the streams that nobody has read yet, and has all decide.
async fn decide_together(
    store: EventStore,
    together: Vec<(usize, Option<StreamState<TaskStream>>, Execute)>,
) -> Vec<(usize, StreamState<TaskStream>, TaskId, Answer)> {
    let unread = together.iter().filter(|(_, resting, _)| resting.is_none());
    let unread: Vec<StreamName> = unread.map(|(_, _, ask)| StreamName::task(ask.task)).collect();
    // Where this fails each reads for itself, and says why it can't.
    let pasts = if unread.is_empty() { Ok(Vec::new()) } else { store.read_streams(unread).await };
    let mut pasts = pasts.ok().map(Vec::into_iter);
    let (mut places, mut work) = (Vec::with_capacity(together.len()), Vec::with_capacity(together.len()));
    for (place, resting, ask) in together {
        let owned = resting.unwrap_or_else(|| {
            let mut owned = StreamState::unread(StreamName::task(ask.task));
            if let Some(past) = pasts.as_mut().and_then(Iterator::next) {
                owned.remember(&past);
            }
            owned
        });
        places.push(place);
        work.push((owned, ask));
    }
    let done = execute_many(&store, work).await;
    places.into_iter().zip(done).map(|(place, (owned, ask, answer))| (place, owned, ask.task, answer)).collect()
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
