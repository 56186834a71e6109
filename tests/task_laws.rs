//! Properties that every history of a task has. A failed test prints its seed; `TASKBELL_SEED=<n>` repeats that history.

pub(crate) mod histories;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use histories::{Step, history};
use taskbell::store::{LogEvent, codec};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{Completed, Outcome, Rung};
use taskbell::task::{Command, Decider, Event, Status, TaskStream, decide, evolve, fold};

const HISTORIES: u64 = 400;
const STEPS: usize = 80;

/// Checks `law` on every history.
pub(crate) fn for_each_history(law: impl Fn(&[Step])) {
    let only = std::env::var("TASKBELL_SEED").ok().map(|seed| seed.parse().expect("TASKBELL_SEED is a number"));
    for seed in only.map_or(0..HISTORIES, |seed: u64| seed..seed + 1) {
        if let Err(broken) = catch_unwind(AssertUnwindSafe(|| law(&history(seed, STEPS)))) {
            eprintln!("the law is broken by the history of TASKBELL_SEED={seed}");
            resume_unwind(broken);
        }
    }
}

pub(crate) fn events(history: &[Step]) -> Vec<Event> {
    history.iter().flat_map(|step| step.decided.iter().flatten().cloned()).collect()
}

/// The events of each run. A run starts with `Created` or `Retried` and ends before the next `Retried`.
fn runs(history: &[Step]) -> Vec<Vec<Event>> {
    let mut runs: Vec<Vec<Event>> = Vec::new();
    for event in events(history) {
        match (&event, runs.last_mut()) {
            (Event::Retried(_), _) | (_, None) => runs.push(vec![event]),
            (_, Some(run)) => run.push(event),
        }
    }
    runs
}

fn status(task: Option<&taskbell::task::Task>) -> Option<Status> {
    task.map(|task| task.status)
}

/// The histories must reach every case. Otherwise a law could hold only because its case never occurs.
#[test]
fn the_histories_reach_every_event_every_status_and_every_verdict() {
    let mut reached = BTreeSet::new();
    for seed in 0..HISTORIES {
        let history = history(seed, STEPS);
        for step in &history {
            reached.insert(format!("status {:?}", status(step.after.as_ref())));
            for event in step.decided.iter().flatten() {
                reached.insert(format!("event {}", codec::type_name(&LogEvent::Task(event.clone()))));
                if let (Event::Completed(end), Some(Status::Cancelling)) = (event, status(step.before.as_ref())) {
                    reached.insert(format!("verdict of {:?}, forced {}", end.outcome, end.forced));
                }
            }
        }
        reached.extend((runs(&history).len() > 2).then(|| "a third run".to_owned()));
    }
    // Nine statuses with none, eleven events, four verdicts, the third run.
    assert_eq!(reached.len(), 9 + 11 + 4 + 1, "only these were reached: {reached:#?}");
}

#[test]
fn every_decided_event_is_a_line_of_the_state_table() {
    for_each_history(|history| {
        for step in history {
            let mut before = status(step.before.as_ref());
            for event in step.decided.iter().flatten() {
                let after = Status::next(before, event);
                assert!(after.is_some(), "from {before:?} by {event:?}, which {:?} led to", step.command);
                before = after;
            }
            assert_eq!(status(step.after.as_ref()), before, "evolve agrees with the table");
        }
    });
}

#[test]
fn a_command_that_succeeded_has_no_second_effect() {
    for_each_history(|history| {
        for step in history.iter().filter(|step| step.decided.is_ok()) {
            let again = decide(step.after.as_ref(), &step.command, step.now);
            let is_repeated = match step.command {
                Command::RequestCancel { .. }
                | Command::AcknowledgeCancel { .. }
                | Command::Escalate { .. }
                | Command::Enqueue { .. }
                | Command::LoseAttempt { .. } => again == Ok(Vec::new()),
                Command::Create(_) | Command::Start { .. } | Command::Finish { .. } | Command::Retry { .. } => {
                    again.is_err()
                }
            };
            assert!(is_repeated, "{:?} again led to {again:?}", step.command);
        }
    });
}

#[test]
fn a_rejected_command_changes_nothing_and_is_rejected_again() {
    for_each_history(|history| {
        for step in history.iter().filter(|step| step.decided.is_err()) {
            assert_eq!(step.before, step.after, "{:?}", step.command);
            assert_eq!(decide(step.before.as_ref(), &step.command, step.now), step.decided, "{:?}", step.command);
        }
    });
}

#[test]
fn a_history_may_be_folded_in_any_two_parts() {
    for_each_history(|history| {
        let events = events(history);
        let whole = fold(None, &events);
        for middle in 0..=events.len() {
            let (first, second) = events.split_at(middle);
            assert_eq!(fold(fold(None, first), second), whole, "split at {middle}");
        }
        let mut stream = TaskStream::default();
        for event in &events {
            stream.evolve(event);
        }
        assert_eq!(stream.0, whole, "a stream folds to the same state");
    });
}

#[test]
fn only_another_run_leaves_a_final_status() {
    for_each_history(|history| {
        let mut task = None;
        for event in events(history) {
            let before = status(task.as_ref());
            task = evolve(task, &event);
            if before.is_some_and(Status::is_final) {
                assert!(matches!(event, Event::Retried(_)), "{event:?} came after {before:?}");
            }
        }
    });
}

#[test]
fn a_run_has_one_request_to_cancel_at_most_and_one_end_after_which_nothing_happens() {
    for_each_history(|history| {
        for run in runs(history) {
            let at = |wanted: fn(&Event) -> bool| run.iter().position(wanted);
            let count = |wanted: fn(&Event) -> bool| run.iter().filter(|event| wanted(event)).count();
            let completed = |event: &Event| matches!(event, Event::Completed(_));
            let requested = |event: &Event| matches!(event, Event::CancelRequested(_));
            assert!(count(completed) <= 1, "{run:?}");
            assert!(count(requested) <= 1, "{run:?}");
            assert!(at(completed).is_none_or(|end| end + 1 == run.len()), "{run:?}");
            if let Some(request) = at(requested) {
                let retried = run[request..].iter().any(|event| {
                    matches!(event, Event::Started(_) | Event::AttemptFailed(_) | Event::Queued(_) | Event::Released(_))
                });
                assert!(!retried, "work went on after the request: {run:?}");
            }
        }
    });
}

#[test]
fn attempts_are_numbered_from_one_without_gaps_and_each_has_exactly_one_end() {
    for_each_history(|history| {
        let mut started = 0;
        let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
        for event in events(history) {
            let ended = match event {
                Event::Started(start) => {
                    started += 1;
                    assert_eq!(start.attempt, started);
                    None
                }
                Event::AttemptFailed(end) => Some(end.attempt),
                Event::Released(end) => Some(end.attempt),
                Event::Completed(end) => end.attempt,
                Event::Created(_)
                | Event::Queued(_)
                | Event::CancelRequested(_)
                | Event::CancelAcknowledged(_)
                | Event::CancelEscalated(_)
                | Event::OutputKept(_)
                | Event::Retried(_) => None,
            };
            if let Some(attempt) = ended {
                *ends.entry(attempt).or_default() += 1;
            }
        }
        let under_way = history.last().and_then(|step| step.after.as_ref()).is_some_and(|task| task.status.is_active());
        let expected = (1..=started - u32::from(under_way)).map(|attempt| (attempt, 1)).collect();
        assert_eq!(ends, expected, "the ends of each attempt");
    });
}

#[test]
fn a_run_has_no_more_attempts_than_max_attempts() {
    for_each_history(|history| {
        let all = events(history);
        let Some(Event::Created(created)) = all.first() else { return };
        for run in runs(history) {
            let counted = run.iter().fold(0_u32, |n, event| match event {
                Event::Started(_) => n + 1,
                Event::Released(_) => n - 1,
                Event::Created(_)
                | Event::Queued(_)
                | Event::CancelRequested(_)
                | Event::CancelAcknowledged(_)
                | Event::CancelEscalated(_)
                | Event::OutputKept(_)
                | Event::AttemptFailed(_)
                | Event::Completed(_)
                | Event::Retried(_) => n,
            });
            assert!(counted <= created.max_attempts, "{counted} attempts of {}: {run:?}", created.max_attempts);
        }
    });
}

#[test]
fn an_attempt_is_cancelled_without_force_only_by_a_report_of_its_worker() {
    for_each_history(|history| {
        for step in history {
            for event in step.decided.iter().flatten() {
                let Event::Completed(end @ Completed { outcome: Outcome::Cancelled, .. }) = event else {
                    assert!(!matches!(event, Event::Completed(Completed { forced: true, .. })), "{event:?}");
                    continue;
                };
                let allowed = match (&step.command, end.attempt, end.forced) {
                    (
                        Command::Finish { end: AttemptEnd::Cancelled { .. } | AttemptEnd::Released(_), .. },
                        Some(_),
                        false,
                    )
                    | (Command::LoseAttempt { .. } | Command::Escalate { rung: Rung::Revoke, .. }, Some(_), true) => {
                        status(step.before.as_ref()) == Some(Status::Cancelling)
                    }
                    (Command::RequestCancel { .. }, None, false) => true,
                    _ => false,
                };
                assert!(allowed, "{:?} led to {end:?}", step.command);
            }
        }
    });
}

#[test]
fn a_task_has_a_retry_at_exactly_while_it_is_retrying() {
    for_each_history(|history| {
        for step in history {
            let Some(task) = &step.after else { continue };
            assert_eq!(task.retry_at.is_some(), task.status == Status::Retrying, "{task:?}");
            for event in step.decided.iter().flatten() {
                let Event::AttemptFailed(failed) = event else { continue };
                let wait = failed.retry_at.since(step.now);
                let longest = Duration::from_secs(1)
                    .saturating_mul(1 << (task.attempts_in_run - 1).min(20))
                    .min(Duration::from_mins(5));
                assert!((longest.mul_f64(0.8)..=longest.mul_f64(1.2)).contains(&wait), "{wait:?} for {longest:?}");
            }
        }
    });
}

#[test]
fn every_event_reads_back_from_json_as_it_was() {
    for_each_history(|history| {
        for event in events(history).into_iter().map(LogEvent::Task) {
            let kind = codec::type_name(&event);
            let version = codec::current_version(kind).unwrap();
            let json = codec::encode(&event).unwrap();
            let back = codec::decode(kind, version, json.get()).unwrap();
            assert_eq!(back, event, "through {json}");
            assert_eq!(codec::encode(&back).unwrap().get(), json.get(), "and byte for byte");
        }
    });
}
