//! One part of the streams, on one thread: their actors, and the collector under them.
//!
//! A shard passes each command on to the actor of its stream, which it starts where there is none; the answer goes from
//! that actor straight to the caller. A create starts its actor on a stream that is believed to be new, without a read.

use std::rc::{Rc, Weak};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Addr, Context, Handler, Message};

use crate::store::EventStore;
use crate::task::bell::Bell;
use crate::task::queue::Queue;
use crate::task::schedule::Schedule;
use crate::task::{Command, TaskStream};

use super::actor::{Deliver, Request, StreamActor, StreamActors};
use super::collector::Collector;
use super::decider::{ExecuteOn, StreamDecider};
use super::messages::{Begin, Execute, ExecuteError, Receipt};
use super::reply::{Reply, batch};
use super::stream_state::StreamState;

/// Actors of each kind that a shard keeps at most. An actor takes some 2 kB.
const ACTORS_MAX: usize = 20_000;

/// One part of the streams; see the module.
pub(super) struct Shard {
    streams: Rc<Streams>,
}

/// The actors of a thread.
pub(super) struct Streams {
    log: Rc<Collector>,
    tasks: Rc<StreamActors<TaskStream>>,
    bells: Rc<StreamActors<Bell>>,
    queues: Rc<StreamActors<Queue>>,
    schedules: Rc<StreamActors<Schedule>>,
}

/// A kind of streams whose actors a shard keeps.
pub(super) trait Sharded: StreamDecider {
    /// Where a shard finds them.
    fn actors(streams: &Streams) -> &Rc<StreamActors<Self>>;

    /// Whether the command is the first one on its stream.
    fn begins(_: &Self::Command) -> bool {
        false
    }
}

impl Sharded for TaskStream {
    fn actors(streams: &Streams) -> &Rc<StreamActors<Self>> {
        &streams.tasks
    }

    fn begins(command: &Command) -> bool {
        matches!(command, Command::Create(_))
    }
}

impl Sharded for Bell {
    fn actors(streams: &Streams) -> &Rc<StreamActors<Self>> {
        &streams.bells
    }
}

impl Sharded for Queue {
    fn actors(streams: &Streams) -> &Rc<StreamActors<Self>> {
        &streams.queues
    }
}

impl Sharded for Schedule {
    fn actors(streams: &Streams) -> &Rc<StreamActors<Self>> {
        &streams.schedules
    }
}

impl Shard {
    /// A shard of the streams of this log, on the current thread.
    pub(super) fn new(store: EventStore) -> Self {
        let streams = Streams {
            log: Collector::new(store),
            tasks: Rc::new(StreamActors::new(ACTORS_MAX)),
            bells: Rc::new(StreamActors::new(ACTORS_MAX)),
            queues: Rc::new(StreamActors::new(ACTORS_MAX)),
            schedules: Rc::new(StreamActors::new(ACTORS_MAX)),
        };
        Self { streams: Rc::new(streams) }
    }

    /// The actors of the shard, for as long as it lives.
    pub(super) fn streams(&self) -> Weak<Streams> {
        Rc::downgrade(&self.streams)
    }
}

impl Streams {
    /// Passes the command on to the task's actor, which answers the caller.
    pub(super) fn execute(&self, execute: Execute, caller: OneshotSender<Result<Receipt, ExecuteError>>) {
        let Execute { task, command, at, meta } = execute;
        let request = Request::Decide { command, at, meta };
        self.deliver::<TaskStream>(&task, Deliver { request, reply: Reply::One(caller) });
    }

    /// Passes the begin of a run on to the task's actor, which answers the caller.
    pub(super) fn begin(&self, begin: Begin, caller: OneshotSender<Result<Receipt, ExecuteError>>) {
        let task = begin.task;
        self.deliver::<TaskStream>(&task, Deliver { request: Request::Begin(begin), reply: Reply::One(caller) });
    }

    /// Passes the commands on to the tasks' actors; the caller is answered when all have answered.
    pub(super) fn execute_many(
        &self,
        commands: Vec<Execute>,
        caller: OneshotSender<Vec<Result<Receipt, ExecuteError>>>,
    ) {
        for (slot, Execute { task, command, at, meta }) in batch(commands.len(), caller).zip(commands) {
            let request = Request::Decide { command, at, meta };
            self.deliver::<TaskStream>(&task, Deliver { request, reply: Reply::Batch(slot) });
        }
    }

    /// Sends the command to the stream's actor.
    fn deliver<D: Sharded>(&self, key: &D::Key, deliver: Deliver<D>) {
        let actors = D::actors(self);
        let start = || {
            let stream = D::stream(key);
            let is_new = match &deliver.request {
                Request::Decide { command, .. } => D::begins(command),
                Request::Begin(begin) => begin.expected.is_none(),
            };
            let state = if is_new { StreamState::new_stream(stream) } else { StreamState::unread(stream) };
            StreamActor::begin(key.clone(), state, &self.log, actors)
        };
        match actors.check_out(key, Addr::connected, start) {
            // Without a bound, because the directory has one.
            Some(actor) => actor.do_send(deliver),
            None => deliver.reply.send(Err(ExecuteError::Busy("too many commands wait for this stream"))),
        }
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A full mailbox delays only the hand-over of a command to its actor, never its execution.
        ctx.set_mailbox_capacity(1024);
    }
}

/// A message that the shard hands over: the streams' actors answer its sender.
pub(super) struct PassedOn<M>(Rc<Streams>, M);

impl Handler<Execute> for Shard {
    type Result = PassedOn<Execute>;

    fn handle(&mut self, execute: Execute, _: &mut Context<Self>) -> PassedOn<Execute> {
        PassedOn(Rc::clone(&self.streams), execute)
    }
}

impl MessageResponse<Shard, Execute> for PassedOn<Execute> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<Receipt, ExecuteError>>>) {
        let (Self(streams, execute), Some(caller)) = (self, caller) else { return };
        streams.execute(execute, caller);
    }
}

impl Handler<Begin> for Shard {
    type Result = PassedOn<Begin>;

    fn handle(&mut self, begin: Begin, _: &mut Context<Self>) -> PassedOn<Begin> {
        PassedOn(Rc::clone(&self.streams), begin)
    }
}

impl MessageResponse<Shard, Begin> for PassedOn<Begin> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<Receipt, ExecuteError>>>) {
        let (Self(streams, begin), Some(caller)) = (self, caller) else { return };
        streams.begin(begin, caller);
    }
}

/// Commands on many tasks of one shard. They are decided side by side, and the log makes them durable together.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Result<Receipt, ExecuteError>>")]
pub(super) struct ExecuteMany(pub(super) Vec<Execute>);

impl Handler<ExecuteMany> for Shard {
    type Result = PassedOn<ExecuteMany>;

    fn handle(&mut self, execute: ExecuteMany, _: &mut Context<Self>) -> PassedOn<ExecuteMany> {
        PassedOn(Rc::clone(&self.streams), execute)
    }
}

impl MessageResponse<Shard, ExecuteMany> for PassedOn<ExecuteMany> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Vec<Result<Receipt, ExecuteError>>>>) {
        let (Self(streams, ExecuteMany(commands)), Some(caller)) = (self, caller) else { return };
        streams.execute_many(commands, caller);
    }
}

impl<D: Sharded> Handler<ExecuteOn<D>> for Shard {
    type Result = PassedOn<ExecuteOn<D>>;

    fn handle(&mut self, execute: ExecuteOn<D>, _: &mut Context<Self>) -> PassedOn<ExecuteOn<D>> {
        PassedOn(Rc::clone(&self.streams), execute)
    }
}

impl<D: Sharded> MessageResponse<Shard, ExecuteOn<D>> for PassedOn<ExecuteOn<D>> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<D::Answer, ExecuteError>>>) {
        let (Self(streams, ExecuteOn { key, command, at, meta }), Some(caller)) = (self, caller) else { return };
        let request = Request::Decide { command, at, meta };
        streams.deliver::<D>(&key, Deliver { request, reply: Reply::One(caller) });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::iter::zip;
    use std::sync::Arc;

    use futures_util::future::join_all;
    use tokio::sync::oneshot;

    use super::*;
    use crate::store::{Meta, Via, new_id, now};
    use crate::task::command::End;
    use crate::task::event::Created;
    use crate::task::{Rejection, Revision, TaskId};

    fn meta() -> Meta {
        Meta { actor: "ann".to_owned(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None }
    }

    fn create() -> Command {
        Command::Create(Arc::new(Created {
            kind: "mail.send".to_owned(),
            title: "a task".to_owned(),
            owner: "ann".to_owned(),
            input: crate::task::JsonText::default(),
            queue: "default".to_owned(),
            priority: 0,
            run_at: None,
            max_attempts: 1,
            timeout_s: None,
            labels: BTreeMap::new(),
            parent: None,
            unique_key: None,
            concurrency_key: None,
            schedule: None,
            idempotency: None,
        }))
    }

    fn start() -> Command {
        Command::Start { worker: "w".to_owned(), lease: "0".repeat(64) }
    }

    fn finish() -> Command {
        let end = End::Succeeded { message: None, result: None };
        Command::Finish { attempt: 1, lease: None, end, progress: None, output: None }
    }

    /// The streams of this thread, with room for so many actors of tasks.
    fn streams(store: &EventStore, limit: usize) -> Rc<Streams> {
        let Streams { log, bells, queues, schedules, .. } = Rc::into_inner(Shard::new(store.clone()).streams).unwrap();
        Rc::new(Streams { log, tasks: Rc::new(StreamActors::new(limit)), bells, queues, schedules })
    }

    impl Streams {
        /// Sends the command to its actor.
        fn send(&self, task: TaskId, command: Command) -> oneshot::Receiver<Result<Receipt, ExecuteError>> {
            let (reply, answer) = oneshot::channel();
            let reply = Reply::One(reply);
            let request = Request::Decide { command, at: now(), meta: meta() };
            self.deliver::<TaskStream>(&task, Deliver { request, reply });
            answer
        }

        async fn run(&self, task: TaskId, command: Command) -> Result<Receipt, ExecuteError> {
            self.send(task, command).await.unwrap()
        }
    }

    fn new_task() -> TaskId {
        TaskId::from_uuid(new_id())
    }

    #[actix_rt::test]
    async fn an_actor_lives_while_a_command_or_an_attempt_is_under_way() {
        let streams = streams(&EventStore::memory(), 9);
        let task = new_task();
        for (command, live) in [(create(), 0), (start(), 1), (finish(), 0)] {
            let answer = streams.send(task, command);
            assert_eq!(streams.tasks.len(), 1);
            answer.await.unwrap().unwrap();
            assert_eq!(streams.tasks.len(), live);
        }
    }

    #[actix_rt::test]
    async fn however_many_attempts_run_no_more_actors_live_than_there_is_room_for_and_each_attempt_can_end() {
        let streams = streams(&EventStore::memory(), 3);
        let tasks: Vec<TaskId> = (0..50).map(|_| new_task()).collect();
        for (number, task) in tasks.iter().enumerate() {
            streams.run(*task, create()).await.unwrap();
            streams.run(*task, start()).await.unwrap();
            assert_eq!(streams.tasks.len(), 3.min(number + 1));
        }
        for task in tasks {
            assert_eq!(streams.run(task, finish()).await.unwrap().revision, Revision(2));
        }
        assert_eq!(streams.tasks.len(), 0);
    }

    #[actix_rt::test]
    async fn where_each_actor_has_a_command_under_way_the_next_stream_is_busy_and_nothing_of_it_is_written() {
        let store = EventStore::memory();
        let streams = streams(&store, 2);
        let tasks: Vec<TaskId> = (0..3).map(|_| new_task()).collect();
        let answers = join_all(tasks.iter().map(|task| streams.send(*task, create()))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert!(matches!(answers[..], [Ok(_), Ok(_), Err(ExecuteError::Busy(_))]), "{answers:?}");
        assert_eq!(store.head().position.0, 2);
        streams.run(tasks[2], create()).await.unwrap();
    }

    #[actix_rt::test]
    async fn a_command_whose_caller_has_gone_is_decided_and_the_next_one_finds_it() {
        let store = EventStore::memory();
        let streams = streams(&store, 9);
        let task = new_task();
        drop(streams.send(task, create()));
        drop(streams.send(task, start()));
        assert_eq!(streams.run(task, finish()).await.unwrap().revision, Revision(2));
        assert_eq!((streams.tasks.len(), store.head().position.0), (0, 3));
    }

    #[actix_rt::test]
    async fn the_commands_of_a_batch_whose_caller_has_gone_are_decided() {
        let store = EventStore::memory();
        let streams = streams(&store, 100);
        let (caller, answers) = oneshot::channel();
        drop(answers);
        let tasks: Vec<TaskId> = (0..100).map(|_| new_task()).collect();
        for (slot, task) in zip(batch(tasks.len(), caller), &tasks) {
            let reply = Reply::Batch(slot);
            let request = Request::Decide { command: create(), at: now(), meta: meta() };
            streams.deliver::<TaskStream>(task, Deliver { request, reply });
        }
        let again = streams.run(tasks[99], create()).await.unwrap_err();
        assert_eq!(again, ExecuteError::Rejected(Rejection::AlreadyExists));
    }
}
