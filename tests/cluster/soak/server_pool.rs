//! Sends requests to random servers, some of which may be unavailable.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::Value;

/// A request without a response fails after this time.
const TIMEOUT: Duration = Duration::from_secs(12);
/// The pause before a request is repeated. No signal tells a client when a server is available again.
const PAUSE: Duration = Duration::from_millis(50);

/// The servers of a run.
#[derive(Clone)]
pub struct ServerPool {
    urls: [String; 3],
    client: reqwest::Client,
}

/// A response other than 408 and 503.
pub struct ServerResponse {
    pub status: u16,
    /// The header `Taskbell-Position`; 0 if it is missing.
    pub position: u64,
    pub body: Value,
}

/// A request, which can be sent several times.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub idempotency_key: Option<&'a str>,
}

impl ServerPool {
    pub fn new(urls: [String; 3]) -> Self {
        Self { urls, client: reqwest::Client::builder().timeout(TIMEOUT).build().unwrap() }
    }

    /// Sends the request once to a random server. Returns `None` if there is no response, or if the status is 408 or 503.
    pub async fn send_once(&self, random: &mut StdRng, request: Request<'_>) -> Option<ServerResponse> {
        let url = format!("{}{}", self.urls[random.random_range(0..self.urls.len())], request.path);
        let mut sent = self.client.request(request.method.clone(), url);
        if let Some(body) = request.body {
            sent = sent.json(body);
        }
        if let Some(key) = request.idempotency_key {
            sent = sent.header("Idempotency-Key", key);
        }
        let answer = sent.send().await.ok()?;
        let status = answer.status().as_u16();
        let position = answer.headers().get("taskbell-position").and_then(|value| value.to_str().ok()?.parse().ok());
        // A server responds 408 if it was suspended while it received the request.
        let text = answer.text().await.ok().filter(|_| !matches!(status, 408 | 503))?;
        Some(ServerResponse {
            status,
            position: position.unwrap_or(0),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }

    /// Sends a `POST` once to a random server.
    pub async fn post_once(&self, random: &mut StdRng, path: &str, body: &Value) -> Option<ServerResponse> {
        self.send_once(random, Request { method: &Method::POST, path, body: Some(body), idempotency_key: None }).await
    }

    /// Repeats the request at random servers until one takes it.
    pub async fn send(&self, random: &mut StdRng, request: Request<'_>) -> ServerResponse {
        loop {
            if let Some(response) = self.send_once(random, request).await {
                return response;
            }
            pause().await;
        }
    }
}

pub async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
