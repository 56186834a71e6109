//! Helpers for all tests: a real server process, and its HTTP and websocket clients. No helper sleeps.

#![allow(dead_code)] // each module uses its part

mod access;
pub mod figures;

pub use access::{Access, RawStream, Tokens, client_hello};

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use taskbell::store::{Append, Expected, Meta, NewEvent, StreamName, Via, new_id};
use taskbell::task::json::value_of;
use taskbell::task::schedule::{ScheduleCreated, ScheduleEvent, Template};
use taskbell::task::{JsonText, Timestamp};
use taskbell::tls::client::{Trust, client_config};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

/// A test fails if a response or a signal doesn't arrive within this time.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A file of `tests/tls/certs`.
pub fn certificate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/certs").join(name)
}

/// What a client trusts: the authority of the tests, and those of the system.
pub fn trust() -> ClientConfig {
    static TRUST: LazyLock<ClientConfig> = LazyLock::new(|| {
        client_config(Trust::SystemAnd(Some(&certificate_file("ca.pem")))).expect("the certificates of the tests")
    });
    TRUST.clone()
}

/// A client that trusts the authority of the tests.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(trust()).build().expect("a client")
}

/// A client that trusts the authority of the tests, and sends this token if a request has no other.
fn http_client_with(tokens: Option<&Tokens>) -> reqwest::Client {
    let Some(tokens) = tokens else { return http_client() };
    let bearer = format!("Bearer {}", tokens.own).parse().expect("a header");
    let headers = HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, bearer)]);
    let builder = reqwest::Client::builder().tls_backend_preconfigured(trust()).default_headers(headers);
    builder.build().expect("a client")
}

/// A command that runs the real program, without the `TASKBELL_…` variables of the environment.
pub fn taskbell() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbell"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TASKBELL_") {
            command.env_remove(name);
        }
    }
    command
}

/// A real server in a process, with its own port and its own data folder. Dropping this value kills the process.
pub struct Server {
    child: Child,
    dir: TempDir,
    args: Vec<OsString>,
    /// The address in the line `listening on …`.
    url: String,
    client: reqwest::Client,
    /// Those of a server that [`Server::with_access`] has secured.
    tokens: Option<Tokens>,
}

impl Server {
    /// A server with the default settings.
    pub fn start() -> Self {
        Self::with::<[&str; 0]>([])
    }

    /// A server with additional flags, like `["--slots", "1", "--kinds", "a,b"]`.
    pub fn with<A: IntoIterator<Item: Into<OsString>>>(args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args =
            ["--data".into(), dir.path().join("data").into()].into_iter().chain(args.into_iter().map(Into::into));
        Self::in_folder(dir, args.collect())
    }

    /// A server with limits of open files, which these commands of a shell set, like `ulimit -n 256`.
    pub fn with_open_files(limits: &str) -> Self {
        Self::in_shell::<[&str; 0]>(limits, [])
    }

    /// A server with additional flags, which a shell starts after these commands.
    pub fn in_shell<A: IntoIterator<Item: Into<OsString>>>(limits: &str, args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{limits} && exec \"$@\""), "sh"]).arg(taskbell().get_program());
        for (name, value) in taskbell().get_envs() {
            assert!(value.is_none(), "the command only removes variables");
            command.env_remove(name);
        }
        let args =
            ["--data".into(), dir.path().join("data").into()].into_iter().chain(args.into_iter().map(Into::into));
        let args: Vec<OsString> = args.collect();
        let (child, url) = launch_server(command, dir.path(), "127.0.0.1:0", &args);
        Self { child, dir, args, url, client: http_client(), tokens: None }
    }

    /// A server whose log is in the cluster at this address. It may not be connected to the cluster yet.
    pub fn on_cluster<A: IntoIterator<Item: Into<OsString>>>(url: &str, args: A) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = ["--store".into(), url.into()].into_iter().chain(args.into_iter().map(Into::into));
        Self::in_folder(dir, args.collect())
    }

    /// A server on the data that the test has prepared in the folder `data` of this folder, with these environment variables
    /// and additional flags.
    pub fn on_prepared_data<A: IntoIterator<Item: Into<OsString>>>(
        dir: TempDir,
        settings: &[(&str, &str)],
        args: A,
    ) -> Self {
        let data = ["--data".into(), dir.path().join("data").into()];
        let args: Vec<OsString> = data.into_iter().chain(args.into_iter().map(Into::into)).collect();
        let mut command = taskbell();
        command.envs(settings.iter().copied());
        let (child, url) = launch_server(command, dir.path(), "127.0.0.1:0", &args);
        Self { child, dir, args, url, client: http_client(), tokens: None }
    }

    /// A server on the data in the folder `data` of this folder. This command, like `strace -D`, starts its program.
    pub fn started_by(starter: &[OsString], dir: TempDir) -> Self {
        let mut command = Command::new(&starter[0]);
        command.args(&starter[1..]).arg(taskbell().get_program());
        for (name, _) in taskbell().get_envs() {
            command.env_remove(name);
        }
        let args: Vec<OsString> = vec!["--data".into(), dir.path().join("data").into()];
        let (child, url) = launch_server(command, dir.path(), "127.0.0.1:0", &args);
        Self { child, dir, args, url, client: http_client(), tokens: None }
    }

    /// A server with only these flags, whose working directory is this folder.
    fn in_folder(dir: TempDir, args: Vec<OsString>) -> Self {
        Self::in_folder_with(dir, args, None)
    }

    /// The same, with the tokens that the log in the folder has.
    fn in_folder_with(dir: TempDir, args: Vec<OsString>, tokens: Option<Tokens>) -> Self {
        let (child, url) = launch_server(taskbell(), dir.path(), "127.0.0.1:0", &args);
        let client = http_client_with(tokens.as_ref());
        Self { child, dir, args, url, client, tokens }
    }

    /// A server whose data folder is a separate file system of this many KiB; `None` if this machine doesn't allow the
    /// mount. The test can read the file system below `/proc/PID/root`. The file system disappears when the server
    /// ends, so a test must not restart the server.
    pub fn on_small_disk<A: IntoIterator<Item: Into<OsString>>>(kib: u32, args: A) -> Option<Self> {
        let mount_check = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status();
        if !mount_check.is_ok_and(|status| status.success()) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("data")).expect("a folder to mount on");
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={kib}k tmpfs data && exec \"$@\"");
        command.args(["-rm", "sh", "-c", &mount, "sh"]).arg(taskbell().get_program());
        for (name, value) in taskbell().get_envs() {
            assert!(value.is_none(), "the command only removes variables");
            command.env_remove(name);
        }
        let args =
            ["--data".into(), dir.path().join("data").into()].into_iter().chain(args.into_iter().map(Into::into));
        let args: Vec<OsString> = args.collect();
        let (child, url) = launch_server(command, dir.path(), "127.0.0.1:0", &args);
        Some(Self { child, dir, args, url, client: http_client(), tokens: None })
    }

    /// A server whose distributions may read and write `root`, limited to `bytes_per_s` if that is given.
    pub fn with_content(root: &Path, bytes_per_s: Option<u64>) -> Self {
        let mut args: Vec<OsString> = vec!["--content-root".into(), root.into()];
        if let Some(bytes_per_s) = bytes_per_s {
            args.extend(["--content-bytes-per-s".into(), bytes_per_s.to_string().into()]);
        }
        Self::with(args)
    }

    /// `http://127.0.0.1:PORT`, with a certificate `https://…`, with a path prefix that too; stays the same after
    /// [`Server::restart`].
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.split('/').nth(2).expect("an address in the URL")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The working directory of the process. Before the start it contains only the file `stderr`.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// What the server has written to stderr so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL and waits until it has ended.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn stop(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the server's exit status")
    }

    /// Starts the server again with the same data and the same port. Kills the process first if it still runs.
    pub fn restart(&mut self) {
        self.kill9();
        // Dropping the old client closes its connections, so that the port becomes free.
        self.client = http_client();
        let address = self.address().to_owned();
        (self.child, self.url) = launch_server(taskbell(), self.dir.path(), &address, &self.args);
        // This client has no pooled connections to the old process.
        self.client = http_client_with(self.tokens.as_ref());
    }

    /// Sends a GET request and reads the whole response.
    pub async fn get(&self, path: &str) -> HttpResponse {
        self.send(self.client.get(self.url() + path)).await
    }

    /// Sends a POST request with this JSON and reads the whole response.
    pub async fn post(&self, path: &str, body: &Value) -> HttpResponse {
        self.send(self.client.post(self.url() + path).json(body)).await
    }

    /// Sends a request that the test has built with [`Server::client`].
    pub async fn send(&self, request: reqwest::RequestBuilder) -> HttpResponse {
        let response = tokio::time::timeout(TEST_TIMEOUT, request.send()).await.expect("a response in time");
        let response = response.unwrap_or_else(|error| panic!("{error:?}\n{}", self.stderr()));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = tokio::time::timeout(TEST_TIMEOUT, response.text()).await.expect("a body in time").expect("a body");
        let body = value_of(&text).unwrap_or(Value::Null);
        HttpResponse { status, headers, text, body }
    }

    /// Replaces the HTTP client by one without connections.
    pub fn renew_client(&mut self) {
        self.client = http_client_with(self.tokens.as_ref());
    }

    /// The HTTP client, for requests that [`Server::get`] and [`Server::post`] can't send.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Creates a task, asserts that it is accepted, and returns its id.
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

    /// Waits until `condition` holds for the task, and returns the task. Reads the task again after each pushed change.
    pub async fn task_when(&self, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut live = LiveSocket::open(self).await;
        live.send(&json!({"type": "subscribe", "filter": {"ids": [id]}})).await;
        live.next_of_type("subscribed").await;
        loop {
            let task = self.task(id).await;
            if condition(&task) {
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

    /// Waits until the task has this status, and returns it.
    pub async fn task_with_status(&self, id: &str, status: &str) -> Value {
        self.task_when(id, |task| task["status"] == status).await
    }

    /// Waits until the task is final, and returns it.
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

/// Starts `taskbell serve` in `dir` and waits until it listens. Returns the process and its URL.
fn launch_server(mut command: Command, dir: &Path, listen: &str, args: &[OsString]) -> (Child, String) {
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
            if let Some(url) = line.strip_prefix("listening on ") {
                let _ = sender.send(url.trim().to_owned());
            }
        }
    });
    let Ok(url) = receiver.recv_timeout(TEST_TIMEOUT) else {
        let _ = child.kill();
        let status = child.wait();
        panic!("no `listening on` line ({status:?}):\n{}", std::fs::read_to_string(&path).unwrap_or_default());
    };
    (child, url)
}

/// A complete HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it isn't JSON.
    pub body: Value,
}

impl HttpResponse {
    /// A header as text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The header `Taskbell-Position`.
    pub fn position(&self) -> u64 {
        self.header("taskbell-position").parse().expect("a Taskbell-Position header")
    }

    /// The field `id` of the body.
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {}", self.text)).to_owned()
    }

    /// Asserts that the response is a problem (`application/problem+json`) with this status, this code and all required
    /// fields.
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

/// The connection of a websocket.
pub enum SocketStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for SocketStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for SocketStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A websocket on `/v1/live`.
pub struct LiveSocket {
    socket: WebSocketStream<SocketStream>,
}

impl LiveSocket {
    /// Connects to the server. The first frame will be `hello`.
    pub async fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address()).await.expect("a connection");
        Self::open_over(stream, server).await
    }

    /// Connects to the server through a TCP stream that the test has opened.
    pub async fn open_over(stream: TcpStream, server: &Server) -> Self {
        let token = server.tokens().map(|tokens| tokens.own.as_str());
        Self::over_to(stream, &format!("{}/v1/live", server.url()), token).await
    }

    /// Connects to this path of the server, with its query.
    pub async fn open_path(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.address()).await.expect("a connection");
        Self::over_to(stream, &(server.url() + path), server.tokens().map(|tokens| tokens.own.as_str())).await
    }

    /// Connects to a server by its URL.
    pub async fn connect(url: &str) -> Self {
        let address = url.split('/').nth(2).expect("an address in the URL");
        Self::over(TcpStream::connect(address).await.expect("a connection"), url).await
    }

    /// Connects to `/v1/live` with this query and this token. If the server refuses the handshake, returns its status and body.
    pub async fn try_connect(url: &str, query: &str, token: Option<&str>) -> Result<Self, (u16, String)> {
        let address = url.split('/').nth(2).expect("an address in the URL");
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self::try_over(stream, &format!("{url}/v1/live{query}"), token).await
    }

    /// Connects to this URL through a TCP stream.
    async fn try_over(stream: TcpStream, url: &str, token: Option<&str>) -> Result<Self, (u16, String)> {
        stream.set_nodelay(true).expect("a socket");
        let stream = SocketStream::over(stream, url).await.expect("a handshake");
        let mut request = url.replacen("http", "ws", 1).into_client_request().expect("a request");
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        }
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                Err((response.status().as_u16(), body.into_owned()))
            }
            Err(error) => panic!("no websocket: {error}"),
        }
    }

    /// Connects to a server with a bearer token.
    pub async fn connect_as(url: &str, token: &str) -> Self {
        Self::try_connect(url, "", Some(token)).await.expect("a websocket")
    }

    /// Connects through a TCP stream that the test has opened.
    pub async fn over(stream: TcpStream, url: &str) -> Self {
        Self::over_to(stream, &format!("{url}/v1/live"), None).await
    }

    async fn over_to(stream: TcpStream, url: &str, token: Option<&str>) -> Self {
        Self::try_over(stream, url, token).await.unwrap_or_else(|refused| panic!("no websocket: {refused:?}"))
    }

    /// The underlying websocket, for frames that a correct client doesn't send.
    pub fn raw(&mut self) -> &mut WebSocketStream<SocketStream> {
        &mut self.socket
    }

    /// The next text frame. Panics if the server closes the socket.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(frame) => frame,
            Err(close) => panic!("the server closed the socket: {close:?}"),
        }
    }

    /// The next text frame; if the server closes the socket, its close frame, or `None` without one.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            let message = tokio::time::timeout(TEST_TIMEOUT, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("frames are JSON")),
                Some(Ok(Message::Close(close))) => return Err(close),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next frame of this type. Skips other frames.
    pub async fn next_of_type(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Sends this JSON as a text frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends this text as a text frame.
    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the socket takes a frame");
    }

    /// Closes the socket as a browser does.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}

/// The append that creates a schedule at this time, with the actor `mira`.
pub fn append_of_schedule(id: uuid::Uuid, created: &ScheduleCreated, time: Timestamp) -> Append {
    let meta =
        Meta { actor: "mira".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = ScheduleEvent::ScheduleCreated(Box::new(created.clone())).into();
    let events = vec![NewEvent { id: new_id(), time, meta, event }];
    Append { stream: StreamName::schedule(id), expected: Expected::NoStream, events }
}

/// A template for the tasks of a schedule.
pub fn task_template() -> Template {
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
