//! `POST /v1/tasks/batch`: many new tasks in one request. Each is created or refused independently of the others.

use actix_rt::task::JoinHandle;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::{join, join_all};
use serde::Serialize;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::AppState;
use super::accept::{self, KeyedBody, NewTask, accept};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::response::respond_with_position;
use super::task_access::check_task;
use crate::streams::create::Accepted;
use crate::task::access::Action;
use crate::task::event::Created;
use crate::task::{Position, TaskId};

pub(super) mod docs;

/// The maximum number of items in one batch.
const ITEMS_MAX: usize = 1000;
/// The number of items that are read together, and whose tasks are appended together. After each chunk the handler yields to other
/// requests on its thread.
const CHUNK_SIZE: usize = 200;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ItemResult {
    Id(TaskId),
    Problem(Problem),
}

#[derive(Serialize)]
struct BatchResponse {
    items: Vec<ItemResult>,
    position: Position,
}

/// `POST /v1/tasks/batch`. The items are appended concurrently, and the log's writer makes many of them durable together.
/// Items with the same key are handled one after the other and lead to one task.
///
/// # Errors
/// 400, 413, 415 or 422 if the body as a whole is invalid. The problem of a single item is in the response, at the item's
/// index.
pub async fn create_many(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    accept::check_creates(&caller)?;
    let (sender, chunks) = mpsc::unbounded_channel();
    // On a cluster the parents of all items are looked up before the first task is created: the look-up may fail.
    let chunk_size = if state.store.is_shared() { ITEMS_MAX } else { CHUNK_SIZE };
    let reading = json::send_items(&request, payload, (ITEMS_MAX, chunk_size), NewTask::parse_item, sender);
    let (read, created) = join(reading, create_chunks(&state, &caller, chunks)).await;
    read?;
    let items = created?;
    state.reader.wait_for_position(state.store.head().position).await;
    let position = state.reader.position();
    let problem = |problem| ItemResult::Problem(Problem { request_id: caller.request_id.clone(), ..problem });
    let items = items.into_iter().map(|item| item.map_or_else(problem, ItemResult::Id)).collect();
    respond_with_position(StatusCode::OK, position, &BatchResponse { items, position })
}

/// Creates the tasks of the items and returns their results in the order of the items.
///
/// The items of a chunk without a key are appended together, in one write. While a chunk is written, the items of the next one are
/// read and checked. Items with a key are accepted one by one, after the chunks have been started.
///
/// # Errors
/// 503 if the log can't be read.
async fn create_chunks(
    state: &AppState,
    caller: &Caller,
    mut chunks: UnboundedReceiver<Vec<Item>>,
) -> Result<Vec<Result<TaskId, Problem>>, Problem> {
    let mut results: Vec<Option<Result<TaskId, Problem>>> = Vec::new();
    let (mut appends, mut keyed) = (Vec::new(), Vec::new());
    while let Some(chunk) = chunks.recv().await {
        let parents = chunk.iter().flatten().filter_map(|(new, _)| new.parent);
        accept::wait_for_parents(state, parents).await?;
        let mut unkeyed = Vec::with_capacity(chunk.len());
        for item in chunk {
            let index = results.len();
            results.push(None);
            match item {
                Err(problem) => results[index] = Some(Err(problem)),
                Ok((new, None)) if new.unique_key.is_none() => match accept::complete_request(state, caller, new) {
                    Ok(created) => unkeyed.push((index, created)),
                    Err(problem) => results[index] = Some(Err(problem)),
                },
                Ok((new, key)) => keyed.push((index, new, key)),
            }
        }
        appends.push(spawn_append(state, caller, unkeyed));
        tokio::task::yield_now().await;
    }
    let accepts = keyed
        .into_iter()
        .map(|(index, new, key)| async move { (index, accept_visible(state, caller, new, key).await) });
    let (created, accepted) = join(join_all(appends), join_all(accepts)).await;
    for (index, created) in created.into_iter().flatten().flatten() {
        results[index] = Some(created);
    }
    for (index, accepted) in accepted {
        let id = accepted.map(|accepted| match accepted {
            Accepted::New(id, _) | Accepted::Repeated(id) | Accepted::KeyHeld(id) => id,
        });
        results[index] = Some(id);
    }
    // An item without a result belongs to a chunk whose append was aborted, because the process is stopping.
    let aborted = || Err(Problem::of_status(StatusCode::SERVICE_UNAVAILABLE));
    Ok(results.into_iter().map(|result| result.unwrap_or_else(aborted)).collect())
}

/// Accepts an item with a key. If a task has the key already, the caller must be able to see that task.
async fn accept_visible(
    state: &AppState,
    caller: &Caller,
    new: NewTask,
    key: Option<KeyedBody>,
) -> Result<Accepted, Problem> {
    let accepted = accept(state, caller, new, key).await?;
    if let Accepted::Repeated(id) | Accepted::KeyHeld(id) = accepted {
        check_task(state, caller, id, |owner| Action::ReadTasks { owner }).await?;
    }
    Ok(accepted)
}

/// A new task and its idempotency key, or why the item is refused.
type Item = Result<(NewTask, Option<KeyedBody>), Problem>;

/// New tasks without a key, each with its index in the batch.
type TaskChunk = Vec<(usize, Created)>;

/// Starts to append a chunk; the caller awaits the result later. The appends begin in the order of the chunks, on the shard of
/// this thread, so the tasks are created in the order of their items.
fn spawn_append(
    state: &AppState,
    caller: &Caller,
    chunk: TaskChunk,
) -> JoinHandle<Vec<(usize, Result<TaskId, Problem>)>> {
    let (state, caller) = (state.clone(), caller.clone());
    actix_rt::spawn(async move {
        let (indexes, new): (Vec<usize>, Vec<Created>) = chunk.into_iter().unzip();
        let created = accept::create_without_keys(&state, &caller, new).await;
        indexes.into_iter().zip(created).collect()
    })
}
