//! The bell: exact counts of tasks, and the log position up to which they were seen.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::AppState;
use super::past::{take_as_of, views_as_of};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Fields;
use super::plumbing::response::{respond_with_position, wait_for_min_position};
use super::plumbing::scans::ROWS_UNDER_LOCK_MAX;
use super::plumbing::scope::take_scope;
use crate::projection::replay::AsOf;
use crate::task::Position;
use crate::task::access::Action;
use crate::views::{BellCounters, Filter, RowBudget, Snapshot};

pub(super) mod docs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenBody {
    position: Position,
}

/// `GET /v1/counters`: the counts of the tasks that `GET /v1/tasks` lists with the same `owner` and the same filter.
///
/// # Errors
/// 404 if the query names an owner whose tasks the caller may not see; 422 if it is invalid; 503 `behind` or `overloaded`.
pub async fn counters(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::from_query(request.query_string())?;
    let scope = take_scope(&mut fields, &caller, &state.limits)?;
    let filter = fields.take_filter(&state.limits, scope)?;
    let as_of = take_as_of(&state, &mut fields)?;
    wait_for_min_position(&state, &caller, fields).await?;
    let counters = match as_of {
        Some(as_of) => counters_as_of(&state, &caller, filter, as_of).await?,
        None => query_counters(&state, filter, caller.subject()).await?,
    };
    respond_with_position(StatusCode::OK, counters.position, &counters)
}

/// Counts in the views if that needs few rows. Otherwise counts in a snapshot of the views on the blocking pool.
async fn query_counters(state: &AppState, filter: Filter, viewer: &str) -> Result<BellCounters, Problem> {
    let counters = state.reader.views().counters_within(&filter, viewer, &RowBudget::new(ROWS_UNDER_LOCK_MAX));
    if let Some(counters) = counters {
        return Ok(counters);
    }
    let prepare = || {
        let views = state.reader.views();
        (views.snapshot_for(&filter), views.seen_for(&filter, viewer), filter.clone())
    };
    let scan = |(snapshot, seen, filter): (Snapshot, _, Filter)| snapshot.counters(&filter, seen);
    state.scans.run(prepare, scan).await
}

async fn counters_as_of(
    state: &AppState,
    caller: &Caller,
    filter: Filter,
    as_of: AsOf,
) -> Result<BellCounters, Problem> {
    let (views, viewer) = (views_as_of(state, caller, as_of).await?, caller.subject().to_owned());
    let count = move |()| views.counters_within(&filter, &viewer, &RowBudget::unlimited());
    state.scans.run(|| (), count).await?.ok_or_else(|| Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR))
}

/// `POST /v1/bell/seen`: records the position up to which the caller has seen the bell.
///
/// # Errors
/// 400, 422 if the position is after the head of the log, 503.
pub async fn seen(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::MarkSeen)?;
    let body: SeenBody = json::read_body(&request, payload, json::BodyKind::One).await?;
    state.mark_seen(&caller, body.position).await?;
    Ok(HttpResponse::NoContent().finish())
}
