//! The actor of one stream. A stream (of a task, a bell, a queue or a schedule) has an actor while commands for it are under
//! way; see [`Directory`].

use std::rc::Rc;

use actix::{Actor, ActorFutureExt, Addr, Context, ContextFutureSpawner, Handler, Message, WrapFuture};

use crate::store::{Meta, StreamName};
use crate::task::Timestamp;

use super::collector::Collector;
use super::decider::StreamDecider;
use super::directory::Directory;
use super::messages::BeginRun;
use super::reply::Reply;
use super::stream_state::StreamState;

/// The actors of one kind of stream on this thread.
pub(super) type StreamActors<D> = Directory<<D as StreamDecider>::Key, Addr<StreamActor<D>>>;

/// Decides the commands on one stream, one after the other, in the order in which they arrived.
///
/// Its state is computed from the log alone. So the actor may end at any time, and its successor reads the stream.
pub(super) struct StreamActor<D: StreamDecider> {
    key: D::Key,
    collector: Rc<Collector>,
    actors: Rc<StreamActors<D>>,
    /// None while a command is executed.
    state: Option<StreamState<D>>,
}

/// The message from the shard to the stream's actor: a request, and where its answer goes.
pub(super) struct StreamMessage<D: StreamDecider> {
    pub(super) request: StreamRequest<D>,
    pub(super) reply: Reply<D::Answer>,
}

/// A request to the actor of a stream.
pub(super) enum StreamRequest<D: StreamDecider> {
    /// Decide this command.
    Decide { command: D::Command, at: Timestamp, meta: Meta },
    /// Append events that were decided before.
    BeginRun(BeginRun),
}

impl<D: StreamDecider> Message for StreamMessage<D> {
    type Result = ();
}

impl<D: StreamDecider> StreamActor<D> {
    /// Starts an actor for this stream on the current thread.
    pub(super) fn spawn(
        key: D::Key,
        state: StreamState<D>,
        collector: &Rc<Collector>,
        actors: &Rc<StreamActors<D>>,
    ) -> Addr<Self> {
        Self { key, collector: Rc::clone(collector), actors: Rc::clone(actors), state: Some(state) }.start()
    }

    fn stream(&self) -> StreamName {
        D::stream(&self.key)
    }
}

impl<D: StreamDecider> Actor for StreamActor<D> {
    type Context = Context<Self>;
}

impl<D: StreamDecider> Handler<StreamMessage<D>> for StreamActor<D> {
    type Result = ();

    /// Executes the request completely before the next message is handled. If the process stops meanwhile, the write may still
    /// happen. Then the caller is answered that the outcome is unknown.
    fn handle(&mut self, message: StreamMessage<D>, ctx: &mut Context<Self>) {
        let StreamMessage { request, reply } = message;
        let collector = Rc::clone(&self.collector);
        let mut state = self.state.take().unwrap_or_else(|| StreamState::unread(self.stream()));
        let execution = async move {
            let decided = match request {
                StreamRequest::Decide { command, at, meta } => state.execute(&collector, &command, at, &meta).await,
                StreamRequest::BeginRun(begin) => state.begin_run(&collector, begin).await,
            };
            (state, decided)
        };
        let answer = execution.into_actor(self).map(move |(state, decided), this, _: &mut Context<Self>| {
            // The directory is updated before the answer is sent. So if a caller that has its answer sends another command, the
            // directory does not return an actor that is about to end.
            this.actors.check_in(&this.key, state.expects_more());
            this.state = Some(state);
            reply.send(decided.and_then(D::answer));
        });
        answer.wait(ctx);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::store::{EventStore, LogEvent, Via, new_id, now};
    use crate::streams::decider::Decided;
    use crate::streams::messages::ExecuteError;
    use crate::streams::reply::batch_slots;
    use crate::task::queue::{Queue, QueueCommand, QueueEvent};
    use crate::task::{Decider, Rejection, Revision};

    type Answer = Result<Decided<Fragile>, ExecuteError>;

    /// A queue whose rules have a bug: they panic if the reason of a pause is "panic".
    #[derive(Clone, Debug, Default)]
    struct Fragile(Queue);

    impl Decider for Fragile {
        type Command = QueueCommand;
        type Event = QueueEvent;

        fn decide(&self, command: &QueueCommand, now: Timestamp) -> Result<Vec<QueueEvent>, Rejection> {
            assert_ne!(*command, pause("panic"), "a bug in the rules");
            self.0.decide(command, now)
        }

        fn evolve(&mut self, event: &QueueEvent) {
            self.0.evolve(event);
        }
    }

    impl StreamDecider for Fragile {
        type Key = &'static str;
        type Answer = Decided<Self>;

        fn stream(name: &&'static str) -> StreamName {
            StreamName::queue(name)
        }

        fn to_log(event: QueueEvent) -> LogEvent {
            Queue::to_log(event)
        }

        fn from_log(event: &LogEvent) -> Option<&QueueEvent> {
            Queue::from_log(event)
        }

        fn answer(decided: Decided<Self>) -> Answer {
            Ok(decided)
        }

        /// The actors stay in the directory after each command.
        fn expects_more(&self) -> bool {
            true
        }
    }

    fn pause(reason: &str) -> QueueCommand {
        QueueCommand::Pause { reason: Some(reason.to_owned()) }
    }

    fn resume() -> QueueCommand {
        QueueCommand::Resume { reason: None }
    }

    struct Fixture {
        collector: Rc<Collector>,
        actors: Rc<StreamActors<Fragile>>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { collector: Collector::new(EventStore::memory()), actors: Rc::new(StreamActors::new(9)) }
        }

        /// Sends the command to the actor of the key, as a shard does.
        fn deliver(&self, key: &'static str, command: QueueCommand, reply: Reply<Decided<Fragile>>) {
            let start = || {
                let state = StreamState::unread(Fragile::stream(&key));
                StreamActor::spawn(key, state, &self.collector, &self.actors)
            };
            let meta = Meta {
                actor: "ann".to_owned(),
                via: Via::Http,
                correlation_id: new_id(),
                causation_id: None,
                request_id: None,
            };
            let actor = self.actors.check_out(&key, Addr::connected, start).expect("room for the actor");
            actor.do_send(StreamMessage { request: StreamRequest::Decide { command, at: now(), meta }, reply });
        }

        fn send(&self, key: &'static str, command: QueueCommand) -> oneshot::Receiver<Answer> {
            let (caller, answer) = oneshot::channel();
            self.deliver(key, command, Reply::One(caller));
            answer
        }
    }

    #[actix_rt::test]
    async fn an_actor_whose_decision_panics_is_replaced_and_only_the_commands_that_it_had_go_without_an_answer() {
        let fixture = Fixture::new();
        fixture.send("mail", pause("full")).await.unwrap().unwrap();
        let [panics, behind] = [pause("panic"), resume()].map(|command| fixture.send("mail", command));
        let beside = fixture.send("disk", pause("full"));
        assert!(panics.await.is_err() && behind.await.is_err(), "their callers see that the actor is gone");
        assert_eq!(beside.await.unwrap().unwrap().appended, 1, "the actor of another stream lives");
        let next = fixture.send("mail", resume()).await.unwrap().unwrap();
        assert_eq!((next.appended, next.revision), (1, Some(Revision(1))), "the next actor knows of the pause");
        assert_eq!(fixture.actors.len(), 2);
    }

    #[actix_rt::test]
    async fn in_a_batch_the_command_of_an_actor_that_dies_is_busy_and_the_others_have_their_answers() {
        let fixture = Fixture::new();
        let (caller, answers) = oneshot::channel();
        let commands = [("mail", pause("full")), ("disk", pause("panic")), ("tape", pause("full"))];
        for (slot, (key, command)) in batch_slots(3, caller).zip(commands) {
            fixture.deliver(key, command, Reply::Batch(slot));
        }
        let answers: Vec<_> = answers.await.unwrap().into_iter().map(|answer| answer.map(|a| a.appended)).collect();
        assert!(matches!(answers[..], [Ok(1), Err(ExecuteError::Busy(_)), Ok(1)]), "{answers:?}");
    }
}
