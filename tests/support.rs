//! Shared by the tests: the real binary as a server, and HTTP and websocket clients of it. Nothing here sleeps.

#![allow(dead_code)] // each module uses its part

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use taskbell::store::{Append, Expected, Meta, NewEvent, StreamName, Via, new_id};
use taskbell::task::json::value_of;
use taskbell::task::schedule::{ScheduleCreated, ScheduleEvent, Template};
use taskbell::task::{JsonText, Timestamp};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A test fails when an answer takes longer than this.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The real binary, without the `TASKBELL_…` variables of the environment.
pub fn taskbell() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbell"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TASKBELL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A real server in its own process, on a port and a data folder of its own. Dropping it ends it.
pub struct Server {
    child: Child,
    dir: TempDir,
    args: Vec<OsString>,
    address: String,
    client: reqwest::Client,
}

impl Server {
    /// A server with the default settings.
    pub fn start() -> Self {
        Self::with::<[&str; 0]>([])
    }

    /// A server with further flags, like `["--slots", "1", "--kinds", "a,b"]`.
    pub fn with<A: IntoIterator<Item: Into<OsString>>>(args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args =
            ["--data".into(), dir.path().join("data").into()].into_iter().chain(args.into_iter().map(Into::into));
        Self::in_folder(dir, args.collect())
    }

    /// A server whose log is in a cluster. It may not have reached the cluster yet.
    pub fn on_cluster<A: IntoIterator<Item: Into<OsString>>>(url: &str, args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = ["--store".into(), url.into()].into_iter().chain(args.into_iter().map(Into::into));
        Self::in_folder(dir, args.collect())
    }

    /// A server that works in this folder, with these flags alone.
    fn in_folder(dir: TempDir, args: Vec<OsString>) -> Self {
        let (child, address) = launch(taskbell(), dir.path(), "127.0.0.1:0", &args);
        Self { child, dir, args, address, client: reqwest::Client::new() }
    }

    /// A server whose data folder is a file system of its own with this many KiB; none where the system doesn't allow the
    /// mount. The test reaches that file system by `/proc/PID/root`. It ends with the server: don't restart the server.
    pub fn on_small_disk<A: IntoIterator<Item: Into<OsString>>>(kib: u32, args: A) -> Option<Self> {
        let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("data")).expect("a folder to mount on");
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={kib}k tmpfs data && exec \"$@\"");
        command.args(["-rm", "sh", "-c", &mount, "sh"]).arg(taskbell().get_program());
        for (name, value) in taskbell().get_envs() {
            assert!(value.is_none(), "only removals");
            command.env_remove(name);
        }
        let args =
            ["--data".into(), dir.path().join("data").into()].into_iter().chain(args.into_iter().map(Into::into));
        let args: Vec<OsString> = args.collect();
        let (child, address) = launch(command, dir.path(), "127.0.0.1:0", &args);
        Some(Self { child, dir, args, address, client: reqwest::Client::new() })
    }

    /// A server whose distributions may use `root`, limited to this many bytes per second if a limit is given.
    pub fn with_content(root: &Path, bytes_per_s: Option<u64>) -> Self {
        let mut args: Vec<OsString> = vec!["--content-root".into(), root.into()];
        if let Some(bound) = bytes_per_s {
            args.extend(["--content-bytes-per-s".into(), bound.to_string().into()]);
        }
        Self::with(args)
    }

    /// `http://127.0.0.1:PORT`; stays the same after [`Server::restart`].
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The folder in which it works, empty before it starts but for its stderr.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until the process has ended.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until the process has ended by itself.
    pub fn stop(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the server's exit status")
    }

    /// Starts again on the same data and the same port, after [`Server::kill9`] or [`Server::stop`].
    pub fn restart(&mut self) {
        self.kill9();
        // Closes the client's connections, so that the port is free.
        self.client = reqwest::Client::new();
        (self.child, self.address) = launch(taskbell(), self.dir.path(), &self.address, &self.args);
        // A new client, without pooled connections to the former process.
        self.client = reqwest::Client::new();
    }

    /// `GET`, with the answer read to its end.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url() + path)).await
    }

    /// `POST` of this JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.client.post(self.url() + path).json(body)).await
    }

    /// Sends any request; build it with [`Server::client`].
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = tokio::time::timeout(PATIENCE, request.send()).await.expect("an answer in time");
        let response = response.unwrap_or_else(|error| panic!("{error:?}\n{}", self.stderr()));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = tokio::time::timeout(PATIENCE, response.text()).await.expect("a body in time").expect("a body");
        let body = value_of(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// The HTTP client, for requests other than [`Server::get`] and [`Server::post`].
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Submits a task and asserts that it is accepted; its id.
    pub async fn submit(&self, body: &Value) -> String {
        let answer = self.post("/v1/tasks", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.id()
    }

    /// The task as `GET /v1/tasks/{id}` shows it.
    pub async fn task(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/tasks/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// Waits for pushed frames until `wanted` holds for the task; the task as its own page shows it then.
    pub async fn task_when(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut live = Live::open(self).await;
        live.send(&json!({"type": "subscribe", "filter": {"ids": [id]}})).await;
        live.until("subscribed").await;
        loop {
            let task = self.task(id).await;
            if wanted(&task) {
                return task;
            }
            loop {
                let frame = live.next().await;
                if frame["type"] == "tasks" || frame["type"] == "tasks_changed" {
                    break;
                }
            }
        }
    }

    /// Waits until the task has this status.
    pub async fn task_with_status(&self, id: &str, status: &str) -> Value {
        self.task_when(id, |task| task["status"] == status).await
    }

    /// Waits until the task is final.
    pub async fn task_at_end(&self, id: &str) -> Value {
        self.task_when(id, is_final).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the server's stderr ---\n{}", self.stderr());
        } else {
            assert!(!self.stderr().contains("panicked at"), "{}", self.stderr());
        }
    }
}

/// Whether this task's status is final.
pub fn is_final(task: &Value) -> bool {
    matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// Sends a signal (`TERM`, `INT`, `STOP`, `CONT`…) to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Starts `serve` in `dir` and waits until it listens; the process and its address.
fn launch(mut command: Command, dir: &Path, listen: &str, args: &[OsString]) -> (Child, String) {
    let path = dir.join("stderr");
    let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("a file for stderr");
    command.arg("serve").args(["--listen", listen]).args(args);
    let mut child = command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the binary starts");
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take().expect("its stdout");
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listening on http://") {
                let _ = sender.send(address.trim().to_owned());
            }
        }
    });
    let Ok(address) = receiver.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let status = child.wait();
        panic!("no `listening on` line ({status:?}):\n{}", std::fs::read_to_string(&path).unwrap_or_default());
    };
    (child, address)
}

/// An HTTP answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null where it isn't JSON.
    pub body: Value,
}

impl Answer {
    /// A header as text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `Taskbell-Position`.
    pub fn position(&self) -> u64 {
        self.header("taskbell-position").parse().expect("a Taskbell-Position header")
    }

    /// The `id` in the body.
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {}", self.text)).to_owned()
    }

    /// Asserts a problem+json with this status and code and every field of a problem.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(self.body["status"], status, "{}", self.text);
        for field in ["type", "title", "detail", "retryable", "request_id"] {
            assert!(!self.body[field].is_null(), "no {field} in {}", self.text);
        }
        self
    }
}

/// A websocket on `/v1/live`.
pub struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Live {
    /// Connects; the first frame is `hello`.
    pub async fn open(server: &Server) -> Self {
        Self::connect(&server.url()).await
    }

    /// Connects to a server by its `http://` address.
    pub async fn connect(url: &str) -> Self {
        let url = format!("{}/v1/live", url.replacen("http", "ws", 1));
        let (socket, _) = tokio_tungstenite::connect_async(&url).await.expect("a websocket");
        Self { socket }
    }

    /// Connects over a stream that the test has made.
    pub async fn over(stream: TcpStream, url: &str) -> Self {
        let url = format!("{}/v1/live", url.replacen("http", "ws", 1));
        let stream = MaybeTlsStream::Plain(stream);
        let (socket, _) = tokio_tungstenite::client_async(&url, stream).await.expect("a websocket");
        Self { socket }
    }

    /// The socket itself, for frames that a well-behaved client doesn't send.
    pub fn raw(&mut self) -> &mut WebSocketStream<MaybeTlsStream<TcpStream>> {
        &mut self.socket
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(close) => panic!("the server closed the socket: {close:?}"),
        }
    }

    /// The next frame, or how the server closed.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
                Some(Ok(Message::Close(close))) => return Err(close),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame of this type; others are skipped.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the socket takes a frame");
    }

    /// Closes as a browser does.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}

/// The append by which mira created a schedule at this time.
pub fn schedule_created(id: uuid::Uuid, created: &ScheduleCreated, time: Timestamp) -> Append {
    let meta =
        Meta { actor: "mira".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = ScheduleEvent::ScheduleCreated(Box::new(created.clone())).into();
    let events = vec![NewEvent { id: new_id(), time, meta, event }];
    Append { stream: StreamName::schedule(id), expected: Expected::NoStream, events }
}

/// A template of a schedule's tasks.
pub fn template() -> Template {
    Template {
        kind: "report".into(),
        title: "again".into(),
        owner: "ann".into(),
        input: JsonText::default(),
        queue: "default".into(),
        priority: 0,
        max_attempts: 1,
        timeout_s: None,
        labels: BTreeMap::new(),
        unique_key: None,
        concurrency_key: None,
    }
}
