//! Creates the recorded log `main`: a history of two owners with every type of task event and every outcome of a request
//! to cancel (`verdict`). The rules decide the events.

// Most commands are built in the call, so they are passed by value.
#![allow(clippy::needless_pass_by_value)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, Recorded, StreamName, Via};
use taskbell::task::bell::{Bell, MarkSeen};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{
    CancelLadder, Created, Idempotency, Progress, QueuedReason, ReleasedReason, Rung, TaskError,
};
use taskbell::task::{Command, Decider, Position, Revision, TaskId, TaskStream, Timestamp};
use uuid::Uuid;

const WORKER: &str = "local/0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0/3";

/// A log to which commands are applied step by step, with a clock that the caller sets.
pub(super) struct Walk {
    runtime: tokio::runtime::Runtime,
    pub(super) log: EventStore,
    pub(super) now: Timestamp,
    ids: u128,
    tasks: HashMap<TaskId, (TaskStream, Option<Revision>)>,
    bells: HashMap<&'static str, (Bell, Option<Revision>)>,
    /// The correlation id and the causation id of the next events; `None` for events of a new request.
    pub(super) trace: Option<(Uuid, Uuid)>,
}

impl Walk {
    /// An empty log, and a clock at this time.
    pub(super) fn begin(now: &str) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            log: EventStore::memory(),
            now: now.parse().unwrap(),
            ids: 0,
            tasks: HashMap::new(),
            bells: HashMap::new(),
            trace: None,
        }
    }

    /// All recorded events, oldest first.
    pub(super) fn end(&self) -> Vec<Arc<Recorded>> {
        self.runtime.block_on(self.log.read_all(Position(0), usize::MAX)).unwrap()
    }

    /// The next `UUIDv7` with the clock's time. Each recording of the history gets the same ids.
    pub(super) fn id(&mut self) -> Uuid {
        self.ids += 1;
        let millis = u128::try_from(self.now.as_micros() / 1000).unwrap();
        let noise = self.ids.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 54;
        Uuid::from_u128(
            millis << 80 | 7 << 76 | (noise & 0xfff) << 64 | 2 << 62 | (noise >> 12 & 0x3fff_ffff_ffff_ffff),
        )
    }

    pub(super) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus(Duration::from_millis(millis).saturating_add(Duration::from_micros(317)));
    }

    pub(super) fn append<E: Into<taskbell::store::LogEvent>>(
        &mut self,
        stream: StreamName,
        last: Option<Revision>,
        events: Vec<E>,
        by: (&str, Via),
    ) -> Revision {
        let request = matches!(by.1, Via::Http).then(|| format!("req-{}", self.ids));
        let meta = Meta {
            actor: by.0.to_owned(),
            via: by.1,
            correlation_id: self.trace.map_or_else(|| self.id(), |(correlation, _)| correlation),
            causation_id: self.trace.map(|(_, event)| event),
            request_id: request,
        };
        let time = self.now;
        let events: Vec<NewEvent> = events
            .into_iter()
            .map(|event| NewEvent { id: self.id(), time, meta: meta.clone(), event: event.into() })
            .collect();
        let expected = last.map_or(Expected::NoStream, Expected::Revision);
        self.runtime.block_on(self.log.append(Append { stream, expected, events })).unwrap()
    }

    pub(super) fn does(&mut self, task: TaskId, by: (&str, Via), command: Command) {
        self.wait(40);
        let (mut state, last) = self.tasks.remove(&task).unwrap_or_default();
        let events = state.decide(&command, self.now).unwrap();
        assert!(!events.is_empty(), "{command:?} leads to no event");
        for event in &events {
            state.evolve(event);
        }
        let last = self.append(StreamName::task(task), last, events, by);
        self.tasks.insert(task, (state, Some(last)));
    }

    pub(super) fn create(&mut self, owner: &str, title: &str, change: impl FnOnce(&mut Created)) -> TaskId {
        let id = TaskId::from_uuid(self.id());
        let mut new = Created {
            kind: "content.distribute".into(),
            title: title.into(),
            owner: owner.into(),
            input: json!({"source": "/srv/content/spring", "targets": ["/srv/sites/berlin", "/srv/sites/oslo"]}).into(),
            queue: "default".into(),
            priority: 0,
            run_at: None,
            max_attempts: 3,
            timeout_s: None,
            labels: [("team".to_owned(), "web".to_owned())].into(),
            parent: None,
            unique_key: None,
            concurrency_key: None,
            schedule: None,
            idempotency: None,
        };
        change(&mut new);
        self.does(id, (owner, Via::Http), Command::Create(Arc::new(new)));
        id
    }

    pub(super) fn start(&mut self, task: TaskId) {
        let lease = blake3_of(self.ids);
        self.does(task, ("system", Via::Worker), Command::Start { worker: WORKER.into(), lease_hash: lease });
    }

    pub(super) fn cancel(&mut self, task: TaskId, by: &str, reason: Option<&str>) {
        let policy = CancelLadder { ask_for_ms: Some(30_000), interrupt_for_ms: None };
        let reason = reason.map(str::to_owned);
        self.does(task, (by, Via::Http), Command::RequestCancel { reason, policy });
    }

    pub(super) fn finish(&mut self, task: TaskId, attempt: u32, end: AttemptEnd, fraction: Option<f64>) {
        let message = fraction.map(|_| "file 812 of 2,340, target 2 of 2".to_owned());
        let progress = fraction.map(|_| Progress { fraction, message, at: self.now });
        self.does(
            task,
            (WORKER, Via::Worker),
            Command::Finish { attempt, lease_hash: None, end, progress, output: None },
        );
    }

    fn see(&mut self, owner: &'static str, position: u64) {
        self.wait(900);
        let (mut bell, last) = self.bells.remove(owner).unwrap_or_default();
        let see = MarkSeen { position: Position(position), head: self.log.head().position };
        let events = bell.decide(&see, self.now).unwrap();
        for event in &events {
            bell.evolve(event);
        }
        let last = self.append(StreamName::bell(owner), last, events, (owner, Via::Http));
        self.bells.insert(owner, (bell, Some(last)));
    }
}

pub(super) fn blake3_of(secret: u128) -> String {
    blake3::hash(&secret.to_be_bytes()).to_hex().to_string()
}

pub(super) fn done(message: &str, result: Option<Value>) -> AttemptEnd {
    AttemptEnd::Succeeded { message: Some(message.into()), result: result.map(Into::into) }
}

pub(super) fn failed(code: &str, message: &str, retryable: bool) -> AttemptEnd {
    AttemptEnd::Failed { error: TaskError { code: code.into(), message: message.into() }, retryable }
}

pub(super) fn stopped() -> AttemptEnd {
    AttemptEnd::Cancelled {
        message: Some("812 of 2,340 files copied; they stay".into()),
        result: Some(json!({"files": 812}).into()),
    }
}

/// The events, oldest first.
pub(super) fn record() -> Vec<Arc<Recorded>> {
    let mut walk = Walk::begin("2026-11-22T09:00:00.000000Z");
    work(&mut walk);
    cancels(&mut walk);
    ends_by_force(&mut walk);
    waiting(&mut walk);
    walk.end()
}

/// One task succeeds at once. One succeeds after a failure and a release. One fails and is retried. The bell is seen
/// between these.
fn work(walk: &mut Walk) {
    let first = walk.create("mira", "Distribute spring to 2 sites", |new| {
        new.idempotency = Some(Idempotency { key: "publish-4711".into(), body_hash: blake3_of(4711) });
        new.timeout_s = Some(3600);
    });
    walk.start(first);
    walk.wait(4000);
    walk.finish(
        first,
        1,
        done("2,340 files to 2 sites", Some(json!({"files": 2340, "bytes": 524_288_000}))),
        Some(1.0),
    );
    let second = walk.create("tom", "Distribute prices – “Größe” 価格", |new| {
        new.parent = Some(first);
        new.priority = 5;
        new.unique_key = Some("prices".into());
        new.concurrency_key = Some("disk".into());
    });
    walk.start(second);
    walk.finish(second, 1, failed("disk_full", "no space left on /srv/sites/oslo", true), Some(0.41));
    walk.wait(2000);
    walk.does(second, ("system", Via::Server), Command::Enqueue { reason: QueuedReason::RetryAt });
    walk.start(second);
    walk.finish(second, 2, AttemptEnd::Released(ReleasedReason::HandedBack), None);
    walk.start(second);
    walk.finish(second, 3, done("all files to 2 sites", None), None);
    let third = walk.create("mira", "Distribute a folder that is not there", |new| new.max_attempts = 1);
    walk.start(third);
    walk.finish(third, 1, failed("source_missing", "/srv/content/sprnig is not there", false), None);
    walk.see("mira", 5);
    walk.does(third, ("mira", Via::Cli), Command::Retry { reason: Some("the folder is there now".into()) });
    walk.start(third);
    walk.finish(third, 2, done("2,340 files to 2 sites", None), Some(1.0));
}

/// Cancels with the verdicts `cancelled` (after an acknowledgement), `finished_first` and `failed_first`, and one whose
/// task is retried.
fn cancels(walk: &mut Walk) {
    let [stops, finishes, fails] = ["stops", "finishes first", "fails first"]
        .map(|title| walk.create("mira", &format!("Distribute what {title}"), |_| {}));
    for task in [stops, finishes, fails] {
        walk.start(task);
        walk.cancel(task, "mira", Some("wrong campaign"));
    }
    let expected_end = Some(walk.now.plus(Duration::from_secs(3)));
    let stopping_after = Some("copying video/launch.mp4 (312 MB) to /srv/sites/oslo".to_owned());
    let acknowledge = Command::AcknowledgeCancel { attempt: 1, lease_hash: None, stopping_after, expected_end };
    walk.does(stops, (WORKER, Via::Worker), acknowledge);
    walk.finish(finishes, 1, done("2,340 files to 2 sites", None), Some(1.0));
    walk.finish(fails, 1, failed("disk_full", "no space left on /srv/sites/oslo", true), Some(0.8));
    walk.wait(2800);
    walk.finish(stops, 1, stopped(), Some(0.41));
    let again = walk.create("tom", "Distribute what was cancelled by mistake", |_| {});
    walk.start(again);
    walk.cancel(again, "tom", None);
    walk.finish(again, 1, stopped(), None);
    walk.does(again, ("tom", Via::Http), Command::Retry { reason: None });
    walk.see("tom", walk.log.head().position.0);
}

/// Attempts that are revoked rung by rung, lost after a request to cancel, and lost without a request or another attempt.
fn ends_by_force(walk: &mut Walk) {
    let silence = |code: &str| TaskError { code: code.into(), message: "no heartbeat for 30 s".into() };
    let hangs = walk.create("tom", "Run what doesn't listen", |new| new.kind = "demo.deaf".into());
    walk.start(hangs);
    walk.cancel(hangs, "tom", Some("it hangs"));
    let escalate = |rung, reason: &str| Command::Escalate { rung, reason: Some(reason.into()), attempt: None };
    walk.does(hangs, ("olga", Via::Cli), escalate(Rung::Interrupt, "the disk is needed now"));
    walk.does(hangs, ("olga", Via::Cli), escalate(Rung::Revoke, "it does not stop"));
    let gone = walk.create("mira", "Run on a host that goes away", |new| new.queue = "night".into());
    walk.start(gone);
    walk.cancel(gone, "mira", None);
    walk.wait(30_000);
    let lose = |code: &str| Command::LoseAttempt { attempt: 1, error: silence(code), progress: None };
    walk.does(gone, ("system", Via::Server), lose("lease_expired"));
    let once = walk.create("mira", "Run once at most", |new| new.max_attempts = 1);
    walk.start(once);
    walk.does(once, ("system", Via::Server), lose("timed_out"));
}

/// Scheduled tasks: one became queued, one was cancelled, and one still waits. Also a task that runs after its first
/// lease was not delivered, and one that waits for a retry.
fn waiting(walk: &mut Walk) {
    let later = |walk: &Walk, seconds| Some(walk.now.plus(Duration::from_secs(seconds)));
    let run_at = later(walk, 60);
    let ready = walk.create("mira", "Distribute at five past nine", |new| new.run_at = run_at);
    let called_off = walk.create("mira", "Distribute never", |new| new.run_at = run_at);
    walk.cancel(called_off, "mira", Some("no longer needed"));
    walk.wait(60_000);
    walk.does(ready, ("system", Via::Server), Command::Enqueue { reason: QueuedReason::RunAt });
    walk.start(ready);
    walk.finish(ready, 1, AttemptEnd::Released(ReleasedReason::NotDelivered), None);
    walk.start(ready);
    let tomorrow = later(walk, 86_400);
    walk.create("tom", "Distribute tomorrow", |new| new.run_at = tomorrow);
    let retrying = walk.create("tom", "Distribute when the disk has room", |_| {});
    walk.start(retrying);
    walk.finish(retrying, 1, failed("disk_full", "no space left on /srv/sites/oslo", true), Some(0.1));
    let asked = walk.create("tom", "Distribute what is being stopped", |_| {});
    walk.start(asked);
    walk.cancel(asked, "tom", Some("not now"));
}
