//! How a server behaves while the database is unavailable, and after the database is available again.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use taskbell::store::{new_id, now};

use super::*;
use crate::support::HttpResponse;

/// The longest time from the return of the database until the servers work again.
const RESUMES_IN: Duration = Duration::from_secs(5);
/// The largest share of one CPU that a server may use during an outage.
const CPU_SHARE: f64 = 0.05;

/// How long the database is unavailable; 60 s with `TASKBELL_FULL`.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("TASKBELL_FULL").is_some() { 60 } else { 5 })
}

/// Asserts that the request was refused with status 503, and that the client may repeat it.
#[track_caller]
fn assert_refused_for_now(answer: &HttpResponse, code: &str) {
    answer.assert_problem(503, code);
    assert_eq!((&answer.body["retryable"], answer.header("retry-after")), (&json!(true), "1"), "{}", answer.text);
}

/// The CPU time of a process, in seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The process name may contain spaces. After it, the 12th and 13th field are the user and system time in hundredths
    // of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

async fn metric(server: &Server, name: &str) -> String {
    let text = server.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Starts the database again and waits until the servers show the whole log.
async fn resume(cluster: &mut Cluster, servers: &[&Server]) {
    cluster.restart().await;
    let returned = Instant::now();
    join_all(servers.iter().map(|server| wait_until_fresh(server))).await;
    let elapsed = returned.elapsed();
    assert!(elapsed < RESUMES_IN, "{elapsed:?}");
    for server in servers {
        let ready = server.get("/readyz").await;
        assert_eq!(ready.status, 200, "{}", ready.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_writes_are_refused_and_reads_go_on_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start().await;
    let [one, two] = cluster.servers().await;
    let id = one.submit(&json!({"kind": "report", "input": {"folder": "a"}})).await;
    two.submit(&json!({"kind": "report"})).await;
    counters(&one, 2).await;
    let away = Instant::now();
    cluster.stop().await;
    let since = wait_until_stale(&one).await;
    wait_until_stale(&two).await;
    let cpu = cpu_seconds(one.pid());

    let ready = one.get("/readyz").await;
    assert_refused_for_now(&ready, "not_ready");
    assert!(ready.body["detail"].as_str().unwrap().contains(" since "), "{}", ready.text);
    assert_eq!(one.get("/healthz").await.status, 200);
    assert_eq!(metric(&one, "taskbell_log_up").await, "0");
    let list = one.get("/v1/tasks").await;
    assert_eq!((list.status, list.header("taskbell-stale-since")), (200, since.as_str()), "{}", list.text);
    assert_eq!((&list.body["total"], &list.body["position"]), (&json!(2), &json!(2)));
    assert_eq!(one.task(&id).await["input"], json!({"folder": "a"}));
    let history = one.get(&format!("/v1/tasks/{id}/events")).await;
    assert_eq!((history.status, &history.body["items"][0]["type"]), (200, &json!("Created")), "{}", history.text);
    assert_eq!(counters(&one, 2).await["counts"]["queued"], 2);

    let mut refused = 0;
    while away.elapsed() < outage() {
        let (report, cancel) = (json!({"kind": "report"}), json!({}));
        let cancel_path = format!("/v1/tasks/{id}/cancel");
        let writes = [one.post("/v1/tasks", &report), one.post(&cancel_path, &cancel), two.post("/v1/tasks", &report)];
        for answer in join_all(writes).await {
            assert_refused_for_now(&answer, "log_unavailable");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let batch = one.post("/v1/tasks/batch", &json!({"items": [{"kind": "report"}]})).await;
    let problem = &batch.body["items"][0]["problem"];
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("log_unavailable"), &json!(true)), "{}", batch.text);
    let share = (cpu_seconds(one.pid()) - cpu) / away.elapsed().as_secs_f64();
    assert!(share < CPU_SHARE, "{share}");
    let log = one.stderr();
    for line in ["the views are stale", "the views may lack events of the log"] {
        assert!(log.contains(line), "{log}");
    }

    resume(&mut cluster, &[&one, &two]).await;
    assert_eq!(metric(&one, "taskbell_log_up").await, "1");
    assert_eq!(cluster.event_count(), 2, "nothing is invented");
    let cancelled = two.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["status"]), (202, &json!("cancelled")), "{}", cancelled.text);
    let end = cluster.event_count();
    assert_eq!(counters(&one, end).await, counters(&two, end).await);
    assert_eq!(one.get("/v1/tasks").await.header("taskbell-stale-since"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_asks_for_work_while_the_database_is_away_is_refused_and_gets_no_empty_list() {
    let mut cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    let take = |wait: f64| json!({"worker": "w1", "kinds": ["report"], "wait_s": wait});
    let stopped = async {
        cluster.stop().await;
        wait_until_stale(&server).await
    };
    let body = take(2.0);
    let (waited, _) = tokio::join!(server.post("/v1/leases", &body), stopped);
    assert_refused_for_now(&waited, "log_unavailable");
    assert_refused_for_now(&server.post("/v1/leases", &take(0.0)).await, "log_unavailable");
    resume(&mut cluster, &[&server]).await;
    let id = server.submit(&json!({"kind": "report"})).await;
    assert_eq!(super::take_lease(&server, "w1", "report").await["task_id"], id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_at_once_are_refused_within_the_time_of_one_while_the_database_is_away() {
    let mut cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    let item = || json!({"lease": format!("{}.1.secret", new_id()), "outcome": "succeeded"});
    let report = json!({"items": (0..40).map(|_| item()).collect::<Vec<_>>()});
    cluster.stop().await;
    wait_until_stale(&server).await;
    let begun = Instant::now();
    let answer = server.post("/v1/leases/finish", &report).await;
    let elapsed = begun.elapsed();
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    assert_eq!(items.len(), 40);
    for item in items {
        let problem = &item["problem"];
        assert_eq!((&problem["code"], &problem["retryable"]), (&json!("log_unavailable"), &json!(true)), "{item}");
    }
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_due_while_the_database_was_away_happens_soon_after_its_return() {
    let mut cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    let run_at = now().plus(Duration::from_secs(1));
    let id = server.submit(&json!({"kind": "report", "run_at": run_at.to_string()})).await;
    let away = Instant::now();
    cluster.stop().await;
    wait_until_stale(&server).await;
    while away.elapsed() < outage() {
        assert_refused_for_now(&server.post("/v1/tasks", &json!({"kind": "report"})).await, "log_unavailable");
    }
    assert_eq!(server.get("/v1/tasks").await.body["items"][0]["status"], "scheduled");
    cluster.restart().await;
    let returned = Instant::now();
    server.task_with_status(&id, "queued").await;
    let elapsed = returned.elapsed();
    assert!(elapsed < RESUMES_IN, "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_while_the_database_is_away_and_says_that_it_knows_nothing_yet() {
    let mut cluster = Cluster::start().await;
    let [first] = cluster.servers().await;
    let id = first.submit(&json!({"kind": "report"})).await;
    cluster.stop().await;
    let server = cluster.server(["--slots", "1"]);
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_refused_for_now(&ready, "not_ready");
    assert!(ready.body["detail"].as_str().unwrap().contains("the store has been unreachable since"), "{}", ready.text);
    let since = wait_until_stale(&server).await;
    let list = server.get("/v1/tasks").await;
    assert_eq!((list.status, &list.body["total"]), (200, &json!(0)), "{}", list.text);
    assert_eq!((list.position(), list.header("taskbell-stale-since")), (0, since.as_str()));
    // The task may exist, so "not found" would be a wrong response.
    assert_refused_for_now(&server.get(&format!("/v1/tasks/{id}")).await, "behind");
    for (path, body) in [
        ("/v1/tasks".to_owned(), json!({"kind": "report"})),
        (format!("/v1/tasks/{id}/cancel"), json!({})),
        ("/v1/bell/seen".to_owned(), json!({"position": 1})),
        ("/v1/leases".to_owned(), json!({"worker": "w1", "kinds": ["report"]})),
        ("/v1/leases/heartbeat".to_owned(), json!({"worker": "w1", "leases": []})),
    ] {
        assert_refused_for_now(&server.post(&path, &body).await, "behind");
    }
    resume(&mut cluster, &[&server, &first]).await;
    assert_eq!(server.task(&id).await, first.task(&id).await);
    assert_eq!(super::take_lease(&server, "w1", "report").await["task_id"], id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_outcome_is_unknown_says_so_and_its_repetition_finds_the_task() {
    let cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    let create = || {
        let request = server.client().post(format!("{}/v1/tasks", server.url()));
        server.send(request.header("idempotency-key", "order-7").json(&json!({"kind": "report"})))
    };
    cluster.database.hold_responses(true);
    let unknown = create().await;
    assert_refused_for_now(&unknown, "log_unavailable");
    assert!(unknown.body["detail"].as_str().unwrap().contains("may hold the events"), "{}", unknown.text);
    cluster.database.hold_responses(false);
    wait_until_fresh(&server).await;
    let known = create().await;
    assert_eq!(known.status, 200, "{}", known.text);
    assert_eq!(server.get("/v1/tasks").await.body["items"][0]["id"], known.id());
    assert_eq!(cluster.event_count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_finds_another_log_at_its_address_stays_unready_and_keeps_showing_what_it_knows() {
    let mut cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    server.submit(&json!({"kind": "report"})).await;
    cluster.stop().await;
    cluster.database = Database::new();
    cluster.restart().await;
    wait_until_stale(&server).await;
    // When the server has compared the logs, its views stop, and the response doesn't wait for them.
    let ready = loop {
        let ready = server.get("/readyz").await;
        if ready.body["retryable"] == false {
            break ready;
        }
        assert_refused_for_now(&ready, "not_ready");
    };
    ready.assert_problem(503, "not_ready");
    assert!(ready.body["detail"].as_str().unwrap().contains("another database"), "{}", ready.text);
    assert_eq!(server.get("/v1/tasks").await.body["total"], 1);
    server.post("/v1/tasks", &json!({"kind": "report"})).await.assert_problem(503, "log_read_only");
    server.post("/v1/leases", &json!({"worker": "w1"})).await.assert_problem(503, "log_read_only");
}
