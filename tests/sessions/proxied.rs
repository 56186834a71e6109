//! How long counts what a proxy that authenticates says about a request: for all of the request, and for a limited time for what
//! outlives it.

use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use taskbell::task::Timestamp;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{assert_expires_in, bearer, for_user};
use crate::support::{HttpResponse, Server, TEST_TIMEOUT, taskbell};

const PROXY: &str = "[auth.proxy]\naddresses = [\"127.0.0.1\"]\nsubject_header = \"X-Forwarded-User\"\n\
    role_header = \"X-Forwarded-Role\"\n";
/// The shortest time that the setting can have.
const SHORTEST: Duration = Duration::from_secs(5);

/// A server behind a proxy, with these further settings. The folder of the settings must live as long as the server.
fn behind_a_proxy(more: &str) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    std::fs::write(&config, format!("{PROXY}{more}")).unwrap();
    (Server::with(["--config", config.to_str().unwrap()]), folder)
}

/// The headers that the proxy adds for an admin.
const OF_ROOT: [(&str, &str); 2] = [("x-forwarded-user", "root"), ("x-forwarded-role", "admin")];

fn by_root(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    OF_ROOT.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn get(server: &Server, path: &str) -> HttpResponse {
    server.send(by_root(server.client().get(server.url() + path))).await
}

async fn post(server: &Server, path: &str, body: &Value) -> HttpResponse {
    server.send(by_root(server.client().post(server.url() + path)).json(body)).await
}

/// Waits until the server closes a websocket that was opened through the proxy. Returns the first two frames, and the code.
async fn closing_of_a_socket(server: &Server) -> (Vec<Value>, u16) {
    let mut request = format!("{}/v1/live", server.url().replacen("http", "ws", 1)).into_client_request().unwrap();
    for (name, value) in OF_ROOT {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut frames = Vec::new();
    loop {
        match tokio::time::timeout(TEST_TIMEOUT, socket.next()).await.expect("the socket is closed in time") {
            Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(close))) => return (frames, close.expect("a close frame").code.into()),
            Some(Ok(_)) => {}
            other => panic!("the server closes in order: {other:?}"),
        }
    }
}

async fn end_of_a_followed_log(server: &Server) {
    let answer = by_root(server.client().get(server.url() + "/v1/log?follow=true")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    tokio::time::timeout(TEST_TIMEOUT, answer.bytes()).await.expect("the log ends in time").expect("it ends in order");
}

#[tokio::test]
async fn what_outlives_a_request_through_the_proxy_ends_after_the_time_of_the_setting_and_can_begin_again() {
    let (server, _folder) = behind_a_proxy("valid_s = 5\n");
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
    let ((frames, code), (), refused) =
        tokio::join!(closing_of_a_socket(&server), end_of_a_followed_log(&server), post(&server, "/v1/leases", &take));
    assert_eq!((code, &frames[1]["type"]), (1008, &json!("snapshot")), "{frames:?}");
    refused.assert_problem(401, "unauthenticated");
    assert_eq!(get(&server, "/v1/tasks").await.status, 200, "the proxy says it again with each request");
}

#[tokio::test]
async fn a_session_that_was_opened_through_the_proxy_lasts_as_long_as_what_the_proxy_has_said() {
    for (more, longest) in [("", Duration::from_mins(15)), ("valid_s = 60\n", Duration::from_mins(1))] {
        let (server, _folder) = behind_a_proxy(more);
        let shown = get(&server, "/v1/session").await;
        assert_eq!((shown.status, &shown.body["credential"]), (200, &json!("proxy")), "{}", shown.text);
        assert_expires_in(&shown.body["expires_at"], longest);
        let opened = server.send(by_root(server.client().post(server.url() + "/v1/session"))).await;
        assert_eq!((opened.status, &opened.body["credential"]), (201, &json!("session")), "{}", opened.text);
        assert_expires_in(&opened.body["expires_at"], longest);
        let of_anna = post(&server, "/v1/session", &for_user("anna")).await;
        assert_expires_in(&of_anna.body["expires_at"], longest.min(Duration::from_mins(5)));
    }
}

#[tokio::test]
async fn a_session_through_the_proxy_is_refused_after_its_end() {
    let (server, _folder) = behind_a_proxy("valid_s = 5\n");
    let of_anna = post(&server, "/v1/session", &for_user("anna")).await.body;
    let (token, expires_at) = (of_anna["token"].as_str().unwrap(), of_anna["expires_at"].as_str().unwrap());
    let expires_at: Timestamp = expires_at.parse().unwrap();
    assert!(expires_at <= taskbell::store::now().plus(SHORTEST), "{expires_at}");
    let follow = server.client().get(server.url() + "/v1/counters?min_position=9999");
    let refused = async {
        loop {
            let answer = server.send(follow.try_clone().unwrap().header("authorization", bearer(token))).await;
            if answer.status != 503 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(TEST_TIMEOUT, refused).await.expect("an end in time");
    refused.assert_problem(401, "unauthenticated");
}

#[test]
fn a_time_outside_of_its_bounds_is_refused_with_the_bounds() {
    let folder = tempfile::tempdir().unwrap();
    for (settings, flag) in [("valid_s = 4\n", None), ("valid_s = 43201\n", None), ("", Some("0"))] {
        std::fs::write(folder.path().join("taskbell.toml"), format!("{PROXY}{settings}")).unwrap();
        let mut command = taskbell();
        command.arg("serve").current_dir(folder.path()).stdin(Stdio::null());
        command.args(flag.iter().flat_map(|value| ["--auth-proxy-valid-s", value]));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{settings}\n{text}");
        let number = flag.unwrap_or_else(|| settings.trim().split_once(" = ").unwrap().1);
        let wanted = format!("auth.proxy.valid_s: {number} is not within 5 to 43200");
        assert!(text.contains(&wanted), "{text}");
    }
}
