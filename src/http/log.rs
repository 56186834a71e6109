//! The log itself: its head, and its events as lines of JSON.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::{self, Stream};
use serde::Serialize;

use super::AppState;
use super::plumbing::answer::answer_at;
use super::plumbing::error::Problem;
use super::plumbing::query::Fields;
use crate::store::{EventStore, ReadError, Recorded, StreamName, codec};
use crate::task::{Position, Timestamp};

/// Events are read in batches of this many.
const BATCH: usize = 1000;

#[derive(Serialize)]
struct HeadDoc {
    position: Position,
    hash: String,
    time: Option<Timestamp>,
}

/// `GET /v1/log/head`.
///
/// # Errors
/// 422.
pub async fn head(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let head = state.store.head();
    let doc = HeadDoc { position: head.position, hash: head.hash.to_string(), time: head.time };
    answer_at(StatusCode::OK, head.position, &doc)
}

/// Which events the client wants.
struct Selection {
    kind: Option<String>,
    stream: Option<StreamName>,
    /// At most this many more events are sent.
    left: u64,
}

impl Selection {
    fn matches(&self, recorded: &Recorded) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == recorded.kind)
            && self.stream.as_ref().is_none_or(|stream| *stream == recorded.stream)
    }

    /// The lines of the batch that are selection.
    fn lines(&mut self, batch: &[Arc<Recorded>]) -> Result<Bytes, ReadError> {
        let mut lines = BytesMut::new();
        for recorded in batch {
            if self.left == 0 {
                break;
            }
            if !self.matches(recorded) {
                continue;
            }
            self.left -= 1;
            let line = serde_json::to_vec(&**recorded).map_err(|error| ReadError::Damaged(error.to_string()))?;
            lines.extend_from_slice(&line);
            lines.extend_from_slice(b"\n");
        }
        Ok(lines.freeze())
    }
}

/// `GET /v1/log`: recorded events, a line each, up to the head at the time of the request. With `follow` the answer doesn't
/// end: new events are sent as they are appended.
///
/// # Errors
/// 422. An error after the first byte ends the connection without the last chunk.
pub async fn read(state: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::of_query(request.query_string())?;
    let after = fields.position("after")?.unwrap_or_default();
    let left = fields.number("limit")?.unwrap_or(u64::MAX);
    let kind = fields.take("type");
    if kind.as_ref().is_some_and(|kind| !codec::TYPES.iter().any(|(known, _)| known == kind)) {
        return Err(Problem::invalid_field("/query/type", "no type of event"));
    }
    let stream = fields.take("stream").map(|name| {
        StreamName::parse(&name).ok_or_else(|| Problem::invalid_field("/query/stream", "no name of a stream"))
    });
    let stream = stream.transpose()?;
    let follow = fields.flag("follow")?;
    fields.refuse_rest()?;
    let head = state.store.head().position;
    let selection = Selection { kind, stream, left };
    let mut response = HttpResponse::Ok();
    response.insert_header(("taskbell-position", head.to_string())).content_type("application/x-ndjson");
    if request.method() == Method::HEAD {
        // A stream that never ends, sent as the body of HEAD, would keep the connection open for ever.
        return Ok(response.finish());
    }
    if follow {
        return Ok(response.streaming(following(&state.store, after, selection)));
    }
    Ok(response.streaming(up_to(state.store.clone(), after, head, selection)))
}

/// A piece of the body: whole lines.
type Chunk = Result<Bytes, ReadError>;

fn up_to(store: EventStore, after: Position, head: Position, selection: Selection) -> impl Stream<Item = Chunk> {
    stream::try_unfold((store, after, selection), move |(store, after, mut selection)| async move {
        if after >= head || selection.left == 0 {
            return Ok(None);
        }
        let batch_size = usize::try_from(head.0 - after.0).unwrap_or(BATCH).min(BATCH);
        let batch = store.read_all(after, batch_size).await?;
        let Some(last) = batch.last().map(|recorded| recorded.position) else { return Ok(None) };
        let lines = selection.lines(&batch)?;
        Ok(Some((lines, (store, last, selection))))
    })
}

fn following(store: &EventStore, after: Position, selection: Selection) -> impl Stream<Item = Chunk> + use<> {
    let subscription = store.subscribe(after);
    stream::try_unfold((subscription, selection), |(mut subscription, mut selection)| async move {
        if selection.left == 0 {
            return Ok(None);
        }
        let lines = selection.lines(&subscription.next().await?)?;
        Ok(Some((lines, (subscription, selection))))
    })
}
