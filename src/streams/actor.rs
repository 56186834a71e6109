//! The actor of one stream: one for each task that commands are under way for, one for each bell, queue and schedule.

use std::rc::Rc;

use actix::{Actor, ActorFutureExt, Addr, Context, ContextFutureSpawner, Handler, Message, WrapFuture};

use crate::store::{Meta, StreamName};
use crate::task::Timestamp;

use super::collector::Collector;
use super::decider::StreamDecider;
use super::directory::Directory;
use super::messages::Begin;
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

/// A request, on its way from the shard to the stream's actor.
pub(super) struct Deliver<D: StreamDecider> {
    pub(super) request: Request<D>,
    pub(super) reply: Reply<D::Answer>,
}

/// What an actor does with its stream.
pub(super) enum Request<D: StreamDecider> {
    /// Decides a command.
    Decide { command: D::Command, at: Timestamp, meta: Meta },
    /// Appends events that were decided before.
    Begin(Begin),
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
        let Deliver { request, reply } = deliver;
        let log = Rc::clone(&self.log);
        let mut state = self.state.take().unwrap_or_else(|| StreamState::unread(self.stream()));
        let decide = async move {
            let decided = match request {
                Request::Decide { command, at, meta } => state.execute(&log, &command, at, &meta).await,
                Request::Begin(begin) => state.begin(&log, begin).await,
            };
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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::store::{EventStore, LogEvent, Via, new_id, now};
    use crate::streams::decider::Decided;
    use crate::streams::messages::ExecuteError;
    use crate::streams::reply::batch;
    use crate::task::queue::{Queue, QueueCommand, QueueEvent};
    use crate::task::{Decider, Rejection, Revision};

    type Answer = Result<Decided<Fragile>, ExecuteError>;

    /// A queue whose rules have a bug: they panic at one reason.
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

        /// The actors rest after each command.
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
        log: Rc<Collector>,
        actors: Rc<StreamActors<Fragile>>,
    }

    impl Fixture {
        fn new() -> Self {
            Self { log: Collector::new(EventStore::memory()), actors: Rc::new(StreamActors::new(9)) }
        }

        /// Sends the command to the actor of the key, as a shard does.
        fn deliver(&self, key: &'static str, command: QueueCommand, reply: Reply<Decided<Fragile>>) {
            let start = || {
                let state = StreamState::unread(Fragile::stream(&key));
                StreamActor::begin(key, state, &self.log, &self.actors)
            };
            let meta = Meta {
                actor: "ann".to_owned(),
                via: Via::Http,
                correlation_id: new_id(),
                causation_id: None,
                request_id: None,
            };
            let actor = self.actors.check_out(&key, Addr::connected, start).expect("room for the actor");
            actor.do_send(Deliver { request: Request::Decide { command, at: now(), meta }, reply });
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
        for (slot, (key, command)) in batch(3, caller).zip(commands) {
            fixture.deliver(key, command, Reply::Batch(slot));
        }
        let answers: Vec<_> = answers.await.unwrap().into_iter().map(|answer| answer.map(|a| a.appended)).collect();
        assert!(matches!(answers[..], [Ok(1), Err(ExecuteError::Busy(_)), Ok(1)]), "{answers:?}");
    }
}
