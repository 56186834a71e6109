//! Unique keys and idempotency keys on a log that several servers write. The views of these servers stay empty, so only the
//! claims can enforce the keys.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::join_all;
use taskbell::store::{EventStore, LogEvent, now};
use taskbell::streams::claims::record::ClaimKey;
use taskbell::streams::create::{Accepted, CommittedViews, UniqueKeys, create, find_claimed, retry};
use taskbell::streams::messages::{Execute, ExecuteError, Receipt};
use taskbell::streams::registry::Registry;
use taskbell::task::event::Idempotency;
use taskbell::task::{Command, Rejection, Revision, Status, Task, TaskId, evolve};
use taskbell::views::Views;
use taskbell::wire::stand_in::{Database, NodeHandle as DatabaseServer};

use super::{cancel, in_time, meta, new_task, registry};
use crate::proxy::{Mode, Proxy};
use crate::views::history::{Created, plain};

mod crash;
mod import;
mod random;
mod schema;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A stand-in database that several servers share.
struct Fixture {
    database: Database,
    server: DatabaseServer,
}

impl Fixture {
    async fn start() -> Self {
        let database = Database::new();
        let server = database.serve(ANY_PORT).await.unwrap();
        Self { database, server }
    }

    async fn new_server(&self) -> ServerWriteSide {
        ServerWriteSide::connect(self.server.addr()).await
    }

    async fn servers<const N: usize>(&self) -> [ServerWriteSide; N] {
        let servers = join_all((0..N).map(|_| self.new_server())).await;
        servers.try_into().ok().unwrap()
    }

    /// A server whose connections to the database go through a proxy.
    async fn proxied(&self) -> (Proxy, ServerWriteSide) {
        let proxy = Proxy::start(self.server.addr()).await;
        let server = ServerWriteSide::connect(proxy.addr()).await;
        (proxy, server)
    }

    /// The names of the streams of claims.
    fn key_streams(&self) -> Vec<String> {
        self.database.streams().into_iter().filter(|name| name.starts_with("taskbell_aux.key-")).collect()
    }

    fn claims(&self) -> usize {
        self.key_streams().iter().map(|name| self.database.stream(name).len()).sum()
    }

    /// The number of events in the log.
    fn events(&self) -> u64 {
        self.database.all().iter().filter(|event| event.stream.starts_with("taskbell.")).count() as u64
    }

    /// The number of tasks in the log.
    fn tasks(&self) -> usize {
        self.database.streams().iter().filter(|name| name.starts_with("taskbell.task-")).count()
    }
}

/// The parts of a server that write: a store, a registry and the keys.
struct ServerWriteSide {
    store: EventStore,
    registry: Registry,
    keys: UniqueKeys,
}

impl ServerWriteSide {
    async fn connect(addr: SocketAddr) -> Self {
        let store = EventStore::connect(format!("esdb://{addr}?tls=false").parse().unwrap()).unwrap();
        in_time(store.wait_for_health(true)).await.unwrap();
        let registry = registry(&store, 2);
        Self { store, registry, keys: UniqueKeys::default() }
    }

    async fn create_with_id(&self, id: TaskId, created: Created) -> Result<Accepted, ExecuteError> {
        in_time(create(&self.registry, &EmptyViews, &self.keys, created, id, now(), meta())).await
    }

    async fn create(&self, created: Created) -> Result<Accepted, ExecuteError> {
        self.create_with_id(new_task(), created).await
    }

    async fn retry(&self, task: TaskId) -> Result<Receipt, ExecuteError> {
        let command = execute(task, Command::Retry { reason: None });
        in_time(retry(&self.registry, &EmptyViews, &self.keys, command)).await
    }

    async fn cancel(&self, task: TaskId) {
        let receipt = in_time(self.registry.execute(execute(task, cancel(None)))).await.unwrap();
        assert_eq!(receipt.task.status, Status::Cancelled);
    }
}

fn execute(task: TaskId, command: Command) -> Execute {
    Execute { task, command, at: now(), meta: meta() }
}

/// Views that always stay empty.
#[derive(Clone)]
struct EmptyViews;

impl CommittedViews for EmptyViews {
    fn with_views<T>(&self, read: impl FnOnce(&Views) -> T) -> T {
        read(&Views::default())
    }

    async fn wait_for_revision(&self, _: TaskId, _: Revision) -> bool {
        false
    }
}

fn unique(key: &str) -> Created {
    Created { unique_key: Some(key.to_owned()), ..plain("ann", "a task") }
}

fn idempotent(key: &str, body: &str) -> Created {
    Created { idempotency: Some(idempotency(key, body)), ..plain("ann", "a task") }
}

fn with_both_keys(unique_key: &str, key: &str, body: &str) -> Created {
    Created { idempotency: Some(idempotency(key, body)), ..unique(unique_key) }
}

fn idempotency(key: &str, body: &str) -> Idempotency {
    Idempotency { key: key.to_owned(), body_hash: body.to_owned() }
}

/// The outcome as a word, and the task in it.
fn outcome_of(answer: &Result<Accepted, ExecuteError>) -> (&'static str, Option<TaskId>) {
    match answer {
        Ok(Accepted::New(id, _)) => ("new", Some(*id)),
        Ok(Accepted::Repeated(id)) => ("known", Some(*id)),
        Ok(Accepted::KeyHeld(id)) => ("held", Some(*id)),
        Err(ExecuteError::Rejected(Rejection::IdempotencyKeyReused)) => ("reused", None),
        Err(ExecuteError::Rejected(Rejection::AlreadyExists)) => ("exists", None),
        Err(error) => panic!("{error}"),
    }
}

/// The new task in this result. Panics if the result is another one.
fn created(answer: &Result<Accepted, ExecuteError>) -> TaskId {
    match outcome_of(answer) {
        ("new", Some(id)) => id,
        other => panic!("{other:?}"),
    }
}

/// The only new task in these results. All other results must have the outcome `other` and the same task.
fn only_new_task(answers: &[Result<Accepted, ExecuteError>], other: &str) -> TaskId {
    let shown: Vec<_> = answers.iter().map(outcome_of).collect();
    let new: Vec<_> = shown.iter().filter(|(what, _)| *what == "new").collect();
    assert_eq!(new.len(), 1, "{shown:?}");
    let id = new[0].1;
    assert!(shown.iter().all(|answer| *answer == ("new", id) || *answer == (other, id)), "{shown:?}");
    id.unwrap()
}

/// Checks the log event by event. At no position may two tasks of an owner with the same unique key not be final, and
/// no two tasks may have the same idempotency key.
async fn check_log(fixture: &Fixture, server: &ServerWriteSide) {
    let (store, events) = (&server.store, fixture.events());
    in_time(store.head_changes().wait_for(|head| head.0 >= events)).await.unwrap();
    let mut tasks: HashMap<String, Task> = HashMap::new();
    let mut holders: HashMap<(String, String), String> = HashMap::new();
    let mut idempotent: HashMap<String, String> = HashMap::new();
    for recorded in store.read_all(taskbell::task::Position(0), usize::MAX).await.unwrap() {
        let LogEvent::Task(event) = &recorded.event else { continue };
        let stream = recorded.stream.to_string();
        let task = evolve(tasks.remove(&stream), event).unwrap();
        if let (0, Some(idempotency)) = (recorded.revision.0, &task.created.idempotency) {
            let before = idempotent.insert(idempotency.key.clone(), stream.clone());
            assert_eq!(before, None, "{} has two tasks, {stream} is the second", idempotency.key);
        }
        if let Some(key) = &task.created.unique_key {
            let key = (task.created.owner.clone(), key.clone());
            let holder = holders.get(&key).cloned();
            if task.status.is_final() {
                holders.remove(&key);
            } else {
                assert!(holder.is_none_or(|holder| holder == stream), "{key:?} is held twice at {}", recorded.position);
                holders.insert(key, stream.clone());
            }
        }
        tasks.insert(stream, task);
    }
}

#[actix_rt::test]
async fn of_concurrent_creates_with_one_unique_key_on_three_servers_one_creates_a_task_and_the_others_answer_it() {
    let fixture = Fixture::start().await;
    let servers: [ServerWriteSide; 3] = fixture.servers().await;
    let answers = join_all((0..12).map(|n| servers[n % 3].create(unique("nightly")))).await;
    let holder = only_new_task(&answers, "held");
    assert_eq!(fixture.tasks(), 1);
    let other_owner = servers[1].create(Created { owner: "bob".to_owned(), ..unique("nightly") }).await;
    assert_ne!(created(&other_owner), holder);
    assert_ne!(created(&servers[2].create(unique("hourly")).await), holder);
}

#[actix_rt::test]
async fn a_unique_key_is_free_on_every_server_as_soon_as_its_holder_is_final() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    for (first, second) in [(&one, &two), (&two, &one), (&one, &one)] {
        let holder = created(&first.create(unique("nightly")).await);
        assert_eq!(outcome_of(&second.create(unique("nightly")).await), ("held", Some(holder)));
        first.cancel(holder).await;
        let next = created(&second.create(unique("nightly")).await);
        assert_eq!(outcome_of(&first.create(unique("nightly")).await), ("held", Some(next)));
        second.cancel(next).await;
    }
    check_log(&fixture, &one).await;
}

#[actix_rt::test]
async fn one_idempotency_key_on_two_servers_at_once_creates_one_task_and_another_body_is_refused() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = join_all([&one, &two, &one, &two].map(|server| server.create(idempotent(&key, "body")))).await;
        let task = only_new_task(&answers, "known");
        for server in [&one, &two] {
            assert_eq!(outcome_of(&server.create(idempotent(&key, "other")).await), ("reused", None));
            let known = in_time(find_claimed(&server.registry, "ann", &key)).await.unwrap();
            assert_eq!(known, Some((task, "body".to_owned())));
        }
    }
    assert_eq!(fixture.tasks(), 5);
    assert_eq!(in_time(find_claimed(&one.registry, "bob", "key 1")).await.unwrap(), None, "another caller");
}

#[actix_rt::test]
async fn of_two_bodies_with_one_idempotency_key_on_two_servers_at_once_one_creates_a_task_and_the_other_is_refused() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let (a, b) = tokio::join!(one.create(idempotent(&key, "a")), two.create(idempotent(&key, "b")));
        let mut kinds = [outcome_of(&a).0, outcome_of(&b).0];
        kinds.sort_unstable();
        assert_eq!(kinds, ["new", "reused"]);
    }
    assert_eq!(fixture.tasks(), 5);
}

#[actix_rt::test]
async fn an_idempotency_key_is_not_used_up_by_a_request_whose_unique_key_is_held() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    let holder = created(&one.create(unique("nightly")).await);
    assert_eq!(outcome_of(&two.create(with_both_keys("nightly", "k", "body")).await), ("held", Some(holder)));
    assert_eq!(outcome_of(&one.create(with_both_keys("nightly", "k", "other")).await), ("held", Some(holder)));
    assert_eq!(fixture.claims(), 1, "nothing but the holder's claim was written");
    one.cancel(holder).await;
    let task = created(&one.create(with_both_keys("nightly", "k", "body")).await);
    assert_eq!(outcome_of(&two.create(with_both_keys("nightly", "k", "body")).await), ("known", Some(task)));
    assert_eq!(outcome_of(&two.create(with_both_keys("nightly", "k", "other")).await), ("reused", None));
    one.cancel(task).await;
    // The unique key is free again, but the idempotency key is still used.
    let next = created(&two.create(unique("nightly")).await);
    let known = in_time(find_claimed(&two.registry, "ann", "k")).await.unwrap();
    assert_eq!(known, Some((task, "body".to_owned())));
    assert_ne!(next, task);
}

#[actix_rt::test]
async fn equal_requests_with_both_keys_on_three_servers_at_once_create_one_task() {
    let fixture = Fixture::start().await;
    let servers: [ServerWriteSide; 3] = fixture.servers().await;
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = join_all(servers.iter().map(|server| server.create(with_both_keys(&key, &key, "body")))).await;
        only_new_task(&answers, "known");
    }
    assert_eq!(fixture.tasks(), 5);
}

#[actix_rt::test]
async fn a_retry_takes_the_unique_key_or_is_refused_whichever_server_creates_a_task_at_the_same_time() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    let (mut retried, mut refused) = (0, 0);
    for round in 0..20 {
        let key = format!("key {round}");
        let first = created(&one.create(unique(&key)).await);
        one.cancel(first).await;
        let (again, new) = tokio::join!(one.retry(first), two.create(unique(&key)));
        match again {
            Ok(receipt) => {
                assert_eq!((receipt.appended, receipt.task.status), (1, Status::Queued));
                assert_eq!(outcome_of(&new), ("held", Some(first)));
                retried += 1;
            }
            Err(error) => {
                let holder = created(&new);
                assert_eq!(error, ExecuteError::Rejected(Rejection::UniqueKeyTaken(holder)));
                refused += 1;
            }
        }
    }
    assert_eq!(retried + refused, 20);
    check_log(&fixture, &one).await;
}

#[actix_rt::test]
async fn of_two_retries_of_one_task_on_two_servers_one_begins_a_run() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    let task = created(&one.create(unique("nightly")).await);
    for _ in 0..10 {
        one.cancel(task).await;
        let (a, b) = tokio::join!(one.retry(task), two.retry(task));
        let refused: Vec<_> = [a, b].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, [ExecuteError::Rejected(Rejection::NotFinal)]);
    }
    assert_eq!(one.retry(new_task()).await.unwrap_err(), ExecuteError::Rejected(Rejection::NotFound));
    let plain = created(&one.create(idempotent("k", "body")).await);
    assert_eq!(two.retry(plain).await.unwrap_err(), ExecuteError::Rejected(Rejection::NotFinal));
    one.cancel(plain).await;
    two.retry(plain).await.unwrap();
}

#[actix_rt::test]
async fn the_runs_of_a_schedule_that_three_servers_create_at_once_exist_once_and_do_not_overlap() {
    let fixture = Fixture::start().await;
    let servers: [ServerWriteSide; 3] = fixture.servers().await;
    let mut open = None;
    for run in 0..10 {
        let id = new_task();
        let answers = join_all(servers.iter().map(|server| server.create_with_id(id, unique("report")))).await;
        if let Some(former) = open {
            assert!(answers.iter().all(|answer| outcome_of(answer) == ("held", Some(former))), "{answers:?}");
            servers[run % 3].cancel(former).await;
            open = None;
        } else {
            assert_eq!(only_new_task(&answers, "known"), id);
            open = Some(id);
        }
    }
    assert_eq!(fixture.tasks(), 5);
}

#[actix_rt::test]
async fn a_run_that_a_slow_server_creates_after_its_end_stays_over_and_frees_the_key() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    let (first, second) = (new_task(), new_task());
    created(&one.create_with_id(first, unique("report")).await);
    one.cancel(first).await;
    assert_eq!(outcome_of(&two.create_with_id(first, unique("report")).await), ("known", Some(first)));
    created(&one.create_with_id(second, unique("report")).await);
    one.cancel(second).await;
    assert_eq!(outcome_of(&two.create_with_id(first, unique("report")).await), ("exists", None));
    created(&two.create(unique("report")).await);
}

#[actix_rt::test]
async fn a_log_of_one_server_has_no_claims() {
    let store = EventStore::memory();
    let server = ServerWriteSide { registry: registry(&store, 1), store: store.clone(), keys: UniqueKeys::default() };
    server.create(with_both_keys("nightly", "k", "body")).await.unwrap();
    for key in [ClaimKey::unique("ann", "nightly"), ClaimKey::idempotency("ann", "k")] {
        assert!(store.read_last_auxiliary(key.stream()).await.unwrap().is_none());
    }
}
