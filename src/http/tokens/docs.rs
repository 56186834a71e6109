//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::limits::ClientLimits;
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::reason_body;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::{path, query};
use crate::http::plumbing::openapi::schema::{
    Object, Schema, count, free_name, integer, list as list_of, name, object, one_of, owner, pattern, position,
    subject, time, uuid, written_text, written_time,
};
use crate::http::plumbing::openapi::tasks::EXAMPLE_ID;
use crate::http::plumbing::query::DEFAULT_LIMIT;
use crate::task::access::{Action, Role};
use crate::task::token::KINDS_MAX;

pub fn list() -> Operation {
    let limit_max = ClientLimits::default().page_tasks;
    let limit = integer(1, limit_max).with("default", DEFAULT_LIMIT);
    let cursor = pattern("^[0-9a-f]{42}$");
    let page = object()
        .field("items", list_of(token().close(), 0, limit_max))
        .field("next", cursor.clone().or_null().about("The cursor of the next page; null if there is none."))
        .field("prev", cursor.clone().or_null().about("The cursor of the page before; null if there is none."))
        .field("total", count().about("How many tokens there are."))
        .field("position", position())
        .close();
    let example = json!({"items": [example()], "next": null, "prev": null, "total": 1, "position": 41});
    let order = one_of(["desc", "asc"]).with("default", "desc");
    Operation::new("credentials", "listTokens", "List the tokens")
        .describe(
            "A page of the tokens, also of those that are revoked or have expired. No response shows a token itself.",
        )
        .does(Action::ManageTokens)
        .parameters([
            query("order", "By creation: the newest or the oldest first.", order),
            query("limit", "How many tokens the page has at most (`max_page_tasks`).", limit),
            query("cursor", "`next` or `prev` of another page with the same order.", cursor),
        ])
        .waits()
        .answers(Answer::json(StatusCode::OK, "The page.", page).with_position().example("tokens", &example))
}

pub fn create() -> Operation {
    let kinds = list_of(free_name(), 1, KINDS_MAX).or_null();
    let body = object()
        .field("subject", subject().about("Who uses the token. `system`, `local` and `local/…` are reserved."))
        .field("role", role())
        .optional(
            "kinds",
            kinds.about("With the role `worker`: the kinds whose leases it may take. Default: all kinds."),
        )
        .optional("expires_at", time().or_null().about("When the token expires, in the future. Default: never."))
        .optional("expires_in_s", integer(1, u64::MAX).or_null().about("Instead of `expires_at`, in seconds from now."))
        .close()
        .with("allOf", rules());
    let request =
        json!({"subject": "render-farm", "role": "worker", "kinds": ["video.render"], "expires_in_s": 7_776_000});
    let mut example_new = example();
    example_new["token"] = json!(format!("tb_{}_{}", EXAMPLE_ID.replace('-', ""), "0".repeat(64)));
    example_new["position"] = json!(41);
    let new = token()
        .field("token", pattern("^tb_[0-9a-f]{32}_[0-9a-f]{64}$").about("The token. No other response shows it."))
        .field("position", position())
        .close();
    let answer = Answer::json(StatusCode::CREATED, "The new token.", new).with_position();
    Operation::new("credentials", "createToken", "Create a token")
        .describe("Every request with the token comes from its subject, with its role.")
        .does(Action::ManageTokens)
        .body(body, &[("worker", request)])
        .writes()
        .answers(answer.example("token", &example_new).links("/id", &["revokeToken"]))
}

/// Only a worker has kinds, and one field says when the token expires.
fn rules() -> Value {
    let is_null = |field: &str| json!({"properties": {field: {"type": "null"}}});
    json!([
        {"if": {"properties": {"role": {"const": "worker"}}}, "else": is_null("kinds")},
        {"anyOf": [is_null("expires_at"), is_null("expires_in_s")]},
    ])
}

pub fn revoke() -> Operation {
    Operation::new("credentials", "revokeToken", "Revoke a token")
        .describe(
            "Within a second, the sessions of the token end, and the requests and sockets that wait with it. Revoking it again \
             changes nothing.",
        )
        .does(Action::ManageTokens)
        .parameters([token_id()])
        .optional_body(reason_body(), &[("reason", json!({"reason": "left the team"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Revoked."))
}

fn token_id() -> Value {
    path("id", "The id of the token.", uuid())
}

fn role() -> Schema {
    one_of(Role::ALL.map(Role::name))
}

fn token() -> Object {
    object()
        .field("id", uuid())
        .field("subject", owner())
        .field("role", role())
        .field("kinds", list_of(name(), 1, KINDS_MAX).or_null())
        .field("created_at", written_time())
        .field("created_by", written_text())
        .field("expires_at", written_time().or_null())
        .field("revoked_at", written_time().or_null())
        .field(
            "last_used_at",
            written_time().or_null().about("To the second, on the server that responds, since its start."),
        )
}

fn example() -> Value {
    json!({
        "id": EXAMPLE_ID, "subject": "render-farm", "role": "worker", "kinds": ["video.render"],
        "created_at": "2026-11-22T15:04:05.000000Z", "created_by": "root", "expires_at": "2027-02-20T15:04:05.000000Z",
        "revoked_at": null, "last_used_at": null,
    })
}
