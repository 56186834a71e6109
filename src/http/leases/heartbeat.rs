//! `POST /v1/leases/heartbeat`.

use std::borrow::Cow;
use std::time::Duration;

use actix::dev::RecipientRequest;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::checks::{LEASES_MAX, check_wait, check_worker};
use super::command::may_report;
use super::token::LeaseToken;
use crate::dispatch::lease_table::{HeartbeatDirectives, LeaseRenewal};
use crate::dispatch::messages::{Directive, Heartbeat};
use crate::http::AppState;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::http::plumbing::response::respond_with_position;
use crate::projection::projector::ReportProgress;
use crate::store::now;
use crate::task::access::Action;
use crate::task::event::Progress;
use crate::task::limits::{TEXT_MAX, is_line};
use crate::task::{Invalid, Timestamp};
use crate::views::Row;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    worker: String,
    leases: json::AtMost<LEASES_MAX, json::Object<HeartbeatLease>>,
    wait_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatLease {
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

/// A checked heartbeat.
struct CheckedHeartbeat {
    worker: String,
    wait: Duration,
    /// The texts of the leases, as they were sent.
    tokens: Vec<String>,
    /// The parsed leases, in the order of `tokens`.
    renewals: Vec<LeaseRenewal>,
    /// The index of a lease, and the progress of its attempt.
    progress: Vec<(usize, Progress)>,
}

#[derive(Serialize)]
struct HeartbeatResponse {
    directives: Vec<DirectiveDoc>,
    /// When the first of the leases ends; null if the worker holds none of them.
    deadline: Option<Timestamp>,
    /// How long the first lease is valid from the moment when the response is sent: milliseconds, rounded down.
    left_ms: Option<u128>,
}

#[derive(Serialize)]
struct DirectiveDoc {
    lease: String,
    directive: Directive,
}

/// `POST /v1/leases/heartbeat`: renews the leases. The response is sent when there is a directive that the worker has not
/// seen, for any of the leases, when a newer heartbeat names one of the leases, or after `wait_s` seconds, but at the latest
/// after a third of the shortest lease time. On a cluster it may also wait for this server's record, up to 2 s, even if
/// `wait_s` is zero.
///
/// # Errors
/// 400, 401 if the caller's credential ends during the wait, 422, 429 `too_many_requests`, 503.
pub async fn heartbeat(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.check(Action::UseLeases)?;
    let body: HeartbeatBody = json::read_body(&request, payload, json::BodyKind::Many).await?;
    let CheckedHeartbeat { worker, wait, tokens, mut renewals, progress } = body.check()?;
    for renewal in renewals.iter_mut().filter(|renewal| !may_report(&state, &caller, renewal.task)) {
        // No lease has this hash, so the directive is `lost`.
        renewal.secret_hash.clear();
    }
    // A heartbeat that doesn't wait is never refused here. So a worker that is refused renews its leases by such a one.
    let _permit = if wait.is_zero() { None } else { Some(state.long_polls.acquire(&caller)?) };
    // The projector stores the progress before the response is sent. So the worker's next request, which may report the
    // end of the attempt, finds the progress.
    let stored =
        progress.into_iter().filter_map(|(index, progress)| send_progress(&state, &worker, &renewals[index], progress));
    join_all(stored).await;
    let (answer_sender, reply) = oneshot::channel();
    // This waits until the dispatcher's mailbox has room. If the dispatcher has stopped, the message is dropped with
    // the sender of its response, and `reply` ends with an error.
    let _ = state.dispatcher.send(Heartbeat { worker, leases: renewals, wait, caller: answer_sender }).await;
    let reply = caller.identity.while_valid(&state.reader, reply).await?;
    let HeartbeatDirectives { directives, time_left } =
        reply.map_err(|_| Problem::of_status(StatusCode::SERVICE_UNAVAILABLE))?;
    let doc =
        |(index, directive): (usize, Directive)| Some(DirectiveDoc { lease: tokens.get(index)?.clone(), directive });
    let directives = directives.into_iter().filter_map(doc).collect();
    let deadline = time_left.map(|left| now().plus(left));
    let left_ms = time_left.map(|left| left.as_millis());
    respond_with_position(StatusCode::OK, state.reader.position(), &HeartbeatResponse { directives, deadline, left_ms })
}

impl HeartbeatBody {
    fn check(self) -> Result<CheckedHeartbeat, Problem> {
        let Self { worker, leases: json::AtMost(leases), wait_s } = self;
        let mut invalid = check_worker(&worker);
        let wait = check_wait(wait_s.unwrap_or(0.0), &mut invalid);
        let (mut tokens, mut renewals, mut all_progress) = (Vec::new(), Vec::new(), Vec::new());
        for (index, json::Object(HeartbeatLease { lease, progress, seen })) in leases.into_iter().enumerate() {
            match LeaseToken::parse(&lease, &format!("/leases/{index}/lease")) {
                Ok(LeaseToken { task, attempt, lease_hash }) => {
                    let progress = progress.and_then(|progress| progress.0.check(index, &mut invalid));
                    all_progress.extend(progress.map(|progress| (index, progress)));
                    renewals.push(LeaseRenewal { task, attempt, secret_hash: lease_hash, seen });
                    tokens.push(lease);
                }
                Err(problem) => invalid.extend(problem.errors),
            }
        }
        if !invalid.is_empty() {
            return Err(Problem::invalid(invalid));
        }
        Ok(CheckedHeartbeat { worker, wait, tokens, renewals, progress: all_progress })
    }
}

impl ProgressBody {
    fn check(self, index: usize, invalid: &mut Vec<Invalid>) -> Option<Progress> {
        let Self { fraction, message } = self;
        let mut require = |is_valid: bool, field: &str, detail: &str| {
            if !is_valid {
                invalid.push(Invalid::new(format!("/leases/{index}/progress/{field}"), detail));
            }
            is_valid
        };
        let fraction_is_valid = require(fraction.is_none_or(|f| (0.0..=1.0).contains(&f)), "fraction", "0 to 1");
        let message_is_line = message.as_ref().is_none_or(|text| is_line(text, TEXT_MAX));
        let message_is_valid = require(message_is_line, "message", "one line of 1 to 1024 bytes");
        // The addition changes -0.0 to 0.0.
        let fraction = fraction.map(|fraction| fraction + 0.0);
        (fraction_is_valid && message_is_valid).then(|| Progress { fraction, message, at: now() })
    }
}

/// Sends the attempt's progress to the projector. Returns `None` and sends nothing if the worker doesn't hold the lease.
fn send_progress(
    state: &AppState,
    worker: &str,
    renewal: &LeaseRenewal,
    progress: Progress,
) -> Option<RecipientRequest<ReportProgress>> {
    let LeaseRenewal { task, attempt, ref secret_hash, .. } = *renewal;
    let is_holder = |row: Cow<Row>| {
        row.attempt() == attempt && row.lease_hash() == Some(secret_hash) && row.worker() == Some(worker)
    };
    let is_held = state.reader.views().get(task).is_some_and(is_holder);
    is_held.then(|| state.progress_recipient.send(ReportProgress { task, attempt, progress }))
}
