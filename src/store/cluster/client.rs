//! The client that sends appends and reads: replaced by a new one as soon as it may be of no more use.
//!
//! [`Connection::call`] sends one request through the client of the present session. An answer that means that the client,
//! its node or the leader is lost ends the session, and with it all requests that are under way: their outcome is unknown,
//! and their callers decide what to do about it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eventstore::{Client, Error};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::supervise::panic_text;
use crate::store::now;
use crate::task::Timestamp;

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was not executed: there is no client, or the node is not the leader.
    NotSent(String),
    /// It may have been executed.
    NoAnswer(String),
    /// The database's answer is an error, and the client is well.
    Refused(Box<Error>),
}

/// The client of the present session.
pub(super) struct Connection {
    link: watch::Sender<Option<Link>>,
    outage: Mutex<Option<Outage>>,
    sessions: AtomicU64,
    has_answered: AtomicBool,
}

#[derive(Clone)]
pub(super) struct Link {
    session: u64,
    runtime: Handle,
    client: Client,
}

struct Outage {
    since: Timestamp,
    why: String,
}

impl Connection {
    pub(super) fn new() -> Self {
        let outage = Outage { since: now(), why: "the first connection is being made".to_owned() };
        Self {
            link: watch::Sender::new(None),
            outage: Mutex::new(Some(outage)),
            sessions: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
        }
    }

    /// Sends one request. It waits for a client until `until`, and then for the answer at most `patience`.
    ///
    /// Where the caller drops the future, a request that was sent is executed all the same.
    pub(super) async fn call<T, F>(
        &self,
        until: Instant,
        patience: Duration,
        request: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let link = self.link(until).await.map_err(CallError::NotSent)?;
        let Link { session, runtime, client } = link;
        let running = runtime.spawn(async move { tokio::time::timeout(patience, request(client)).await });
        let answer = match running.await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(error))) => Err(judge(error)),
            Ok(Err(_)) => Err((true, CallError::NoAnswer(format!("no answer in {} s", patience.as_secs())))),
            Err(error) => Err((true, CallError::NoAnswer(task_failure(error)))),
        };
        match answer {
            Ok(answer) => {
                self.has_answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err((is_lost, error)) => {
                if is_lost {
                    self.lost(session, &error);
                }
                Err(error)
            }
        }
    }

    async fn link(&self, until: Instant) -> Result<Link, String> {
        let mut link = self.link.subscribe();
        let connected = tokio::time::timeout_at(until, link.wait_for(Option::is_some)).await;
        match connected {
            Ok(Ok(link)) => link.clone().ok_or_else(|| "no client".to_owned()),
            Ok(Err(_)) | Err(_) => Err(self.health().err().unwrap_or_else(|| "the store can't be reached".to_owned())),
        }
    }

    /// Ends the present session, if there is one.
    ///
    /// The client connects anew by itself where its connection was cut, perhaps to another database at the same address. So
    /// it is given up as soon as anything shows that the node may have gone: the next client is checked before it is used.
    pub(super) fn give_up(&self, why: &str) {
        self.link.send_if_modified(|link| {
            let is_connected = link.take().is_some();
            if is_connected {
                self.down(why.to_owned());
            }
            is_connected
        });
    }

    /// Ends the session, unless it was replaced already.
    fn lost(&self, session: u64, why: &CallError) {
        self.link.send_if_modified(|link| {
            let is_present = link.as_ref().is_some_and(|link| link.session == session);
            if is_present {
                self.down(why.to_string());
                *link = None;
            }
            is_present
        });
    }

    /// The beginning of an outage stays until a client is connected; its reason is the latest.
    fn down(&self, why: String) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let since = outage.as_ref().map_or_else(now, |outage| outage.since);
        *outage = Some(Outage { since, why });
    }

    /// Offers this client, which belongs to the present runtime; returns the number of its session.
    fn up(&self, client: Client) -> u64 {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.link.send_replace(Some(Link { session, runtime: Handle::current(), client }));
        session
    }

    /// Offers the client until it is lost; why it was.
    pub(super) async fn offer(&self, client: Client) -> String {
        let session = self.up(client);
        let mut link = self.link.subscribe();
        let is_replaced = |link: &Option<Link>| link.as_ref().is_none_or(|link| link.session != session);
        // The sender lives as long as this.
        let _ = link.wait_for(is_replaced).await;
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.as_ref().map_or_else(String::new, |outage| outage.why.clone())
    }

    /// There is no client now.
    pub(super) fn ended(&self, why: String) {
        self.link.send_replace(None);
        self.down(why);
    }

    /// Whether a request was answered since the last call of this.
    pub(super) fn take_has_answered(&self) -> bool {
        self.has_answered.swap(false, Ordering::Relaxed)
    }

    /// Changes when a client is connected or lost.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    /// Whether there is a client.
    ///
    /// # Errors
    /// Since when there is none, and why.
    pub(super) fn health(&self) -> Result<(), String> {
        match &*self.outage.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Outage { since, why }) => Err(format!("the store can't be reached since {since}: {why}")),
        }
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) | Self::NoAnswer(why) => f.write_str(why),
            Self::Refused(error) => f.write_str(&describe(error)),
        }
    }
}

/// Whether the answer means that the client is lost, and what it means for the request.
fn judge(error: Error) -> (bool, CallError) {
    use eventstore::Error as E;
    let text = describe(&error);
    match error {
        // The request needs a connection first, and these are the errors of making one.
        E::ConnectionClosed | E::GrpcConnectionError(_) => (true, CallError::NotSent(text)),
        E::NotLeaderException(leader) => {
            (true, CallError::NotSent(format!("the leader is now {}:{}", leader.host, leader.port)))
        }
        E::ServerError(_) => (true, CallError::NoAnswer(text)),
        // The node was too slow, for example because it has no quorum.
        E::DeadlineExceeded | E::InternalClientError | E::IllegalStateError(_) => (false, CallError::NoAnswer(text)),
        E::Grpc { code, .. } if is_of_the_connection(code as i32) => (true, CallError::NoAnswer(text)),
        error => (false, CallError::Refused(Box::new(error))),
    }
}

/// The error for people. Where a status comes from the server the client prints all its fields; only its message says
/// something.
pub(super) fn describe(error: &Error) -> String {
    let text = error.to_string();
    let message = text.split_once("message: \"").and_then(|(_, rest)| rest.split_once("\", details"));
    message.map(|(message, _)| message.to_owned()).filter(|message| !message.is_empty()).unwrap_or(text)
}

/// gRPC's CANCELLED and ABORTED.
fn is_of_the_connection(code: i32) -> bool {
    matches!(code, 1 | 10)
}

fn task_failure(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_text(&*panic),
        Err(_) => "the connection was given up while the request was under way".to_owned(),
    }
}
