//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{
    Schema, boolean, count, list, object, one_of, reason, schema, subject, written_text, written_time,
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
    let body = object().optional("subject", subject().or_null().about(about)).close();
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
        )
}

pub fn end() -> Operation {
    let about = "Ends all sessions of this subject instead. Only the role `admin` may do this. The subject keeps its other \
        credentials.";
    let body = object().optional("subject", subject().or_null().about(about)).optional("reason", reason()).close();
    let ended = object().field("ended", count().about("How many sessions have ended.")).close();
    Operation::new("credentials", "endSession", "End the session, or those of a subject")
        .describe(
            "Without a subject: ends the session that the request came with. With `subject`: ends all sessions of this subject, \
             whatever credential has opened them. The websockets of a session are closed with it.",
        )
        .optional_body(
            body,
            &[
                ("reason", json!({"reason": "signed out"})),
                ("of a subject", json!({"subject": "anna", "reason": "left the team"})),
            ],
        )
        .writes()
        .refuses(&[Refusal::Forbidden, Refusal::NotFound])
        .answers(
            Answer::json(StatusCode::OK, "The sessions of the subject have ended.", ended)
                .example("of a subject", &json!({"ended": 2})),
        )
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
        .field("may_see_everyone", boolean())
        .field("credential", one_of(["local", "token", "session", "jwt", "proxy"]))
        .close()
}

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
    })
}
