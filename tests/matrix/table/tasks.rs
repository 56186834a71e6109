//! The routes of tasks and of the bell.

use crate::matrix::checks;
use crate::matrix::row::{Row, row};
use crate::matrix::things::{On, State};

const NEW: &str = r#"{"kind": "m.idle", "title": "report of {self}"}"#;
const NEW_FOR: &str = r#"{"kind": "m.idle", "title": "report", "owner": "{owner}"}"#;
const NEW_CHILD: &str = r#"{"kind": "m.idle", "title": "report of {self}", "parent": "{id}"}"#;
const ITEM: &str = r#"{"items": [{"kind": "m.idle", "title": "report of {self}"}]}"#;
const ITEM_FOR: &str = r#"{"items": [{"kind": "m.idle", "title": "report", "owner": "{owner}"}]}"#;
const KEYED_ITEM_FOR: &str =
    r#"{"items": [{"kind": "m.idle", "title": "report", "owner": "{owner}", "idempotency_key": "{n}"}]}"#;
const UNIQUE_ITEM_FOR: &str =
    r#"{"items": [{"kind": "m.idle", "title": "report", "owner": "{owner}", "unique_key": "{n}"}]}"#;
const ITEM_CHILD: &str = r#"{"items": [{"kind": "m.idle", "title": "report of {self}", "parent": "{id}"}]}"#;
const DRY_RUN: &str = r#"{"filter": {"label": "set:fixed"}, "dry_run": true}"#;
const DRY_RUN_FOR: &str = r#"{"filter": {"label": "set:fixed", "owner": "{owner}"}, "dry_run": true}"#;
const REVOKE: &str = r#"{"rung": "revoke"}"#;

pub fn rows() -> Vec<Row> {
    [reads(), creates(), batches(), bulk_cancels(), cancels(), escalations(), retries(), bell()]
        .into_iter()
        .flatten()
        .collect()
}

fn reads() -> Vec<Row> {
    let list = || row("GET /v1/tasks").query("limit=200&label=set:fixed&owner={owner}").check(checks::list);
    let mut rows = vec![
        //                     user operator auditor worker admin
        list().query("limit=200&label=set:fixed").unnamed("200 200 200 200 200"),
        list()
            .own("                 200  200      200     200    200")
            .other("               404  200      200     404    200")
            .absent("              404  200      200     404    200")
            .everyone("            404  200      200     404    200"),
        list()
            .case("two owners, one of them the caller")
            .query("limit=200&label=set:fixed&owner={self},{owner}")
            .check(checks::list_of_two)
            .other("               404  200      200     404    200")
            .absent("              404  200      200     404    200"),
        list()
            .case("a word in the title of another subject's task")
            .query("limit=200&q=otto")
            .check(checks::empty_list)
            .unnamed("             200  200      200     200    200"),
        // The issue leaves open whether a filter by a hidden parent is refused. It says nothing about the parent if it is an
        // empty page, like that of a parent that doesn't exist.
        list()
            .case("the children of a task")
            .on(On::Task(State::Running))
            .query("limit=200&parent={id}")
            .check(checks::empty_list)
            .own("                 200  200      200     200    200")
            .other("               200  200      200     200    200")
            .absent("              200  200      200     200    200"),
    ];
    for (route, check) in [
        ("GET /v1/tasks/{id}", checks::task_page as checks::Check),
        ("GET /v1/tasks/{id}/events", checks::events as checks::Check),
    ] {
        for state in State::ALL {
            let row = row(route).case(state.status()).on(On::Task(state)).check(check);
            rows.push(
                row.own("          200  200      200     200    200")
                    .other("       404  200      200     404    200")
                    .absent("      404  404      404     404    404"),
            );
        }
    }
    rows
}

fn creates() -> Vec<Row> {
    let create = |case| row("POST /v1/tasks").case(case).check(checks::created).records("Created");
    vec![
        //                      user operator auditor worker admin
        create("for nobody named").body(NEW).unnamed("201 201 403 201 201"),
        create("for an owner")
            .body(NEW_FOR)
            .own("                  201  201      403     201    201")
            .other("                403  201      403     403    201")
            // An owner is a name and needn't exist.
            .absent("               403  201      403     403    201"),
        create("for an owner, with a key")
            .body(NEW_FOR)
            .key("{n}")
            .own("                  201  201      403     201    201")
            .other("                403  201      403     403    201"),
        // A key is its caller's own: the same key and body lead to another task.
        create("with a key that another subject has used with the same body")
            .body(super::super::world::KEYED_BODY)
            .key(super::super::world::USED_KEY)
            .once()
            .unnamed("              201  201      403     201    201"),
        create("with a parent")
            .on(On::Task(State::Running))
            .body(NEW_CHILD)
            .check(checks::created_for_caller)
            .own("                  201  201      403     201    201")
            // A parent that the caller may not see is refused like one that doesn't exist: as a wrong value of this field.
            .other("                422  201      403     422    201")
            .absent("               422  422      403     422    422"),
    ]
}

fn batches() -> Vec<Row> {
    let batch = |case, body| row("POST /v1/tasks/batch").case(case).body(body).records("Created");
    let for_owner = |case, body| {
        batch(case, body)
            //       user    operator auditor worker  admin
            .own("   200/id  200/id   403     200/id  200/id")
            .other(" 200/403 200/id   403     200/403 200/id")
            .absent("200/403 200/id   403     200/403 200/id")
    };
    vec![
        batch("for nobody named", ITEM).unnamed("200/id 200/id 403 200/id 200/id"),
        for_owner("for an owner", ITEM_FOR),
        for_owner("for an owner, with a key", KEYED_ITEM_FOR),
        for_owner("for an owner, with a unique key", UNIQUE_ITEM_FOR),
        batch("with a parent", ITEM_CHILD)
            .on(On::Task(State::Running))
            .own("   200/id  200/id   403     200/id  200/id")
            .other(" 200/422 200/id   403     200/422 200/id")
            .absent("200/422 200/422  403     200/422 200/422"),
    ]
}

/// `bulk` runs the bulk cancels that aren't dry.
fn bulk_cancels() -> Vec<Row> {
    let dry_run =
        |body| row("POST /v1/tasks/cancel").case("a dry run").body(body).check(checks::matched).changes_nothing();
    vec![
        //                      user operator auditor worker admin
        dry_run(DRY_RUN).unnamed("202 202     403     202    202"),
        dry_run(DRY_RUN_FOR)
            .own("                  202  202      403     202    202")
            .other("                404  202      403     404    202")
            .absent("               404  202      403     404    202")
            .everyone("             404  202      403     404    202"),
    ]
}

fn cancels() -> Vec<Row> {
    let cancel = |state| {
        row("POST /v1/tasks/{id}/cancel").on(On::Task(state)).case(state.status()).body("{}").check(checks::task_page)
    };
    let accepted = |row: Row| {
        //           user operator auditor worker admin
        row.own("    202  202      403     202    202")
            .other(" 404  202      403     404    202")
            .absent("404  404      404     404    404")
    };
    vec![
        accepted(cancel(State::Queued).records("CancelRequested")),
        accepted(cancel(State::Running).records("CancelRequested")),
        accepted(cancel(State::Cancelling)),
        cancel(State::Ended).own("   200  200      403     200    200").other(" 404  200      403     404    200"),
    ]
}

fn escalations() -> Vec<Row> {
    let escalate = |state| {
        row("POST /v1/tasks/{id}/escalate")
            .on(On::Task(state))
            .case(state.status())
            .body(REVOKE)
            .check(checks::task_page)
    };
    vec![
        escalate(State::Cancelling)
            .records("CancelEscalated")
            //       user operator           auditor worker admin
            .own("   403  202                403     403    202")
            .other(" 404  202                403     404    202")
            .absent("404  404                404     404    404"),
        escalate(State::Running)
            .own("   403  409:not_cancelling 403     403    409:not_cancelling")
            .other(" 404  409:not_cancelling 403     404    409:not_cancelling"),
        escalate(State::Ended)
            .own("   403  200                403     403    200")
            .other(" 404  200                403     404    200"),
    ]
}

fn retries() -> Vec<Row> {
    let retry = |state| {
        row("POST /v1/tasks/{id}/retry").on(On::Task(state)).case(state.status()).body("{}").check(checks::task_page)
    };
    vec![
        retry(State::Ended)
            .records("Retried")
            //       user          operator      auditor worker        admin
            .own("   202           202           403     202           202")
            .other(" 404           202           403     404           202")
            .absent("404           404           404     404           404"),
        retry(State::Queued)
            .own("   409:not_final 409:not_final 403     409:not_final 409:not_final")
            .other(" 404           409:not_final 403     404           409:not_final"),
    ]
}

fn bell() -> Vec<Row> {
    let counters = |query| row("GET /v1/counters").query(query).check(checks::counters);
    let seen = |case, body| row("POST /v1/bell/seen").case(case).body(body);
    vec![
        //                       user operator auditor worker admin
        counters("").unnamed("   200  200      200     200    200"),
        counters("owner={owner}")
            .own("               200  200      200     200    200")
            .other("             404  200      200     404    200")
            .absent("            404  200      200     404    200")
            .everyone("          404  200      200     404    200"),
        seen("a position of the log", r#"{"position": 3}"#)
            .records("Seen")
            .once()
            .unnamed("           204  204      403     204    204"),
        seen("a position after the end of the log", r#"{"position": 123456789}"#)
            .unnamed("           422  422      403     422    422"),
    ]
}
