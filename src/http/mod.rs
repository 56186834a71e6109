//! THE EDGE: the route table, and one file for each resource.
//!
//! A query goes route → handler → `views`, and waits for no actor. A command goes route → handler →
//! [`Registry`](crate::streams::registry::Registry), and is answered when its events are durable and in the views.
//!
//! [`plumbing`] reads requests and writes answers, [`state`] is what handlers can reach. [`task_page`] (a task as its own page
//! shows it) and [`accept`] (a new task, checked and accepted) serve several resources; no resource imports another.

use actix_web::dev::HttpServiceFactory;
use actix_web::guard::{self, Guard};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, ResponseError, web};

pub mod accept;
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
pub mod state;
pub mod task_page;
pub mod tasks;
pub mod ui;
pub mod vitals;

pub use plumbing::error::Problem;
pub use state::AppState;

use plumbing::middleware::{from_the_views, same_origin_only};

/// `at!(path, METHOD handler, …)`: a resource with these methods; others are answered 405 with the list of them.
macro_rules! at {
    ($path:literal, $($method:ident $handler:path),+) => {
        web::resource($path)
            $(.route(web::route().guard($method()).to($handler)))+
            .default_service(web::to(|| async { not_allowed(&[$(stringify!($method)),+]) }))
    };
}

/// All routes. The UI comes last because it has the page at `/`.
pub fn routes(config: &mut web::ServiceConfig, state: &AppState) {
    config
        .app_data(web::Data::new(state.clone()))
        .service(api())
        .service(web::scope("/healthz").wrap(from_fn(same_origin_only)).service(at!("", GET health::alive)))
        .service(web::scope("/readyz").wrap(from_fn(same_origin_only)).service(at!("", GET health::ready)))
        .service(web::scope("/metrics").wrap(from_fn(same_origin_only)).service(at!("", GET metrics::read)))
        .configure(ui::configure);
}

fn api() -> impl HttpServiceFactory + 'static {
    web::scope("/v1")
        .wrap(from_fn(from_the_views))
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
