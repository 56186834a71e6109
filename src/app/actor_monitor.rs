//! Checks that the long-lived actors still run.
//!
//! When an actor panics, only that actor ends and the process goes on. But a server without its dispatcher, for example,
//! accepts tasks and never gives them to a worker. So this module checks each long-lived actor four times a second. When one
//! has stopped, `/readyz` shows its name, and a server process ends. The process manager, such as systemd, then starts a new process, which rebuilds
//! all actors from the log. The actors of single streams are not checked, because the next command on a stream starts its
//! actor again.

use std::time::Duration;

use actix::{Actor, Addr, Context};
use tokio::task::JoinHandle;

use crate::http::actor_health::ActorHealth;

/// The time between two checks of the actors.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// A monitored actor, or a group of them, with the name that `/readyz` shows.
pub(super) struct MonitoredActor {
    name: &'static str,
    is_alive: Box<dyn Fn() -> bool>,
}

impl MonitoredActor {
    /// `is_alive` says whether the actor still runs.
    pub(super) fn new(name: &'static str, is_alive: impl Fn() -> bool + 'static) -> Self {
        Self { name, is_alive: Box::new(is_alive) }
    }

    /// The actor with this address. The monitor does not keep the actor alive.
    pub(super) fn of_address<A: Actor<Context = Context<A>>>(name: &'static str, actor: &Addr<A>) -> Self {
        let actor = actor.downgrade();
        Self::new(name, move || actor.upgrade().is_some_and(|actor| actor.connected()))
    }
}

/// The tokio task that checks the actors, and its result.
pub(super) struct ActorMonitor {
    actor_health: ActorHealth,
    task: JoinHandle<()>,
}

impl ActorMonitor {
    pub(super) fn start(actors: Vec<MonitoredActor>) -> Self {
        let actor_health = ActorHealth::default();
        let task = actix_rt::spawn(check_actors(actors, actor_health.clone()));
        Self { actor_health, task }
    }

    pub(super) fn actor_health(&self) -> ActorHealth {
        self.actor_health.clone()
    }

    /// Ends the checks. It must be called before the actors are stopped on purpose.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

/// Checks the actors until one has stopped, and stores its name in `actor_health`.
async fn check_actors(actors: Vec<MonitoredActor>, actor_health: ActorHealth) {
    loop {
        if let Some(stopped) = actors.iter().find(|actor| !(actor.is_alive)()) {
            tracing::error!(
                actor = stopped.name,
                "an actor has stopped unexpectedly; this instance is not ready any more"
            );
            return actor_health.set_stopped(stopped.name);
        }
        actix_rt::time::sleep(CHECK_INTERVAL).await;
    }
}
