//! A fake server of the lease protocol. The test chooses each response, also those that a real server sends rarely.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const TAKE: &str = "/v1/leases";
pub const HEARTBEAT: &str = "/v1/leases/heartbeat";
pub const FINISH: &str = "/v1/leases/finish";

/// What the fake server does with a request.
pub enum Reply {
    Json(u16, Value),
    /// It keeps the connection open and sends no response.
    Silence,
}

/// A fake server. It closes all connections when it is dropped.
pub struct FakeServer {
    pub url: String,
    serving: JoinHandle<()>,
}

impl FakeServer {
    /// Starts a server. For each request it calls `reply` with the path and the body, and does what `reply` returns.
    pub async fn start(reply: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let reply: Arc<ReplyFunction> = Arc::new(reply);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, Arc::clone(&reply)));
            }
        });
        Self { url, serving }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type ReplyFunction = dyn Fn(&str, &Value) -> Reply + Send + Sync;

async fn serve(connection: TcpStream, reply: Arc<ReplyFunction>) {
    let mut connection = BufReader::new(connection);
    while let Some((path, body)) = read_request(&mut connection).await {
        let Reply::Json(status, answer) = reply(&path, &body) else { return std::future::pending().await };
        let (answer, date) = (answer.to_string(), late_date());
        let head = format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        if connection.write_all((head + &answer).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads the path and the body of a request; `None` at the end of the connection.
async fn read_request(connection: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut first, mut length) = (String::new(), 0);
    connection.read_line(&mut first).await.ok()?;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    Some((first.split(' ').nth(1)?.to_owned(), serde_json::from_slice(&body).ok()?))
}

/// The time two seconds ago. The `Date` of a real server is also late, because it has no fractions of a second and is not
/// updated for each response.
fn late_date() -> String {
    let late = jiff::Timestamp::now() - Duration::from_secs(2);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&late).unwrap()
}

/// A response to a take with one lease of the kind `demo` for each input. The leases expire after `left`.
pub fn leases_response(inputs: &[&str], left: Duration) -> Value {
    let lease = |input: &&str| {
        let id = uuid::Uuid::now_v7();
        json!({
            "lease": format!("{id}.1.{input}"), "task_id": id, "kind": "demo", "input": input, "attempt": 1,
            "deadline": until(left), "left_ms": millis(left), "title": "t", "owner": "ada", "labels": {},
        })
    };
    json!({"leases": inputs.iter().map(lease).collect::<Vec<_>>(), "position": 1})
}

/// A response to a heartbeat without directives. The leases expire after `left`.
pub fn heartbeat_response(left: Duration) -> Value {
    json!({"directives": [], "deadline": until(left), "left_ms": millis(left)})
}

fn until(left: Duration) -> String {
    (jiff::Timestamp::now() + left).to_string()
}

fn millis(left: Duration) -> u64 {
    left.as_millis().try_into().unwrap()
}

/// A problem response with this status and code.
pub fn problem(status: u16, code: &str, retryable: bool) -> Value {
    json!({"status": status, "code": code, "detail": format!("it is {code}"), "retryable": retryable})
}
