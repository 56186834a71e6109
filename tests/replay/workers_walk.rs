//! Creates the recorded log `workers`: a history of remote workers with output, expired leases, a complete cancel
//! ladder, queues, schedules and children.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use taskbell::store::{LogEvent, Recorded, StreamName, Via};
use taskbell::task::calendar::{Calendar, task_id};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{CancelLadder, Created, OutputKept, QueuedReason, ReleasedReason, Rung, TaskError};
use taskbell::task::queue::{Queue, QueueCommand};
use taskbell::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, Template};
use taskbell::task::{Command, Decider, Revision, TaskId};
use uuid::Uuid;

use super::main_walk::{Walk, blake3_of, done};

const FIRST: &str = "render-1";
const SECOND: &str = "render-2";

impl Walk {
    /// A worker takes the task. Its lease contains this secret.
    fn takes(&mut self, worker: &str, task: TaskId, secret: u128) {
        self.does(task, (worker, Via::Worker), Command::Start { worker: worker.into(), lease_hash: blake3_of(secret) });
    }

    /// The worker reports the end of an attempt and its output.
    fn ends(
        &mut self,
        worker: &str,
        task: TaskId,
        attempt: u32,
        secret: u128,
        end: AttemptEnd,
        output: Option<OutputKept>,
    ) {
        let lease = Some(blake3_of(secret));
        self.does(
            task,
            (worker, Via::Worker),
            Command::Finish { attempt, lease_hash: lease, end, progress: None, output },
        );
    }

    /// Executes a command on the stream of a queue or schedule.
    fn executes<D: Decider<Event: Into<LogEvent>>>(
        &mut self,
        stream: StreamName,
        (state, last): &mut (D, Option<Revision>),
        by: &str,
        command: &D::Command,
    ) {
        self.wait(700);
        let events = state.decide(command, self.now).unwrap();
        assert!(!events.is_empty(), "a command that leads to no event");
        for event in &events {
            state.evolve(event);
        }
        *last = Some(self.append(stream, *last, events, (by, Via::Http)));
    }

    /// Makes the last event of the log the cause of the next events, until `trace` is reset.
    fn set_cause(&mut self) {
        let last = self.end().pop().unwrap();
        self.trace = Some((last.meta.correlation_id, last.id));
    }
}

/// The events, oldest first.
pub(super) fn record() -> Vec<Arc<Recorded>> {
    let mut walk = Walk::begin("2026-11-22T18:00:00.000000Z");
    attempts(&mut walk);
    ladder(&mut walk);
    queues(&mut walk);
    schedules(&mut walk);
    family(&mut walk);
    walk.end()
}

/// A task with output: its attempt is handed back, the next is lost with its worker, and another worker completes it.
/// Also a task that fails with output.
fn attempts(walk: &mut Walk) {
    let film = walk.create("mira", "Render launch.mp4", |new| {
        new.kind = "video.render".into();
        new.queue = "render".into();
        new.concurrency_key = Some("gpu".into());
    });
    walk.takes(FIRST, film, 1);
    walk.ends(FIRST, film, 1, 1, AttemptEnd::Released(ReleasedReason::HandedBack), None);
    walk.takes(FIRST, film, 2);
    walk.wait(30_000);
    let error = TaskError { code: "lease_expired".into(), message: "no heartbeat for 30 s".into() };
    let lost = Command::LoseAttempt { attempt: 2, error, progress: None };
    walk.does(film, ("system", Via::Server), lost);
    walk.wait(2_000);
    walk.does(film, ("system", Via::Server), Command::Enqueue { reason: QueuedReason::RetryAt });
    walk.takes(SECOND, film, 3);
    let tail = "frame 7,199 of 7,200\nframe 7,200 of 7,200 – “fertig” 完了\n".to_owned();
    let end = done("7,200 frames", Some(json!({"frames": 7200})));
    walk.ends(SECOND, film, 3, 3, end, Some(OutputKept { attempt: 3, tail, dropped_bytes: 1_048_576 }));
    let still = walk.create("tom", "Render a still", |new| {
        new.kind = "video.render".into();
        new.max_attempts = 1;
    });
    walk.takes(SECOND, still, 4);
    let error = TaskError { code: "exit_1".into(), message: "the command ended with 1".into() };
    let output = OutputKept { attempt: 1, tail: "no such scene\n".into(), dropped_bytes: 0 };
    walk.ends(SECOND, still, 1, 4, AttemptEnd::Failed { error, retryable: true }, Some(output));
}

/// An attempt ignores the cancel, so the cancel takes all rungs of the ladder: ask, interrupt, revoke.
fn ladder(walk: &mut Walk) {
    let deaf = walk.create("mira", "Render what nobody needs", |new| new.kind = "video.render".into());
    walk.takes(FIRST, deaf, 5);
    let policy = CancelLadder { ask_for_ms: Some(10_000), interrupt_for_ms: Some(5_000) };
    let reason = Some("wrong scene".to_owned());
    walk.does(deaf, ("mira", Via::Http), Command::RequestCancel { reason, policy });
    walk.set_cause();
    for (rung, after_ms) in [(Rung::Interrupt, 10_000), (Rung::Revoke, 5_000)] {
        walk.wait(after_ms);
        let reason = Some(format!("not stopped after {after_ms} ms"));
        walk.does(deaf, ("system", Via::Server), Command::Escalate { rung, reason, attempt: Some(1) });
    }
    walk.trace = None;
}

/// A queue that is paused and resumed, and one that stays paused.
fn queues(walk: &mut Walk) {
    let pause = |why: &str| QueueCommand::Pause { reason: Some(why.into()) };
    let (mut render, mut night) = Default::default();
    walk.executes::<Queue>(StreamName::queue("render"), &mut render, "olga", &pause("new cards"));
    walk.create("tom", "Render while paused", |new| new.queue = "render".into());
    walk.executes(StreamName::queue("render"), &mut render, "olga", &QueueCommand::Resume { reason: None });
    walk.executes::<Queue>(StreamName::queue("night"), &mut night, "olga", &pause("the disks are being replaced"));
}

/// A schedule that creates two tasks, and one that is removed.
fn schedules(walk: &mut Walk) {
    let task = Template {
        kind: "report".into(),
        title: "Report of the hour".into(),
        owner: "mira".into(),
        input: json!({"sites": ["berlin", "oslo"]}).into(),
        queue: "default".into(),
        priority: -1,
        max_attempts: 2,
        timeout_s: Some(600),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        unique_key: Some("report".into()),
        concurrency_key: None,
    };
    let (cron, time_zone) = ("0 * * * *".to_owned(), "Europe/Zurich".to_owned());
    let wanted = ScheduleCreated { cron, time_zone, missed: Missed::RunOnce, task };
    let (stays, goes) = (walk.id(), walk.id());
    let (mut hourly, mut daily) = Default::default();
    let create = ScheduleCommand::Create(Box::new(wanted.clone()));
    walk.executes::<Schedule>(StreamName::schedule(stays), &mut hourly, "mira", &create);
    walk.set_cause();
    for worker in [FIRST, SECOND] {
        run_schedule(walk, stays, &wanted, worker);
    }
    walk.trace = None;
    let daily_one = ScheduleCreated { cron: "30 2 * * 1-5".into(), missed: Missed::RunAll, ..wanted };
    let create = ScheduleCommand::Create(Box::new(daily_one));
    walk.executes::<Schedule>(StreamName::schedule(goes), &mut daily, "tom", &create);
    let reason = Some("the shop sends it now".to_owned());
    walk.executes(StreamName::schedule(goes), &mut daily, "tom", &ScheduleCommand::Remove { reason });
}

/// Creates the task of the schedule's next nominal time, and a worker completes it.
fn run_schedule(walk: &mut Walk, schedule: Uuid, wanted: &ScheduleCreated, worker: &str) {
    let nominal = Calendar::parse(&wanted.cron, &wanted.time_zone).unwrap().next_after(walk.now).unwrap();
    walk.now = nominal.plus(Duration::from_millis(3));
    let created = wanted.task.task(schedule);
    let id = task_id(schedule, nominal);
    walk.does(id, ("system", Via::Server), Command::Create(Arc::new(created)));
    walk.takes(worker, id, id.uuid().as_u128());
    walk.ends(worker, id, 1, id.uuid().as_u128(), done("2 sites", None), None);
}

/// The cancel of a parent cascades to its child and grandchild. Another child is already final.
fn family(walk: &mut Walk) {
    let parent = walk.create("tom", "Render a season", |_| {});
    let of = |parent: TaskId| move |new: &mut Created| new.parent = Some(parent);
    let done_before = walk.create("tom", "Render part 1", of(parent));
    let running = walk.create("tom", "Render part 2", of(parent));
    let grandchild = walk.create("tom", "Render part 2, scene 1", of(running));
    for (task, secret) in [(parent, 10), (done_before, 11), (running, 12)] {
        walk.takes(FIRST, task, secret);
    }
    walk.ends(FIRST, done_before, 1, 11, done("part 1", None), None);
    walk.cancel(parent, "tom", Some("another season first"));
    for child in [running, grandchild] {
        walk.set_cause();
        walk.cancel(child, "tom", Some("another season first"));
    }
    walk.trace = None;
    let stopped = AttemptEnd::Cancelled { message: Some("scene 1 of 20".into()), result: None };
    walk.ends(FIRST, running, 1, 12, stopped, None);
}
