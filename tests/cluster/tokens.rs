//! API tokens on a cluster: the first one, which no server can create, and the end of what a token has opened at another
//! server.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use reqwest::Method;

use super::*;
use crate::credentials::ApiToken;
use crate::support::{HttpResponse, TEST_TIMEOUT, taskbell};

/// `taskbell token create` with these arguments.
fn create(args: &[&str]) -> Command {
    let mut command = taskbell();
    command.args(["token", "create", "--role", "admin", "--subject", "root"]).args(args).env("USER", "ada");
    command.stdin(Stdio::null());
    command
}

/// Runs the command while the database of this test goes on.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The token that the command prints.
async fn created(command: Command) -> String {
    let output = output(command).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("tb_") && text.lines().count() == 1, "{text}");
    text.trim().to_owned()
}

/// The one line on stderr of a command that ends with this exit code.
async fn refused(command: Command, exit: i32) -> String {
    let output = output(command).await;
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(exit), &b""[..]), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Waits until the server knows this token, and accepts writes.
async fn until_known(server: &Server, token: &str) {
    let known = async { while server.get_as(token, "/v1/counters").await.status != 200 {} };
    tokio::time::timeout(TEST_TIMEOUT, known).await.expect("the server accepts the token");
    until_fresh(LiveSocket::connect_as(&server.url(), token).await).await;
}

/// The file `stderr` of the server, when it has this text.
async fn stderr_with(server: &Server, text: &str) -> String {
    let written = async {
        loop {
            let stderr = server.stderr();
            if stderr.contains(text) {
                return stderr;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, written).await.unwrap_or_else(|_| panic!("no {text}: {}", server.stderr()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_token_is_created_in_the_cluster_and_every_server_accepts_it() {
    let cluster = Cluster::start().await;
    let before = created(create(&["--store", &cluster.url()])).await;
    let servers = [(); 2].map(|()| cluster.server(["--auth", "required"]));
    for server in &servers {
        until_known(server, &before).await;
        server.get("/v1/tasks").await.assert_problem(401, "unauthenticated");
    }
    // The servers go on while another token is created, and accept it as soon as they have received its event.
    let meanwhile = created(create(&["--store", &cluster.url()])).await;
    for server in &servers {
        until_known(server, &meanwhile).await;
        let log = server.get_as(&before, "/v1/log").await;
        let events: Vec<Value> = log.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2, "{}", log.text);
        for event in events {
            let (kind, meta) = (&event["type"], &event["meta"]);
            assert_eq!((kind, &event["revision"]), (&json!("TokenCreated"), &json!(0)), "{event}");
            assert_eq!((&meta["actor"], &meta["via"]), (&json!("ada"), &json!("cli")), "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_cluster_has_the_same_document_as_one_that_a_server_creates() {
    let cluster = Cluster::start().await;
    let output = output(create(&["--store", &cluster.url(), "--json"])).await;
    let created: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let server = cluster.server(["--auth", "required"]);
    until_known(&server, created["token"].as_str().unwrap()).await;
    let body = json!({"subject": "root", "role": "admin"});
    let by_server = server.post_as(created["token"].as_str().unwrap(), "/v1/tokens", &body).await.body;
    let fields = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&created), fields(&by_server));
    assert_eq!((&created["position"], &by_server["position"]), (&json!(1), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_a_server_is_taken_from_its_variable_or_its_settings_file() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers.toml");
    std::fs::write(&file, format!("store = \"{}\"\n[auth]\nmode = \"required\"\n", cluster.url())).unwrap();
    let in_folder = |folder: &Path, args: &[&str]| {
        let mut command = create(args);
        command.current_dir(folder);
        command
    };
    let mut by_variable = in_folder(folder.path(), &["--store"]);
    by_variable.env("TASKBELL_STORE", cluster.url());
    created(by_variable).await;
    created(in_folder(folder.path(), &["--store", "--config", "servers.toml"])).await;
    let mut by_config_variable = in_folder(folder.path(), &["--store"]);
    by_config_variable.env("TASKBELL_CONFIG", &file);
    created(by_config_variable).await;
    std::fs::rename(&file, folder.path().join("taskbell.toml")).unwrap();
    created(in_folder(folder.path(), &["--store"])).await;
    assert_eq!(cluster.event_count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_no_cluster_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |args: &[&str], store: Option<&str>| {
        let mut command = create(args);
        command.current_dir(folder.path()).envs(store.map(|store| ("TASKBELL_STORE", store)));
        command
    };
    let nothing_set = refused(in_folder(&["--store"], None), 2).await;
    assert!(nothing_set.contains("TASKBELL_STORE") && nothing_set.contains("settings file"), "{nothing_set}");
    for embedded in ["sqlite", "memory"] {
        let text = refused(in_folder(&["--store"], Some(embedded)), 2).await;
        assert!(text.contains("not a cluster") && text.contains("--data"), "{text}");
    }
    let invalid = refused(in_folder(&["--store", "http://admin:s3cret@db"], None), 2).await;
    assert!(invalid.contains("--store: ") && !invalid.contains("s3cret"), "{invalid}");
    let both = output(in_folder(&["--store", "esdb://db", "--data", "log"], None)).await;
    let text = String::from_utf8(both.stderr).unwrap();
    assert!(both.status.code() == Some(2) && text.contains("--data") && text.contains("cannot be used with"), "{text}");
    let config_alone = output(in_folder(&["--config", "a.toml"], None)).await;
    assert_eq!(config_alone.status.code(), Some(2), "{config_alone:?}");
    assert!(!folder.path().join("log").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_cannot_be_reached_is_named_without_its_password() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let url = format!("esdb://admin:s3cret@{}?tls=false", cluster.addr());
    let text = refused(create(&["--store", &url]), 5).await;
    let address = cluster.addr().to_string();
    assert!(text.starts_with("error: ") && text.contains(&address) && !text.contains("s3cret"), "{text}");
}

/// A database that asks for a password, and takes no writes: the log port of a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_refuses_the_credentials_or_the_write_is_named_with_its_reason() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut first = taskbell();
    let data = folder.path().join("data");
    first.args(["token", "create", "--role", "admin", "--subject", "root", "--data"]).arg(&data);
    let token = created(first).await;
    let _server = Server::on_prepared_data(folder, &[], ["--auth", "required", "--log-listen", &port.to_string()]);
    let wrong = refused(create(&["--store", &format!("esdb://root:wrong@{port}?tls=false")]), 5).await;
    assert!(wrong.contains("Access denied") || wrong.contains("user or the password"), "{wrong}");
    let read_only = refused(create(&["--store", &format!("esdb://root:{token}@{port}?tls=false")]), 5).await;
    assert!(!read_only.contains(&token), "{read_only}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_cluster_without_a_token_says_how_to_create_one() {
    let cluster = Cluster::start().await;
    let server = cluster.server(["--auth", "required"]);
    let stderr = stderr_with(&server, "taskbell token create").await;
    let command = format!("taskbell token create --store '{}' --role admin --subject NAME", cluster.url());
    assert!(stderr.contains(&command), "{stderr}");
    let url = format!("esdb://admin:s3cret@{}?tls=false&prefix=other", cluster.addr());
    let with_password = Server::on_cluster(&url, ["--auth", "required"]);
    let stderr = stderr_with(&with_password, "taskbell token create").await;
    assert!(stderr.contains("taskbell token create --store --role admin --subject NAME"), "{stderr}");
    assert!(stderr.contains("TASKBELL_STORE") && !stderr.contains("s3cret"), "{stderr}");
    let token = created(create(&["--store", &cluster.url()])).await;
    let informed = cluster.server(["--auth", "required"]);
    until_known(&informed, &token).await;
    assert!(!informed.stderr().contains("token create"), "{}", informed.stderr());
}

/// A user's token that `root` creates.
async fn token_of(server: &Server, root: &str, role: &str) -> ApiToken {
    let body = json!({"subject": "anna", "role": role});
    let created = server.post_as(root, "/v1/tokens", &body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    ApiToken { id: created.id(), text: created.body["token"].as_str().unwrap().to_owned() }
}

/// Waits until a request for leases waits at the server, which lets only one wait.
async fn until_one_waits(server: &Server, root: &str) {
    let probe = json!({"worker": "probe", "kinds": ["none"], "wait_s": 0.05});
    let waits = async { while server.post_as(root, "/v1/leases", &probe).await.status != 429 {} };
    tokio::time::timeout(TEST_TIMEOUT, waits).await.expect("a request that waits");
}

/// Sends a request for leases, again while it is refused because the probe waits. Returns its answer, and when it came.
async fn take_until_refused(server: &Server, token: &str) -> (HttpResponse, Instant) {
    let take = json!({"worker": "w", "kinds": ["a"], "wait_s": 30});
    loop {
        let answer = server.post_as(token, "/v1/leases", &take).await;
        if answer.status != 429 {
            return (answer, Instant::now());
        }
    }
}

/// Waits until the server closes the socket. Returns the code, and when it came.
async fn closing(live: &mut LiveSocket) -> (u16, Instant) {
    loop {
        if let Err(close) = live.next_or_close().await {
            return (close.expect("a close frame").code.into(), Instant::now());
        }
    }
}

/// Opens a session with this token. Returns its cookie.
async fn session_cookie(server: &Server, token: &str) -> String {
    let opened = server.send_as(token, Method::POST, "/v1/session", None).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    opened.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn get_with_cookie(server: &Server, cookie: &str) -> HttpResponse {
    let request = server.client().get(server.url() + "/v1/tasks").header("cookie", cookie);
    server.send(request.header("sec-fetch-site", "same-origin")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_has_opened_at_one_server_ends_when_another_server_revokes_it() {
    let cluster = Cluster::start().await;
    let root = created(create(&["--store", &cluster.url()])).await;
    let a = cluster.server(["--auth", "required"]);
    let b = cluster.server(["--auth", "required", "--max-long-polls-per-address", "1"]);
    until_known(&a, &root).await;
    let (user, worker) = (token_of(&a, &root, "user").await, token_of(&a, &root, "worker").await);
    until_known(&b, &user.text).await;
    until_known(&b, &worker.text).await;
    let cookie = session_cookie(&a, &user.text).await;
    let accepted = async { while get_with_cookie(&b, &cookie).await.status != 200 {} };
    tokio::time::timeout(TEST_TIMEOUT, accepted).await.expect("a session of A works at B");
    let mut live = LiveSocket::connect_as(&b.url(), &user.text).await;
    live.next_of_type("snapshot").await;
    let revoke = async {
        until_one_waits(&b, &root).await;
        let begin = Instant::now();
        for token in [&user, &worker] {
            let path = format!("/v1/tokens/{}", token.id);
            assert_eq!(a.send_as(&root, Method::DELETE, &path, None).await.status, 204);
        }
        begin
    };
    let ((refused, poll_ended), (code, closed), begin) =
        tokio::join!(take_until_refused(&b, &worker.text), closing(&mut live), revoke);
    refused.assert_problem(401, "unauthenticated");
    assert_eq!(code, 1008);
    println!("after the revocation at A began: socket at B {:?}, poll {:?}", closed - begin, poll_ended - begin);
    get_with_cookie(&b, &cookie).await.assert_problem(401, "unauthenticated");
    get_with_cookie(&a, &cookie).await.assert_problem(401, "unauthenticated");
    b.get_as(&user.text, "/v1/tasks").await.assert_problem(401, "unauthenticated");
}
