//! What a client sees of a task and of a bell. The name of each test states a rule.

use std::time::Duration;

use serde_json::{Value, json, to_value};
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{Event, QueuedReason, ReleasedReason, Retried, Rung, Started};
use taskbell::task::{Command, Position, Status, TaskId};
use taskbell::views::{Views, WaitingFor};

use super::history::{cancel, fail, start, succeed};
use super::world::ViewsFixture;

#[test]
fn a_task_as_json_has_every_field_of_the_contract_in_its_order_and_null_for_absent_values() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("Greet");
    let text = serde_json::to_string(&fixture.views.get(id).unwrap().doc(WaitingFor::Nothing, None)).unwrap();
    let expected = format!(
        concat!(
            r#"{{"id":"{}","kind":"mail.send","title":"Greet","owner":"ann","queue":"default","priority":0,"#,
            r#""labels":{{}},"parent":null,"status":"queued","waiting_for":null,"attempt":0,"max_attempts":3,"#,
            r#""worker":null,"created_at":"2026-11-22T10:00:00.000000Z","run_at":null,"started_at":null,"#,
            r#""finished_at":null,"duration_ms":null,"retry_at":null,"timeout_s":null,"progress":null,"#,
            r#""outcome":null,"cancel":null,"revision":0,"position":1}}"#
        ),
        id
    );
    assert_eq!(text, expected);
}

#[test]
fn a_queued_task_shows_what_the_dispatcher_says_and_another_task_what_its_status_says() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    let shown = |fixture: &ViewsFixture, waiting| fixture.views.get(id).unwrap().doc(waiting, None).waiting_for();
    assert_eq!(shown(&fixture, WaitingFor::Worker), Some("worker"));
    assert_eq!(shown(&fixture, WaitingFor::Limit), Some("limit"));
    assert_eq!(shown(&fixture, WaitingFor::PausedQueue), Some("paused"));
    assert_eq!(shown(&fixture, WaitingFor::Nothing), None);
    fixture.execute(id, &start("w"));
    assert_eq!(shown(&fixture, WaitingFor::PausedQueue), None);
    fixture.execute(id, &fail(1, "no", true));
    assert_eq!(shown(&fixture, WaitingFor::PausedQueue), Some("retry_at"));
}

#[test]
fn the_start_is_that_of_the_last_attempt_and_the_duration_lasts_from_it_to_the_end() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w-1"));
    assert_eq!(fixture.task_doc(id)["started_at"], json!(fixture.log.now()));
    assert_eq!(fixture.task_doc(id)["duration_ms"], Value::Null);
    fixture.execute(id, &fail(1, "no", true));
    fixture.log.advance_time(Duration::from_secs(5));
    fixture.execute(id, &Command::Enqueue { reason: QueuedReason::RetryAt });
    fixture.execute(id, &start("w-2"));
    let second = fixture.log.now();
    fixture.execute(id, &succeed(2, "done"));
    let doc = fixture.task_doc(id);
    assert_eq!((&doc["started_at"], &doc["duration_ms"]), (&json!(second), &json!(1500)));
    assert_eq!((&doc["worker"], &doc["attempt"]), (&json!("w-2"), &json!(2)));
}

#[test]
fn a_released_attempt_leaves_no_start() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w-1"));
    fixture.execute(
        id,
        &Command::Finish {
            attempt: 1,
            lease_hash: None,
            end: AttemptEnd::Released(ReleasedReason::HandedBack),
            progress: None,
            output: None,
        },
    );
    assert_eq!(fixture.task_doc(id)["started_at"], Value::Null);
    fixture.execute(id, &cancel(None));
    let doc = fixture.task_doc(id);
    assert_eq!((&doc["duration_ms"], &doc["status"]), (&Value::Null, &json!("cancelled")));
}

#[test]
fn another_run_clears_the_former_one_and_attempt_numbers_continue() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w"));
    fixture.execute(id, &cancel(Some("wrong folder")));
    let progress = Some(fixture.progress("half"));
    fixture.execute(
        id,
        &Command::Finish {
            attempt: 1,
            lease_hash: None,
            end: AttemptEnd::Cancelled { message: None, result: None },
            progress,
            output: None,
        },
    );
    assert_eq!(fixture.task_doc(id)["progress"]["message"], "half");
    fixture.execute(id, &Command::Retry { reason: None });
    let doc = fixture.task_doc(id);
    for field in ["cancel", "outcome", "progress", "started_at", "finished_at", "duration_ms"] {
        assert_eq!(doc[field], Value::Null, "{field}");
    }
    fixture.execute(id, &start("w"));
    assert_eq!(fixture.task_doc(id)["attempt"], 2);
}

#[test]
fn a_cancel_shows_its_subject_the_first_acknowledgement_and_the_last_step() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w"));
    fixture.execute(id, &cancel(Some("too slow")));
    let asked = fixture.log.now();
    let acknowledge = |step: &str| Command::AcknowledgeCancel {
        attempt: 1,
        lease_hash: None,
        stopping_after: Some(step.to_owned()),
        expected_end: None,
    };
    fixture.execute(id, &acknowledge("a.iso"));
    let first = fixture.log.now();
    fixture.execute(id, &acknowledge("b.iso"));
    fixture.execute(id, &Command::Escalate { rung: Rung::Interrupt, reason: None, attempt: None });
    let expected = json!({
        "requested_at": asked, "requested_by": "bob", "reason": "too slow", "acknowledged_at": first,
        "stopping_after": "b.iso", "expected_end": null, "rung": "interrupt", "verdict": null,
    });
    assert_eq!(fixture.task_doc(id)["cancel"], expected);
}

#[test]
fn the_verdict_of_a_cancel_says_what_came_first() {
    let stopped = AttemptEnd::Cancelled { message: None, result: None };
    let ends = [
        (Command::Finish { attempt: 1, lease_hash: None, end: stopped, progress: None, output: None }, "cancelled"),
        (succeed(1, "done"), "finished_first"),
        (fail(1, "no", true), "failed_first"),
        (Command::Escalate { rung: Rung::Revoke, reason: None, attempt: None }, "forced"),
    ];
    for (end, verdict) in ends {
        let mut fixture = ViewsFixture::default();
        let id = fixture.create_task("one");
        fixture.execute(id, &start("w"));
        fixture.execute(id, &cancel(None));
        assert_eq!(fixture.task_doc(id)["cancel"]["verdict"], Value::Null);
        fixture.execute(id, &end);
        assert_eq!(fixture.task_doc(id)["cancel"]["verdict"], verdict);
    }
}

#[test]
fn a_run_that_ended_without_a_message_has_an_outcome() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w"));
    assert_eq!(fixture.task_doc(id)["outcome"], Value::Null);
    let end = AttemptEnd::Succeeded { message: None, result: None };
    fixture.execute(id, &Command::Finish { attempt: 1, lease_hash: None, end, progress: None, output: None });
    assert_eq!(fixture.task_doc(id)["outcome"], json!({"message": null, "error": null}));
}

#[test]
fn an_event_that_the_state_table_does_not_have_changes_revision_and_position_alone() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    let mut before = fixture.task_doc(id);
    fixture.log.record_task(id, Event::Retried(Retried { reason: None }), "bob");
    fixture.log.record_task(TaskId::from_uuid(uuid::Uuid::nil()), Event::Retried(Retried { reason: None }), "bob");
    fixture.apply_new_events();
    (before["revision"], before["position"]) = (json!(1), json!(2));
    assert_eq!(fixture.task_doc(id), before);
    assert_eq!((fixture.views.position(), fixture.views.len()), (Position(3), 1));
}

#[test]
fn a_progress_report_is_shown_while_its_attempt_runs_and_changes_nothing_else() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    assert!(fixture.views.set_live_progress(id, 1, fixture.progress("early")).is_none());
    fixture.execute(id, &start("w"));
    let (position, digest, bell) = (fixture.views.position(), fixture.views.digest(), fixture.views.counters("ann"));
    assert!(fixture.views.set_live_progress(id, 2, fixture.progress("of another attempt")).is_none());
    let row = fixture.views.set_live_progress(id, 1, fixture.progress("halfway")).unwrap();
    assert_eq!(row.id(), id);
    assert_eq!(fixture.task_doc(id)["progress"]["message"], "halfway");
    assert_eq!(
        (fixture.views.position(), fixture.views.digest(), fixture.views.counters("ann")),
        (position, digest, bell)
    );
    fixture.execute(id, &cancel(None));
    assert_eq!(fixture.task_doc(id)["progress"]["message"], "halfway", "a request to cancel doesn't hide it");
    fixture.execute(id, &succeed(1, "done"));
    assert!(fixture.views.live_progress(id).is_none());
    assert_eq!(fixture.task_doc(id)["progress"], Value::Null);
}

#[test]
fn a_failed_attempt_keeps_its_progress_until_the_next_one_starts() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w"));
    let error = taskbell::task::event::TaskError { code: "lease_expired".into(), message: "lost".into() };
    let progress = Some(fixture.progress("file 3"));
    fixture.execute(id, &Command::LoseAttempt { attempt: 1, error, progress });
    fixture.log.advance_time(Duration::from_secs(5));
    fixture.execute(id, &Command::Enqueue { reason: QueuedReason::RetryAt });
    assert_eq!(fixture.task_doc(id)["progress"]["message"], "file 3");
    fixture.execute(id, &start("w"));
    assert_eq!(fixture.task_doc(id)["progress"], Value::Null);
}

#[test]
fn unseen_are_final_tasks_that_ended_after_what_the_owner_has_seen() {
    let mut fixture = ViewsFixture::default();
    let ids = fixture.create_tasks(3);
    for id in &ids {
        fixture.execute(*id, &start("w"));
    }
    fixture.execute(ids[0], &succeed(1, "done"));
    let first = fixture.views.position();
    fixture.execute(ids[1], &fail(1, "no", false));
    fixture.execute(ids[2], &cancel(None));
    fixture.execute(ids[2], &Command::Escalate { rung: Rung::Revoke, reason: None, attempt: None });
    assert_eq!(fixture.unseen(), (1, 1, 1));
    fixture.log.mark_seen("ann", first);
    fixture.apply_new_events();
    assert_eq!(fixture.unseen(), (0, 1, 1));
    fixture.execute(ids[1], &Command::Retry { reason: None });
    assert_eq!(fixture.unseen(), (0, 0, 1), "a task that runs again is not unseen until it ends again");
    fixture.execute(ids[0], &Command::Retry { reason: None });
    fixture.execute(ids[0], &start("w"));
    fixture.execute(ids[0], &succeed(2, "again"));
    assert_eq!(fixture.unseen(), (1, 0, 1), "a seen task that ends once more is unseen again");
    fixture.log.mark_seen("ann", fixture.log.head());
    fixture.apply_new_events();
    assert_eq!(fixture.unseen(), (0, 0, 0));
    assert_eq!(fixture.views.counters("ann").seen, Position(fixture.log.head().0 - 1));
}

#[test]
fn the_bell_of_an_unknown_owner_is_empty_and_names_all_eight_statuses() {
    let bell = to_value(Views::default().counters("nobody")).unwrap();
    let counts: Value = Status::ALL.into_iter().map(|s| (s.name().to_owned(), json!(0))).collect();
    let unseen = json!({"succeeded": 0, "failed": 0, "cancelled": 0});
    assert_eq!(bell, json!({"position": 0, "counts": counts, "unseen": unseen, "seen": 0}));
}

#[test]
fn a_second_start_of_a_running_task_changes_nothing() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w-1"));
    let twice = Started { attempt: 2, worker: "w-2".into(), lease_hash: String::new() };
    fixture.log.record_task(id, Event::Started(twice), "w-2");
    fixture.apply_new_events();
    let row = fixture.views.get(id).unwrap();
    assert_eq!((row.attempt(), row.worker()), (1, Some("w-1")));
}

#[test]
fn views_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Views>();
    shared::<taskbell::views::Snapshot>();
}
