//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::accept::docs::template_fields;
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::reason_body;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::path;
use crate::http::plumbing::openapi::schema::{
    Object, Schema, any, integer, labels, line, list as list_of, name, object, one_of, owner, pattern, position,
    redacted, uuid, written_text, written_time,
};
use crate::http::plumbing::openapi::tasks::EXAMPLE_ID;
use crate::task::access::Action;
use crate::task::calendar::CRON_MAX;
use crate::task::limits::{ATTEMPTS_MAX, LABELS_MAX, TIMEOUT_MAX_S, TITLE_MAX};

/// The routes that a response with a schedule leads to.
const LINKS: [&str; 2] = ["showSchedule", "removeSchedule"];

pub fn list() -> Operation {
    let schedules = object().field("items", list_of(schedule().close(), 0, None)).field("position", position()).close();
    let answer = Answer::json(StatusCode::OK, "The schedules.", schedules).with_position();
    Operation::new("schedules", "listSchedules", "List the schedules")
        .describe("The schedules that are not removed, the oldest first.")
        .does(Action::ReadSchedules)
        .waits()
        .answers(answer.example("schedules", &json!({"items": [example()], "position": 41})))
}

pub fn create() -> Operation {
    let cron = pattern("^\\s*\\S+(\\s+\\S+){4}\\s*$").with("maxLength", CRON_MAX).about(
        "Five fields: minute, hour, day of month, month, day of week; also lists, ranges, steps, names, `L`, `W` and `#`.",
    );
    let missed = "For which missed runs tasks are created: for the latest (`run_once`, the default), for none (`skip`), or for \
        each of the last 1000 (`run_all`). A run is missed if it is late by more than a minute.";
    let body = object()
        .field("cron", cron)
        .optional("time_zone", written_text().or_null().about("The IANA name. Default: `UTC`."))
        .optional("missed", one_of(["run_once", "skip", "run_all"]).or_null().about(missed))
        .field("task", template_fields().close().about("The tasks that the schedule creates."))
        .close();
    let request = json!({"cron": "0 6 1 * *", "time_zone": "Europe/Zurich", "task": {"kind": "report.build"}});
    Operation::new("schedules", "createSchedule", "Create a schedule")
        .describe("Creates a task at each time of the expression in the time zone.")
        .does(Action::ControlSchedules)
        .body(body, &[("monthly", request)])
        .writes()
        .answers(one(StatusCode::CREATED, "The new schedule.").with_header("Location", "Location"))
}

pub fn show() -> Operation {
    Operation::new("schedules", "showSchedule", "Show a schedule")
        .describe("The schedule, with the next time at which it creates a task.")
        .does(Action::ReadSchedules)
        .parameters([schedule_id()])
        .waits()
        .refuses(&[Refusal::NotFound])
        .answers(one(StatusCode::OK, "The schedule."))
}

pub fn remove() -> Operation {
    Operation::new("schedules", "removeSchedule", "Remove a schedule")
        .describe("After the response the schedule creates no more tasks. Those that it has created remain.")
        .does(Action::ControlSchedules)
        .parameters([schedule_id()])
        .optional_body(reason_body(), &[("reason", json!({"reason": "monthly is enough"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Removed."))
}

fn schedule_id() -> Value {
    path("id", "The id of the schedule.", uuid())
}

fn one(status: StatusCode, description: &str) -> Answer {
    let mut schedule_now = example();
    schedule_now["position"] = json!(41);
    Answer::json(status, description, schedule().field("position", position()).close())
        .with_position()
        .example("schedule", &schedule_now)
        .links("/id", &LINKS)
}

fn schedule() -> Object {
    object()
        .field("id", uuid())
        .field("cron", written_text())
        .field("time_zone", written_text())
        .field("missed", one_of(["run_once", "skip", "run_all"]))
        .field("task", template())
        .field("created_at", written_time())
        .field("created_by", written_text())
        .field("next_at", written_time().or_null().about("The next time of the expression."))
        .optional("redacted", redacted())
        .field("last_at", written_time().or_null().about("The time of the last task that was created."))
}

/// The task with its defaults.
fn template() -> Schema {
    object()
        .field("kind", name())
        .field("title", line(TITLE_MAX))
        .field("owner", owner())
        .field("input", any())
        .field("queue", name())
        .field("priority", integer(i32::MIN, i32::MAX))
        .field("max_attempts", integer(1, ATTEMPTS_MAX))
        .field("timeout_s", integer(1, TIMEOUT_MAX_S).or_null())
        .field("labels", labels(LABELS_MAX))
        .field("unique_key", written_text().or_null())
        .field("concurrency_key", written_text().or_null())
        .close()
}

fn example() -> Value {
    json!({
        "id": EXAMPLE_ID, "cron": "0 6 1 * *", "time_zone": "Europe/Zurich", "missed": "run_once",
        "task": {
            "kind": "report.build", "title": "report.build", "owner": "anna", "input": null, "queue": "default", "priority": 0,
            "max_attempts": 1, "timeout_s": null, "labels": {}, "unique_key": null, "concurrency_key": null,
        },
        "created_at": "2026-11-22T15:04:05.000000Z", "created_by": "anna", "next_at": "2026-12-01T05:00:00.000000Z",
        "last_at": null,
    })
}
