//! Watches the actors that live as long as the process.
//!
//! An actor that panics ends alone, and the rest of the process would go on without it: a server without its dispatcher
//! accepts tasks that no worker ever gets. So each of them is looked at a few times a second. The first one that is gone is
//! named by `/readyz`, and a server ends its process, so that its supervisor starts another one, which rebuilds all actors
//! from the log. (The actor of a single stream is not watched: the next command on the stream starts another one.)

use std::time::Duration;

use actix::{Actor, Addr, Context};
use tokio::task::JoinHandle;

use crate::http::actor_health::ActorHealth;

/// How often the actors are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// An actor that is watched, by the name that `/readyz` shows.
pub(super) struct Watched {
    name: &'static str,
    is_alive: Box<dyn Fn() -> bool>,
}

impl Watched {
    pub(super) fn new(name: &'static str, is_alive: impl Fn() -> bool + 'static) -> Self {
        Self { name, is_alive: Box::new(is_alive) }
    }

    pub(super) fn actor<A: Actor<Context = Context<A>>>(name: &'static str, actor: &Addr<A>) -> Self {
        let actor = actor.downgrade();
        Self::new(name, move || actor.upgrade().is_some_and(|actor| actor.connected()))
    }
}

/// The task that looks.
pub(super) struct Watch {
    actor_health: ActorHealth,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(watched: Vec<Watched>) -> Self {
        let actor_health = ActorHealth::default();
        let task = actix_rt::spawn(watch(watched, actor_health.clone()));
        Self { actor_health, task }
    }

    pub(super) fn actor_health(&self) -> ActorHealth {
        self.actor_health.clone()
    }

    /// Looks no more: from now on the actors stop because they are told to.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn watch(watched: Vec<Watched>, actor_health: ActorHealth) {
    loop {
        if let Some(stopped) = watched.iter().find(|watched| !(watched.is_alive)()) {
            tracing::error!(
                actor = stopped.name,
                "an actor has stopped unexpectedly; this instance is not ready any more"
            );
            return actor_health.set_stopped(stopped.name);
        }
        actix_rt::time::sleep(EVERY).await;
    }
}
