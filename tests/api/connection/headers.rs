//! The headers that every response has.

use super::super::super::support::Server;
use super::client::Client;

#[tokio::test]
async fn every_response_says_that_it_is_not_to_be_stored_sniffed_or_embedded() {
    let server = Server::start();
    let id = server.submit(&serde_json::json!({"kind": "a"})).await;
    for (line, status) in [
        ("GET /healthz".to_owned(), 200),
        ("GET /readyz".into(), 200),
        ("GET /metrics".into(), 200),
        ("GET /v1/tasks".into(), 200),
        (format!("GET /v1/tasks/{id}"), 200),
        ("GET /v1/counters".into(), 200),
        ("GET /v1/log".into(), 200),
        ("GET /v1/log/head".into(), 200),
        ("GET /v1/live".into(), 400),
        ("GET /v1/nothing".into(), 404),
        ("GET /nothing".into(), 404),
        ("GET /ui/nothing.js".into(), 404),
        ("PUT /v1/tasks".into(), 405),
        ("GET /healthz?x=1".into(), 422),
        ("GET no-path".into(), 400),
    ] {
        let mut client = Client::connect(&server);
        client.send_head(&line, "");
        let response = client.response().expect("a response");
        let headers = ["x-content-type-options", "cross-origin-resource-policy", "cache-control"];
        let found = headers.map(|name| response.header(name));
        assert_eq!((response.status, found), (status, ["nosniff", "same-origin", "no-store"]), "{line}");
    }
    let page = server.get("/").await;
    assert_eq!(page.header("cache-control"), "no-cache", "the files of the interface are stored and asked for again");
}
