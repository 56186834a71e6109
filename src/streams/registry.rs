//! Finds the shard of a stream. The key of a stream determines its shard, for the whole life of the process.
//!
//! Every shard has a thread of its own. An HTTP thread may become the *host* of a shard: it then runs the shard
//! ([`Registry::host_shard_here`]). From then on the shard's commands go to actors on the host's thread. The host gives the
//! tasks that it creates ids of its shard, so that a create stays on one thread until the log's writer. The host sends commands
//! for its shard directly to the actors, without the shard's mailbox. When the host ends, commands go to the shard's own thread
//! again. When a host begins or ends, a stream may have two actors for a moment. If both append, the log refuses one of the
//! appends, because each names the revision that it expects.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr;
use std::rc::{self, Rc};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::thread::{self, ThreadId};

use actix::{Actor, Addr, Arbiter, Context, Handler, MailboxError, Recipient, ResponseFuture};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::store::{EventStore, new_id};
use crate::task::TaskId;

use super::decider::ExecuteOnStream;
use super::messages::{BeginRun, Execute, ExecuteError, Receipt};
use super::shard::{ExecuteMany, Shard, ShardActors, Sharded};

/// Routes commands to the shards, whose actors execute them. It is cheap to clone and can be used from any thread.
#[derive(Clone)]
pub struct Registry {
    store: EventStore,
    shards: Arc<[ShardEntry]>,
    /// The index of the shard that the current thread hosts; none if it hosts no shard.
    hosted_shard: Option<usize>,
}

/// The addresses of a shard.
struct ShardEntry {
    /// The shard on its own thread. It runs as long as the process.
    own_thread: Addr<Shard>,
    /// The shard on the thread that hosts it, if a thread does.
    host: RwLock<Option<Host>>,
}

/// A shard on a thread that serves requests.
struct Host {
    thread: ThreadId,
    shard: Addr<Shard>,
}

thread_local! {
    /// The shards that this thread hosts. If a shard's actor has ended, its `actors` can't be upgraded.
    static HOSTED_SHARDS: RefCell<Vec<HostedShard>> = const { RefCell::new(Vec::new()) };
}

/// A shard that the current thread hosts.
struct HostedShard {
    /// Identifies the registry, by the memory address of its shards. While the `Weak` exists, no other registry can get the
    /// same address.
    shards: Weak<[ShardEntry]>,
    index: usize,
    actors: rc::Weak<ShardActors>,
}

impl ShardEntry {
    /// The address that commands are sent to now: the host's, if it runs.
    fn current(&self) -> Addr<Shard> {
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        match &*host {
            Some(host) if host.shard.connected() => host.shard.clone(),
            Some(_) | None => self.own_thread.clone(),
        }
    }

    /// If the shard has no host that runs, makes the current thread its host and calls `on_hosted` with the shard's actors.
    /// Returns whether the current thread is the host afterwards.
    fn host_here(&self, store: &EventStore, on_hosted: impl FnOnce(rc::Weak<ShardActors>)) -> bool {
        let mut host = self.host.write().unwrap_or_else(PoisonError::into_inner);
        let here = thread::current().id();
        if let Some(host) = host.as_ref().filter(|host| host.shard.connected()) {
            return host.thread == here;
        }
        let shard = Shard::new(store.clone());
        on_hosted(shard.actors());
        *host = Some(Host { thread: here, shard: shard.start() });
        true
    }
}

impl Registry {
    /// Starts one shard on each arbiter.
    #[must_use]
    pub fn start(store: &EventStore, arbiters: &[Arbiter]) -> Self {
        let shard = |arbiter: &Arbiter| {
            let store = store.clone();
            let own_thread = Shard::start_in_arbiter(&arbiter.handle(), move |_| Shard::new(store));
            ShardEntry { own_thread, host: RwLock::new(None) }
        };
        Self { store: store.clone(), shards: arbiters.iter().map(shard).collect(), hosted_shard: None }
    }

    /// Makes the current thread the host of a shard that has no host, and returns the registry for use on this thread. If each
    /// shard has a host, the registry is returned without one. The thread must be the thread of an arbiter: when the arbiter
    /// stops, the host ends.
    #[must_use]
    pub fn host_shard_here(&self) -> Self {
        let hosted_shard = self.shards.iter().enumerate().position(|(index, shard)| {
            let shards = Arc::downgrade(&self.shards);
            shard.host_here(&self.store, |actors| {
                HOSTED_SHARDS.with_borrow_mut(|hosted| {
                    hosted.retain(|hosted| hosted.actors.strong_count() > 0);
                    hosted.push(HostedShard { shards, index, actors });
                });
            })
        });
        Self { hosted_shard, ..self.clone() }
    }

    /// The actors of this shard, if the current thread hosts it.
    fn hosted_actors(&self, shard: usize) -> Option<Rc<ShardActors>> {
        if self.hosted_shard != Some(shard) {
            return None;
        }
        let is_ours = |hosted: &&HostedShard| {
            hosted.index == shard && ptr::addr_eq(hosted.shards.as_ptr(), Arc::as_ptr(&self.shards))
        };
        HOSTED_SHARDS.with_borrow(|hosted| hosted.iter().find(is_ours).and_then(|hosted| hosted.actors.upgrade()))
    }

    /// Whether every shard runs on its own thread.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shards.iter().all(|shard| shard.own_thread.connected())
    }

    /// An id for a new task. If the current thread hosts a shard, the id belongs to that shard.
    #[must_use]
    pub fn new_task_id(&self) -> TaskId {
        let id = new_id();
        let Some(hosted_shard) = self.hosted_shard else { return TaskId::from_uuid(id) };
        TaskId::from_uuid(move_to_shard(id, hosted_shard as u64, self.shards.len() as u64))
    }

    /// Sends the command to the task's actor and waits for the answer. The events of the command are durable then.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute(&self, execute: Execute) -> Result<Receipt, ExecuteError> {
        let shard = self.shard_of(execute.task);
        if let Some(actors) = self.hosted_actors(shard) {
            let (caller, answer) = oneshot::channel();
            actors.execute(execute, caller);
            return answer.await.unwrap_or(Err(unanswered(MailboxError::Closed)));
        }
        let address = self.shards[shard].current();
        address.send(execute).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// Sends the events that begin a run to the task's actor and waits for the answer. The events are durable then.
    ///
    /// # Errors
    /// See [`BeginRun`].
    pub(super) async fn begin_run(&self, begin: BeginRun) -> Result<Receipt, ExecuteError> {
        let shard = self.shard_of(begin.task);
        if let Some(actors) = self.hosted_actors(shard) {
            let (caller, answer) = oneshot::channel();
            actors.begin_run(begin, caller);
            return answer.await.unwrap_or(Err(unanswered(MailboxError::Closed)));
        }
        let address = self.shards[shard].current();
        address.send(begin).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// The log that the actors write to.
    pub(super) const fn store(&self) -> &EventStore {
        &self.store
    }

    /// Sends commands to the actors of their tasks, which decide them concurrently. The answers are in the order of the
    /// commands. Two commands on one task are decided in their order.
    pub async fn execute_many(&self, commands: Vec<Execute>) -> Vec<Result<Receipt, ExecuteError>> {
        let mut parts: Vec<(Vec<usize>, Vec<Execute>)> = vec![<_>::default(); self.shards.len()];
        let count = commands.len();
        for (index, execute) in commands.into_iter().enumerate() {
            let (indexes, commands) = &mut parts[self.shard_of(execute.task)];
            indexes.push(index);
            commands.push(execute);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, (indexes, _))| !indexes.is_empty());
        let parts = join_all(parts.map(|(shard, (indexes, commands))| async move {
            let answers = self.execute_part(shard, commands).await;
            let answers = answers.unwrap_or_else(|error| vec![Err(unanswered(error)); indexes.len()]);
            indexes.into_iter().zip(answers)
        }));
        let mut answers = vec![Err(ExecuteError::Busy("the task's actor gave no answer")); count];
        for (index, answer) in parts.await.into_iter().flatten() {
            answers[index] = answer;
        }
        answers
    }

    /// Executes the commands of a batch that belong to one shard.
    async fn execute_part(
        &self,
        shard: usize,
        commands: Vec<Execute>,
    ) -> Result<Vec<Result<Receipt, ExecuteError>>, MailboxError> {
        let Some(actors) = self.hosted_actors(shard) else {
            return self.shards[shard].current().send(ExecuteMany(commands)).await;
        };
        let (caller, answers) = oneshot::channel();
        actors.execute_many(commands, caller);
        answers.await.map_err(|_| MailboxError::Closed)
    }

    /// Sends the command to the actor of a bell, a queue or a schedule and waits for the answer. The events of the command are
    /// durable then.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    #[expect(private_bounds, reason = "only this room decides which kinds of streams have actors")]
    pub async fn execute_on_stream<D: Sharded>(&self, execute: ExecuteOnStream<D>) -> Result<D::Answer, ExecuteError> {
        let mut hasher = DefaultHasher::new();
        execute.key.hash(&mut hasher);
        let shard = hasher.finish() % self.shards.len() as u64;
        let address = self.shards[usize::try_from(shard).unwrap_or(0)].current();
        address.send(execute).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// Starts an actor on the current thread that passes [`Execute`] to this registry, and returns its address. The
    /// worker inside the process uses the address, so that it needs no registry, also in tests.
    #[must_use]
    pub fn recipient(&self) -> Recipient<Execute> {
        Router { registry: Self { hosted_shard: None, ..self.clone() } }.start().recipient()
    }

    fn shard_of(&self, task: TaskId) -> usize {
        let (_, random) = task.uuid().as_u64_pair();
        usize::try_from(random % self.shards.len() as u64).unwrap_or(0)
    }
}

/// Changes the last bits of the id, which are random in a `UUIDv7`, so that the id belongs to this shard.
fn move_to_shard(id: Uuid, shard: u64, shards: u64) -> Uuid {
    // Only the lowest bits change, as many as the number of shards needs. The time, the version and the variant stay.
    let (time, random) = id.as_u64_pair();
    let low = shards.next_power_of_two() * 2 - 1;
    let high = random & !low;
    let offset = (shard + shards - high % shards) % shards;
    Uuid::from_u64_pair(time, high | offset)
}

fn unanswered(error: MailboxError) -> ExecuteError {
    ExecuteError::Busy(match error {
        MailboxError::Closed => "the stream's actor has stopped",
        MailboxError::Timeout => "the stream's actor did not answer in time",
    })
}

/// The actor behind [`Registry::recipient`].
struct Router {
    registry: Registry,
}

impl Actor for Router {
    type Context = Context<Self>;
}

impl Handler<Execute> for Router {
    type Result = ResponseFuture<Result<Receipt, ExecuteError>>;

    fn handle(&mut self, execute: Execute, _: &mut Context<Self>) -> Self::Result {
        let registry = self.registry.clone();
        Box::pin(async move { registry.execute(execute).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_moved_to_a_shard_belongs_to_it_and_keeps_its_time_and_its_form() {
        for shards in 1..=33 {
            for shard in 0..shards {
                let id = new_id();
                let moved = move_to_shard(id, shard, shards);
                assert_eq!(moved.as_u64_pair().1 % shards, shard, "{shards} shards");
                assert_eq!(moved.as_u64_pair().0, id.as_u64_pair().0);
                assert_eq!((moved.get_version_num(), moved.get_variant()), (7, uuid::Variant::RFC4122));
                assert!(moved.as_u128().abs_diff(id.as_u128()) < 4 * u128::from(shards), "only the lowest bits change");
            }
        }
    }

    #[actix_rt::test]
    async fn a_shard_lives_on_the_thread_of_its_host_until_that_ends() {
        let arbiter = Arbiter::new();
        let registry = Registry::start(&EventStore::memory(), &[arbiter]);
        let shard = &registry.shards[0];
        assert!(shard.current() == shard.own_thread);
        let host = Arbiter::new();
        let (hosted, is_hosted) = std::sync::mpsc::channel();
        let shared = registry.clone();
        host.spawn_fn(move || hosted.send(shared.host_shard_here().hosted_shard).unwrap());
        assert_eq!(is_hosted.recv().unwrap(), Some(0));
        assert!(shard.current() != shard.own_thread);
        assert_eq!(registry.host_shard_here().hosted_shard, None, "it has a host");
        host.stop();
        host.join().unwrap();
        assert!(shard.current() == shard.own_thread);
        assert_eq!(registry.host_shard_here().hosted_shard, Some(0), "this thread becomes the host");
    }
}
