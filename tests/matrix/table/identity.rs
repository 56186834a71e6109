//! The routes of tokens and sessions, and those that need no credential.

use crate::matrix::checks;
use crate::matrix::row::{Row, row};
use crate::matrix::things::On;

pub fn rows() -> Vec<Row> {
    [tokens(), sessions(), process()].into_iter().flatten().collect()
}

fn tokens() -> Vec<Row> {
    vec![
        //                                   user operator auditor worker admin
        row("GET /v1/tokens").check(checks::tokens).unnamed("403 403 403   403    200"),
        row("POST /v1/tokens")
            .body(r#"{"subject": "new-{n}", "role": "user"}"#)
            .records("TokenCreated")
            .unnamed("                       403  403      403     403    201"),
        // A caller can't make itself an admin.
        row("POST /v1/tokens")
            .case("for the caller, with the role admin")
            .body(r#"{"subject": "{self}", "role": "admin"}"#)
            .records("TokenCreated")
            .unnamed("                       403  403      403     403    201"),
        row("DELETE /v1/tokens/{id}")
            .on(On::Token)
            .records("TokenRevoked")
            .present("                       403  403      403     403    204")
            .absent("                        403  403      403     403    404"),
    ]
}

fn sessions() -> Vec<Row> {
    vec![
        //                                   user operator auditor worker admin
        row("GET /v1/session").check(checks::session).unnamed("200 200 200 200    200"),
        row("POST /v1/session")
            .case("for the caller")
            .check(checks::session)
            .records("SessionOpened")
            .unnamed("                       201  201      201     201    201"),
        // A bearer for a user of a page: its role is always user.
        row("POST /v1/session")
            .case("for another subject")
            .body(r#"{"subject": "{owner}"}"#)
            .check(checks::bearer)
            .records("SessionOpened")
            .own("                           403  201      403     403    201")
            .other("                         403  201      403     403    201")
            .absent("                        403  201      403     403    201"),
        // A token is no session: there is nothing to end.
        row("DELETE /v1/session").unnamed("  404  404      404     404    404"),
        // All sessions of a subject. A caller that is no admin can't end its own sessions in this way either.
        row("DELETE /v1/session")
            .case("of a subject")
            .body(r#"{"subject": "{owner}", "reason": "tried"}"#)
            .check(checks::ended)
            .own("                           403  403      403     403    200")
            .other("                         403  403      403     403    200")
            .absent("                        403  403      403     403    200"),
        row("POST /v1/tickets").unnamed("    201  201      201     201    201"),
    ]
}

fn process() -> Vec<Row> {
    vec![
        row("GET /metrics").unnamed("        403  200      200     403    200"),
        row("GET /v1/live").unnamed(
            "400:not_a_websocket 400:not_a_websocket 400:not_a_websocket 400:not_a_websocket 400:not_a_websocket",
        ),
        row("GET /healthz").public("         200  200      200     200    200"),
        row("GET /readyz").public("          200  200      200     200    200"),
        row("GET /openapi.json").public("    200  200      200     200    200"),
        row("GET /").public("                200  200      200     200    200"),
        row("GET /tasks/{id}").public("      200  200      200     200    200"),
        row("GET /ui/{file}").public("       200  200      200     200    200"),
    ]
}
