//! Schedules whose nominal times passed while no server ran. The log must contain exactly the tasks that the policy of the
//! schedule creates, and none of them twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use taskbell::store::{EventStore, new_id, now};
use taskbell::task::calendar::{MISSED_RUNS_MAX, nominal_time};
use taskbell::task::schedule::{Missed, ScheduleCreated, Template};
use taskbell::task::{TaskId, Timestamp};
use uuid::Uuid;

use super::super::support::{Server, append_of_schedule, task_template};

const DAY: u64 = 24 * 3600;

/// Starts a server on a log in which these schedules were created `ago_s` seconds ago. Returns it and the schedules' ids.
async fn server_with_old_schedules(schedules: &[ScheduleCreated], ago_s: i64) -> (Server, Vec<Uuid>) {
    let mut server = Server::start();
    server.stop();
    let time = Timestamp::from_micros(now().as_micros() - ago_s * 1_000_000);
    let store = EventStore::open(&server.data()).unwrap();
    let mut ids = Vec::new();
    let mut appends = Vec::new();
    for created in schedules {
        let id = new_id();
        appends.push(append_of_schedule(id, created, time));
        ids.push(id);
    }
    assert!(store.append_many(appends).await.iter().all(Result::is_ok));
    drop(store);
    server.restart();
    (server, ids)
}

fn schedule(cron: &str, missed: Missed) -> ScheduleCreated {
    let task = Template { kind: "a".into(), owner: "mira".into(), ..task_template() };
    ScheduleCreated { cron: cron.into(), time_zone: "UTC".into(), missed, task }
}

/// A cron expression for once a day, about half a day from now, so that no nominal time passes during a test.
fn daily() -> String {
    format!("30 {} * * *", (now().as_micros() / 3_600_000_000 + 12) % 24)
}

/// A cron expression for once an hour, half an hour from now.
fn hourly() -> String {
    format!("{} * * * *", (now().as_micros() / 60_000_000 + 30) % 60)
}

/// Waits until the views have reached this position.
async fn wait_for_position(server: &Server, position: usize) {
    for _ in 0..12 {
        if server.get(&format!("/v1/counters?min_position={position}")).await.status == 200 {
            return;
        }
    }
    panic!("position {position} was not reached");
}

/// The nominal times of the tasks that each schedule created after a position, in the order of the log.
async fn nominal_times(server: &Server, after: u64) -> BTreeMap<Uuid, Vec<Timestamp>> {
    let log = server.get(&format!("/v1/log?type=Created&after={after}")).await.text;
    let mut fired: BTreeMap<Uuid, Vec<Timestamp>> = BTreeMap::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let Some(schedule) = event["data"]["schedule"].as_str() else { continue };
        let task: TaskId = event["stream"].as_str().unwrap().strip_prefix("task-").unwrap().parse().unwrap();
        fired.entry(schedule.parse().unwrap()).or_default().push(nominal_time(task).unwrap());
    }
    fired
}

/// The distances between the times, in seconds.
fn gaps(times: &[Timestamp]) -> BTreeSet<u64> {
    times.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect()
}

#[tokio::test]
async fn missed_runs_are_created_by_the_policy_of_the_schedule_and_not_again_after_a_restart() {
    let all = [Missed::RunOnce, Missed::Skip, Missed::RunAll].map(|missed| schedule(&daily(), missed));
    let (mut server, ids) = server_with_old_schedules(&all, 10 * 24 * 3600).await;
    wait_for_position(&server, 3 + 1 + 10).await;
    let first = nominal_times(&server, 0).await;
    assert_eq!((first[&ids[0]].len(), first.get(&ids[1]), first[&ids[2]].len()), (1, None, 10));
    assert_eq!(first[&ids[0]][0], first[&ids[2]][9], "the latest of them");
    assert_eq!(gaps(&first[&ids[2]]), [DAY].into(), "oldest first");
    for _ in 0..2 {
        server.restart();
        server.submit(&json!({"kind": "a"})).await;
    }
    assert_eq!(nominal_times(&server, 0).await, first);
    for (id, last) in [(ids[0], json!(first[&ids[0]][0])), (ids[1], Value::Null), (ids[2], json!(first[&ids[2]][9]))] {
        let shown = server.get(&format!("/v1/schedules/{id}")).await;
        assert_eq!((shown.status, &shown.body["last_at"]), (200, &last), "{}", shown.text);
    }
}

#[tokio::test]
async fn the_events_of_a_run_carry_the_correlation_and_the_cause_of_its_schedule() {
    let (mut server, ids) = server_with_old_schedules(&[schedule(&daily(), Missed::RunOnce)], 2 * 24 * 3600).await;
    wait_for_position(&server, 2).await;
    let log = server.get("/v1/log").await.text;
    let recorded: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(recorded[1]["data"]["schedule"], json!(ids[0]));
    server.restart();
    let (worker, id) = (json!({"worker": "w", "kinds": ["a"]}), recorded[1]["stream"].as_str().unwrap());
    let leased = server.post("/v1/leases", &worker).await;
    assert_eq!(leased.body["leases"].as_array().map(Vec::len), Some(1), "{}", leased.text);
    let log = server.get(&format!("/v1/log?stream={id}&type=Started")).await.text;
    let started: Value = serde_json::from_str(&log).unwrap();
    for event in [&recorded[1], &started] {
        assert_eq!(event["meta"]["correlation_id"], recorded[0]["meta"]["correlation_id"]);
    }
    assert_eq!(recorded[1]["meta"]["causation_id"], recorded[0]["id"]);
    assert_eq!(started["meta"]["causation_id"], recorded[1]["id"]);
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_creates_a_thousand_missed_runs_creates_each_once() {
    let (mut server, ids) = server_with_old_schedules(&[schedule(&hourly(), Missed::RunAll)], 50 * 24 * 3600).await;
    for position in [100, 400] {
        wait_for_position(&server, position).await;
        server.kill9();
        server.restart();
    }
    wait_for_position(&server, 1 + MISSED_RUNS_MAX).await;
    server.submit(&json!({"kind": "a"})).await;
    let times = nominal_times(&server, 0).await.remove(&ids[0]).unwrap();
    assert_eq!((times.len(), gaps(&times)), (MISSED_RUNS_MAX, [3600].into()));
    assert!(now().since(times[MISSED_RUNS_MAX - 1]) < Duration::from_hours(1), "the latest thousand");
}

#[tokio::test]
async fn a_run_with_a_unique_key_is_left_out_while_the_former_one_is_not_final() {
    let mut unique = schedule(&daily(), Missed::RunAll);
    unique.task.unique_key = Some("report".into());
    let (server, ids) = server_with_old_schedules(&[unique, schedule(&daily(), Missed::RunAll)], 5 * 24 * 3600).await;
    wait_for_position(&server, 2 + 1 + 5).await;
    server.submit(&json!({"kind": "a"})).await;
    let fired = nominal_times(&server, 0).await;
    assert_eq!((fired[&ids[0]].len(), fired[&ids[1]].len()), (1, 5));
}

#[tokio::test]
async fn a_schedule_that_is_removed_creates_nothing_after_the_answer() {
    let (mut server, ids) = server_with_old_schedules(&[schedule(&hourly(), Missed::RunAll)], 50 * 24 * 3600).await;
    wait_for_position(&server, 50).await;
    let gone = server.client().delete(format!("{}/v1/schedules/{}", server.url(), ids[0]));
    assert_eq!(server.send(gone).await.status, 204);
    let head = server.get("/v1/log/head").await.position();
    for _ in 0..20 {
        server.submit(&json!({"kind": "a"})).await;
    }
    server.restart();
    server.submit(&json!({"kind": "a"})).await;
    assert!(nominal_times(&server, head).await.is_empty());
}

#[tokio::test]
async fn a_run_that_is_a_minute_late_is_created_and_a_schedule_dated_in_the_future_waits() {
    let (server, ids) = server_with_old_schedules(&[schedule("* * * * *", Missed::Skip)], 61).await;
    wait_for_position(&server, 2).await;
    let times = nominal_times(&server, 0).await.remove(&ids[0]).unwrap();
    assert!(times.len() <= 2 && now().since(times[0]) < Duration::from_mins(3), "{times:?}");

    let (server, ids) = server_with_old_schedules(&[schedule("* * * * *", Missed::RunAll)], -10 * 24 * 3600).await;
    let shown = server.get(&format!("/v1/schedules/{}", ids[0])).await;
    assert!(shown.body["next_at"].as_str() > shown.body["created_at"].as_str(), "{}", shown.text);
    server.submit(&json!({"kind": "a"})).await;
    assert!(nominal_times(&server, 0).await.is_empty());
}

#[tokio::test]
async fn a_schedule_that_this_release_cannot_read_stops_no_other() {
    let mut unknown = schedule("* * * * *", Missed::RunAll);
    unknown.time_zone = "Mars/Olympus".into();
    let (server, ids) = server_with_old_schedules(&[unknown, schedule(&daily(), Missed::RunOnce)], 2 * 24 * 3600).await;
    wait_for_position(&server, 3).await;
    let fired = nominal_times(&server, 0).await;
    assert_eq!((fired.get(&ids[0]), fired[&ids[1]].len()), (None, 1));
    let shown = server.get(&format!("/v1/schedules/{}", ids[0])).await;
    assert_eq!((shown.status, &shown.body["next_at"]), (200, &Value::Null), "{}", shown.text);
    assert!(server.stderr().contains("this release can't parse a schedule"));
}

/// In an old version, the search for due times held the lock of the views on the thread that accepts connections. With two
/// thousand schedules, each with nine thousand nominal times, the search takes longer than the timeout of a test.
#[tokio::test]
async fn a_server_answers_requests_while_it_searches_for_what_two_thousand_schedules_missed() {
    let minutely = schedule("* * * * *", Missed::RunAll);
    let (server, _) = server_with_old_schedules(&vec![minutely; 2000], 6 * 24 * 3600).await;
    for _ in 0..5 {
        let created = server.post("/v1/tasks", &json!({"kind": "b"})).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let read = server.get(&format!("/v1/counters?min_position={}", created.position())).await;
        assert_eq!(read.status, 200, "the views have the task: {}", read.text);
    }
}
