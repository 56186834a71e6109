//! Finds the shard of a stream: each stream is on the shard that its key chooses, as long as the process lives.
//!
//! Every shard has a thread of its own to begin with. A thread that serves requests may become the host of a shard
//! ([`Registry::hosted_here`]): from then on the shard's commands go to actors on that thread, and the tasks that it accepts
//! get ids of its own shard, so that a create crosses no thread before the log's writer. Commands that the host sends to its
//! own shard go to the actors directly, past the shard's mailbox. When the host ends, commands go to
//! the shard's own thread again. At either change a stream may have two actors for a moment; the expected revision keeps
//! them apart.

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

use super::decider::ExecuteOn;
use super::messages::{Begin, Execute, ExecuteError, Receipt};
use super::shard::{ExecuteMany, Shard, Sharded, Streams};

/// The way to the actors of all streams: cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Registry {
    store: EventStore,
    places: Arc<[Place]>,
    /// The shard that the current thread hosts, if it does.
    home: Option<usize>,
}

/// A shard, and where it lives.
struct Place {
    /// On a thread of its own, for as long as the process lives.
    own: Addr<Shard>,
    host: RwLock<Option<Host>>,
}

/// A shard on a thread that serves requests.
struct Host {
    thread: ThreadId,
    shard: Addr<Shard>,
}

thread_local! {
    /// The shards that this thread hosts. A host that has ended is gone from memory.
    static HOSTED: RefCell<Vec<Hosted>> = const { RefCell::new(Vec::new()) };
}

/// A shard that the current thread hosts.
struct Hosted {
    /// Identifies the registry by the address of its places. The `Weak` keeps the address from being used again.
    places: Weak<[Place]>,
    home: usize,
    streams: rc::Weak<Streams>,
}

impl Place {
    /// Where commands go now.
    fn shard(&self) -> Addr<Shard> {
        let host = self.host.read().unwrap_or_else(PoisonError::into_inner);
        match &*host {
            Some(host) if host.shard.connected() => host.shard.clone(),
            Some(_) | None => self.own.clone(),
        }
    }

    /// Whether this thread hosts the shard; where no living thread does, it becomes the host, and `hosted` gets the streams.
    fn host_here(&self, store: &EventStore, hosted: impl FnOnce(rc::Weak<Streams>)) -> bool {
        let mut host = self.host.write().unwrap_or_else(PoisonError::into_inner);
        let here = thread::current().id();
        if let Some(host) = host.as_ref().filter(|host| host.shard.connected()) {
            return host.thread == here;
        }
        let shard = Shard::new(store.clone());
        hosted(shard.streams());
        *host = Some(Host { thread: here, shard: shard.start() });
        true
    }
}

impl Registry {
    /// Starts one shard on each arbiter.
    #[must_use]
    pub fn start(store: &EventStore, arbiters: &[Arbiter]) -> Self {
        let place = |arbiter: &Arbiter| {
            let store = store.clone();
            let own = Shard::start_in_arbiter(&arbiter.handle(), move |_| Shard::new(store));
            Place { own, host: RwLock::new(None) }
        };
        Self { store: store.clone(), places: arbiters.iter().map(place).collect(), home: None }
    }

    /// The same registry for the current thread, which hosts a shard from now on, if there is one without a host. For a
    /// thread that runs actors and ends with its arbiter.
    #[must_use]
    pub fn hosted_here(&self) -> Self {
        let home = self.places.iter().enumerate().position(|(home, place)| {
            let places = Arc::downgrade(&self.places);
            place.host_here(&self.store, |streams| {
                HOSTED.with_borrow_mut(|hosted| {
                    hosted.retain(|hosted| hosted.streams.strong_count() > 0);
                    hosted.push(Hosted { places, home, streams });
                });
            })
        });
        Self { home, ..self.clone() }
    }

    /// The streams of this shard, if the current thread hosts it.
    fn streams_here(&self, place: usize) -> Option<Rc<Streams>> {
        if self.home != Some(place) {
            return None;
        }
        let is_ours =
            |hosted: &&Hosted| hosted.home == place && ptr::addr_eq(hosted.places.as_ptr(), Arc::as_ptr(&self.places));
        HOSTED.with_borrow(|hosted| hosted.iter().find(is_ours).and_then(|hosted| hosted.streams.upgrade()))
    }

    /// Whether every shard lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.places.iter().all(|place| place.own.connected())
    }

    /// An id for a new task, on the shard of the current thread if it hosts one.
    #[must_use]
    pub fn new_task_id(&self) -> TaskId {
        let id = new_id();
        let Some(home) = self.home else { return TaskId::from_uuid(id) };
        TaskId::from_uuid(on_shard(id, home as u64, self.places.len() as u64))
    }

    /// Has the task's actor decide the command; what it led to is durable when this answers.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    pub async fn execute(&self, execute: Execute) -> Result<Receipt, ExecuteError> {
        let place = self.place_of(execute.task);
        if let Some(streams) = self.streams_here(place) {
            let (caller, answer) = oneshot::channel();
            streams.execute(execute, caller);
            return answer.await.unwrap_or(Err(unanswered(MailboxError::Closed)));
        }
        let shard = self.places[place].shard();
        shard.send(execute).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// Has the task's actor append the begin of a run; it is durable when this answers.
    ///
    /// # Errors
    /// See [`Begin`].
    pub(super) async fn begin(&self, begin: Begin) -> Result<Receipt, ExecuteError> {
        let place = self.place_of(begin.task);
        if let Some(streams) = self.streams_here(place) {
            let (caller, answer) = oneshot::channel();
            streams.begin(begin, caller);
            return answer.await.unwrap_or(Err(unanswered(MailboxError::Closed)));
        }
        let shard = self.places[place].shard();
        shard.send(begin).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// The log that the actors write.
    pub(super) const fn store(&self) -> &EventStore {
        &self.store
    }

    /// Has many tasks' actors decide their commands, side by side; the answers come in the same order. Two commands on one
    /// task are decided in their order.
    pub async fn execute_many(&self, commands: Vec<Execute>) -> Vec<Result<Receipt, ExecuteError>> {
        let mut parts: Vec<(Vec<usize>, Vec<Execute>)> = vec![<_>::default(); self.places.len()];
        let count = commands.len();
        for (at, execute) in commands.into_iter().enumerate() {
            let (order, commands) = &mut parts[self.place_of(execute.task)];
            order.push(at);
            commands.push(execute);
        }
        let parts = parts.into_iter().enumerate().filter(|(_, (order, _))| !order.is_empty());
        let parts = join_all(parts.map(|(place, (order, commands))| async move {
            let answers = self.execute_part(place, commands).await;
            let answers = answers.unwrap_or_else(|error| vec![Err(unanswered(error)); order.len()]);
            order.into_iter().zip(answers)
        }));
        let mut answers = vec![Err(ExecuteError::Busy("the task's actor gave no answer")); count];
        for (at, answer) in parts.await.into_iter().flatten() {
            answers[at] = answer;
        }
        answers
    }

    /// The commands of a batch that belong to one shard.
    async fn execute_part(
        &self,
        place: usize,
        commands: Vec<Execute>,
    ) -> Result<Vec<Result<Receipt, ExecuteError>>, MailboxError> {
        let Some(streams) = self.streams_here(place) else {
            return self.places[place].shard().send(ExecuteMany(commands)).await;
        };
        let (caller, answers) = oneshot::channel();
        streams.execute_many(commands, caller);
        answers.await.map_err(|_| MailboxError::Closed)
    }

    /// Has the actor of a bell, a queue or a schedule decide the command; what it led to is durable when this answers.
    ///
    /// # Errors
    /// See [`ExecuteError`].
    #[expect(private_bounds, reason = "which streams have actors is decided here")]
    pub async fn execute_on<D: Sharded>(&self, execute: ExecuteOn<D>) -> Result<D::Answer, ExecuteError> {
        let mut hasher = DefaultHasher::new();
        execute.key.hash(&mut hasher);
        let place = hasher.finish() % self.places.len() as u64;
        let shard = self.places[usize::try_from(place).unwrap_or(0)].shard();
        shard.send(execute).await.unwrap_or_else(|error| Err(unanswered(error)))
    }

    /// A recipient of [`Execute`] for rooms that must not import the registry.
    #[must_use]
    pub fn recipient(&self) -> Recipient<Execute> {
        Router { registry: Self { home: None, ..self.clone() } }.start().recipient()
    }

    fn place_of(&self, task: TaskId) -> usize {
        let (_, random) = task.uuid().as_u64_pair();
        usize::try_from(random % self.places.len() as u64).unwrap_or(0)
    }
}

/// The id with its last bits, which are random in a `UUIDv7`, moved so that it belongs to this shard.
fn on_shard(id: Uuid, shard: u64, shards: u64) -> Uuid {
    // Only the lowest bits change, as many as are needed to choose a shard: the time, the version and the variant stay.
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

/// Passes commands on to the right shard.
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
                let moved = on_shard(id, shard, shards);
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
        let place = &registry.places[0];
        assert!(place.shard() == place.own);
        let host = Arbiter::new();
        let (hosted, is_hosted) = std::sync::mpsc::channel();
        let shared = registry.clone();
        host.spawn_fn(move || hosted.send(shared.hosted_here().home).unwrap());
        assert_eq!(is_hosted.recv().unwrap(), Some(0));
        assert!(place.shard() != place.own);
        assert_eq!(registry.hosted_here().home, None, "it has a host");
        host.stop();
        host.join().unwrap();
        assert!(place.shard() == place.own);
        assert_eq!(registry.hosted_here().home, Some(0), "this thread becomes the host");
    }
}
