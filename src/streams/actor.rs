//! The actor of one stream: one for each task that commands are under way for, one for each bell, queue and schedule.

use std::rc::Rc;

use actix::{Actor, ActorFutureExt, Addr, Context, ContextFutureSpawner, Handler, Message, WrapFuture};

use crate::store::{Meta, StreamName};
use crate::task::Timestamp;

use super::collector::Collector;
use super::decider::StreamDecider;
use super::directory::Directory;
use super::reply::Reply;
use super::stream_state::StreamState;

/// The actors of one kind of streams on this thread.
pub(super) type StreamActors<D> = Directory<<D as StreamDecider>::Key, Addr<StreamActor<D>>>;

/// Decides the commands on one stream, one after the other, in the order in which they came.
///
/// It keeps no memory that the log doesn't have: it may end at any time, and the next one reads the stream.
pub(super) struct StreamActor<D: StreamDecider> {
    key: D::Key,
    log: Rc<Collector>,
    actors: Rc<StreamActors<D>>,
    /// None only while a command is under way.
    state: Option<StreamState<D>>,
}

/// A command, on its way from the shard to the stream's actor.
pub(super) struct Deliver<D: StreamDecider> {
    pub(super) command: D::Command,
    pub(super) at: Timestamp,
    pub(super) meta: Meta,
    pub(super) reply: Reply<D::Answer>,
}

impl<D: StreamDecider> Message for Deliver<D> {
    type Result = ();
}

impl<D: StreamDecider> StreamActor<D> {
    /// Starts the actor of this stream on the current thread.
    pub(super) fn begin(
        key: D::Key,
        state: StreamState<D>,
        log: &Rc<Collector>,
        actors: &Rc<StreamActors<D>>,
    ) -> Addr<Self> {
        Self { key, log: Rc::clone(log), actors: Rc::clone(actors), state: Some(state) }.start()
    }

    fn stream(&self) -> StreamName {
        D::stream(&self.key)
    }
}

impl<D: StreamDecider> Actor for StreamActor<D> {
    type Context = Context<Self>;
}

impl<D: StreamDecider> Handler<Deliver<D>> for StreamActor<D> {
    type Result = ();

    /// Runs the command to its end before the next message is looked at. If the process stops half-way, the write may still
    /// happen; its caller is told that the outcome is unknown, and the next actor finds it in the log.
    fn handle(&mut self, deliver: Deliver<D>, ctx: &mut Context<Self>) {
        let Deliver { command, at, meta, reply } = deliver;
        let log = Rc::clone(&self.log);
        let mut state = self.state.take().unwrap_or_else(|| StreamState::unread(self.stream()));
        let decide = async move {
            let decided = state.execute(&log, &command, at, &meta).await;
            (state, decided)
        };
        let answer = decide.into_actor(self).map(move |(state, decided), this, _: &mut Context<Self>| {
            // The address goes first: a caller that has its answer finds no actor that is about to end.
            this.actors.check_in(&this.key, state.expects_more());
            this.state = Some(state);
            reply.send(decided.and_then(D::answer));
        });
        answer.wait(ctx);
    }
}
