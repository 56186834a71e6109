//! Tests of a whole server after one of its actors has stopped.

use std::net::{Ipv4Addr, SocketAddr};

use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
use actix_web::{App, http::StatusCode};
use serde_json::Value;
use taskbell::app::serve::serve;
use taskbell::{Options, StartError, Taskbell};
use tokio::time::timeout;

use crate::support::TEST_TIMEOUT;

const ACTORS: [&str; 5] =
    ["the dispatcher", "the hub", "the cascade", "the scheduler", "the worker inside the process"];

async fn start() -> Taskbell {
    Taskbell::start(Options { data: None, ..Options::default() }).await.unwrap()
}

#[actix_rt::test]
async fn a_server_whose_actors_live_is_ready() {
    let taskbell = start().await;
    let app = init_service(App::new().configure(taskbell.routes())).await;
    let answer =
        call_service(&app, TestRequest::get().uri("/readyz").insert_header(("host", "127.0.0.1")).to_request()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    taskbell.stop().await;
}

#[actix_rt::test]
async fn a_server_that_has_lost_an_actor_is_not_ready_and_says_which() {
    for actor in ACTORS {
        let taskbell = start().await;
        let app = init_service(App::new().configure(taskbell.routes())).await;
        taskbell.stop_actor(actor);
        let stopped = timeout(TEST_TIMEOUT, taskbell.actor_stopped()).await.expect("the watch sees it");
        assert_eq!(stopped, actor);
        let body = call_and_read_body(
            &app,
            TestRequest::get().uri("/readyz").insert_header(("host", "127.0.0.1")).to_request(),
        )
        .await;
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["status"], &problem["retryable"]), (&503.into(), &false.into()), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(actor), "{problem}");
        taskbell.stop().await;
    }
}

#[actix_rt::test]
async fn a_server_that_has_lost_an_actor_ends_with_its_name() {
    let taskbell = start().await;
    taskbell.stop_actor("the dispatcher");
    let ended = timeout(TEST_TIMEOUT, serve(taskbell, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None)).await;
    let error = ended.expect("the server ends by itself").unwrap_err();
    assert!(matches!(error, StartError::ActorStopped("the dispatcher")), "{error}");
    assert_eq!(
        error.to_string(),
        "the dispatcher has stopped unexpectedly; the log is complete, and a new start continues from it"
    );
}
