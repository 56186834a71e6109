//! The limits on clients: a request over a limit is refused by the limit's name and number, and takes nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server, TEST_TIMEOUT};
use super::{log_head, pointers};

/// The text of the problem's first error.
fn first_detail(answer: &HttpResponse) -> &str {
    answer.body["errors"][0]["detail"].as_str().unwrap_or_default()
}

/// Waits until the number of waiting requests is such that one more is refused with this status. `ask` sends one more.
async fn until_refused(server: &Server, status: u16) -> HttpResponse {
    tokio::time::timeout(TEST_TIMEOUT, async {
        loop {
            let answer = server.post("/v1/leases", &json!({"worker": "late", "kinds": ["none"], "wait_s": 0.05})).await;
            if answer.status == status {
                return answer;
            }
        }
    })
    .await
    .expect("a refusal in time")
}

/// Opens a follower of the log and waits for its headers, which say that it was taken on.
async fn follower(server: &Server) -> reqwest::Response {
    let answer = server.client().get(server.url() + "/v1/log?follow=true").send().await.expect("headers");
    assert_eq!(answer.status(), 200);
    answer
}

#[tokio::test]
async fn one_long_poll_more_than_a_caller_may_have_is_refused_until_another_ends() {
    let server = Server::with(["--max-long-polls-per-subject", "2"]);
    let (first, second) = (follower(&server).await, follower(&server).await);
    let refused = server.get("/v1/log?follow=true").await;
    refused.assert_problem(429, "too_many_requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["retryable"], true);
    assert_eq!(
        refused.body["detail"], "the limit on waiting requests of this subject is 2 (max_long_polls_per_subject)",
        "{}",
        refused.text
    );
    let take = json!({"worker": "w", "wait_s": 10});
    server.post("/v1/leases", &take).await.assert_problem(429, "too_many_requests");
    server
        .post("/v1/leases/heartbeat", &json!({"worker": "w", "leases": [], "wait_s": 5}))
        .await
        .assert_problem(429, "too_many_requests");
    server.get("/v1/counters?min_position=99").await.assert_problem(429, "too_many_requests");
    // What doesn't wait is answered.
    assert_eq!(server.post("/v1/leases", &json!({"worker": "w", "wait_s": 0})).await.status, 200);
    assert_eq!(server.post("/v1/leases/heartbeat", &json!({"worker": "w", "leases": []})).await.status, 200);
    assert_eq!(server.get("/v1/counters?min_position=0").await.status, 200);
    drop((first, second));
    // Each event shows the server that its followers have left.
    server.submit(&json!({"kind": "a"})).await;
    server.submit(&json!({"kind": "a"})).await;
    tokio::time::timeout(TEST_TIMEOUT, async {
        while server.post("/v1/leases", &json!({"worker": "w", "kinds": ["b"], "wait_s": 0.05})).await.status != 200 {}
    })
    .await
    .expect("the ended ones don't count");
}

#[tokio::test]
async fn a_refused_take_has_taken_no_task() {
    let server = Server::with(["--max-long-polls", "1"]);
    let _waiting = follower(&server).await;
    let id = server.submit(&json!({"kind": "a"})).await;
    let refused = server.post("/v1/leases", &json!({"worker": "w", "wait_s": 5})).await;
    refused.assert_problem(503, "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["detail"], "the limit on waiting requests of this server is 1 (max_long_polls)");
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["attempt"]), (&json!("queued"), &json!(0)));
}

#[tokio::test]
async fn a_take_that_waits_counts_until_it_is_answered() {
    let server = Server::with(["--max-long-polls-per-address", "1"]);
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
    let waiting = async {
        // While the other client's request waits, this one is refused.
        loop {
            let answer = server.post("/v1/leases", &take).await;
            if answer.status == 200 {
                return answer;
            }
        }
    };
    let other = async {
        let refused = until_refused(&server, 429).await;
        assert_eq!(
            refused.body["detail"],
            "the limit on waiting requests of this address is 1 (max_long_polls_per_address)"
        );
        server.submit(&json!({"kind": "a"})).await;
    };
    let (granted, ()) = tokio::join!(waiting, other);
    assert_eq!(granted.body["leases"].as_array().map(Vec::len), Some(1), "{}", granted.text);
    assert_eq!(server.post("/v1/leases", &json!({"worker": "w", "kinds": ["b"], "wait_s": 0.01})).await.status, 200);
}

#[tokio::test]
async fn an_owner_has_at_most_so_many_tasks_that_are_not_final() {
    let server = Server::with(["--max-tasks-per-owner", "3"]);
    let one = server.submit(&json!({"kind": "a"})).await;
    server.submit(&json!({"kind": "a", "unique_key": "u"})).await;
    server.submit(&json!({"kind": "a"})).await;
    let refused = server.post("/v1/tasks", &json!({"kind": "a"})).await;
    refused.assert_problem(429, "too_many_tasks");
    assert_eq!(refused.body["retryable"], true);
    assert_eq!(
        refused.body["detail"],
        "this owner has 3 tasks that are not final, which is the maximum (max_tasks_per_owner)"
    );
    // The holder of a unique key is still the answer, and another owner is not affected.
    assert_eq!(server.post("/v1/tasks", &json!({"kind": "a", "unique_key": "u"})).await.status, 200);
    server.submit(&json!({"kind": "a", "owner": "other"})).await;
    // A final task doesn't count, and one that is retried counts again.
    assert_eq!(server.post(&format!("/v1/tasks/{one}/cancel"), &json!({})).await.status, 202);
    server.submit(&json!({"kind": "a"})).await;
    server.post(&format!("/v1/tasks/{one}/retry"), &json!({})).await.assert_problem(429, "too_many_tasks");
    assert_eq!(server.task(&one).await["status"], "cancelled");
    let counts = server.get("/v1/counters?owner=local").await.body["counts"].clone();
    assert_eq!((&counts["queued"], &counts["cancelled"]), (&json!(3), &json!(1)), "{counts}");
}

#[tokio::test]
async fn a_batch_over_the_limit_on_tasks_is_refused_item_by_item() {
    let mut server = Server::with(["--max-tasks-per-owner", "700"]);
    let items: Vec<Value> = (0..1000).map(|_| json!({"kind": "a"})).collect();
    let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.body["items"].as_array().expect("items");
    let accepted: Vec<bool> = results.iter().map(|item| item["id"].is_string()).collect();
    assert_eq!(accepted.iter().filter(|accepted| **accepted).count(), 700);
    assert!(accepted[..700].iter().all(|accepted| *accepted), "the first 700 in order");
    assert_eq!(results[999]["problem"]["code"], "too_many_tasks");
    server.restart();
    server.post("/v1/tasks", &json!({"kind": "a"})).await.assert_problem(429, "too_many_tasks");
    assert_eq!(log_head(&server).await["position"], 700);
}

#[tokio::test]
async fn many_clients_at_once_do_not_exceed_the_limit_on_tasks() {
    let server = Server::with(["--max-tasks-per-owner", "50"]);
    let statuses = futures_util::future::join_all((0..200).map(|n| {
        let server = &server;
        async move {
            if n % 4 == 0 {
                let items = json!({"items": [{"kind": "a"}, {"kind": "a", "idempotency_key": format!("{n}")}]});
                let answer = server.post("/v1/tasks/batch", &items).await;
                answer.body["items"].as_array().expect("items").iter().filter(|item| item["id"].is_string()).count()
            } else {
                usize::from(server.post("/v1/tasks", &json!({"kind": "a"})).await.status == 201)
            }
        }
    }))
    .await;
    assert_eq!(statuses.iter().sum::<usize>(), 50);
    assert_eq!(server.get("/v1/counters").await.body["counts"]["queued"], 50);
}

#[tokio::test]
async fn each_limit_of_a_query_is_named_with_its_number() {
    let server = Server::with(["--max-page-tasks", "30", "--max-filter-terms", "10", "--max-search-bytes", "100"]);
    let list = |count: usize| vec!["a"; count].join(",");
    let labels = |count: usize| (0..count).map(|n| format!("label=k{n}:v")).collect::<Vec<_>>().join("&");
    let words = |count: usize| vec!["w"; count].join("+");
    let cases = [
        ("limit=30".to_owned(), "limit=31".to_owned(), "/query/limit", "1 to 30 (max_page_tasks)"),
        (
            format!("kind={}", list(10)),
            format!("kind={}", list(11)),
            "/query/kind",
            "at most 10 values (max_filter_terms)",
        ),
        (
            format!("queue={}", list(10)),
            format!("queue={}", list(11)),
            "/query/queue",
            "at most 10 values (max_filter_terms)",
        ),
        (
            format!("owner={}", list(10)),
            format!("owner={}", list(11)),
            "/query/owner",
            "at most 10 values (max_filter_terms)",
        ),
        (labels(10), labels(11), "/query/label", "at most 10 labels (max_filter_terms)"),
        (
            format!("q={}", words(10)),
            format!("q={}", words(11)),
            "/query/q",
            "1 to 10 words are needed (max_filter_terms)",
        ),
        (
            format!("q={}", "x".repeat(100)),
            format!("q={}", "x".repeat(101)),
            "/query/q",
            "at most 100 bytes (max_search_bytes)",
        ),
    ];
    for (within, over, pointer, detail) in &cases {
        assert_eq!(server.get(&format!("/v1/tasks?{within}")).await.status, 200, "{within}");
        let refused = server.get(&format!("/v1/tasks?{over}")).await;
        refused.assert_problem(422, "invalid_request");
        assert_eq!((pointers(&refused), first_detail(&refused)), (vec![*pointer], *detail), "{over}");
    }
    let filter = json!({"filter": {"kind": vec!["a"; 11]}, "dry_run": true});
    let refused = server.post("/v1/tasks/cancel", &filter).await;
    assert_eq!((pointers(&refused), first_detail(&refused)), (vec!["/filter/kind"], cases[1].3), "{}", refused.text);
    let huge = json!({"filter": {"label": vec!["k:v"; 100_000]}, "dry_run": true});
    let refused = server.post("/v1/tasks/cancel", &huge).await;
    assert_eq!((pointers(&refused), first_detail(&refused)), (vec!["/filter"], "more than 1024 fields"));
}

#[tokio::test]
async fn a_scan_waits_for_the_scans_before_it_and_gives_the_same_answer() {
    let server = Server::start();
    for from in 0..12 {
        let items: Vec<Value> =
            (0..1000).map(|n| json!({"kind": "a", "title": format!("task {}", from * 1000 + n)})).collect();
        assert_eq!(server.post("/v1/tasks/batch", &json!({"items": items})).await.status, 200);
    }
    let scans = (0..40).map(|_| async { server.get("/v1/tasks?q=task+1199&limit=5").await });
    let answers =
        tokio::time::timeout(Duration::from_mins(1), futures_util::future::join_all(scans)).await.expect("in time");
    for answer in answers {
        assert_eq!((answer.status, &answer.body["total"]), (200, &json!(12)), "{}", answer.text);
    }
}

/// Sends reads with this token until one is refused.
async fn over_the_rate(server: &Server, token: &str) -> HttpResponse {
    for _ in 0..100 {
        let answer = server.get_as(token, "/v1/session").await;
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("no refusal, unless each request takes a second");
}

#[tokio::test]
async fn the_requests_of_each_token_count_by_themselves_and_sessions_count_by_their_subject() {
    let server = Server::with(["--max-requests-per-s", "1"]);
    let (one, other) = (server.token_of("user").await, server.token_of("user").await);
    let refused = over_the_rate(&server, &one.text).await;
    refused.assert_problem(429, "too_many_requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.body["detail"], "the limit on requests of this token is 1 per second (max_requests_per_s)");
    assert_eq!(server.get_as(&other.text, "/v1/session").await.status, 200, "another token of the same subject");

    // The rate isn't multiplied by opening sessions.
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let opened = server.post("/v1/session", &json!({"subject": "anna"})).await;
        sessions.push(opened.body["token"].as_str().expect("a bearer").to_owned());
    }
    let limit = "the limit on requests of this subject is 1 per second (max_requests_per_s)";
    assert_eq!(over_the_rate(&server, &sessions[0]).await.body["detail"], limit);
    let both = async {
        // Each second one of the two gets an answer.
        let (one, other) =
            tokio::join!(server.get_as(&sessions[0], "/v1/session"), server.get_as(&sessions[1], "/v1/session"),);
        (one.status == 429) || (other.status == 429)
    };
    assert!(both.await, "two sessions of a subject have one rate together");
}
