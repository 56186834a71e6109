//! The HTTP API: the route table, and one file for each resource.
//!
//! A query goes from its route to a handler, which reads `views` and waits for no actor. A command goes from its route to a
//! handler, which sends it to the [`Registry`](crate::streams::registry::Registry). The client gets the response when the
//! command's events are durable and the views show them.
//!
//! [`plumbing`] reads requests and writes responses. [`state`] holds what all handlers use. [`task_page`] (one task with its
//! input and result) and [`accept`] (the checks and the creation of a new task) and [`past`] (the field `as_of`) serve several resources. The files of
//! resources are those whose functions the route table names; none of them imports another.

use actix_web::dev::HttpServiceFactory;
use actix_web::guard::{self, Guard};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, ResponseError, web};

pub mod accept;
pub mod actor_health;
pub mod batch;
pub mod bell;
pub mod bulk;
pub mod create;
pub mod health;
pub mod identity;
pub mod leases;
pub mod limits;
pub mod live;
pub mod log;
pub mod metrics;
pub mod open_tasks;
pub mod openapi;
pub mod past;
pub mod plumbing;
pub mod queues;
pub mod schedules;
pub mod session;
pub mod state;
pub mod task_access;
pub mod task_page;
pub mod tasks;
pub mod tickets;
pub mod tokens;
pub mod ui;
pub mod views;

pub use identity::jwt::algorithm::{JwtAlgorithm, UnknownAlgorithm};
pub use identity::jwt::key_url::{InvalidKeyUrl, KeyUrl};
pub use identity::settings::{AuthSettings, JwtSettings, KeySource, ProxySecret, ProxySettings};
pub use limits::{ClientLimits, SharedLimit, ValueLimits};
pub use plumbing::error::Problem;
pub use plumbing::origin::AllowedOrigin;
pub use plumbing::public_address::{HostName, InvalidAddress, Network, PublicAddress};
pub use state::AppState;

use plumbing::middleware::{check_origin_and_caller, check_origin_and_views, check_origin_only};
use plumbing::openapi::operation::Operation;

/// `resource!(path, METHOD handler, …)` makes a resource with these methods. The response to any other method is 405, with
/// the list of these methods in its header `Allow`.
macro_rules! resource {
    ($path:literal, $($method:ident $module:ident::$handler:ident),+) => {
        web::resource($path)
            $(.route(web::route().guard($method()).to($module::$handler)))+
            .default_service(web::to(|| async { method_not_allowed(&[$(stringify!($method)),+]) }))
    };
}

/// The only place where the routes are named, except those of the UI. Makes the function that registers them, the list of them,
/// and the list of their descriptions: `resource::handler` is described by `resource::docs::handler`. All routes below one path
/// have the same middleware.
macro_rules! routes {
    ($($scope:literal through $middleware:ident { $($path:literal: $($method:ident $module:ident::$handler:ident),+;)+ })+) => {
        fn register(config: &mut web::ServiceConfig) {
            $(config.service(
                web::scope($scope)
                    .wrap(from_fn($middleware))
                    $(.service(resource!($path, $($method $module::$handler),+)))+
                    .default_service(web::to(|| async { Problem::not_found().error_response() })),
            );)+
        }

        /// Returns the method and the path of each route, including those of the UI. Each path with `GET` also has `HEAD`.
        #[cfg(feature = "testing")]
        #[must_use]
        pub fn route_table() -> Vec<(&'static str, &'static str)> {
            let api = vec![$($($((stringify!($method), concat!($scope, $path)),)+)+)+];
            api.into_iter().chain(ui::paths().map(|path| ("GET", path))).collect()
        }

        /// Returns the method, the path and the description of each route.
        fn operations() -> Vec<(&'static str, &'static str, Operation)> {
            let api = vec![
                $($($((stringify!($method), concat!($scope, $path), $module::docs::$handler()),)+)+)+
            ];
            api.into_iter().chain(ui::docs::all().map(|(path, operation)| ("GET", path, operation))).collect()
        }
    };
}

routes! {
    "/v1" through check_origin_and_views {
        "/tasks": GET tasks::list, POST create::create;
        "/tasks/batch": POST batch::create_many;
        "/tasks/cancel": POST bulk::cancel;
        "/tasks/{id}": GET tasks::show;
        "/tasks/{id}/events": GET tasks::events;
        "/tasks/{id}/cancel": POST tasks::cancel;
        "/tasks/{id}/escalate": POST tasks::escalate;
        "/tasks/{id}/retry": POST tasks::retry;
        "/leases": POST leases::take;
        "/leases/heartbeat": POST leases::heartbeat;
        "/leases/cancel-ack": POST leases::acknowledge;
        "/leases/finish": POST leases::finish;
        "/counters": GET bell::counters;
        "/bell/seen": POST bell::seen;
        "/queues": GET queues::list;
        "/queues/{queue}/pause": POST queues::pause;
        "/queues/{queue}/resume": POST queues::resume;
        "/schedules": GET schedules::list, POST schedules::create;
        "/schedules/{id}": GET schedules::show, DELETE schedules::remove;
        "/tokens": GET tokens::list, POST tokens::create;
        "/tokens/{id}": DELETE tokens::revoke;
        "/live": GET live::open;
        "/session": GET session::show, POST session::open, DELETE session::end;
        "/tickets": POST tickets::issue;
        "/log": GET log::read;
        "/log/head": GET log::head;
        "/views/digest": GET views::digest;
    }
    "/openapi.json" through check_origin_only { "": GET openapi::read; }
    "/healthz" through check_origin_only { "": GET health::alive; }
    "/readyz" through check_origin_only { "": GET health::ready; }
    "/metrics" through check_origin_and_caller { "": GET metrics::read; }
}

/// Registers all routes, below the prefix of the server's public address.
pub fn routes(config: &mut web::ServiceConfig, state: &AppState) {
    config.app_data(web::Data::new(state.clone())).app_data(state.bodies.clone()).app_data(state.reader.clone());
    match state.public_address.path_prefix.as_str() {
        "" => all_routes(config, ""),
        prefix => {
            let to_page = web::redirect("", format!("{prefix}/")).permanent();
            let below = web::scope(prefix).service(to_page).configure(|config| all_routes(config, prefix));
            config.service(below.service(nowhere()));
        }
    }
}

/// The routes of the UI come last because one of them is `/`.
fn all_routes(config: &mut web::ServiceConfig, prefix: &str) {
    config.configure(register).configure(|config| ui::configure(config, prefix));
}

/// The response to every request that no route accepts.
pub fn nowhere() -> impl HttpServiceFactory + 'static {
    let nothing = web::to(|| async { Problem::not_found().error_response() });
    web::scope("").wrap(from_fn(check_origin_only)).default_service(nothing)
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

fn method_not_allowed(methods: &[&str]) -> HttpResponse {
    let mut response = Problem::of_status(StatusCode::METHOD_NOT_ALLOWED).error_response();
    let allowed = methods.iter().flat_map(|method| if *method == "GET" { vec!["GET", "HEAD"] } else { vec![*method] });
    if let Ok(allow) = header::HeaderValue::from_str(&allowed.collect::<Vec<_>>().join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
