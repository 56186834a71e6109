//! The actors that the projector tells of events, each on the thread that its haste asks for.

use std::sync::Arc;

use actix::{Actor, Addr};

use super::threads::Threads;
use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::Subscriber;
use crate::push::audience::Audience;
use crate::push::hub::Hub;
use crate::reactions::cascade::Cascade;
use crate::reactions::scheduler::{Firing, Scheduler};
use crate::store::EventStore;
use crate::streams::create::UniqueKeys;
use crate::streams::registry::Registry;

/// The actors that the projector tells.
pub(super) struct Subscribers {
    pub(super) dispatcher: Addr<Dispatcher>,
    pub(super) hub: Addr<Hub>,
    pub(super) cascade: Addr<Cascade>,
    pub(super) scheduler: Addr<Scheduler>,
    audience: Audience,
}

/// What they need of the rest.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) store: EventStore,
    pub(super) read: ViewsReader,
    pub(super) registry: Registry,
    pub(super) capacity: Arc<Capacity>,
    pub(super) settings: Arc<KindPolicies>,
    pub(super) unique: UniqueKeys,
    /// What the removal of a schedule waits for.
    pub(super) firing: Firing,
}

impl Subscribers {
    /// Starts them all.
    pub(super) fn start(parts: Parts, threads: &Threads) -> Self {
        let Parts { store, read, registry, capacity, settings, unique, firing } = parts;
        let (dispatch, push, reactions) =
            (threads.dispatch.handle(), threads.push.handle(), threads.reactions.handle());
        let audience = Audience::default();
        let dispatcher = Dispatcher::new(registry.clone(), read.clone(), Arc::clone(&capacity), Arc::clone(&settings));
        let hub = Hub::new(read.clone(), capacity, store.epoch(), audience.clone());
        let scheduler = Scheduler::new(registry.clone(), read.clone(), unique, firing);
        let cascade = Cascade::new(registry, read, store, settings);
        Self {
            dispatcher: Dispatcher::start_in_arbiter(&dispatch, |_| dispatcher),
            hub: Hub::start_in_arbiter(&push, |_| hub),
            cascade: Cascade::start_in_arbiter(&reactions, |_| cascade),
            scheduler: Scheduler::start_in_arbiter(&reactions, |_| scheduler),
            audience,
        }
    }

    /// What each of them is told.
    pub(super) fn subscribers(&self) -> Vec<Subscriber> {
        let audience = self.audience.clone();
        vec![
            Subscriber::new(self.dispatcher.clone().recipient(), Dispatcher::concerns),
            Subscriber::new(self.hub.clone().recipient(), move |_| !audience.is_empty()),
            Subscriber::new(self.cascade.clone().recipient(), Cascade::concerns),
            Subscriber::new(self.scheduler.clone().recipient(), Scheduler::concerns),
        ]
    }

    pub(super) fn stop(&self) {
        self.dispatcher.do_send(Stop);
        self.hub.do_send(Stop);
        self.cascade.do_send(Stop);
        self.scheduler.do_send(Stop);
    }
}
