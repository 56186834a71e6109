//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::reason_body;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{
<<<<<<< HEAD
    Schema, boolean, list, object, one_of, owner, schema, written_text, written_time,
};
use crate::task::access::Role;

pub fn show() -> Operation {
    Operation::new("credentials", "showSession", "Show who the caller is")
        .describe("The subject and the role that the request's credential stands for.")
        .refuses(&[Refusal::InvalidRequest])
        .answers(Answer::json(StatusCode::OK, "The caller.", session()).example("browser", &example()))
}

pub fn open() -> Operation {
    let about = "Opens a session of 5 minutes for a user with this subject, which is returned and sets no cookie. Only the roles \
        `operator` and `admin` may do this.";
    let body = object().optional("subject", owner().or_null().about(about)).close();
    let either = schema(json!({"oneOf": [session().into_json(), bearer().into_json()]}));
    let page = json!({
        "token": format!("tbs_{}_{}", "0190f3c2a4b87def8123456789abcdef", "5e".repeat(32)), "subject": "anna", "role": "user",
        "expires_at": "2026-11-22T15:09:05.000000Z",
    });
    Operation::new("credentials", "openSession", "Open a session")
        .describe(
            "Without a body: a session for the caller's own subject, for at most 12 hours and no longer than the credential. Its \
             cookie is in the response. With `subject`: a short session for a page that embeds the bell; the page sends it as \
             `Authorization: Bearer`.",
        )
        .optional_body(body, &[("for a user", json!({"subject": "anna"}))])
        .writes()
        .refuses(&[Refusal::Forbidden, Refusal::SessionNotNeeded])
        .answers(
            Answer::json(StatusCode::CREATED, "The session. `Set-Cookie` is absent with `subject`.", either)
                .with_header("Set-Cookie", "SetCookie")
                .example("cookie", &example())
                .example("for a user", &page),
=======
    Schema, boolean, everyone_or, list, name, object, one_of, owner, schema, written_text, written_time,
};
use crate::task::access::{Action, Role};

pub fn show() -> Operation {
    Operation::new("credentials", "showSession", "Show who the caller is")
        .describe("The subject and the role of the credential, and what they mean for a list.")
        .does(Action::UseSession)
        .refuses(&[Refusal::InvalidRequest])
        .answers(Answer::json(StatusCode::OK, "The caller.", caller()).example("caller", &example()))
}

pub fn open() -> Operation {
    let body = object().optional("subject", owner().or_null().about("The user of the bearer.")).close();
    let bearer = object()
        .field("token", written_text())
        .field("subject", written_text())
        .field("role", one_of(["user"]))
        .field("expires_at", written_time())
        .close();
    let either = schema(json!({"anyOf": [caller().into_json(), bearer.into_json()]}));
    let anna = json!({
        "token": "tbs_…", "subject": "anna", "role": "user", "expires_at": "2026-11-22T15:09:05.000000Z",
    });
    Operation::new("credentials", "openSession", "Open a session")
        .describe(
            "Without a subject: a session of the caller, of at most 12 hours, in a cookie. With one: a bearer of 5 minutes for a user \
             with this subject, which only an operator or admin gets. Neither is valid for longer than the caller's credential.",
        )
        .does(Action::UseSession)
        .optional_body(body, &[("bearer", json!({"subject": "anna"}))])
        .writes()
        .refuses(&[Refusal::Forbidden, Refusal::ForbiddenOrigin, Refusal::SessionNotNeeded])
        .answers(
            Answer::json(StatusCode::CREATED, "The caller with its session, or the bearer.", either)
                .example("session", &example())
                .example("bearer", &anna),
>>>>>>> h-ses
        )
}

pub fn end() -> Operation {
<<<<<<< HEAD
    Operation::new("credentials", "endSession", "End the session")
        .describe("Ends the session that the request came with. Its websockets are closed.")
        .optional_body(reason_body(), &[("reason", json!({"reason": "signed out"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
        .answers(
            Answer::empty(StatusCode::NO_CONTENT, "Ended. The cookie is cleared.")
                .with_header("Set-Cookie", "SetCookie"),
        )
}

fn session() -> Schema {
    let kinds = "The kinds whose leases a worker may take; null for any.";
    object()
        .field("subject", written_text())
        .field("role", one_of(Role::ALL.map(Role::name)))
        .field("kinds", list(written_text(), 0, None).or_null().about(kinds))
        .field("expires_at", written_time().or_null().about("When the credential expires."))
        .field("default_owner", written_text().about("The `owner` of a list without this parameter; `*` for everyone."))
=======
    Operation::new("credentials", "endSession", "End the caller's session")
        .describe("The cookie is cleared, and the websockets of the session are closed.")
        .does(Action::UseSession)
        .optional_body(reason_body(), &[("reason", json!({"reason": "signed out"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Ended."))
}

fn caller() -> Schema {
    object()
        .field("subject", written_text())
        .field("role", one_of(Role::ALL.map(Role::name)))
        .field(
            "kinds",
            list(name(), 0, None).or_null().about("The kinds whose leases a worker may take; null for any."),
        )
        .field("expires_at", written_time().or_null())
        .field("default_owner", everyone_or(owner()).about("The `owner` of a list that names none."))
>>>>>>> h-ses
        .field("may_see_everyone", boolean())
        .field("credential", one_of(["local", "token", "session", "jwt", "proxy"]))
        .close()
}

<<<<<<< HEAD
fn bearer() -> Schema {
    object()
        .field("token", written_text().about("The text for `Authorization: Bearer`. No other response shows it."))
        .field("subject", written_text())
        .field("role", schema(json!({"const": "user"})))
        .field("expires_at", written_time())
        .close()
}

fn example() -> Value {
    json!({
        "subject": "anna", "role": "user", "kinds": null, "expires_at": "2026-11-23T03:04:05.000000Z", "default_owner": "anna",
        "may_see_everyone": false, "credential": "session",
=======
fn example() -> Value {
    json!({
        "subject": "mira", "role": "operator", "kinds": null, "expires_at": "2026-11-23T03:04:05.000000Z",
        "default_owner": "mira", "may_see_everyone": true, "credential": "session",
>>>>>>> h-ses
    })
}
