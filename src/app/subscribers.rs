//! Whoever hears of events once they are in the views.

use std::sync::Arc;

use actix::{Actor, Addr, Recipient};

use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::projection::metrics::{Meter, Metrics};
use crate::projection::projector::Committed;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::replay::BULK_CANCEL;
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
    cascade: Addr<Cascade>,
    scheduler: Addr<Scheduler>,
    meter: Addr<Meter>,
}

/// What they need of the rest.
pub(super) struct Surroundings<'a> {
    pub(super) store: &'a EventStore,
    pub(super) read: &'a ViewsReader,
    pub(super) registry: &'a Registry,
    pub(super) capacity: &'a Arc<Capacity>,
    pub(super) settings: &'a Arc<KindPolicies>,
    pub(super) unique: &'a UniqueKeys,
    pub(super) metrics: &'a Metrics,
}

impl Subscribers {
    /// Starts them all; the views must not move on before the projector is told of them. What a removal of a schedule
    /// waits for comes with them.
    pub(super) fn start(with: &Surroundings<'_>) -> (Self, Firing) {
        let Surroundings { store, read, registry, capacity, settings, unique, metrics } = with;
        let (registry, read) = (|| (*registry).clone(), || (*read).clone());
        let firing = Firing::default();
        let scheduler = Scheduler::new(registry(), read(), (*unique).clone(), firing.clone()).start();
        let meter = Meter::new((*metrics).clone(), settings.names().chain([BULK_CANCEL]));
        let subscribers = Self {
            dispatcher: Dispatcher::new(registry(), read(), Arc::clone(capacity), Arc::clone(settings)).start(),
            hub: Hub::new(read(), Arc::clone(capacity), store.epoch()).start(),
            cascade: Cascade::new(registry(), read(), (*store).clone(), Arc::clone(settings)).start(),
            scheduler,
            meter: meter.start(),
        };
        (subscribers, firing)
    }

    /// Who is to be told.
    pub(super) fn recipients(&self) -> Vec<Recipient<Committed>> {
        vec![
            self.dispatcher.clone().recipient(),
            self.hub.clone().recipient(),
            self.cascade.clone().recipient(),
            self.scheduler.clone().recipient(),
            self.meter.clone().recipient(),
        ]
    }

    /// Nobody needs them any more.
    pub(super) fn stop(&self) {
        self.dispatcher.do_send(Stop);
        self.hub.do_send(Stop);
        self.cascade.do_send(Stop);
        self.scheduler.do_send(Stop);
        self.meter.do_send(Stop);
    }
}
