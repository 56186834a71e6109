//! Routes of the log: its head, and its events as lines of JSON.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde::Serialize;

use super::AppState;
use super::plumbing::caller::{Caller, Visibility};
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;
use super::plumbing::quota::QuotaPermit;
use super::plumbing::redact::VisibleEvent;
use super::plumbing::response::respond_with_position;
use crate::store::{EventStore, ReadError, Recorded, StreamName, codec};
use crate::task::access::Action;
use crate::task::{Position, Timestamp};

pub(super) mod docs;

/// How many events are read from the log at once.
const BATCH_SIZE: usize = 1000;
/// The events that are read at once have so many bytes, unless one of them has more. So much of the server's memory does a client
/// take that doesn't read its response.
const BATCH_BYTES: usize = 32 * 1024;

#[derive(Serialize)]
struct HeadDoc {
    position: Position,
    hash: String,
    time: Option<Timestamp>,
}

/// `GET /v1/log/head`: the position, hash and time of the last event.
///
/// # Errors
/// 422.
pub async fn head(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller.check(Action::ReadLog)?;
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let head = state.store.head();
    let doc = HeadDoc { position: head.position, hash: head.hash.to_string(), time: head.time };
    respond_with_position(StatusCode::OK, head.position, &doc)
}

/// The events that the client requests.
struct EventSelection {
    event_type: Option<String>,
    stream: Option<StreamName>,
    /// How many more events may be sent.
    remaining: u64,
    visibility: Visibility,
}

impl EventSelection {
    fn matches(&self, recorded: &Recorded) -> bool {
        self.event_type.as_ref().is_none_or(|event_type| *event_type == recorded.event_type)
            && self.stream.as_ref().is_none_or(|stream| *stream == recorded.stream)
    }

    /// Encodes the selected events of the batch as lines of JSON, and counts them.
    fn encode_lines(&mut self, batch: &[Arc<Recorded>]) -> Result<Bytes, ReadError> {
        let mut lines = BytesMut::new();
        for recorded in batch {
            if self.remaining == 0 {
                break;
            }
            if !self.matches(recorded) {
                continue;
            }
            self.remaining -= 1;
            let line = serde_json::to_vec(&VisibleEvent { recorded, visibility: self.visibility })
                .map_err(|error| ReadError::Damaged(error.to_string()))?;
            lines.extend_from_slice(&line);
            lines.extend_from_slice(b"\n");
        }
        Ok(lines.freeze())
    }
}

/// `GET /v1/log`: recorded events, one on each line, up to the head at the time of the request. With `follow` the response
/// continues: new events are sent as they are appended, until the caller's credential ends.
///
/// # Errors
/// 422 if the query is invalid; with `follow` 429 or 503 if too many requests wait. If an error occurs after the first byte of
/// the body, or the credential ends without `follow`, the connection is closed before the last chunk, so the client sees that the
/// body is incomplete.
pub async fn read(state: web::Data<AppState>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let visibility = caller.check(Action::ReadLog)?;
    let mut fields = Fields::from_query(request.query_string())?;
    let after = fields.take_position("after")?.unwrap_or_default();
    let remaining = fields.take_number("limit")?.unwrap_or(u64::MAX);
    let event_type = fields.take("type");
    if event_type.as_ref().is_some_and(|name| !codec::TYPES.iter().any(|(known, _)| known == name)) {
        return Err(Problem::invalid_field("/query/type", "not an event type"));
    }
    let stream = fields.take("stream").map(|name| {
        StreamName::parse(&name).ok_or_else(|| Problem::invalid_field("/query/stream", "not a stream name"))
    });
    let stream = stream.transpose()?;
    let follow = fields.take_flag("follow")?;
    fields.refuse_unknown()?;
    let head = state.store.head().position;
    let selection = EventSelection { event_type, stream, remaining, visibility };
    let mut response = HttpResponse::Ok();
    response.insert_header(("taskbell-position", head.to_string())).content_type("application/x-ndjson");
    if request.method() == Method::HEAD {
        // With the stream as its body, the HTTP library would run the stream for a HEAD request too and keep the connection
        // open. With no body it would say a length of 0.
        return Ok(response.streaming(stream::empty::<BodyChunk>()));
    }
    // A response can go on for long, so it ends with the caller's credential: a response that follows ends in order, because it
    // has no other end. Any other response is incomplete then, and breaks off.
    let (reader, identity) = (state.reader.clone(), caller.identity.clone());
    if follow {
        let permit = state.long_polls.acquire(&caller)?;
        let events = stream_and_follow(&state.store, after, selection, permit);
        let end = async move { identity.wait_for_end(&reader).await };
        return Ok(response.streaming(events.take_until(Box::pin(end))));
    }
    let events = stream_up_to(state.store.clone(), after, head, selection);
    Ok(response.streaming(events.map(move |chunk| {
        let refused = |_| ReadError::Unavailable("the credential of the request has ended".to_owned());
        identity.require_valid(&reader).map_err(refused).and(chunk)
    })))
}

/// Some complete lines of the body.
type BodyChunk = Result<Bytes, ReadError>;

/// Streams the selected events after `after`, up to `head`.
fn stream_up_to(
    store: EventStore,
    after: Position,
    head: Position,
    selection: EventSelection,
) -> impl Stream<Item = BodyChunk> {
    stream::try_unfold((store, after, selection), move |(store, after, mut selection)| async move {
        if after >= head || selection.remaining == 0 {
            return Ok(None);
        }
        let batch_size = usize::try_from(head.0 - after.0).unwrap_or(BATCH_SIZE).min(BATCH_SIZE);
        let batch = store.read_page(after, batch_size, BATCH_BYTES).await?;
        let Some(last) = batch.last().map(|recorded| recorded.position) else { return Ok(None) };
        let lines = selection.encode_lines(&batch)?;
        Ok(Some((lines, (store, last, selection))))
    })
}

/// Streams the selected events after `after`, and then each new one. The permit is held until the client closes the
/// connection.
fn stream_and_follow(
    store: &EventStore,
    after: Position,
    selection: EventSelection,
    permit: QuotaPermit,
) -> impl Stream<Item = BodyChunk> + use<> {
    let subscription = store.subscribe(after).with_page_bytes(BATCH_BYTES);
    stream::try_unfold((subscription, selection, permit), |(mut subscription, mut selection, permit)| async move {
        if selection.remaining == 0 {
            return Ok(None);
        }
        let lines = selection.encode_lines(&subscription.next().await?)?;
        Ok(Some((lines, (subscription, selection, permit))))
    })
}
