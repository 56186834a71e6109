//! Creates legal histories: the rules decide the events, which are recorded as in a log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::value::{RawValue, to_raw_value};
use taskbell::store::{Fact, Hash, LogEvent, Meta, Recorded, StreamName, Via, codec};
use taskbell::task::bell::{Bell, MarkSeen};
use taskbell::task::command::AttemptEnd;
pub use taskbell::task::event::Created;
use taskbell::task::event::{CancelLadder, Idempotency, Progress, QueuedReason, ReleasedReason, Rung, TaskError};
use taskbell::task::{Command, Decider, Event, Position, Rejection, Revision, Task, TaskId, Timestamp, decide, evolve};
use uuid::Uuid;

pub const OWNERS: [&str; 4] = ["ann", "bob", "cleo", "dan"];
pub const KINDS: [&str; 3] = ["mail.send", "content.distribute", "report"];
pub const QUEUES: [&str; 2] = ["default", "slow"];
const WORDS: [&str; 6] = ["Alpha", "beta", "GAMMA", "delta", "Straße", "été"];

/// A log in memory, to which tests append events that the rules decide.
#[derive(Default)]
pub struct Log {
    pub events: Vec<Recorded>,
    pub ids: Vec<TaskId>,
    pub now: Option<Timestamp>,
    tasks: HashMap<TaskId, (Task, u64)>,
    bells: HashMap<String, (Bell, u64)>,
}

impl Log {
    pub fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(|| "2026-11-22T10:00:00.000000Z".parse().unwrap())
    }

    /// Advances the time of the log.
    pub fn advance_time(&mut self, time: Duration) {
        self.now = Some(self.now().plus(time));
    }

    pub fn head(&self) -> Position {
        Position(self.events.len() as u64)
    }

    pub fn task(&self, id: TaskId) -> &Task {
        &self.tasks[&id].0
    }

    /// Executes the command at the time of the log. Returns the number of events.
    pub fn execute(&mut self, id: TaskId, command: &Command, actor: &str) -> Result<usize, Rejection> {
        let state = self.tasks.get(&id).map(|(task, _)| task);
        let events = decide(state, command, self.now())?;
        let count = events.len();
        for event in events {
            self.record_task(id, event, actor);
        }
        Ok(count)
    }

    /// Creates a task and returns its id.
    pub fn create(&mut self, created: Created, actor: &str) -> TaskId {
        let id = TaskId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + self.ids.len() as u128));
        self.execute(id, &Command::Create(Arc::new(created)), actor).unwrap();
        self.ids.push(id);
        id
    }

    /// Marks the bell of this owner as seen up to the position.
    pub fn mark_seen(&mut self, owner: &str, position: Position) {
        let see = MarkSeen { position, head: self.head() };
        let (bell, next) = self.bells.entry(owner.to_owned()).or_default();
        let mut recorded = Vec::new();
        for event in bell.decide(&see, Timestamp::from_micros(0)).unwrap() {
            bell.evolve(&event);
            recorded.push((*next, event));
            *next += 1;
        }
        for (revision, event) in recorded {
            self.record(StreamName::bell(owner), revision, event.into(), owner);
        }
    }

    /// Records the event, also if the rules don't allow it.
    pub fn record_task(&mut self, id: TaskId, event: Event, actor: &str) {
        let (state, revision) = self.tasks.remove(&id).map_or((None, 0), |(task, next)| (Some(task), next));
        if let Some(task) = evolve(state, &event) {
            self.tasks.insert(id, (task, revision + 1));
        }
        self.record(StreamName::task(id), revision, event.into(), actor);
    }

    pub fn record(&mut self, stream: StreamName, revision: u64, event: LogEvent, actor: &str) {
        let position = Position(self.events.len() as u64 + 1);
        let meta = Meta {
            actor: actor.to_owned(),
            via: Via::Library,
            correlation_id: Uuid::nil(),
            causation_id: None,
            request_id: None,
        };
        let (kind, raw_data) = type_and_data(&event);
        self.events.push(Recorded {
            raw_meta: to_raw_value(&meta).unwrap().into(),
            fact: Fact {
                position,
                stream,
                revision: Revision(revision),
                id: Uuid::from_u128(u128::from(position.0)),
                time: self.now(),
                meta,
                event,
            },
            event_type: kind,
            version: 1,
            hash: Hash::ZERO,
            raw_data: raw_data.into(),
        });
    }
}

fn type_and_data(event: &LogEvent) -> (&'static str, Box<RawValue>) {
    (codec::type_name(event), codec::encode(event).unwrap())
}

/// A request to create a task, without any optional field.
pub fn plain(owner: &str, title: &str) -> Created {
    Created {
        kind: KINDS[0].to_owned(),
        title: title.to_owned(),
        owner: owner.to_owned(),
        input: serde_json::json!({}).into(),
        queue: QUEUES[0].to_owned(),
        priority: 0,
        run_at: None,
        max_attempts: 3,
        timeout_s: None,
        labels: BTreeMap::new(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }
}

pub fn start(worker: &str) -> Command {
    Command::Start { worker: worker.to_owned(), lease_hash: "0".repeat(64) }
}

pub fn cancel(reason: Option<&str>) -> Command {
    Command::RequestCancel { reason: reason.map(str::to_owned), policy: CancelLadder::default() }
}

pub fn succeed(attempt: u32, message: &str) -> Command {
    let end = AttemptEnd::Succeeded { message: Some(message.to_owned()), result: None };
    Command::Finish { attempt, lease_hash: None, end, progress: None, output: None }
}

pub fn fail(attempt: u32, message: &str, retryable: bool) -> Command {
    let error = TaskError { code: "broken".to_owned(), message: message.to_owned() };
    Command::Finish {
        attempt,
        lease_hash: None,
        end: AttemptEnd::Failed { error, retryable },
        progress: None,
        output: None,
    }
}

/// A log of at least this many events from random commands. The same seed gives the same log.
pub fn random_log(seed: u64, events: usize) -> Log {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut log = Log::default();
    while log.events.len() < events {
        log.advance_time(Duration::from_micros(rng.random_range(0..3_000_000)));
        if log.ids.is_empty() || rng.random_bool(0.12) {
            let created = random_request(&mut rng, &log);
            log.create(created, ["ann", "bob", "service"].choose(&mut rng).unwrap());
        } else if rng.random_bool(0.03) {
            let position = Position(rng.random_range(0..=log.head().0));
            log.mark_seen(OWNERS.choose(&mut rng).unwrap(), position);
        } else {
            let id = *log.ids.choose(&mut rng).unwrap();
            let command = random_command(&mut rng, &log, log.task(id).attempt);
            let actor = *["ann", "worker-1", "system"].choose(&mut rng).unwrap();
            // A rejected command leads to no event.
            let _ = log.execute(id, &command, actor);
        }
    }
    log
}

fn random_words(rng: &mut StdRng) -> String {
    (0..3).map(|_| *WORDS.choose(rng).unwrap()).collect::<Vec<_>>().join(" ")
}

fn random_request(rng: &mut StdRng, log: &Log) -> Created {
    let labels = ["env", "team"].iter().filter(|_| rng.random_bool(0.4)).map(|k| ((*k).to_owned(), "a:b".to_owned()));
    let labels: BTreeMap<String, String> = labels.collect();
    Created {
        kind: (*KINDS.choose(rng).unwrap()).to_owned(),
        queue: (*QUEUES.choose(rng).unwrap()).to_owned(),
        priority: rng.random_range(-1..=1),
        run_at: rng.random_bool(0.3).then(|| log.now().plus(Duration::from_secs(rng.random_range(0..20)))),
        max_attempts: rng.random_range(1..=3),
        timeout_s: rng.random_bool(0.2).then_some(60),
        labels,
        parent: log.ids.choose(rng).copied().filter(|_| rng.random_bool(0.2)),
        idempotency: rng.random_bool(0.5).then(|| Idempotency {
            key: format!("key-{}", log.ids.len()),
            body_hash: format!("hash-{}", log.ids.len()),
        }),
        ..plain(OWNERS.choose(rng).unwrap(), &random_words(rng))
    }
}

fn random_command(rng: &mut StdRng, log: &Log, attempt: u32) -> Command {
    let text = Some(random_words(rng)).filter(|_| rng.random_bool(0.7));
    let progress = rng.random_bool(0.5).then(|| Progress { fraction: Some(0.5), message: text.clone(), at: log.now() });
    let error = TaskError { code: "broken".to_owned(), message: random_words(rng) };
    match rng.random_range(0..16) {
        0 => Command::Enqueue { reason: QueuedReason::RunAt },
        1 => Command::Enqueue { reason: QueuedReason::RetryAt },
        2..=5 => start(["w-1", "w-2", "local/s/1"].choose(rng).unwrap()),
        6 => cancel(text.as_deref()),
        7 => Command::AcknowledgeCancel {
            attempt,
            lease_hash: None,
            stopping_after: text,
            expected_end: Some(log.now()),
        },
        8 => {
            let next = if rng.random_bool(0.5) { Rung::Interrupt } else { Rung::Revoke };
            Command::Escalate { rung: next, reason: text, attempt: None }
        }
        9 => Command::LoseAttempt { attempt, error, progress },
        10 => Command::Retry { reason: text },
        n => {
            let end = match n {
                11 | 12 => AttemptEnd::Succeeded { message: text, result: None },
                13 => AttemptEnd::Failed { error, retryable: rng.random_bool(0.7) },
                14 => AttemptEnd::Cancelled { message: text, result: None },
                _ => AttemptEnd::Released(ReleasedReason::HandedBack),
            };
            Command::Finish { attempt, lease_hash: None, end, progress, output: None }
        }
    }
}
