//! Random histories: commands of all kinds, legal or not, at times that never decrease.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Number, Value};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{
    CancelLadder, Created, Idempotency, OutputKept, Progress, QueuedReason, ReleasedReason, Rung, TaskError,
};
use taskbell::task::{Command, Event, Rejection, Task, TaskId, Timestamp, decide, evolve};
use uuid::Uuid;

/// A command and what the rules decided for it.
pub(crate) struct Step {
    pub(crate) before: Option<Task>,
    pub(crate) command: Command,
    pub(crate) now: Timestamp,
    pub(crate) decided: Result<Vec<Event>, Rejection>,
    pub(crate) after: Option<Task>,
}

/// The random history of a seed.
pub(crate) fn history(seed: u64, steps: usize) -> Vec<Step> {
    let mut dice = Dice(StdRng::seed_from_u64(seed));
    let mut now = Timestamp::from_micros(1_795_000_000_000_000 + dice.up_to(1_000_000_000));
    let mut state = None;
    let mut history = Vec::with_capacity(steps);
    for _ in 0..steps {
        now = now.plus(dice.pick(&[Duration::ZERO, Duration::from_micros(1), Duration::from_millis(700), PAUSE]));
        let before: Option<Task> = state;
        let command = dice.command(before.as_ref(), now);
        let decided = decide(before.as_ref(), &command, now);
        state = decided.iter().flatten().fold(before.clone(), evolve);
        history.push(Step { before, command, now, decided, after: state.clone() });
    }
    history
}

/// A duration that is longer than most pauses before a retry.
const PAUSE: Duration = Duration::from_secs(90);

struct Dice(StdRng);

impl Dice {
    fn up_to<T: rand::distr::uniform::SampleUniform + PartialOrd + Default>(&mut self, most: T) -> T {
        self.0.random_range(T::default()..=most)
    }

    fn within<T: rand::distr::uniform::SampleUniform + PartialOrd>(&mut self, range: RangeInclusive<T>) -> T {
        self.0.random_range(range)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.random_ratio(1, n)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.0.random_range(0..of.len())].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let there = self.one_in(2);
        there.then(|| make(self))
    }

    fn text(&mut self) -> String {
        let words = ["stop", "file 812 of 2,340", "naïve – “quoted”", "\u{1f514}", "a\tb\\\"c", "日本語", "\u{2028}"];
        (0..self.within(1..=3)).map(|_| self.pick(&words)).collect::<Vec<_>>().join(" ")
    }

    fn line(&mut self) -> String {
        self.text().replace('\t', " ")
    }

    fn hex(&mut self) -> String {
        format!("{:032x}{:032x}", self.0.random::<u128>(), self.0.random::<u128>())
    }

    fn uuid(&mut self) -> Uuid {
        Uuid::from_u128(self.0.random())
    }

    fn value(&mut self, levels: u32) -> Value {
        match self.up_to(if levels == 0 { 5_u8 } else { 7 }) {
            0 => Value::Null,
            1 => Value::Bool(self.one_in(2)),
            2 => Value::String(self.text()),
            3 => Value::Number(self.0.random::<i64>().into()),
            4 => Value::Number(self.0.random::<u64>().into()),
            5 => Number::from_f64(f64::from_bits(self.0.random())).map_or(Value::Null, Value::Number),
            6 => (0..self.up_to(3_u8)).map(|_| self.value(levels - 1)).collect(),
            _ => Value::Object(
                (0..self.up_to(3_u8)).map(|_| (self.text(), self.value(levels - 1))).collect::<Map<_, _>>(),
            ),
        }
    }

    fn time(&mut self, near: Timestamp) -> Timestamp {
        Timestamp::from_micros(near.as_micros() + self.within(-200_000_000..=200_000_000))
    }

    fn error(&mut self) -> TaskError {
        TaskError { code: self.pick(&["disk_full", "timed_out", "exit_code"]).to_owned(), message: self.text() }
    }

    fn progress(&mut self, now: Timestamp) -> Option<Progress> {
        self.maybe(|dice| Progress {
            fraction: dice.maybe(|dice| dice.0.random()),
            message: dice.maybe(Self::text),
            at: dice.time(now),
        })
    }

    fn created(&mut self, now: Timestamp) -> Created {
        Created {
            kind: self.pick(&["content.distribute", "demo", "a_b-c.9"]).to_owned(),
            title: self.line(),
            owner: self.line().replace(',', " "),
            input: self.value(4).into(),
            queue: self.pick(&["default", "night"]).to_owned(),
            priority: self.within(i32::MIN..=i32::MAX),
            run_at: self.maybe(|dice| dice.time(now)),
            max_attempts: self.pick(&[1, 2, 3, 100]),
            timeout_s: self.maybe(|dice| dice.within(1..=2_592_000)),
            labels: (0..self.up_to(3_u8)).map(|_| (self.line(), self.line())).collect(),
            parent: self.maybe(|dice| TaskId::from_uuid(dice.uuid())),
            unique_key: self.maybe(Self::line),
            concurrency_key: self.maybe(Self::line),
            schedule: self.maybe(Self::uuid),
            idempotency: self.maybe(|dice| Idempotency { key: dice.line(), body_hash: dice.hex() }),
        }
    }

    /// Mostly the number of the current attempt, sometimes of an earlier or a later one.
    fn attempt(&mut self, task: Option<&Task>) -> u32 {
        let current = task.map_or(0, |task| task.attempt);
        if self.one_in(6) { self.up_to(current + 1) } else { current }
    }

    fn end(&mut self) -> AttemptEnd {
        let (message, result) = (self.maybe(Self::text), self.maybe(|dice| dice.value(3).into()));
        match self.up_to(7_u8) {
            0 => AttemptEnd::Succeeded { message, result },
            1 | 2 => AttemptEnd::Cancelled { message, result },
            3 => AttemptEnd::Released(self.pick(&[ReleasedReason::NotDelivered, ReleasedReason::HandedBack])),
            _ => AttemptEnd::Failed { error: self.error(), retryable: !self.one_in(5) },
        }
    }

    fn command(&mut self, task: Option<&Task>, now: Timestamp) -> Command {
        let attempt = self.attempt(task);
        match self.up_to(if task.is_none() { 1_u8 } else { 20 }) {
            0 => Command::Create(Arc::new(self.created(now))),
            1..=3 => Command::Enqueue { reason: self.pick(&[QueuedReason::RunAt, QueuedReason::RetryAt]) },
            4..=8 => Command::Start { worker: self.line(), lease_hash: self.hex() },
            9 | 10 => Command::RequestCancel {
                reason: self.maybe(Self::text),
                policy: CancelLadder {
                    ask_for_ms: self.maybe(|dice| dice.up_to(u64::MAX)),
                    interrupt_for_ms: self.maybe(|dice| dice.up_to(60_000)),
                },
            },
            11 | 12 => Command::AcknowledgeCancel {
                attempt,
                lease_hash: None,
                stopping_after: self.maybe(Self::text),
                expected_end: self.maybe(|dice| dice.time(now)),
            },
            13 => Command::Escalate {
                rung: self.pick(&[Rung::Ask, Rung::Interrupt, Rung::Interrupt, Rung::Revoke]),
                reason: self.maybe(Self::text),
                attempt: self.maybe(|_| attempt),
            },
            14..=17 => Command::Finish {
                attempt,
                lease_hash: None,
                end: self.end(),
                progress: self.progress(now),
                output: self.maybe(|dice| OutputKept { attempt: 0, tail: dice.text(), dropped_bytes: dice.up_to(9) }),
            },
            18 => Command::LoseAttempt { attempt, error: self.error(), progress: self.progress(now) },
            _ => Command::Retry { reason: self.maybe(Self::text) },
        }
    }
}
