//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::reason_body;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::queue_name;
use crate::http::plumbing::openapi::schema::{
    Object, boolean, list as list_of, name, named, object, position, written_text, written_time,
};
use crate::task::access::Action;

pub fn list() -> Operation {
    let queues = object().field("items", list_of(queue().close(), 0, None)).field("position", position()).close();
    Operation::new("queues", "listQueues", "List the queues")
        .describe("The queues that have or had tasks and the paused ones, by name.")
        .does(Action::ReadQueues)
        .waits()
        .answers(
            Answer::json(StatusCode::OK, "The queues.", queues)
                .with_position()
                .example("queues", &json!({"items": [example(false)], "position": 41})),
        )
}

pub fn pause() -> Operation {
    command("pauseQueue", "Pause a queue")
        .describe("No more tasks of the queue start. Those that run go on.")
        .answers(answer(true))
}

pub fn resume() -> Operation {
    command("resumeQueue", "Resume a queue").describe("Tasks of the queue start again.").answers(answer(false))
}

fn command(id: &'static str, summary: &'static str) -> Operation {
    Operation::new("queues", id, summary)
        .does(Action::ControlQueues)
        .parameters([queue_name()])
        .optional_body(reason_body(), &[("reason", json!({"reason": "the printer is broken"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
}

fn answer(is_paused: bool) -> Answer {
    let mut queue_now = example(is_paused);
    queue_now["position"] = json!(42);
    Answer::json(StatusCode::OK, "The queue.", queue().field("position", position()).close())
        .with_position()
        .example("queue", &queue_now)
}

fn queue() -> Object {
    object()
        .field("name", name())
        .field("paused", boolean())
        .field("paused_at", written_time().or_null())
        .field("paused_by", written_text().or_null())
        .field("reason", written_text().or_null().about("Why it is paused."))
        .field("counts", named("Counts"))
}

fn example(is_paused: bool) -> Value {
    let at = is_paused.then_some("2026-11-22T15:04:05.000000Z");
    let (by, reason) = (is_paused.then_some("anna"), is_paused.then_some("the printer is broken"));
    json!({
        "name": "reports", "paused": is_paused, "paused_at": at, "paused_by": by, "reason": reason,
        "counts": {
            "scheduled": 0, "queued": 2, "running": 1, "cancelling": 0, "retrying": 0, "succeeded": 7, "failed": 1, "cancelled": 0,
        },
    })
}
