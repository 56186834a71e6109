//! Sessions, their cookies and the tickets for websockets, on servers that require authentication. The servers run in this
//! process, and their logs hold tokens from the beginning.

mod cookies;
mod ended;
mod open;
mod proxied;
mod tickets;

use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use taskbell::http::identity::bearer::{BearerKind, BearerText};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::Timestamp;
use taskbell::task::access::Role;
use taskbell::task::token::{TokenCreated, TokenEvent};
use taskbell::{Options, Taskbell};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{HttpResponse, TEST_TIMEOUT};

/// An origin whose pages may use the servers of these tests.
const APP: &str = "https://app.example";
/// The header with which a browser marks the requests of a server's own pages.
const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");

/// A server in this process.
struct Site {
    taskbell: Taskbell,
    server: ServerHandle,
    url: String,
    client: reqwest::Client,
    _dir: TempDir,
}

/// A token that the log holds from the beginning.
struct Known {
    subject: &'static str,
    role: Role,
    expires_at: Option<Timestamp>,
}

impl Known {
    const fn of(subject: &'static str, role: Role) -> Self {
        Self { subject, role, expires_at: None }
    }
}

/// A server that requires authentication, and the texts of these tokens.
async fn site<const N: usize>(tokens: [Known; N]) -> (Site, [String; N]) {
    let dir = tempfile::tempdir().unwrap();
    let store = EventStore::open(dir.path()).unwrap();
    let mut texts = Vec::new();
    for Known { subject, role, expires_at } in tokens {
        let id = new_id();
        let text = BearerText::generate(BearerKind::Token, id).unwrap();
        let created = TokenCreated { subject: subject.into(), role, kinds: None, hash: text.hash(), expires_at };
        let meta =
            Meta { actor: "root".into(), via: Via::Cli, correlation_id: id, causation_id: None, request_id: None };
        let event = TokenEvent::TokenCreated(created).into();
        let events = vec![NewEvent { id: new_id(), time: now(), meta, event }];
        store.append(Append { stream: StreamName::token(id), expected: Expected::NoStream, events }).await.unwrap();
        texts.push(text.reveal().to_owned());
    }
    drop(store);
    (Site::start(dir, true).await, texts.try_into().unwrap())
}

impl Site {
    async fn start(dir: TempDir, auth_required: bool) -> Self {
        let options = Options {
            data: Some(dir.path().to_owned()),
            auth_required,
            allowed_origins: vec![APP.parse().unwrap()],
            ..Options::default()
        };
        let taskbell = Taskbell::start(options).await.unwrap();
        let routes = taskbell.routes();
        let server = HttpServer::new(move || App::new().configure(routes.clone())).workers(1).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self { taskbell, server: handle, url, client: reqwest::Client::new(), _dir: dir }
    }

    /// Ends the server.
    async fn stop(self) {
        drop(self.client);
        self.server.stop(false).await;
        self.taskbell.stop().await;
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
        response(self.request(method, path, headers)).await
    }

    async fn send_json(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> HttpResponse {
        response(self.request(Method::POST, path, headers).json(body)).await
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Opens a session with this token, and returns the value of the header `Cookie` for it.
    async fn sign_in(&self, token: &str) -> String {
        let opened = self.send(Method::POST, "/v1/session", &[("authorization", &bearer(token))]).await;
        assert_eq!(opened.status, 201, "{}", opened.text);
        opened.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    /// The events of all sessions, in the order of the log.
    async fn session_events(&self, admin: &str) -> Vec<Value> {
        let log = self.send(Method::GET, "/v1/log", &[("authorization", &bearer(admin))]).await;
        assert_eq!(log.status, 200, "{}", log.text);
        let events = log.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["type"].as_str().is_some_and(|name| name.starts_with("Session"))).collect()
    }

    /// The subject of the request, as the server sees it; the code of the refusal if it is refused.
    async fn whoami(&self, headers: &[(&str, &str)]) -> String {
        let answer = self.send(Method::GET, "/v1/session", headers).await;
        let name = if answer.status == 200 { &answer.body["subject"] } else { &answer.body["code"] };
        name.as_str().unwrap().to_owned()
    }

    /// Opens a websocket; its first frame, or the code of the refusal.
    async fn socket(&self, query: &str, headers: &[(&'static str, &str)]) -> Result<Value, String> {
        use futures_util::StreamExt as _;
        let url = format!("{}/v1/live{query}", self.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let connected = tokio::time::timeout(TEST_TIMEOUT, tokio_tungstenite::connect_async(request)).await.unwrap();
        match connected {
            Ok((mut socket, _)) => match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => Ok(serde_json::from_str(&text).unwrap()),
                other => panic!("{other:?}"),
            },
            Err(Error::Http(refused)) => Err(refused.status().as_u16().to_string()),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn response(request: RequestBuilder) -> HttpResponse {
    let response = tokio::time::timeout(TEST_TIMEOUT, request.send()).await.expect("a response in time").unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    HttpResponse { status, headers, text, body }
}

fn bearer(text: &str) -> String {
    format!("Bearer {text}")
}

/// The time that a response shows.
fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_default().parse().unwrap()
}

/// Asserts that this time is at most `longest` after the present, and not much earlier than that.
#[track_caller]
fn assert_expires_in(expires_at: &Value, longest: Duration) {
    let (expires_at, now) = (time(expires_at), now());
    assert!(expires_at <= now.plus(longest), "{expires_at} is later than {longest:?} from {now}");
    assert!(expires_at.plus(TEST_TIMEOUT) > now.plus(longest), "{expires_at} is earlier than {longest:?} from {now}");
}

/// The body of a request for a session of a user.
fn for_user(subject: &str) -> Value {
    json!({"subject": subject})
}
