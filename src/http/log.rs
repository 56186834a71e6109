//! The log itself, as the audit reads it.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::{self, Stream};
use serde::Serialize;

use super::AppState;
use super::plumbing::error::Problem;
use super::plumbing::query::Pairs;
use super::tasks::answer_at;
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
pub async fn head(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Pairs::of_query(request.query_string())?.done()?;
    let head = edge.store.head();
    let doc = HeadDoc { position: head.position, hash: head.hash.to_string(), time: head.time };
    answer_at(StatusCode::OK, head.position, &doc)
}

/// What of the log is wanted.
struct Wanted {
    kind: Option<String>,
    stream: Option<StreamName>,
    /// How many events at most are still to be sent.
    left: u64,
}

impl Wanted {
    fn wants(&self, recorded: &Recorded) -> bool {
        self.kind.as_ref().is_none_or(|kind| kind == recorded.kind)
            && self.stream.as_ref().is_none_or(|stream| *stream == recorded.stream)
    }

    /// The lines of the batch that are wanted.
    fn lines(&mut self, batch: &[Arc<Recorded>]) -> Result<Bytes, ReadError> {
        let mut lines = BytesMut::new();
        for recorded in batch {
            if self.left == 0 {
                break;
            }
            if !self.wants(recorded) {
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

/// `GET /v1/log`: recorded events, a line each, as far as the log goes when it is asked; with `follow`, and on.
///
/// # Errors
/// 422; what goes wrong later breaks the answer off.
pub async fn read(edge: web::Data<AppState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut pairs = Pairs::of_query(request.query_string())?;
    let after = pairs.position("after")?.unwrap_or_default();
    let left = pairs.number("limit")?.unwrap_or(u64::MAX);
    let kind = pairs.take("type");
    if kind.as_ref().is_some_and(|kind| !codec::TYPES.iter().any(|(known, _)| known == kind)) {
        return Err(Problem::invalid_field("/query/type", "no type of event"));
    }
    let stream = pairs.take("stream").map(|name| {
        StreamName::parse(&name).ok_or_else(|| Problem::invalid_field("/query/stream", "no name of a stream"))
    });
    let stream = stream.transpose()?;
    let follow = pairs.flag("follow")?;
    pairs.done()?;
    let head = edge.store.head().position;
    let wanted = Wanted { kind, stream, left };
    let mut response = HttpResponse::Ok();
    response.insert_header(("taskbell-position", head.to_string())).content_type("application/x-ndjson");
    if request.method() == Method::HEAD {
        // An answer without a body that never ended would hold its connection for ever.
        return Ok(response.finish());
    }
    if follow {
        return Ok(response.streaming(following(&edge.store, after, wanted)));
    }
    Ok(response.streaming(up_to(edge.store.clone(), after, head, wanted)))
}

type ClientConnection = Result<Bytes, ReadError>;

fn up_to(store: EventStore, after: Position, head: Position, wanted: Wanted) -> impl Stream<Item = ClientConnection> {
    stream::try_unfold((store, after, wanted), move |(store, after, mut wanted)| async move {
        if after >= head || wanted.left == 0 {
            return Ok(None);
        }
        let most = usize::try_from(head.0 - after.0).unwrap_or(BATCH).min(BATCH);
        let batch = store.read_all(after, most).await?;
        let Some(last) = batch.last().map(|recorded| recorded.position) else { return Ok(None) };
        let lines = wanted.lines(&batch)?;
        Ok(Some((lines, (store, last, wanted))))
    })
}

fn following(store: &EventStore, after: Position, wanted: Wanted) -> impl Stream<Item = ClientConnection> + use<> {
    let subscription = store.subscribe(after);
    stream::try_unfold((subscription, wanted), |(mut subscription, mut wanted)| async move {
        if wanted.left == 0 {
            return Ok(None);
        }
        let lines = wanted.lines(&subscription.next().await?)?;
        Ok(Some((lines, (subscription, wanted))))
    })
}
