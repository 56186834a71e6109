//! Reports of ends that a server refuses. A refused report doesn't delay the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use taskbell::work::Done;
use tokio::sync::{mpsc, watch};

use super::fake::{FINISH, FakeServer, HEARTBEAT, Reply, TAKE, heartbeat_response, leases_response, problem};
use super::library::TestWorker;
use crate::support::TEST_TIMEOUT;

/// How the server refuses a report of an end.
enum Refusal {
    /// In the item of the response.
    Item(Value),
    /// With an error status for the whole request.
    Request(u16, Value),
}

/// Runs two attempts, `bad` and `good`. `good` ends after the first refusal. For each report of the end of `bad`,
/// `refuse` gets the item and decides whether it is refused. Waits until a report of the attempt `expected` is
/// accepted, and returns its item.
async fn accepted_finish(
    expected: &'static str,
    refuse: impl Fn(&Value) -> Option<Refusal> + Send + Sync + 'static,
) -> Value {
    let (set_refused, refused) = watch::channel(false);
    let (accept, mut accepted) = mpsc::unbounded_channel();
    let taken = AtomicUsize::new(0);
    let server = FakeServer::start(move |path, body| match path {
        TAKE if taken.fetch_add(1, Ordering::SeqCst) == 0 => {
            Reply::Json(200, leases_response(&["bad", "good"], TEST_TIMEOUT))
        }
        HEARTBEAT => Reply::Json(200, heartbeat_response(TEST_TIMEOUT)),
        FINISH => {
            let mut answers = Vec::new();
            for item in body["items"].as_array().unwrap() {
                let name = item["lease"].as_str().unwrap().rsplit('.').next().unwrap();
                let refusal = if name == "bad" { refuse(item) } else { None };
                if refusal.is_some() {
                    set_refused.send_replace(true);
                }
                match refusal {
                    Some(Refusal::Request(status, problem)) => return Reply::Json(status, problem),
                    Some(Refusal::Item(problem)) => answers.push(json!({"problem": problem})),
                    None => answers.push(json!({"status": "succeeded"})),
                }
                if name == expected && answers.last().unwrap()["status"] == "succeeded" {
                    let _ = accept.send(item.clone());
                }
            }
            Reply::Json(200, json!({"items": answers, "position": 2}))
        }
        _ => Reply::Silence,
    })
    .await;
    let worker = TestWorker::at(&server.url, move |ctx| {
        let mut refused = refused.clone();
        async move {
            if ctx.input_value() == "good" {
                refused.wait_for(|refused| *refused).await.unwrap();
            }
            Ok(Done::default())
        }
    });
    let item = tokio::time::timeout(TEST_TIMEOUT / 4, accepted.recv()).await;
    drop(worker);
    item.unwrap_or_else(|_| panic!("no finish of {expected} was sent: the refused one blocks it")).unwrap()
}

#[tokio::test]
async fn a_finish_that_stays_refused_holds_up_no_other() {
    let item = accepted_finish("good", |_| Some(Refusal::Item(problem(503, "busy", true)))).await;
    assert_eq!(item["outcome"], "succeeded");
}

#[tokio::test]
async fn a_finish_whose_requests_fail_holds_up_no_other() {
    let item = accepted_finish("good", |_| Some(Refusal::Request(500, problem(500, "internal", true)))).await;
    assert_eq!(item["outcome"], "succeeded");
}

#[tokio::test]
async fn a_finish_whose_requests_are_refused_for_good_is_refused_alone() {
    let refusal = || Refusal::Request(422, problem(422, "invalid_request", false));
    let item = accepted_finish("good", move |_| Some(refusal())).await;
    assert_eq!(item["outcome"], "succeeded");
}

#[tokio::test]
async fn a_finish_that_is_refused_for_good_becomes_a_failure_with_the_reason() {
    let item = accepted_finish("bad", |item| {
        let refusal = || Refusal::Request(500, problem(500, "log_damaged", false));
        (item["outcome"] == "succeeded").then(refusal)
    })
    .await;
    assert_eq!((&item["outcome"], &item["retryable"]), (&json!("failed"), &json!(false)));
    assert_eq!(item["error"]["code"], "end_refused");
}
