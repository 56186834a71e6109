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

use super::actor::{Deliver, StreamActor, StreamActors};
use super::collector::Collector;
use super::decider::{ExecuteOn, StreamDecider};
use super::messages::{Execute, ExecuteError, Receipt};
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
        self.deliver::<TaskStream>(&task, Deliver { command, at, meta, reply: Reply::One(caller) });
    }

    /// Passes the commands on to the tasks' actors; the caller is answered when all have answered.
    pub(super) fn execute_many(
        &self,
        commands: Vec<Execute>,
        caller: OneshotSender<Vec<Result<Receipt, ExecuteError>>>,
    ) {
        for (slot, Execute { task, command, at, meta }) in batch(commands.len(), caller).zip(commands) {
            self.deliver::<TaskStream>(&task, Deliver { command, at, meta, reply: Reply::Batch(slot) });
        }
    }

    /// Sends the command to the stream's actor.
    fn deliver<D: Sharded>(&self, key: &D::Key, deliver: Deliver<D>) {
        let actors = D::actors(self);
        let start = || {
            let stream = D::stream(key);
            let state =
                if D::begins(&deliver.command) { StreamState::new_stream(stream) } else { StreamState::unread(stream) };
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
        // Single commands wait for the shard to pass them on, never for their own end.
        ctx.set_mailbox_capacity(1024);
    }
}

/// A message that the shard passes on: whoever sent it is answered by the streams' actors.
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
        streams.deliver::<D>(&key, Deliver { command, at, meta, reply: Reply::One(caller) });
    }
}
