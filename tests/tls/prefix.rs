//! A server whose routes are below a path prefix.

use serde_json::{Value, json};

use crate::support::{LiveSocket, Server, taskbell};

#[tokio::test]
async fn all_routes_are_below_the_prefix_and_none_beside_it() {
    let server = Server::with(["--path-prefix", "/taskbell/"]);
    assert!(server.url().ends_with("/taskbell"), "{}", server.url());
    let root = format!("http://{}", server.address());
    let get = async |path: &str| server.send(server.client().get(format!("{root}{path}"))).await;
    for path in ["/healthz", "/readyz", "/metrics", "/v1/tasks", "/v1/log/head", "/", "/ui/app.js", "/tasks/x"] {
        assert_eq!(get(&format!("/taskbell{path}")).await.status, 200, "{path}");
        get(path).await.assert_problem(404, "not_found");
    }
    for path in ["/taskbell/nothing", "/taskbell/v1/nothing", "/taskbellx/healthz", "/taskbell/taskbell/healthz"] {
        get(path).await.assert_problem(404, "not_found");
    }
    let created = server.post("/v1/tasks", &json!({"kind": "a"})).await;
    assert_eq!(created.header("location"), format!("/taskbell/v1/tasks/{}", created.id()));
    assert_eq!(get(created.header("location")).await.id(), created.id());
    let schedule = json!({"cron": "0 0 * * *", "task": {"kind": "a"}});
    let scheduled = server.post("/v1/schedules", &schedule).await;
    assert_eq!(scheduled.header("location"), format!("/taskbell/v1/schedules/{}", scheduled.id()));
    let evil = server.client().get(server.url() + "/nothing").header("host", "evil.example");
    server.send(evil).await.assert_problem(403, "forbidden_origin");
}

#[tokio::test]
async fn the_page_names_its_files_below_the_prefix() {
    let server = Server::with(["--path-prefix", "/a/taskbell"]);
    let page = server.get("/").await;
    for link in ["href=\"/a/taskbell/ui/style.css\"", "src=\"/a/taskbell/ui/app.js\"", "href=\"/a/taskbell/\""] {
        assert!(page.text.contains(link), "{}", page.text);
    }
    assert!(!page.text.contains("\"/ui/"), "{}", page.text);
    assert_eq!(server.get("/tasks/x").await.text, page.text);
    let no_redirects = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let response = no_redirects.get(server.url()).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["location"]), (308, &"/a/taskbell/".parse().unwrap()));
}

#[tokio::test]
async fn sockets_and_the_command_line_find_the_server_below_its_prefix() {
    let server = Server::with(["--path-prefix", "/taskbell"]);
    let id = server.submit(&json!({"kind": "a"})).await;
    let mut live = LiveSocket::open(&server).await;
    assert_eq!(live.next_of_type("snapshot").await["counts"]["queued"], 1);
    let output = taskbell().args(["list", "--json", "--server", &server.url()]).output().unwrap();
    let tasks: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tasks["items"][0]["id"], json!(id), "{output:?}");
}
