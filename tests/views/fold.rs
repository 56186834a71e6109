//! The rules and the views fold the same events to the same state, also if the events are not legal.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use taskbell::task::event::{
    AttemptFailed, CancelAcknowledged, CancelEscalated, CancelLadder, CancelRequested, Completed, Event, Outcome,
    OutputKept, Queued, QueuedReason, Released, ReleasedReason, Retried, Rung, Started, TaskError,
};
use taskbell::task::{Position, Status, Task, TaskId, Timestamp, evolve};
use taskbell::views::Row;

use super::history::{Created, plain};
use super::world::ViewsFixture;

const EVENTS: usize = 60;

/// A random event. Mostly it is illegal in the present status.
fn any_event(rng: &mut StdRng) -> Event {
    let attempt = rng.random_range(1..=4);
    let at = Timestamp::from_micros(rng.random_range(0..1_000_000_000));
    let error = TaskError { code: "broken".into(), message: "broken".into() };
    match rng.random_range(0..11) {
        0 => Event::Created(Arc::new(Created { run_at: rng.random_bool(0.5).then_some(at), ..plain("ann", "x") })),
        1 => Event::Queued(Queued { reason: QueuedReason::RetryAt }),
        2 => Event::Started(Started { attempt, worker: format!("w{attempt}"), lease_hash: format!("lease {attempt}") }),
        3 => Event::CancelRequested(CancelRequested {
            reason: None,
            policy: CancelLadder { ask_for_ms: Some(u64::from(attempt)), interrupt_for_ms: None },
        }),
        4 => Event::CancelAcknowledged(CancelAcknowledged { attempt, stopping_after: None, expected_end: None }),
        5 => Event::CancelEscalated(CancelEscalated { rung: Rung::Interrupt, reason: None }),
        6 => Event::AttemptFailed(AttemptFailed { attempt, error, retry_at: at, progress: None }),
        7 => Event::Released(Released { attempt, reason: ReleasedReason::HandedBack }),
        8 => Event::OutputKept(OutputKept { attempt, tail: "end".into(), dropped_bytes: 0 }),
        9 => Event::Completed(Completed {
            outcome: *[Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled].choose(rng).unwrap(),
            attempt: rng.random_bool(0.5).then_some(attempt),
            message: None,
            result: None,
            error: None,
            forced: false,
            progress: None,
        }),
        _ => Event::Retried(Retried { reason: None }),
    }
}

/// The state of a task that both the rules and the views contain.
#[derive(Debug, PartialEq)]
struct Common {
    status: Status,
    attempt: u32,
    worker: Option<String>,
    /// Only while an attempt runs.
    lease: Option<String>,
    retry_at: Option<Timestamp>,
    cancel: Option<(CancelLadder, Rung)>,
}

impl Common {
    fn of_task(task: &Task) -> Self {
        Self {
            status: task.status,
            attempt: task.attempt,
            worker: task.worker.clone(),
            lease: task.lease_hash.clone().filter(|_| task.status.is_active()),
            retry_at: task.retry_at,
            cancel: task.cancel.as_ref().map(|cancel| (cancel.policy, cancel.rung)),
        }
    }

    fn of_row(row: &Row) -> Self {
        Self {
            status: row.status(),
            attempt: row.attempt(),
            worker: row.worker().map(str::to_owned),
            lease: row.lease_hash().map(str::to_owned),
            retry_at: row.retry_at(),
            cancel: row.cancel().map(|cancel| (cancel.policy, cancel.rung)),
        }
    }
}

#[test]
fn any_sequence_of_events_folds_to_one_state_in_the_rules_and_in_the_views() {
    let id = TaskId::from_uuid(uuid::Uuid::from_u128(1));
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut fixture, mut task) = (ViewsFixture::default(), None);
        for _ in 0..EVENTS {
            let event = any_event(&mut rng);
            let before: Option<Task> = task.clone();
            let legal = Status::next(before.as_ref().map(|task| task.status), &event).is_some();
            task = evolve(task, &event);
            fixture.log.record_task(id, event.clone(), "ann");
            fixture.apply_new_events();
            let row = fixture.views.get(id).map(|row| Common::of_row(&row));
            assert_eq!(task.as_ref().map(Common::of_task), row, "seed {seed}, after {event:?} on {before:?}");
            let counts = fixture.views.counters("ann").counts;
            assert_eq!(
                counts.iter().sum::<u64>(),
                fixture.views.len() as u64,
                "seed {seed}: each task is counted once"
            );
            if let Some(task) = &task {
                assert_eq!(counts[task.status as usize], 1, "seed {seed}: it is counted in its status");
            }
            fixture.log.mark_seen("ann", Position(rng.random_range(0..=fixture.log.head().0)));
            fixture.apply_new_events();
            let unseen = fixture.views.counters("ann").unseen.total();
            assert!(unseen <= 1, "seed {seed}: one task has {unseen} unseen ends");
            if !legal {
                assert_eq!(
                    task, before,
                    "seed {seed}: an event that the table doesn't have changes nothing: {event:?}"
                );
            }
            reached.insert((task.as_ref().map(|task| task.status), legal));
        }
    }
    // None and eight statuses, reached by a legal event or left as it was by an illegal one; none only by an illegal one.
    assert_eq!(reached.len(), 2 * 9 - 1, "{reached:?}");
}
