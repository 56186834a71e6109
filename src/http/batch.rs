//! `POST /v1/tasks/batch`: many at once, each judged by itself.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::Caller;
use super::create::accept;
use super::error::Problem;
use super::tasks::answer_at;
use super::{Edge, json};
use crate::actors::create::Accepted;
use crate::task::limits::{KEY_MAX, is_line};
use crate::task::{Position, TaskId};

/// Items of one batch.
const ITEMS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    items: Vec<Value>,
}

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

/// `POST /v1/tasks/batch`. The items go to the log side by side: its writer makes many of them durable at once. Those of
/// one key take turns, so that they are one task.
///
/// # Errors
/// Where the body itself can't be what it is; what is wrong with one item is said in its place.
pub async fn create(
    edge: web::Data<Edge>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let batch: Batch = json::read_body(&request, payload, json::BATCH_MAX).await?;
    if !(1..=ITEMS_MAX).contains(&batch.items.len()) {
        return Err(Problem::invalid_field("/items", format!("1 to {ITEMS_MAX} items")));
    }
    let items = join_all(batch.items.into_iter().map(|item| create_item(&edge, &caller, item))).await;
    let position = edge.read.position();
    let items = items.into_iter().map(|item| item.map_or_else(Item::Problem, Item::Id)).collect();
    answer_at(StatusCode::OK, position, &Answer { items, position })
}

async fn create_item(edge: &Edge, caller: &Caller, mut item: Value) -> Result<TaskId, Problem> {
    let problem = |problem| Problem { request_id: caller.request_id.clone(), ..problem };
    let key = item.as_object_mut().and_then(|fields| fields.remove("idempotency_key"));
    let key = match key {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) if is_line(&key, KEY_MAX) => Some(key),
        Some(_) => {
            let detail = "1 to 255 bytes, no control characters";
            return Err(problem(Problem::invalid_field("/idempotency_key", detail)));
        }
    };
    match accept(edge, caller, item, key).await.map_err(problem)? {
        Accepted::Known(id) | Accepted::Held(id) => Ok(id),
        Accepted::New(id, receipt) => {
            edge.read.shows(id, receipt.revision).await;
            Ok(id)
        }
    }
}
