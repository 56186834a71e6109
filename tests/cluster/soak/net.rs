//! Requests to random servers, any of which may be away.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::Value;

/// A client gives a request up after this time.
const TIMEOUT: Duration = Duration::from_secs(12);
/// The wait before a request is repeated, so that a server that is away costs no CPU. Nothing signals its return.
const PAUSE: Duration = Duration::from_millis(50);

/// The servers of a run.
#[derive(Clone)]
pub struct Net {
    urls: [String; 3],
    client: reqwest::Client,
}

/// An answer that is not a refusal for now.
pub struct Reply {
    pub status: u16,
    /// `Taskbell-Position`; 0 where there is none.
    pub position: u64,
    pub body: Value,
}

/// A request; clones are equal.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub body: Option<&'a Value>,
    pub idempotency_key: Option<&'a str>,
}

impl Net {
    pub fn new(urls: [String; 3]) -> Self {
        Self { urls, client: reqwest::Client::builder().timeout(TIMEOUT).build().unwrap() }
    }

    /// Sends it once to a random server. None: the outcome is unknown, or the server refuses it for now.
    pub async fn once(&self, random: &mut StdRng, request: Request<'_>) -> Option<Reply> {
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
        // 408: a server that was suspended while it received the request.
        let text = answer.text().await.ok().filter(|_| !matches!(status, 408 | 503))?;
        Some(Reply {
            status,
            position: position.unwrap_or(0),
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }

    /// Sends a `POST` once to a random server.
    pub async fn post_once(&self, random: &mut StdRng, path: &str, body: &Value) -> Option<Reply> {
        self.once(random, Request { method: &Method::POST, path, body: Some(body), idempotency_key: None }).await
    }

    /// Repeats the request at random servers until one takes it.
    pub async fn send(&self, random: &mut StdRng, request: Request<'_>) -> Reply {
        loop {
            if let Some(reply) = self.once(random, request).await {
                return reply;
            }
            pause().await;
        }
    }
}

pub async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
