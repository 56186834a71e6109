//! The backend that serves Taskbell's own log, read-only.
//!
//! The streams have the same names as in Taskbell. The `data` and `meta` of an event are served byte for byte as they were
//! written, but a reader who may not see inputs, results and outputs gets them as null. The position of an event in the log, from 1, is both its commit position and its prepare position. So position 0
//! is before the first event.

use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use prost::bytes::Bytes;

use super::access::{LogAuthenticator, LogReader};
use super::backend::{AppendSuccess, ClusterMember, StreamDeletion, WireAppend, WireBackend};
use super::event::{WireEvent, WirePosition};
use super::limits::ConnectionLimits;
use super::refusal::Refusal;
use super::server::{ServeError, WireServer};
use crate::store::redact::{redacted_data, redacted_members};
use crate::store::{EventStore, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};
use crate::tls::server::ServerTls;

/// How the log is served.
#[derive(Clone, Default)]
pub struct ServeOptions {
    /// The certificate. Without one the log is served without TLS.
    pub tls: Option<Arc<ServerTls>>,
    /// Finds the reader of each request. `None` if every client may read everything.
    pub authenticator: Option<Arc<dyn LogAuthenticator>>,
    /// The limits on clients.
    pub limits: ConnectionLimits,
}

/// Serves the log on this address until the server is stopped or dropped. Clients can read and subscribe; writes are refused with
/// `access-denied`. Port 0 means any free port, which [`WireServer::addr`] returns. The log stays open while it is served.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(store: EventStore, addr: SocketAddr, options: ServeOptions) -> Result<WireServer, ServeError> {
    let ServeOptions { tls, authenticator, limits } = options;
    if !addr.ip().is_loopback() && (tls.is_none() || authenticator.is_none()) {
        return Err(ServeError::NotLoopback(addr));
    }
    let backend = move |addr| LogBackend { store, addr, authenticator, reader: None };
    let started = WireServer::start(addr, tls, Some(limits), backend).await;
    started.map_err(|source| ServeError::Io { addr, source })
}

/// The log as one reader may see it.
struct LogBackend {
    store: EventStore,
    addr: SocketAddr,
    /// Finds the reader of each request. `None` if every client may read everything.
    authenticator: Option<Arc<dyn LogAuthenticator>>,
    /// The reader of this request. `None` before it is known, and if every client may read everything.
    reader: Option<Arc<dyn LogReader>>,
}

impl LogBackend {
    /// The events as the reader may see them.
    fn wire_events<'a>(&self, events: impl Iterator<Item = &'a Arc<Recorded>>) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        let is_redacted = self.reader.as_ref().is_some_and(|reader| !reader.sees_everything());
        events.map(|event| wire_event(event, is_redacted).map(Arc::new)).collect()
    }

    /// The events of a stream from a revision on (inclusive). Refuses a stream that has no event at all.
    async fn stream(&self, name: &str, from: u64) -> Result<Vec<Arc<Recorded>>, Refusal> {
        let missing = || Refusal::NoStream(name.to_owned());
        let stream = StreamName::parse(name).ok_or_else(missing)?;
        let events = self.store.read_stream(&stream, Revision(from)).await.map_err(|error| refusal(&error))?;
        if events.is_empty() && from > 0 {
            // The stream may have events before the revision.
            let first = self.store.read_stream(&stream, Revision(0)).await.map_err(|error| refusal(&error))?;
            return if first.is_empty() { Err(missing()) } else { Ok(events) };
        }
        if events.is_empty() { Err(missing()) } else { Ok(events) }
    }
}

#[async_trait]
impl WireBackend for LogBackend {
    async fn check_request(&self, _requires_leader: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn needs_password(&self) -> bool {
        self.authenticator.is_some()
    }

    fn for_reader(self: Arc<Self>, password: Option<&str>, client: Option<IpAddr>) -> Result<Arc<Self>, Refusal> {
        let Some(authenticator) = self.authenticator.clone() else { return Ok(self) };
        let reader = authenticator.authenticate(password, client)?;
        let (store, addr) = (self.store.clone(), self.addr);
        Ok(Arc::new(Self { store, addr, authenticator: Some(authenticator), reader: Some(reader) }))
    }

    async fn wait_for_revocation(&self) -> Refusal {
        match &self.reader {
            Some(reader) => reader.wait_for_end().await,
            None => std::future::pending().await,
        }
        Refusal::Unauthenticated
    }

    fn members(&self) -> Vec<ClusterMember> {
        vec![ClusterMember { id: self.store.epoch(), addr: self.addr, is_leader: true }]
    }

    fn is_writable(&self) -> bool {
        false
    }

    fn end(&self) -> Option<WirePosition> {
        let head = self.store.head().position.0;
        (head > 0).then(|| WirePosition::single(head))
    }

    async fn wait_for_event_after(&self, end: Option<WirePosition>) -> Result<(), Refusal> {
        let end = end.map_or(0, |end| end.commit);
        let grown = self.store.head_changes().wait_for(|head| head.0 > end).await.map(drop);
        grown.map_err(|_| Refusal::Unavailable("the log is closed".to_owned()))
    }

    async fn all_forwards(&self, from: Bound<WirePosition>, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        let after = Position(last_before(from));
        let events = self.store.read_all(after, limit).await.map_err(|error| refusal(&error))?;
        self.wire_events(events.iter())
    }

    async fn all_backwards(&self, before: WirePosition, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        let last = last_before(Bound::Included(before)).min(self.store.head().position.0);
        let limit = usize::try_from(last).unwrap_or(usize::MAX).min(limit);
        let after = Position(last - limit as u64);
        let events = self.store.read_all(after, limit).await.map_err(|error| refusal(&error))?;
        self.wire_events(events.iter().rev())
    }

    async fn stream_forwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        let events = self.stream(stream, from).await?;
        self.wire_events(events.iter().take(limit))
    }

    async fn stream_backwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        let events = self.stream(stream, 0).await?;
        let wanted = events.iter().rev().filter(|event| event.revision.0 <= from);
        self.wire_events(wanted.take(limit))
    }

    async fn append(&self, _append: WireAppend) -> Result<AppendSuccess, Refusal> {
        Err(Refusal::AccessDenied)
    }

    async fn delete(&self, _delete: StreamDeletion) -> Result<WirePosition, Refusal> {
        Err(Refusal::AccessDenied)
    }
}

/// The position in the log after which a read forwards from this bound begins.
fn last_before(bound: Bound<WirePosition>) -> u64 {
    match bound {
        Bound::Unbounded => 0,
        // Each event of the log has equal commit and prepare positions. So the bound includes the event at its commit
        // position if its prepare position is not greater (inclusive bound) or is smaller (exclusive bound).
        Bound::Included(position) if position.prepare <= position.commit => position.commit.saturating_sub(1),
        Bound::Excluded(position) if position.prepare < position.commit => position.commit.saturating_sub(1),
        Bound::Included(position) | Bound::Excluded(position) => position.commit,
    }
}

fn wire_event(event: &Recorded, is_redacted: bool) -> Result<WireEvent, Refusal> {
    let damaged = |error: serde_json::Error| Refusal::DataLoss(error.to_string());
    let redacted = if is_redacted { redacted_data(event).map_err(damaged)? } else { None };
    let data = redacted.as_ref().map_or(event.raw_data.get(), |redacted| redacted.get());
    let meta = event.raw_meta.get();
    // The names of the values that are null stand beside the data, so they are in the metadata.
    let meta = match (&redacted, meta.strip_suffix('}')) {
        (Some(_), Some(members)) => {
            let pointers = serde_json::to_string(&redacted_members(&event.event)).map_err(damaged)?;
            format!("{members},\"redacted\":{pointers}}}")
        }
        _ => meta.to_owned(),
    };
    Ok(WireEvent {
        id: event.id,
        stream: event.stream.as_str().into(),
        revision: event.revision.0,
        position: WirePosition::single(event.position.0),
        event_type: event.event_type.into(),
        content_type: "application/json".into(),
        created: u64::try_from(event.time.as_micros().saturating_mul(10)).unwrap_or(0),
        custom_metadata: meta.into(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    })
}

fn refusal(error: &ReadError) -> Refusal {
    match error {
        ReadError::Unavailable(_) => Refusal::Unavailable(error.to_string()),
        ReadError::Damaged(_) | ReadError::Unknown { .. } => Refusal::DataLoss(error.to_string()),
    }
}
