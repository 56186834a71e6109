//! A shard: the actors of a part of the streams, on one thread, and their collector.
//!
//! A shard forwards each command to the actor of the stream, and starts the actor if there is none. The actor sends the answer
//! directly to the caller. The actor of a create starts with an empty state, without a read, because its stream is expected
//! to be new.

use std::rc::{Rc, Weak};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Addr, Context, Handler, Message};

use crate::store::EventStore;
use crate::task::bell::Bell;
use crate::task::queue::Queue;
use crate::task::schedule::Schedule;
use crate::task::session::Session;
use crate::task::token::Token;
use crate::task::{Command, TaskStream};

use super::actor::{StreamActor, StreamActors, StreamMessage, StreamRequest};
use super::collector::Collector;
use super::decider::{ExecuteOnStream, StreamDecider};
use super::messages::{BeginRun, Execute, ExecuteError, Receipt};
use super::reply::{Reply, batch_slots};
use super::stream_state::StreamState;

/// The maximum number of actors of each kind in a shard. An actor takes about 2 kB of memory.
const ACTORS_MAX: usize = 20_000;

/// The actor of a shard; see the module.
pub(super) struct Shard {
    actors: Rc<ShardActors>,
}

/// The stream actors of a shard and their collector.
pub(super) struct ShardActors {
    collector: Rc<Collector>,
    tasks: Rc<StreamActors<TaskStream>>,
    bells: Rc<StreamActors<Bell>>,
    queues: Rc<StreamActors<Queue>>,
    schedules: Rc<StreamActors<Schedule>>,
    tokens: Rc<StreamActors<Token>>,
    sessions: Rc<StreamActors<Session>>,
}

/// A kind of stream whose actors are in a shard.
pub(super) trait Sharded: StreamDecider {
    /// The actors of this kind.
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>>;

    /// Whether the command is expected to be the first one on its stream.
    fn is_first_command(_: &Self::Command) -> bool {
        false
    }
}

impl Sharded for TaskStream {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.tasks
    }

    fn is_first_command(command: &Command) -> bool {
        matches!(command, Command::Create(_))
    }
}

impl Sharded for Bell {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.bells
    }
}

impl Sharded for Queue {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.queues
    }
}

impl Sharded for Schedule {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.schedules
    }
}

impl Sharded for Token {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.tokens
    }
}

impl Sharded for Session {
    fn actors(actors: &ShardActors) -> &Rc<StreamActors<Self>> {
        &actors.sessions
    }
}

impl Shard {
    /// A shard without actors. Its collector writes to this log.
    pub(super) fn new(store: EventStore) -> Self {
        let actors = ShardActors {
            collector: Collector::new(store),
            tasks: Rc::new(StreamActors::new(ACTORS_MAX)),
            bells: Rc::new(StreamActors::new(ACTORS_MAX)),
            queues: Rc::new(StreamActors::new(ACTORS_MAX)),
            schedules: Rc::new(StreamActors::new(ACTORS_MAX)),
            tokens: Rc::new(StreamActors::new(ACTORS_MAX)),
            sessions: Rc::new(StreamActors::new(ACTORS_MAX)),
        };
        Self { actors: Rc::new(actors) }
    }

    /// A weak reference to the actors of the shard. It is valid while the shard runs.
    pub(super) fn actors(&self) -> Weak<ShardActors> {
        Rc::downgrade(&self.actors)
    }
}

impl ShardActors {
    /// Forwards the command to the task's actor, which answers the caller.
    pub(super) fn execute(&self, execute: Execute, caller: OneshotSender<Result<Receipt, ExecuteError>>) {
        let Execute { task, command, at, meta } = execute;
        let request = StreamRequest::Decide { command, at, meta };
        self.deliver::<TaskStream>(&task, StreamMessage { request, reply: Reply::One(caller) });
    }

    /// Forwards the events that begin a run to the task's actor, which answers the caller.
    pub(super) fn begin_run(&self, begin: BeginRun, caller: OneshotSender<Result<Receipt, ExecuteError>>) {
        let task = begin.task;
        self.deliver::<TaskStream>(
            &task,
            StreamMessage { request: StreamRequest::BeginRun(begin), reply: Reply::One(caller) },
        );
    }

    /// Forwards the commands to the actors of their tasks. The caller gets all answers together, when the last one is there.
    pub(super) fn execute_many(
        &self,
        commands: Vec<Execute>,
        caller: OneshotSender<Vec<Result<Receipt, ExecuteError>>>,
    ) {
        for (slot, Execute { task, command, at, meta }) in batch_slots(commands.len(), caller).zip(commands) {
            let request = StreamRequest::Decide { command, at, meta };
            self.deliver::<TaskStream>(&task, StreamMessage { request, reply: Reply::Batch(slot) });
        }
    }

    /// Sends the message to the stream's actor, and starts the actor if there is none.
    fn deliver<D: Sharded>(&self, key: &D::Key, message: StreamMessage<D>) {
        let actors = D::actors(self);
        let start = || {
            let stream = D::stream(key);
            let is_new = match &message.request {
                StreamRequest::Decide { command, .. } => D::is_first_command(command),
                StreamRequest::BeginRun(begin) => begin.expected_revision.is_none(),
            };
            let state = if is_new { StreamState::new_stream(stream) } else { StreamState::unread(stream) };
            StreamActor::spawn(key.clone(), state, &self.collector, actors)
        };
        match actors.begin_command(key, Addr::connected, start) {
            // `do_send` ignores the mailbox's bound. The directory bounds the commands that wait.
            Some(actor) => actor.do_send(message),
            None => message.reply.send(Err(ExecuteError::Busy("too many commands wait for this stream"))),
        }
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // A full mailbox only delays the forwarding of commands. Actors that have commands go on.
        ctx.set_mailbox_capacity(1024);
    }
}

/// A message that the shard forwards to a stream's actor, which answers the sender.
///
/// [`Handler::handle`] doesn't get the channel to the caller. So it returns the message in a `Forwarded`, and actix calls
/// [`MessageResponse::handle`] with that and with the channel. There the message goes to the stream's actor together with the
/// channel.
pub(super) struct Forwarded<M>(Rc<ShardActors>, M);

impl Handler<Execute> for Shard {
    type Result = Forwarded<Execute>;

    fn handle(&mut self, execute: Execute, _: &mut Context<Self>) -> Forwarded<Execute> {
        Forwarded(Rc::clone(&self.actors), execute)
    }
}

impl MessageResponse<Shard, Execute> for Forwarded<Execute> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<Receipt, ExecuteError>>>) {
        let (Self(actors, execute), Some(caller)) = (self, caller) else { return };
        actors.execute(execute, caller);
    }
}

impl Handler<BeginRun> for Shard {
    type Result = Forwarded<BeginRun>;

    fn handle(&mut self, begin: BeginRun, _: &mut Context<Self>) -> Forwarded<BeginRun> {
        Forwarded(Rc::clone(&self.actors), begin)
    }
}

impl MessageResponse<Shard, BeginRun> for Forwarded<BeginRun> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<Receipt, ExecuteError>>>) {
        let (Self(actors, begin), Some(caller)) = (self, caller) else { return };
        actors.begin_run(begin, caller);
    }
}

/// Commands on many tasks of one shard. Their actors decide them concurrently, and the collector writes them together.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Result<Receipt, ExecuteError>>")]
pub(super) struct ExecuteMany(pub(super) Vec<Execute>);

impl Handler<ExecuteMany> for Shard {
    type Result = Forwarded<ExecuteMany>;

    fn handle(&mut self, execute: ExecuteMany, _: &mut Context<Self>) -> Forwarded<ExecuteMany> {
        Forwarded(Rc::clone(&self.actors), execute)
    }
}

impl MessageResponse<Shard, ExecuteMany> for Forwarded<ExecuteMany> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Vec<Result<Receipt, ExecuteError>>>>) {
        let (Self(actors, ExecuteMany(commands)), Some(caller)) = (self, caller) else { return };
        actors.execute_many(commands, caller);
    }
}

impl<D: Sharded> Handler<ExecuteOnStream<D>> for Shard {
    type Result = Forwarded<ExecuteOnStream<D>>;

    fn handle(&mut self, execute: ExecuteOnStream<D>, _: &mut Context<Self>) -> Forwarded<ExecuteOnStream<D>> {
        Forwarded(Rc::clone(&self.actors), execute)
    }
}

impl<D: Sharded> MessageResponse<Shard, ExecuteOnStream<D>> for Forwarded<ExecuteOnStream<D>> {
    fn handle(self, _: &mut Context<Shard>, caller: Option<OneshotSender<Result<D::Answer, ExecuteError>>>) {
        let (Self(actors, ExecuteOnStream { key, command, at, meta }), Some(caller)) = (self, caller) else { return };
        let request = StreamRequest::Decide { command, at, meta };
        actors.deliver::<D>(&key, StreamMessage { request, reply: Reply::One(caller) });
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
    use crate::task::command::AttemptEnd;
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
        Command::Start { worker: "w".to_owned(), lease_hash: "0".repeat(64) }
    }

    fn finish() -> Command {
        let end = AttemptEnd::Succeeded { message: None, result: None };
        Command::Finish { attempt: 1, lease_hash: None, end, progress: None, output: None }
    }

    /// A shard's actors, with at most `limit` actors of tasks.
    fn streams(store: &EventStore, limit: usize) -> Rc<ShardActors> {
        let actors = Rc::into_inner(Shard::new(store.clone()).actors).unwrap();
        Rc::new(ShardActors { tasks: Rc::new(StreamActors::new(limit)), ..actors })
    }

    impl ShardActors {
        /// Sends the command to the task's actor.
        fn send(&self, task: TaskId, command: Command) -> oneshot::Receiver<Result<Receipt, ExecuteError>> {
            let (caller, answer) = oneshot::channel();
            let reply = Reply::One(caller);
            let request = StreamRequest::Decide { command, at: now(), meta: meta() };
            self.deliver::<TaskStream>(&task, StreamMessage { request, reply });
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
    async fn no_more_actors_run_than_the_limit_and_each_of_many_attempts_can_end() {
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
    async fn while_each_actor_has_a_command_under_way_the_next_stream_is_busy_and_nothing_of_it_is_written() {
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
        for (slot, task) in zip(batch_slots(tasks.len(), caller), &tasks) {
            let reply = Reply::Batch(slot);
            let request = StreamRequest::Decide { command: create(), at: now(), meta: meta() };
            streams.deliver::<TaskStream>(task, StreamMessage { request, reply });
        }
        let again = streams.run(tasks[99], create()).await.unwrap_err();
        assert_eq!(again, ExecuteError::Rejected(Rejection::AlreadyExists));
    }
}
