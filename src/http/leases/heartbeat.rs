//! `POST /v1/leases/heartbeat`.

use std::time::Duration;

use actix::dev::RecipientRequest;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::checks::{LEASES_MAX, check_wait, check_worker};
use super::token::LeaseToken;
use crate::dispatch::lease_table::{HeartbeatReply, LeaseHeartbeat};
use crate::dispatch::messages::{Directive, Heartbeat};
use crate::http::AppState;
use crate::http::plumbing::answer::answer_at;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::projection::projector::ReportProgress;
use crate::store::now;
use crate::task::event::Progress;
use crate::task::limits::{TEXT_MAX, is_line};
use crate::task::{Invalid, Timestamp};
use crate::views::Row;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    worker: String,
    leases: Vec<json::Object<LeaseBody>>,
    wait_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseBody {
    lease: String,
    progress: Option<json::Object<ProgressBody>>,
    seen: Option<Directive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressBody {
    fraction: Option<f64>,
    message: Option<String>,
}

/// A heartbeat that was checked.
struct Checked {
    worker: String,
    wait: Duration,
    /// The leases as they were sent; `heartbeats` in the same order.
    tokens: Vec<String>,
    heartbeats: Vec<LeaseHeartbeat>,
    /// Place of the lease, and its progress.
    progress: Vec<(usize, Progress)>,
}

#[derive(Serialize)]
struct ReplyDoc {
    directives: Vec<DirectiveDoc>,
    /// When the first of the leases ends; null where the worker holds none of them.
    deadline: Option<Timestamp>,
    /// The same in milliseconds, rounded down, from the sending of the answer.
    left_ms: Option<u128>,
}

#[derive(Serialize)]
struct DirectiveDoc {
    lease: String,
    directive: Directive,
}

/// `POST /v1/leases/heartbeat`: renews the leases. The answer comes with the first unseen directive for any of them, or after
/// `wait_s`.
///
/// # Errors
/// 400, 422, 503.
pub async fn heartbeat(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body: HeartbeatBody = json::read_body(&request, payload, json::BATCH_MAX).await?;
    let Checked { worker, wait, tokens, heartbeats, progress } = body.check()?;
    // Noted before the answer: the end that the worker reports next is recorded with it.
    let noted =
        progress.into_iter().filter_map(|(place, progress)| note(&state, &worker, &heartbeats[place], progress));
    join_all(noted).await;
    let (answer, reply) = oneshot::channel();
    // Waits for room in the dispatcher's mailbox. If the dispatcher is gone, the answer's sender is dropped with the message.
    let _ = state.dispatcher.send(Heartbeat { worker, beats: heartbeats, wait, answer }).await;
    let HeartbeatReply { directives, left } =
        reply.await.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?;
    let doc =
        |(place, directive): (usize, Directive)| Some(DirectiveDoc { lease: tokens.get(place)?.clone(), directive });
    let directives = directives.into_iter().filter_map(doc).collect();
    let deadline = left.map(|left| now().plus(left));
    let left_ms = left.map(|left| left.as_millis());
    answer_at(StatusCode::OK, state.read.position(), &ReplyDoc { directives, deadline, left_ms })
}

impl HeartbeatBody {
    fn check(self) -> Result<Checked, Problem> {
        let Self { worker, leases, wait_s } = self;
        let mut invalid = check_worker(&worker);
        if leases.len() > LEASES_MAX {
            invalid.push(Invalid::new("/leases", format!("at most {LEASES_MAX}")));
        }
        let wait = check_wait(wait_s.unwrap_or(0.0), &mut invalid);
        let (mut tokens, mut heartbeats, mut all_progress) = (Vec::new(), Vec::new(), Vec::new());
        for (place, json::Object(LeaseBody { lease, progress, seen })) in leases.into_iter().enumerate() {
            match LeaseToken::parse(&lease, &format!("/leases/{place}/lease")) {
                Ok(LeaseToken { task, attempt, hash }) => {
                    let progress = progress.and_then(|progress| progress.0.check(place, &mut invalid));
                    all_progress.extend(progress.map(|progress| (place, progress)));
                    heartbeats.push(LeaseHeartbeat { task, attempt, secret: hash, seen });
                    tokens.push(lease);
                }
                Err(problem) => invalid.extend(problem.errors),
            }
        }
        if !invalid.is_empty() {
            return Err(Problem::invalid(invalid));
        }
        Ok(Checked { worker, wait, tokens, heartbeats, progress: all_progress })
    }
}

impl ProgressBody {
    fn check(self, place: usize, invalid: &mut Vec<Invalid>) -> Option<Progress> {
        let Self { fraction, message } = self;
        let mut rule = |holds: bool, field: &str, detail: &str| {
            if !holds {
                invalid.push(Invalid::new(format!("/leases/{place}/progress/{field}"), detail));
            }
            holds
        };
        let fraction_holds = rule(fraction.is_none_or(|f| (0.0..=1.0).contains(&f)), "fraction", "0 to 1");
        let message_holds = message.as_ref().is_none_or(|text| is_line(text, TEXT_MAX));
        let message_holds = rule(message_holds, "message", "one line of 1 to 1024 bytes");
        // Adding zero turns -0.0 into 0.0.
        let fraction = fraction.map(|fraction| fraction + 0.0);
        (fraction_holds && message_holds).then(|| Progress { fraction, message, at: now() })
    }
}

/// The message that notes an attempt's progress; none where the worker doesn't hold the lease.
fn note(
    state: &AppState,
    worker: &str,
    heartbeat: &LeaseHeartbeat,
    progress: Progress,
) -> Option<RecipientRequest<ReportProgress>> {
    let LeaseHeartbeat { task, attempt, ref secret, .. } = *heartbeat;
    let is_holder =
        |row: &Row| row.attempt() == attempt && row.lease_hash() == Some(secret) && row.worker() == Some(worker);
    let holds = state.read.views().get(task).is_some_and(is_holder);
    holds.then(|| state.progress.send(ReportProgress { task, attempt, progress }))
}
