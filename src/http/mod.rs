//! THE EDGE: the whole route table on one screen. A query goes route → handler → `views`: no actor, no await.
//! A command goes route → handler → [`Registry`] and answers when it is durable and in the views.

use std::collections::HashSet;
use std::sync::Arc;

use actix::{Addr, Recipient};
use actix_web::dev::HttpServiceFactory;
use actix_web::guard::{self, Guard};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, ResponseError, web};

use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::projection::metrics::Metrics;
use crate::projection::projector::NoteProgress;
use crate::projection::reader::ViewsReader;
use crate::push::hub::Hub;
use crate::reactions::scheduler::Firing;
use crate::store::EventStore;
use crate::streams::create::UniqueKeys;
use crate::streams::keyed_lock::KeyedLock;
use crate::streams::registry::Registry;
use crate::task::TaskId;
use crate::task::event::CancelPolicy;
use crate::work::Handlers;

pub mod batch;
pub mod bell;
pub mod bulk;
pub mod create;
pub mod health;
pub mod leases;
pub mod live;
pub mod log;
pub mod metrics;
pub mod plumbing;
pub mod queues;
pub mod schedules;
pub mod tasks;
pub mod ui;

pub use plumbing::error::Problem;

use plumbing::middleware;

/// What every handler has at hand.
#[derive(Clone)]
pub struct AppState {
    /// Commands go here.
    pub registry: Registry,
    /// Queries go here.
    pub read: ViewsReader,
    /// Histories are read here.
    pub store: EventStore,
    /// Workers ask here.
    pub dispatcher: Addr<Dispatcher>,
    /// What running attempts say of themselves goes here.
    pub progress: Recipient<NoteProgress>,
    /// Sockets join here.
    pub hub: Addr<Hub>,
    /// What this process can execute itself.
    pub handlers: Handlers,
    /// What a queued task waits for.
    pub capacity: Arc<Capacity>,
    /// What is set for each kind.
    pub settings: Arc<KindPolicies>,
    /// The kinds that may be asked for, where the list is closed.
    pub kinds: Option<Arc<HashSet<String>>>,
    /// One request at a time for each idempotency key of a caller.
    pub keys: KeyedLock<create::Known>,
    /// One request at a time for each unique key of an owner.
    pub unique: UniqueKeys,
    /// What a schedule that is being removed waits for.
    pub firing: Firing,
    /// Figures for Prometheus.
    pub metrics: Metrics,
}

impl AppState {
    /// The ladder of a cancel of this task: its kind's.
    #[must_use]
    pub fn cancel_policy(&self, id: TaskId) -> CancelPolicy {
        let views = self.read.views();
        views.get(id).map(|row| self.settings.cancel(row.kind())).unwrap_or_default()
    }
}

/// `resource(path, METHOD handler, …)`: these methods, and an honest 405 for the others.
macro_rules! at {
    ($path:literal, $($method:ident $handler:path),+) => {
        web::resource($path)
            $(.route(web::route().guard($method()).to($handler)))+
            .default_service(web::to(|| async { not_allowed(&[$(stringify!($method)),+]) }))
    };
}

/// All routes. The interface comes last: it has the page at `/`.
pub fn routes(config: &mut web::ServiceConfig, edge: &AppState) {
    config
        .app_data(web::Data::new(edge.clone()))
        .service(api())
        .service(web::scope("/healthz").wrap(from_fn(middleware::door)).service(at!("", GET health::alive)))
        .service(web::scope("/readyz").wrap(from_fn(middleware::door)).service(at!("", GET health::ready)))
        .service(web::scope("/metrics").wrap(from_fn(middleware::door)).service(at!("", GET metrics::read)))
        .configure(ui::configure);
}

fn api() -> impl HttpServiceFactory + 'static {
    web::scope("/v1")
        .wrap(from_fn(middleware::door))
        .service(at!("/tasks", GET tasks::list, POST create::create))
        .service(at!("/tasks/batch", POST batch::create_many))
        .service(at!("/tasks/cancel", POST bulk::cancel))
        .service(at!("/tasks/{id}", GET tasks::show))
        .service(at!("/tasks/{id}/events", GET tasks::events))
        .service(at!("/tasks/{id}/cancel", POST tasks::cancel))
        .service(at!("/tasks/{id}/escalate", POST tasks::escalate))
        .service(at!("/tasks/{id}/retry", POST tasks::retry))
        .service(at!("/leases", POST leases::take))
        .service(at!("/leases/heartbeat", POST leases::heartbeat))
        .service(at!("/leases/cancel-ack", POST leases::acknowledge))
        .service(at!("/leases/finish", POST leases::finish))
        .service(at!("/counters", GET bell::counters))
        .service(at!("/bell/seen", POST bell::seen))
        .service(at!("/queues", GET queues::list))
        .service(at!("/queues/{queue}/pause", POST queues::pause))
        .service(at!("/queues/{queue}/resume", POST queues::resume))
        .service(at!("/schedules", GET schedules::list, POST schedules::create))
        .service(at!("/schedules/{id}", GET schedules::show, DELETE schedules::remove))
        .service(at!("/live", GET live::open))
        .service(at!("/log", GET log::read))
        .service(at!("/log/head", GET log::head))
        .default_service(web::to(|| async { Problem::not_found().error_response() }))
}

#[allow(non_snake_case)]
fn GET() -> impl Guard {
    guard::Any(guard::Get()).or(guard::Head())
}

#[allow(non_snake_case)]
fn POST() -> impl Guard {
    guard::Post()
}

#[allow(non_snake_case)]
fn DELETE() -> impl Guard {
    guard::Delete()
}

fn not_allowed(methods: &[&str]) -> HttpResponse {
    let mut response = Problem::of_status(StatusCode::METHOD_NOT_ALLOWED).error_response();
    let allowed = methods.iter().flat_map(|method| if *method == "GET" { vec!["GET", "HEAD"] } else { vec![*method] });
    if let Ok(allow) = header::HeaderValue::from_str(&allowed.collect::<Vec<_>>().join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
