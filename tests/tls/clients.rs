//! The clients of this package over https: the command line and the remote worker of the library.

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use taskbell::{Context, Done, Failure, Handler, Handlers, RemoteError, RemoteWorker};

use super::{flags, start};
use crate::support::{Server, certificate_file, signal, taskbell};

fn run(server: &str, args: &[&str], ca_file: Option<&str>) -> Output {
    let mut command = taskbell();
    command.args(args).args(["--server", server]);
    if let Some(name) = ca_file {
        command.env("TASKBELL_CA_FILE", certificate_file(name));
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_command_line_trusts_the_authorities_of_a_file() {
    let server = start(&[]);
    let submitted = run(&server.url(), &["submit", "a", "--json"], Some("ca.pem"));
    assert_eq!(submitted.status.code(), Some(0), "{submitted:?}");
    let id = serde_json::from_slice::<Value>(&submitted.stdout).unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(server.task(&id).await["status"], "queued");
    let flag = certificate_file("ca.pem").display().to_string();
    let shown = run(&server.url(), &["show", &id, "--json", "--ca-file", &flag], None);
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).unwrap()["id"], json!(id), "{shown:?}");
    let by_name = server.url().replace("127.0.0.1", "localhost");
    assert_eq!(run(&by_name, &["list"], Some("ca.pem")).status.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_is_not_trusted_is_not_spoken_to() {
    let server = start(&[]);
    for ca_file in [None, Some("other-ca.pem")] {
        let refused = run(&server.url(), &["list"], ca_file);
        assert_eq!(refused.status.code(), Some(5), "{refused:?}");
        assert!(text(&refused.stderr).contains("certificate"), "{refused:?}");
    }
    let elsewhere = Server::with(flags("elsewhere"));
    assert_eq!(
        run(&elsewhere.url(), &["list"], Some("ca.pem")).status.code(),
        Some(5),
        "a certificate for another host"
    );
    for name in ["first.key", "missing.pem"] {
        let refused = run(&server.url(), &["list"], Some(name));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).starts_with("error: --ca-file: ") && text(&refused.stderr).contains(name));
    }
    let plain = Server::start();
    assert_eq!(run(&plain.url().replace("http", "https"), &["list"], Some("ca.pem")).status.code(), Some(5));
}

#[tokio::test]
async fn a_task_is_watched_over_https() {
    let server = start(&[]);
    let id = server.submit(&json!({"kind": "a"})).await;
    let mut command = taskbell();
    command.args(["watch", &id, "--json", "--server", &server.url()]);
    command.env("TASKBELL_CA_FILE", certificate_file("ca.pem")).stdout(Stdio::piped());
    let mut watch = command.spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("queued"));
    assert_eq!(server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.status, 202);
    let last = lines.map_while(Result::ok).last().expect("a line at the end");
    assert!(last.contains("cancelled"), "{last}");
    watch.wait().unwrap();
}

#[tokio::test]
async fn a_command_works_for_a_server_over_https() {
    let server = start(&[]);
    let mut command = taskbell();
    command.args(["work", "--kind", "a", "--server", &server.url(), "--", "sh", "-c", "echo '::result {\"n\":1}'"]);
    command.env("TASKBELL_CA_FILE", certificate_file("ca.pem")).stderr(Stdio::null());
    let mut worker = command.spawn().unwrap();
    let id = server.submit(&json!({"kind": "a"})).await;
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["result"]["n"]), (&json!("succeeded"), &json!(1)), "{task}");
    signal(worker.id(), "TERM");
    assert!(worker.wait().unwrap().success());
}

struct Double;

#[taskbell::async_trait]
impl Handler for Double {
    fn kind(&self) -> &'static str {
        "double"
    }

    async fn run(&self, context: Context) -> Result<Done, Failure> {
        let n = context.input_value()["n"].as_u64().unwrap_or_default();
        Ok(Done::new("doubled").with_result(json!(n * 2)))
    }
}

#[tokio::test]
async fn a_worker_of_the_library_works_over_https() {
    let server = start(&[]);
    let mut handlers = Handlers::new();
    handlers.register(Double).unwrap();
    let worker = RemoteWorker::new(server.url()).handlers(handlers);
    let refused = worker.clone().ca_file(certificate_file("missing.pem")).run(std::future::pending()).await;
    assert!(matches!(refused, Err(RemoteError::CaFile(_))), "{refused:?}");
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = Arc::clone(&stop);
    let worker = worker.ca_file(certificate_file("ca.pem"));
    let working = tokio::spawn(async move { worker.run(stopped.notified()).await });
    let id = server.submit(&json!({"kind": "double", "input": {"n": 21}})).await;
    assert_eq!(server.task_at_end(&id).await["result"], json!(42));
    stop.notify_one();
    assert_eq!(working.await.unwrap().unwrap(), 0);
}
