//! The door to everything that owns a stream: each is on the shard that its name chooses.

use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Context, Handler, MailboxError, Recipient, ResponseFuture};
use futures_util::future::join_all;

use crate::store::EventStore;
use crate::task::{Command, TaskId};

use super::actor::Ask;
use super::commit::begin_many;
use super::messages::{Execute, ExecuteError, ExecuteMany, Receipt};
use super::shard::{Aside, Shard};

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

pub(super) fn stopped(error: MailboxError) -> ExecuteError {
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
