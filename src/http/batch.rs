//! `POST /v1/tasks/batch`: many new tasks in one request, each accepted or refused by itself.

use actix_rt::task::JoinHandle;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::{join, join_all};
use serde::Serialize;

use super::AppState;
use super::accept::{self, ItemKey, KeyedBody, NewTask, accept};
use super::plumbing::answer::answer_at;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use crate::streams::create::Accepted;
use crate::task::event::Created;
use crate::task::limits::{KEY_MAX, is_line};
use crate::task::{Position, TaskId};

/// Items of one batch.
const ITEMS_MAX: usize = 1000;
/// Items that are appended together. After each chunk the handler yields to other requests on its thread.
const CHUNK: usize = 200;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Id(TaskId),
    Problem(Problem),
}

#[derive(Serialize)]
struct Answer {
    items: Vec<Item>,
    position: Position,
}

/// `POST /v1/tasks/batch`. The items are appended concurrently, and the log's writer makes many of them durable at once.
/// Items with the same key wait for each other and become one task.
///
/// # Errors
/// Where the body itself is invalid; the problem of one item is answered in the item's place.
pub async fn create_many(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = json::required_body(&request, payload, json::BATCH_MAX).await?;
    let items = json::read_items(&body)?;
    if !(1..=ITEMS_MAX).contains(&items.len()) {
        return Err(Problem::invalid_field("/items", format!("1 to {ITEMS_MAX} items")));
    }
    let items = create_items(&state, &caller, items).await;
    state.read.wait_for_position(state.store.head().position).await;
    let position = state.read.position();
    let problem = |problem| Item::Problem(Problem { request_id: caller.request_id.clone(), ..problem });
    let items = items.into_iter().map(|item| item.map_or_else(problem, Item::Id)).collect();
    answer_at(StatusCode::OK, position, &Answer { items, position })
}

/// Items without a key are appended in chunks, one write each: the next chunk is checked while one is written. Each item
/// with a key is accepted by itself, at the same time.
async fn create_items(state: &AppState, caller: &Caller, items: Items<'_>) -> Vec<Result<TaskId, Problem>> {
    let mut answers: Vec<Option<Result<TaskId, Problem>>> = items.iter().map(|_| None).collect();
    let (mut chunks, mut keyed, mut chunk) = (Vec::new(), Vec::new(), Chunk::default());
    for (place, item) in items.into_iter().enumerate() {
        match item.and_then(read) {
            Err(problem) => answers[place] = Some(Err(problem)),
            Ok((new, None)) if new.unique_key.is_none() => match accept::check(state, caller, new) {
                Ok(created) => chunk.push((place, created)),
                Err(problem) => answers[place] = Some(Err(problem)),
            },
            Ok((new, key)) => keyed.push(async move { (place, accept(state, caller, new, key).await) }),
        }
        if chunk.len() == CHUNK {
            chunks.push(spawn_chunk(state, caller, std::mem::take(&mut chunk)));
            tokio::task::yield_now().await;
        }
    }
    chunks.push(spawn_chunk(state, caller, chunk));
    let (created, accepted) = join(join_all(chunks), join_all(keyed)).await;
    for (place, created) in created.into_iter().flatten().flatten() {
        answers[place] = Some(created);
    }
    for (place, accepted) in accepted {
        let id = accepted.map(|accepted| match accepted {
            Accepted::New(id, _) | Accepted::Known(id) | Accepted::Held(id) => id,
        });
        answers[place] = Some(id);
    }
    // A chunk without an answer was dropped: the process is stopping.
    let unanswered = || Err(Problem::of_status(StatusCode::SERVICE_UNAVAILABLE));
    answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
}

/// The text of each item, or why it is refused.
type Items<'a> = Vec<Result<&'a str, Problem>>;

/// New tasks without a key, with their places in the batch.
type Chunk = Vec<(usize, Created)>;

/// Starts the append of a chunk at once, before its answer is awaited.
fn spawn_chunk(state: &AppState, caller: &Caller, chunk: Chunk) -> JoinHandle<Vec<(usize, Result<TaskId, Problem>)>> {
    let (state, caller) = (state.clone(), caller.clone());
    actix_rt::spawn(async move {
        let (places, new): (Vec<usize>, Vec<Created>) = chunk.into_iter().unzip();
        let created = accept::create_plain(&state, &caller, new).await;
        places.into_iter().zip(created).collect()
    })
}

/// A new task, and its idempotency key with the item's text.
fn read(item: &str) -> Result<(NewTask, Option<KeyedBody<'_>>), Problem> {
    let mut new: NewTask = json::read_scanned(item)?;
    match std::mem::take(&mut new.idempotency_key) {
        ItemKey::Absent | ItemKey::Given(None) => Ok((new, None)),
        ItemKey::Given(Some(key)) if is_line(&key, KEY_MAX) => Ok((new, Some(KeyedBody { key, body: item }))),
        ItemKey::Given(Some(_)) => {
            Err(Problem::invalid_field("/idempotency_key", "1 to 255 bytes, no control characters"))
        }
    }
}
