//! A worker whose token is in a file, at a server that requires authentication. The token in the file is replaced while the
//! worker runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use taskbell::work::{Done, RemoteError, RemoteWorker, WorkerEvent};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::library::TestWorker;
use crate::credentials::ApiToken;
use crate::support::{Server, TEST_TIMEOUT, taskbell};

/// A server that requires authentication, with the token of an admin, and a file for the token of a worker.
struct Guarded {
    server: Server,
    root: String,
    file: PathBuf,
}

impl Guarded {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("token"));
        let mut command = taskbell();
        command.args(["token", "create", "--role", "admin", "--subject", "root", "--data"]).arg(data);
        let created = command.output().unwrap();
        assert!(created.status.success(), "{created:?}");
        let root = String::from_utf8(created.stdout).unwrap().trim().to_owned();
        Self { server: Server::on_prepared_data(dir, &[], ["--auth", "required"]), root, file }
    }

    async fn token(&self, role: &str) -> ApiToken {
        let created = self.server.post_as(&self.root, "/v1/tokens", &json!({"subject": "farm", "role": role})).await;
        assert_eq!(created.status, 201, "{}", created.text);
        ApiToken { id: created.id(), text: created.body["token"].as_str().unwrap().to_owned() }
    }

    /// A worker's token, which is now in the file.
    async fn token_in_file(&self) -> ApiToken {
        let token = self.token("worker").await;
        write(&self.file, &format!("{}\n", token.text));
        token
    }

    async fn revoke(&self, token: &ApiToken) {
        let path = format!("/v1/tokens/{}", token.id);
        let revoked = self.server.send_as(&self.root, Method::DELETE, &path, None).await;
        assert_eq!(revoked.status, 204, "{}", revoked.text);
    }

    async fn submit(&self, title: &str) -> String {
        let new = json!({"kind": "demo", "title": title, "max_attempts": 1});
        let created = self.server.post_as(&self.root, "/v1/tasks", &new).await;
        assert_eq!(created.status, 201, "{}", created.text);
        created.id()
    }

    async fn task_at_end(&self, id: &str) -> Value {
        let ended = async {
            loop {
                let task = self.server.get_as(&self.root, &format!("/v1/tasks/{id}")).await.body;
                if crate::support::is_final(&task) {
                    return task;
                }
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, ended).await.unwrap_or_else(|_| panic!("task {id} doesn't end"))
    }

    async fn succeeds(&self, id: &str) {
        let task = self.task_at_end(id).await;
        assert_eq!((&task["status"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    }

    fn worker(&self) -> RemoteWorker {
        RemoteWorker::new(self.server.url()).token_file(&self.file)
    }
}

/// Replaces the file in one step.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn a_worker_sends_the_token_in_its_file() {
    let guarded = Guarded::start();
    guarded.token_in_file().await;
    let worker = TestWorker::running(guarded.worker(), |_| async { Ok(Done::default()) });
    guarded.succeeds(&guarded.submit("first").await).await;
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_worker_goes_on_with_the_next_token_in_its_file_when_the_former_one_is_revoked() {
    let guarded = Guarded::start();
    let former = guarded.token_in_file().await;
    let (notice, mut begun) = mpsc::unbounded_channel();
    let (end, may_end) = watch::channel(false);
    let worker = TestWorker::running(guarded.worker(), move |_| {
        let (notice, mut may_end) = (notice.clone(), may_end.clone());
        async move {
            notice.send(()).unwrap();
            may_end.wait_for(|may_end| *may_end).await.unwrap();
            Ok(Done::default())
        }
    });
    // The first task runs, and a request for another one waits, while the token is replaced.
    let first = guarded.submit("first").await;
    begun.recv().await.unwrap();
    guarded.token_in_file().await;
    guarded.revoke(&former).await;
    let second = guarded.submit("second").await;
    begun.recv().await.unwrap();
    end.send_replace(true);
    guarded.succeeds(&first).await;
    guarded.succeeds(&second).await;
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_worker_whose_token_is_refused_and_not_replaced_ends() {
    let guarded = Guarded::start();
    let token = guarded.token_in_file().await;
    let worker = TestWorker::running(guarded.worker(), |_| async { Ok(Done::default()) });
    guarded.succeeds(&guarded.submit("first").await).await;
    guarded.revoke(&token).await;
    let Err(RemoteError::Refused { status, code, .. }) = worker.ended().await else { panic!("the worker goes on") };
    assert_eq!((status, code.as_str()), (401, "unauthenticated"));
}

#[tokio::test]
async fn a_worker_waits_for_the_next_token_while_its_file_is_being_replaced() {
    let guarded = Guarded::start();
    let former = guarded.token_in_file().await;
    let (notice, mut noticed) = mpsc::unbounded_channel();
    let worker = guarded.worker().on_event(move |event| {
        if let WorkerEvent::Unreachable { reason } = event {
            notice.send((*reason).to_owned()).unwrap();
        }
    });
    let worker = TestWorker::running(worker, |_| async { Ok(Done::default()) });
    guarded.succeeds(&guarded.submit("first").await).await;
    fs::write(&guarded.file, "").unwrap();
    guarded.revoke(&former).await;
    let reason = tokio::time::timeout(TEST_TIMEOUT, noticed.recv()).await.unwrap().unwrap();
    assert!(reason.contains("token") && reason.ends_with("it is empty"), "{reason}");
    guarded.token_in_file().await;
    guarded.succeeds(&guarded.submit("second").await).await;
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_file_that_holds_no_token_is_refused_at_the_start() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("token");
    for (text, reason) in [(None, "No such file"), (Some("\n"), "it is empty"), (Some("a\nb"), "can't be sent")] {
        text.inspect(|text| fs::write(&path, text).unwrap());
        let worker = RemoteWorker::new("http://127.0.0.1:1").token_file(&path);
        let worker = TestWorker::running(worker, |_| async { Ok(Done::default()) });
        let error = worker.ended().await.unwrap_err();
        assert!(matches!(error, RemoteError::TokenFile { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// Ends the process when the test ends.
struct Work(Child);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_command_work_goes_on_with_the_next_token_in_its_file() {
    let guarded = Guarded::start();
    let former = guarded.token_in_file().await;
    let mut command = taskbell();
    command.args(["work", "--kind", "demo", "--server", &guarded.server.url(), "--token-file"]).arg(&guarded.file);
    let _work = Work(command.args(["--", "true"]).stderr(Stdio::null()).spawn().unwrap());
    guarded.succeeds(&guarded.submit("first").await).await;
    guarded.token_in_file().await;
    guarded.revoke(&former).await;
    guarded.succeeds(&guarded.submit("second").await).await;
}
