//! The routes of workers, queues, schedules and the log.

use crate::matrix::checks;
use crate::matrix::row::{Row, row};
use crate::matrix::things::{On, State};

const TAKE: &str = r#"{"worker": "{worker}", "kinds": ["{kind}"], "queues": ["{queue}"], "max": 10, "wait_s": 0}"#;
const TAKE_ANY: &str = r#"{"worker": "{worker}", "queues": ["{queue}"], "max": 10, "wait_s": 0}"#;
const HEARTBEAT: &str = r#"{"worker": "{worker}", "leases": [{"lease": "{lease}"}], "wait_s": 0}"#;
const ACKNOWLEDGE: &str = r#"{"lease": "{lease}"}"#;
const FINISH: &str = r#"{"items": [{"lease": "{lease}", "outcome": "succeeded", "message": "done"}]}"#;
const SCHEDULE: &str = r#"{"cron": "0 4 29 2 *", "task": {"kind": "m.idle", "title": "report of {self}"}}"#;
const SCHEDULE_FOR: &str =
    r#"{"cron": "0 4 29 2 *", "task": {"kind": "m.idle", "title": "report", "owner": "{owner}"}}"#;

pub fn rows() -> Vec<Row> {
    [leases(), queues(), schedules(), log()].into_iter().flatten().collect()
}

/// A worker takes the tasks of every owner, and only of its kinds. What it sends about a lease of another kind has the answer
/// of a lease that doesn't exist.
fn leases() -> Vec<Row> {
    let take = |body| row("POST /v1/leases").on(On::Waiting).body(body).check(checks::leases);
    vec![
        //           user operator auditor worker         admin
        take(TAKE)
            .shows_others()
            .own("   403  403      403     200/leases     200/leases")
            // A worker that asks for a kind that isn't its own learns so, and not whether tasks of the kind exist.
            .other(" 403  403      403     403            200/leases")
            .absent("403  403      403     403            200/none"),
        take(TAKE_ANY)
            .case("without kinds, where tasks of an own and of another kind wait")
            .shows_others()
            .present("403 403      403     200/leases     200/leases"),
        row("POST /v1/leases/heartbeat")
            .on(On::Lease(State::Running))
            .body(HEARTBEAT)
            .own("   403  403      403     200/renewed    200/renewed")
            .other(" 403  403      403     200/lost       200/renewed")
            .absent("403  403      403     200/lost       200/lost"),
        row("POST /v1/leases/cancel-ack")
            .on(On::Lease(State::Cancelling))
            .body(ACKNOWLEDGE)
            .records("CancelAcknowledged")
            .own("   403  403      403     204            204")
            .other(" 403  403      403     409:lease_lost 204")
            .absent("403  403      403     409:lease_lost 409:lease_lost"),
        row("POST /v1/leases/finish")
            .on(On::Lease(State::Running))
            .body(FINISH)
            .records("Completed")
            .own("   403  403      403     200/succeeded  200/succeeded")
            .other(" 403  403      403     200/409        200/succeeded")
            .absent("403  403      403     200/409        200/409"),
    ]
}

fn queues() -> Vec<Row> {
    let mut rows = vec![
        //                                   user operator auditor worker admin
        row("GET /v1/queues").check(checks::queues).unnamed("403 200 200    403    200"),
    ];
    for (route, event) in [("POST /v1/queues/{queue}/pause", Some("Paused")), ("POST /v1/queues/{queue}/resume", None)]
    {
        let command = |case| row(route).case(case).body("{}");
        let change = Row { records: event, ..command("a queue").on(On::Waiting) };
        rows.extend([
            change
                .other("                     403  200      403     403    200")
                // A queue is a name and needn't have tasks.
                .absent("                    403  200      403     403    200"),
            command("a name that no queue can have").present("                   403  404      403     403    404"),
        ]);
    }
    rows
}

fn schedules() -> Vec<Row> {
    let one = |route| row(route).on(On::Schedule);
    vec![
        //                                   user operator auditor worker admin
        row("GET /v1/schedules").check(checks::schedules).unnamed("403 200 200 403 200"),
        row("POST /v1/schedules").body(SCHEDULE).records("ScheduleCreated").unnamed("403 201 403 403 201"),
        row("POST /v1/schedules")
            .case("for an owner")
            .body(SCHEDULE_FOR)
            .records("ScheduleCreated")
            .own("                           403  201      403     403    201")
            .other("                         403  201      403     403    201")
            .absent("                        403  201      403     403    201"),
        one("GET /v1/schedules/{id}")
            .check(checks::schedule)
            .present("                       403  200      200     403    200")
            .absent("                        403  404      404     403    404"),
        one("DELETE /v1/schedules/{id}")
            .records("ScheduleRemoved")
            .present("                       403  204      403     403    204")
            .absent("                        403  404      403     403    404"),
    ]
}

/// The log holds what everybody does: the hash of its head alone says whether something has happened.
fn log() -> Vec<Row> {
    let log = |case, query| row("GET /v1/log").case(case).query(query);
    vec![
        //                                   user operator auditor worker admin
        log("all of it", "").check(checks::log).unnamed("403 403 200    403    200"),
        log("kept open for an event", "follow=true&limit=1")
            .unnamed("                       403  403      200     403    200"),
        log("the stream of a task", "stream=task-{id}")
            .on(On::Task(State::Ended))
            .check(checks::log_of_task)
            .own("                           403  403      200     403    200")
            .other("                         403  403      200     403    200")
            .absent("                        403  403      200     403    200"),
        row("GET /v1/log/head").unnamed("    403  403      200     403    200"),
        row("GET /v1/views/digest").unnamed("403  403      200     403    200"),
    ]
}
