//! A process `taskbell work`, and helpers that submit tasks and read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, TEST_TIMEOUT, signal, taskbell};

/// A worker process whose commands run in a new folder. Dropping this value kills the process.
pub struct WorkerProcess {
    child: Child,
    folder: TempDir,
}

impl WorkerProcess {
    /// Starts a worker that runs `script` with `sh` for each task of the kind `demo`.
    pub fn start(server: &Server, script: &str) -> Self {
        Self::with(server, &["--kind", "demo"], &["sh", "-c", script])
    }

    /// Starts a worker with these flags that runs `command` for each task.
    pub fn with(server: &Server, flags: &[&str], command: &[&str]) -> Self {
        Self::with_token(server, flags, command, Some(&worker_token(server)))
    }

    /// As [`Self::start`], for a server that doesn't run yet and therefore has given no token.
    pub fn start_before(server: &Server, script: &str) -> Self {
        Self::with_token(server, &["--kind", "demo"], &["sh", "-c", script], None)
    }

    fn with_token(server: &Server, flags: &[&str], command: &[&str], token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stderr = fs::File::create(folder.path().join("stderr")).expect("a file");
        let child = taskbell()
            .arg("work")
            .args(flags)
            .arg("--")
            .args(command)
            .env("TASKBELL_SERVER", server.url())
            .envs(token.iter().map(|token| ("TASKBELL_TOKEN", token)))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the worker starts");
        Self { child, folder }
    }

    /// The path of a file in the folder where the commands run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the worker has written to stderr so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.file("stderr")).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM, waits for the exit and returns stderr. The worker writes the line about the end of an attempt
    /// after the
    /// server's response.
    pub async fn stop(mut self) -> String {
        self.signal("TERM");
        let exit = tokio::task::spawn_blocking(move || (self.wait(), self.stderr()));
        let (status, stderr) = exit.await.unwrap();
        assert!(status.success(), "{status}: {stderr}");
        stderr
    }

    /// Waits until the process exits.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("its exit status")
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the worker's stderr ---\n{}", self.stderr());
        }
    }
}

/// Creates a named pipe. A command waits at it until it can read a line.
pub fn create_gate(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .expect("a pipe");
}

/// Lets the command that waits at the pipe continue.
pub async fn open_gate(path: &Path) {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || fs::write(path, "go\n"));
    tokio::time::timeout(TEST_TIMEOUT, opened).await.expect("a command at the gate").unwrap().expect("an open gate");
}

/// Creates a task of the kind `demo` with these additional fields, and returns its id.
pub async fn submit(server: &Server, fields: Value) -> String {
    let mut task = json!({"kind": "demo"});
    task.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.submit(&task).await
}

/// Waits until the task's progress has this message, and returns the task.
pub async fn wait_for_progress(server: &Server, id: &str, message: &str) -> Value {
    server.task_when(id, |task| task["progress"]["message"] == message).await
}

/// Waits until the task's progress has the message `pid N`, and returns N.
pub async fn wait_for_pid(server: &Server, id: &str) -> u32 {
    let named = |task: &Value| task["progress"]["message"].as_str()?.strip_prefix("pid ")?.parse().ok();
    let task = server.task_when(id, |task| named(task).is_some()).await;
    named(&task).unwrap()
}

/// The task's events of this type.
pub async fn events(server: &Server, id: &str, kind: &str) -> Vec<Value> {
    let history = server.get(&format!("/v1/tasks/{id}/events")).await.body;
    history["items"].as_array().unwrap().iter().filter(|event| event["type"] == kind).cloned().collect()
}

/// Whether no process with this id runs. A process that has exited and is not reaped counts as gone.
pub fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}

/// A token with which a worker takes leases. The commands of its tasks must not get it.
fn worker_token(server: &Server) -> String {
    let create = ["token", "create", "--role", "worker", "--subject", "runner"];
    let created = taskbell().args(create).env("TASKBELL_SERVER", server.url()).output().expect("the command runs");
    let token = String::from_utf8(created.stdout).expect("a text").trim().to_owned();
    assert!(token.starts_with("tb_"), "{}", String::from_utf8_lossy(&created.stderr));
    token
}
