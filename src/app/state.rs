//! Makes the state that the HTTP handlers share.

use std::collections::HashSet;
use std::sync::Arc;

use actix::Addr;

use super::subscribers::{SharedParts, SubscriberActors};
use crate::http::actor_health::ActorHealth;
use crate::http::identity::tickets::Tickets;
use crate::http::identity::token_uses::TokenUses;
use crate::http::identity::verifiers::Verifiers;
use crate::http::open_tasks::OpenTasks;
use crate::http::plumbing::body::Bodies;
use crate::http::plumbing::quota::{Quota, Resource};
use crate::http::plumbing::scans::Scans;
use crate::http::{AppState, ClientLimits};
use crate::projection::metrics::Metrics;
use crate::projection::projector::Projector;
use crate::projection::replay::Replayer;
use crate::streams::keyed_lock::KeyedLock;
use crate::work::Handlers;

/// The state of these parts. The caller sets the public address and the allowed origins.
pub(super) fn app_state(
    parts: SharedParts,
    (handlers, kinds, metrics, limits, auth_required, verifiers): (
        Handlers,
        Option<Arc<HashSet<String>>>,
        Metrics,
        ClientLimits,
        bool,
        Verifiers,
    ),
    subscribers: &SubscriberActors,
    (projector, replayer): (Addr<Projector>, Addr<Replayer>),
    actor_health: ActorHealth,
) -> AppState {
    let SharedParts { store, reader, registry, queue_and_offers, kind_policies, unique_keys, creation_lock, freshness } =
        parts;
    AppState {
        registry,
        reader,
        store,
        dispatcher: subscribers.dispatcher.clone(),
        progress_recipient: projector.recipient(),
        replayer,
        hub: subscribers.hub.clone(),
        handlers,
        queue_and_offers,
        policies: kind_policies,
        allowed_kinds: kinds,
        idempotency_keys: KeyedLock::default(),
        unique_keys,
        creation_lock,
        bodies: Bodies::new(&limits),
        metrics,
        actor_health,
        freshness,
        auth_required,
        allowed_origins: Arc::new([]),
        tickets: Tickets::default(),
        verifiers,
        token_uses: TokenUses::default(),
        sockets: Quota::new(Resource::Sockets, limits.sockets),
        long_polls: Quota::new(Resource::LongPolls, limits.long_polls),
        open_tasks: OpenTasks::new(limits.tasks_per_owner),
        public_address: Arc::default(),
        scans: Scans::default(),
        limits: Arc::new(limits),
    }
}
