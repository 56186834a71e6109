//! Receives request bodies within limits, and hands their bytes to a parser.
//!
//! Everything that the headers say about a body is judged before the body is read, and before the client is asked to send it.
//! The bodies that are received or parsed at a time have a budget of bytes: one for small bodies and one for large ones, so that
//! large batches don't prevent a worker from sending a heartbeat. Large bodies are parsed on a thread of the blocking pool.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TRANSFER_ENCODING};
use actix_web::web::{self, BytesMut, Payload};
use actix_web::{HttpMessage, HttpRequest};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use share::{Share, Shares};

use super::error::{Problem, Refusal};
use super::http1::exchange::Exchange;
use super::query::Fields;
use crate::http::identity::{Credential, Identity};
use crate::http::limits::ClientLimits;
use crate::projection::reader::ViewsReader;

mod share;

/// The longest small body, in bytes. A small body is parsed at once, and small bodies have a budget of their own.
const SMALL_MAX: usize = 64 * 1024;
/// A subject may take this part of each budget: one of so many.
const SUBJECT_PART: usize = 4;
/// The unit of the budgets, in bytes.
const UNIT: usize = 1024;

/// The pace of a body is judged after each span of this length.
const SPAN: Duration = Duration::from_secs(4);

/// What a body contains, which decides how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// One request. The limit is the setting `max_body_bytes`.
    One,
    /// Many items or leases. The limit is the setting `max_batch_bytes`.
    Many,
}

/// The limits for request bodies: their bytes, and how slowly they may arrive.
#[derive(Debug)]
struct Limits {
    /// The largest body with one request.
    one: usize,
    /// The largest body with many items.
    many: usize,
    /// The budget of all bodies of more than 64 KiB together, in bytes. A body takes its part while it is received, parsed and
    /// handled. In memory it takes a few times its length until it is handled.
    large: usize,
    /// The budget of all small bodies together, in bytes. A body takes its part while it is received.
    small: usize,
    /// A body must arrive within this time.
    timeout: Duration,
    /// How many bytes of a body must arrive in each span, unless the body ends.
    span_bytes: usize,
}

impl Limits {
    /// A quarter of the budget is for small bodies. The largest batch has room in the other part.
    fn new(limits: &ClientLimits) -> Self {
        let all = limits.bodies_in_flight_bytes;
        Self {
            one: limits.body_bytes,
            many: limits.batch_bytes,
            large: (all - all / 4).max(limits.batch_bytes).max(limits.body_bytes),
            small: all / 4,
            timeout: limits.body_timeout,
            span_bytes: usize::try_from(limits.body_bytes_per_s.saturating_mul(SPAN.as_secs())).unwrap_or(usize::MAX),
        }
    }
}

/// The bodies that a server receives. A clone shares the budgets.
#[derive(Clone, Debug)]
pub struct Bodies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Large bodies are parsed one after the other, so that a core is left for the requests of others.
    parser: Semaphore,
    /// What the bodies of each authenticated subject take.
    shares: Arc<Shares>,
}

/// The part of a budget that a body takes. It is free again when this is dropped.
#[derive(Debug, Default)]
struct Charge {
    permit: Option<OwnedSemaphorePermit>,
    /// The permit is one of the budget for large bodies.
    is_large: bool,
    /// The share of the caller's subject. `None` for the local user, who is alone.
    share: Option<Share>,
}

impl Bodies {
    /// Bodies within these limits.
    #[must_use]
    pub fn new(limits: &ClientLimits) -> Self {
        let limits = Limits::new(limits);
        let budget = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS)));
        let (small, large) = (budget(limits.small), budget(limits.large));
        // The largest body must fit into a share.
        let share = |bytes: usize, largest: usize| (bytes / SUBJECT_PART).max(largest).div_ceil(UNIT);
        let max = [share(limits.small, SMALL_MAX), share(limits.large, limits.one.max(limits.many))];
        let shares = Arc::new(Shares::new(max));
        Self(Arc::new(Inner { limits, small, large, parser: Semaphore::new(1), shares }))
    }

    /// The share of the request's caller.
    fn share_of_caller(&self, request: &HttpRequest) -> Option<Share> {
        let extensions = request.extensions();
        let identity = extensions.get::<Identity>().filter(|identity| identity.credential != Credential::Local)?;
        Some(self.0.shares.of(&identity.subject))
    }

    /// How large a body of this kind may be.
    fn size_limit(&self, kind: BodyKind) -> SizeLimit {
        match kind {
            BodyKind::One => SizeLimit { bytes: self.0.limits.one, setting: "max_body_bytes" },
            BodyKind::Many => SizeLimit { bytes: self.0.limits.many, setting: "max_batch_bytes" },
        }
    }

    /// Takes as much of the budget as a body of this length needs. A body that was declared large stays large while its first
    /// bytes arrive.
    fn charge(&self, charge: &mut Charge, length: usize) -> Result<(), Problem> {
        let is_large = charge.is_large || length > SMALL_MAX;
        let taken = charge.permit.as_ref().filter(|_| charge.is_large == is_large);
        let missing = length.div_ceil(UNIT).saturating_sub(taken.map_or(0, OwnedSemaphorePermit::num_permits));
        if missing == 0 {
            return Ok(());
        }
        if let Some(share) = &mut charge.share {
            share.take(is_large, missing)?;
        }
        let budget = if is_large { &self.0.large } else { &self.0.small };
        let more = budget.clone().try_acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX));
        let more = more.map_err(|_| self.overloaded(is_large))?;
        match &mut charge.permit {
            Some(permit) if charge.is_large == is_large => permit.merge(more),
            permit => *permit = Some(more),
        }
        charge.is_large = is_large;
        Ok(())
    }

    fn overloaded(&self, is_large: bool) -> Problem {
        let Limits { large, small, .. } = self.0.limits;
        let (which, bytes) = if is_large { ("of more than 64 KiB", large) } else { ("of up to 64 KiB", small) };
        let detail = format!(
            "all bodies {which} that this server receives at a time have at most {bytes} bytes together; send it again later"
        );
        Problem::new(Refusal::Overloaded, detail)
    }
}

/// The largest body in bytes, and the setting that says so.
#[derive(Clone, Copy, Debug)]
struct SizeLimit {
    bytes: usize,
    setting: &'static str,
}

/// Receives the body of a request that must have one and no query parameters, and parses it.
///
/// # Errors
/// As [`receive_optional`]; 400 `malformed_json` if there is no body, 422 if there are query parameters.
pub async fn receive<T, P>(request: &HttpRequest, payload: Payload, kind: BodyKind, parse: P) -> Result<T, Problem>
where
    T: Send + 'static,
    P: FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
{
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body = receive_optional(request, payload, kind, parse).await?;
    body.ok_or_else(|| Problem::malformed_json("a body is needed"))
}

/// Receives the body of the request, and parses it; `None` if the body is empty.
///
/// # Errors
/// 400, 408, 413 `too_large`, 415, 503 `overloaded`, and those of `parse`.
pub async fn receive_optional<T, P>(
    request: &HttpRequest,
    payload: Payload,
    kind: BodyKind,
    parse: P,
) -> Result<Option<T>, Problem>
where
    T: Send + 'static,
    P: FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
{
    let declared = declared_length(request);
    if declared == Some(0) {
        return Ok(None);
    }
    let bodies = request.app_data::<Bodies>().ok_or_else(unavailable)?;
    let max = bodies.size_limit(kind);
    check_headers(request, declared, max)?;
    let mut charge = Charge { share: bodies.share_of_caller(request), ..Charge::default() };
    if let Some(length) = declared.filter(|length| *length > SMALL_MAX) {
        bodies.charge(&mut charge, length)?;
    }
    if let Some(exchange) = request.conn_data::<Exchange>() {
        exchange.want_body();
    }
    let collect = bodies.collect(payload, declared, max, &mut charge);
    let bytes = while_credential_is_valid(request, collect).await??;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() <= SMALL_MAX {
        return parse(&bytes).map(Some);
    }
    // The handler goes on to use the values of a large body, so the budget is free only when the request has been handled.
    request.extensions_mut().insert(charge);
    let _turn = bodies.0.parser.acquire().await;
    // The credential may have ended while the body waited for its turn. The parser may pass on values before it is through, so
    // this is the last moment to refuse the whole request.
    while_credential_is_valid(request, ready(())).await?;
    web::block(move || parse(&bytes)).await.map_err(|_| unavailable())?.map(Some)
}

/// Runs the future until it is ready, or until the credential of the request ends. A slow body must not make a revoked
/// credential act.
async fn while_credential_is_valid<T>(request: &HttpRequest, future: impl Future<Output = T>) -> Result<T, Problem> {
    let identity = request.extensions().get::<Identity>().filter(|identity| identity.can_end()).cloned();
    let Some((identity, reader)) = identity.zip(request.app_data::<ViewsReader>()) else { return Ok(future.await) };
    let result = identity.while_valid(reader, future).await?;
    identity.require_valid(reader)?;
    Ok(result)
}

/// The length of the body as the headers say it; none if the body is chunked.
fn declared_length(request: &HttpRequest) -> Option<usize> {
    if request.headers().contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let Some(length) = request.headers().get(CONTENT_LENGTH) else { return Some(0) };
    // The HTTP library has refused a length that is not a number. A length above every limit may not fit into `usize`.
    Some(length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(usize::MAX))
}

fn check_headers(request: &HttpRequest, declared: Option<usize>, max: SizeLimit) -> Result<(), Problem> {
    if declared.is_some_and(|length| length > max.bytes) {
        return Err(too_large(max));
    }
    let text = |name: HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    if text(CONTENT_ENCODING).is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity")) {
        let detail = "a body with a Content-Encoding is not accepted; send it uncompressed";
        return Err(Problem::new(Refusal::UnsupportedMediaType, detail));
    }
    let media_type = text(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Problem::unsupported_media_type()) }
}

fn too_large(max: SizeLimit) -> Problem {
    let SizeLimit { bytes, setting } = max;
    Problem::too_large(format!("a body on this route has at most {bytes} bytes ({setting})"))
}

impl Bodies {
    async fn collect(
        &self,
        mut payload: Payload,
        declared: Option<usize>,
        max: SizeLimit,
        charge: &mut Charge,
    ) -> Result<BytesMut, Problem> {
        // A client that declares much and sends little gets little memory.
        let mut bytes = BytesMut::with_capacity(declared.unwrap_or_default().min(SMALL_MAX));
        let mut pace = Pace::new(&self.0.limits);
        while let Some(chunk) = pace.next(&mut payload, bytes.len()).await? {
            if bytes.len() + chunk.len() > max.bytes {
                return Err(too_large(max));
            }
            self.charge(charge, bytes.len() + chunk.len())?;
            if bytes.len() + chunk.len() > bytes.capacity() {
                bytes.reserve(declared.unwrap_or_default().saturating_sub(bytes.len()).max(chunk.len()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// How quickly a body must arrive.
struct Pace<'a> {
    limits: &'a Limits,
    deadline: Instant,
    /// The end of the present span.
    span_end: Instant,
    /// How much had arrived at its beginning.
    before: usize,
}

impl<'a> Pace<'a> {
    fn new(limits: &'a Limits) -> Self {
        let now = Instant::now();
        Self { limits, deadline: now + limits.timeout, span_end: now + SPAN, before: 0 }
    }

    /// The next part of the body, of which `arrived` bytes have arrived; none at its end.
    async fn next(&mut self, payload: &mut Payload, arrived: usize) -> Result<Option<web::Bytes>, Problem> {
        loop {
            match timeout_at(self.span_end.min(self.deadline), payload.next()).await {
                Ok(next) => return next.transpose().map_err(|error| broken(&error)),
                Err(_) if self.deadline <= Instant::now() => return Err(self.late()),
                Err(_) if arrived < self.before.saturating_add(self.limits.span_bytes) => return Err(self.slow()),
                Err(_) => (self.span_end, self.before) = (Instant::now() + SPAN, arrived),
            }
        }
    }

    fn late(&self) -> Problem {
        Problem::new(Refusal::Timeout, format!("a body must arrive within {:?}", self.limits.timeout))
    }

    fn slow(&self) -> Problem {
        let bytes = self.limits.span_bytes;
        Problem::new(Refusal::Timeout, format!("in each {SPAN:?} at least {bytes} bytes of a body must arrive"))
    }
}

fn unavailable() -> Problem {
    Problem::of_status(StatusCode::SERVICE_UNAVAILABLE)
}

fn broken(error: &actix_web::error::PayloadError) -> Problem {
    Problem::new(Refusal::BadRequest, format!("the body ended too early: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> Bodies {
        let (body_bytes, batch_bytes) = (UNIT, UNIT);
        Bodies::new(&ClientLimits {
            body_bytes,
            batch_bytes,
            bodies_in_flight_bytes: 400 * UNIT,
            ..ClientLimits::default()
        })
    }

    #[test]
    fn small_and_large_bodies_have_budgets_of_their_own() {
        let bodies = bodies();
        let (mut large, mut other, mut small) = (Charge::default(), Charge::default(), Charge::default());
        bodies.charge(&mut large, 250 * UNIT).unwrap();
        assert_eq!(bodies.charge(&mut other, 70 * UNIT).unwrap_err().code, "overloaded");
        bodies.charge(&mut small, 60 * UNIT).unwrap();
        drop(large);
        bodies.charge(&mut other, 70 * UNIT).unwrap();
    }

    #[test]
    fn a_declared_body_keeps_its_part_of_the_budget_while_its_first_bytes_arrive() {
        let bodies = bodies();
        let mut charge = Charge::default();
        for length in [250 * UNIT, 1, 60 * UNIT, 250 * UNIT] {
            bodies.charge(&mut charge, length).unwrap();
            assert_eq!((bodies.0.small.available_permits(), bodies.0.large.available_permits()), (100, 50), "{length}");
        }
    }

    #[test]
    fn the_largest_batch_has_room_in_the_smallest_budget() {
        let limits = ClientLimits { bodies_in_flight_bytes: 16 * 1024 * 1024, ..ClientLimits::default() };
        Bodies::new(&limits).charge(&mut Charge::default(), limits.batch_bytes).unwrap();
    }

    #[test]
    fn a_body_that_grows_takes_more_of_the_budget_and_leaves_the_one_for_small_bodies() {
        let bodies = bodies();
        let mut charge = Charge::default();
        for length in [1, UNIT, UNIT + 1, 60 * UNIT] {
            bodies.charge(&mut charge, length).unwrap();
        }
        assert_eq!((bodies.0.small.available_permits(), bodies.0.large.available_permits()), (40, 300));
        bodies.charge(&mut charge, 65 * UNIT).unwrap();
        bodies.charge(&mut charge, 150 * UNIT).unwrap();
        assert_eq!((bodies.0.small.available_permits(), bodies.0.large.available_permits()), (100, 150));
        assert_eq!(bodies.charge(&mut charge, 301 * UNIT).unwrap_err().code, "overloaded");
        drop(charge);
        assert_eq!((bodies.0.small.available_permits(), bodies.0.large.available_permits()), (100, 300));
    }
}
