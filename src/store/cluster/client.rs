//! The client that sends appends and reads. A new client replaces it as soon as the connection may be lost.
//!
//! [`CurrentClient::call`] sends one request through the client of the current session. If the response means that the
//! client, its node or the leader is lost, the session ends. Then all requests of this session that wait for a response fail
//! with [`CallError::NoResponse`]: it is unknown whether they were executed, and their callers decide whether to send them
//! again.

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
    /// The request was not executed: there is no client, or the node is not the leader.
    NotSent(String),
    /// The request may have been executed.
    NoResponse(String),
    /// The database has responded with an error. The client can still be used.
    Refused(Box<Error>),
}

/// The client of the current session, and the outage if there is no client.
pub(super) struct CurrentClient {
    session_client: watch::Sender<Option<SessionClient>>,
    outage: Mutex<Option<Outage>>,
    /// The number of sessions that have begun.
    sessions: AtomicU64,
    /// Whether a response has come since the last call of [`CurrentClient::reset_answered`].
    answered_since_last_check: AtomicBool,
}

/// A connected client, with the number and the runtime of its session.
#[derive(Clone)]
pub(super) struct SessionClient {
    session: u64,
    runtime: Handle,
    client: Client,
}

/// A time without a client: its beginning and the latest reason.
struct Outage {
    since: Timestamp,
    why: String,
}

impl CurrentClient {
    pub(super) fn new() -> Self {
        let outage = Outage { since: now(), why: "not connected yet".to_owned() };
        Self {
            session_client: watch::Sender::new(None),
            outage: Mutex::new(Some(outage)),
            sessions: AtomicU64::new(0),
            answered_since_last_check: AtomicBool::new(false),
        }
    }

    /// Sends one request. Waits for a client until `until`, and then at most `timeout` for the response.
    ///
    /// If the caller drops the future after the request was sent, the request is executed nevertheless.
    pub(super) async fn call<T, F>(
        &self,
        until: Instant,
        timeout: Duration,
        request: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
    {
        let current = self.wait_for_client(until).await.map_err(CallError::NotSent)?;
        let SessionClient { session, runtime, client } = current;
        let running = runtime.spawn(async move { tokio::time::timeout(timeout, request(client)).await });
        let result = match running.await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(error))) => Err(classify_error(error)),
            Ok(Err(_)) => Err(FailedCall::lost_client(CallError::NoResponse(format!(
                "no response within {} s",
                timeout.as_secs()
            )))),
            Err(error) => Err(FailedCall::lost_client(CallError::NoResponse(task_error_text(error)))),
        };
        match result {
            Ok(response) => {
                self.answered_since_last_check.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Err(FailedCall { is_client_lost, error }) => {
                if is_client_lost {
                    self.end_session_if_current(session, &error);
                }
                Err(error)
            }
        }
    }

    /// Waits for a client until `until`.
    ///
    /// # Errors
    /// Why there is no client.
    async fn wait_for_client(&self, until: Instant) -> Result<SessionClient, String> {
        let mut current = self.session_client.subscribe();
        let connected = tokio::time::timeout_at(until, current.wait_for(Option::is_some)).await;
        match connected {
            Ok(Ok(current)) => current.clone().ok_or_else(|| "no client".to_owned()),
            Ok(Err(_)) | Err(_) => Err(self.health().err().unwrap_or_else(|| "the store can't be reached".to_owned())),
        }
    }

    /// Drops the client, if there is one. This ends the current session.
    ///
    /// If the connection of a client is cut, the client reconnects without notice, perhaps to another database at the same
    /// address. So the client is dropped as soon as its node may be lost. The next client is checked before it is used.
    pub(super) fn drop_client(&self, why: &str) {
        self.session_client.send_if_modified(|current| {
            let is_connected = current.take().is_some();
            if is_connected {
                self.record_outage(why.to_owned());
            }
            is_connected
        });
    }

    /// Ends the session of this number. Does nothing if another session has replaced it.
    fn end_session_if_current(&self, session: u64, why: &CallError) {
        self.session_client.send_if_modified(|current| {
            let is_present = current.as_ref().is_some_and(|current| current.session == session);
            if is_present {
                self.record_outage(why.to_string());
                *current = None;
            }
            is_present
        });
    }

    /// Records the reason of an outage. The beginning of the outage stays the same until a client is connected.
    fn record_outage(&self, why: String) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let since = outage.as_ref().map_or_else(now, |outage| outage.since);
        *outage = Some(Outage { since, why });
    }

    /// Makes this client, which belongs to the current runtime, the current client. Returns the number of its session.
    fn begin_session(&self, client: Client) -> u64 {
        let session = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.session_client.send_replace(Some(SessionClient { session, runtime: Handle::current(), client }));
        session
    }

    /// Makes this client the current client and waits until it is lost. Returns the reason.
    pub(super) async fn provide_until_lost(&self, client: Client) -> String {
        let session = self.begin_session(client);
        let mut current = self.session_client.subscribe();
        let is_replaced =
            |current: &Option<SessionClient>| current.as_ref().is_none_or(|current| current.session != session);
        // There is no error, because `self` holds the sender.
        let _ = current.wait_for(is_replaced).await;
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.as_ref().map_or_else(String::new, |outage| outage.why.clone())
    }

    /// Called when the session has ended. Removes the client, if there is one, and records the reason.
    pub(super) fn record_session_end(&self, why: String) {
        self.session_client.send_replace(None);
        self.record_outage(why);
    }

    /// Whether a response has come since the last call of this method. Resets this to false.
    pub(super) fn reset_answered(&self) -> bool {
        self.answered_since_last_check.swap(false, Ordering::Relaxed)
    }

    /// A channel that notifies its receiver when a client is connected or lost.
    pub(super) fn client_changes(&self) -> watch::Receiver<Option<SessionClient>> {
        self.session_client.subscribe()
    }

    /// Whether there is a client.
    ///
    /// # Errors
    /// Since when there is no client, and why.
    pub(super) fn health(&self) -> Result<(), String> {
        match &*self.outage.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(Outage { since, why }) => Err(format!("the store has been unreachable since {since}: {why}")),
        }
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotSent(why) | Self::NoResponse(why) => f.write_str(why),
            Self::Refused(error) => f.write_str(&error_message(error)),
        }
    }
}

/// A request without a result.
struct FailedCall {
    /// Whether the error means that the client is lost.
    is_client_lost: bool,
    /// What the error means for the request.
    error: CallError,
}

impl FailedCall {
    const fn lost_client(error: CallError) -> Self {
        Self { is_client_lost: true, error }
    }

    const fn usable_client(error: CallError) -> Self {
        Self { is_client_lost: false, error }
    }
}

fn classify_error(error: Error) -> FailedCall {
    use eventstore::Error as E;
    let text = error_message(&error);
    match error {
        // The client could not connect, so the request was not sent.
        E::ConnectionClosed | E::GrpcConnectionError(_) => FailedCall::lost_client(CallError::NotSent(text)),
        E::NotLeaderException(leader) => {
            FailedCall::lost_client(CallError::NotSent(format!("the leader is now {}:{}", leader.host, leader.port)))
        }
        E::ServerError(_) => FailedCall::lost_client(CallError::NoResponse(text)),
        // These errors say nothing about the connection. For example, a deadline passes if the cluster has no quorum.
        E::DeadlineExceeded | E::InternalClientError | E::IllegalStateError(_) => {
            FailedCall::usable_client(CallError::NoResponse(text))
        }
        E::Grpc { code, .. } if is_connection_status(code as i32) => {
            FailedCall::lost_client(CallError::NoResponse(text))
        }
        error => FailedCall::usable_client(CallError::Refused(Box::new(error))),
    }
}

/// The text of the error for people. The client prints a gRPC status of the server with all its fields; this function
/// returns only the message of such a status.
pub(super) fn error_message(error: &Error) -> String {
    let text = error.to_string();
    let message = text.split_once("message: \"").and_then(|(_, rest)| rest.split_once("\", details"));
    message.map(|(message, _)| message.to_owned()).filter(|message| !message.is_empty()).unwrap_or(text)
}

/// Whether the gRPC code means that the connection is lost: CANCELLED or ABORTED.
fn is_connection_status(code: i32) -> bool {
    matches!(code, 1 | 10)
}

fn task_error_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_text(&*panic),
        Err(_) => "the connection was closed before the response came".to_owned(),
    }
}
