//! Helpers for tests with API tokens and sessions.

#![allow(dead_code)] // each module uses its part

use reqwest::Method;
use serde_json::{Value, json};
use taskbell::http::identity::bearer::{BearerKind, BearerText};
use taskbell::store::{Append, EventStore, Expected, LogEvent, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::Timestamp;
use taskbell::task::access::Role;
use taskbell::task::session::{SessionEvent, SessionOpened};

use crate::support::{HttpResponse, Server};

/// A token that a test has created.
#[derive(Clone, Debug)]
pub struct ApiToken {
    pub id: String,
    pub text: String,
}

impl Server {
    /// Creates a token with this body.
    pub async fn create_token(&self, body: &Value) -> ApiToken {
        let answer = self.post("/v1/tokens", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        ApiToken { id: answer.id(), text: answer.body["token"].as_str().expect("the token").to_owned() }
    }

    /// Creates a token of the subject `anna` with this role.
    pub async fn token_of(&self, role: &str) -> ApiToken {
        self.create_token(&json!({"subject": "anna", "role": role})).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: &str) -> HttpResponse {
        self.send(self.client().delete(format!("{}/v1/tokens/{id}", self.url()))).await
    }

    /// Sends a request with this bearer.
    pub async fn send_as(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> HttpResponse {
        let request = self.client().request(method, self.url() + path).bearer_auth(token);
        self.send(if let Some(body) = body { request.json(body) } else { request }).await
    }

    pub async fn get_as(&self, token: &str, path: &str) -> HttpResponse {
        self.send_as(token, Method::GET, path, None).await
    }

    pub async fn post_as(&self, token: &str, path: &str, body: &Value) -> HttpResponse {
        self.send_as(token, Method::POST, path, Some(body)).await
    }

    /// Stops the server, appends this first event of a stream to its log, and starts the server again.
    pub async fn append_while_stopped(&mut self, stream: StreamName, event: LogEvent) {
        assert!(self.stop().success());
        let store = EventStore::open(&self.data()).expect("the log of a stopped server");
        store.append(append(stream, event)).await.expect("an append");
        drop(store);
        self.restart();
    }
}

/// The append of the first event of a stream, by the actor `mira`.
pub fn append(stream: StreamName, event: LogEvent) -> Append {
    let meta =
        Meta { actor: "mira".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None };
    let events = vec![NewEvent { id: new_id(), time: now(), meta, event }];
    Append { stream, expected: Expected::NoStream, events }
}

/// A session of the user `anna` that was opened with this token: its stream, its first event and its text.
pub fn session(token: Option<&str>, expires_at: Timestamp) -> (StreamName, LogEvent, String) {
    let id = new_id();
    let text = BearerText::generate(BearerKind::Session, id).expect("random bits");
    let opened = SessionOpened {
        subject: "anna".into(),
        role: Role::User,
        kinds: None,
        hash: text.hash(),
        token: token.map(|token| token.parse().expect("an id")),
        expires_at,
    };
    (StreamName::session(id), SessionEvent::SessionOpened(opened).into(), text.reveal().to_owned())
}
