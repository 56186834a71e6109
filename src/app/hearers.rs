//! Whoever hears of events once they are in the views.

use std::sync::Arc;

use actix::{Actor, Addr, Recipient};

use crate::actors::capacity::Capacity;
use crate::actors::cascade::Cascade;
use crate::actors::create::UniqueKeys;
use crate::actors::dispatcher::Dispatcher;
use crate::actors::history::BULK_CANCEL;
use crate::actors::hub::Hub;
use crate::actors::kinds::Kinds;
use crate::actors::messages::Stop;
use crate::actors::metrics::{Meter, Metrics};
use crate::actors::projector::Committed;
use crate::actors::scheduler::{Firing, Scheduler};
use crate::actors::{ReadSide, Registry};
use crate::store::EventStore;

/// The actors that the projector tells.
pub(super) struct Hearers {
    pub(super) dispatcher: Addr<Dispatcher>,
    pub(super) hub: Addr<Hub>,
    cascade: Addr<Cascade>,
    scheduler: Addr<Scheduler>,
    meter: Addr<Meter>,
}

/// What they need of the rest.
pub(super) struct Surroundings<'a> {
    pub(super) store: &'a EventStore,
    pub(super) read: &'a ReadSide,
    pub(super) registry: &'a Registry,
    pub(super) capacity: &'a Arc<Capacity>,
    pub(super) settings: &'a Arc<Kinds>,
    pub(super) unique: &'a UniqueKeys,
    pub(super) metrics: &'a Metrics,
}

impl Hearers {
    /// Starts them all; the views must not move on before the projector is told of them. What a removal of a schedule
    /// waits for comes with them.
    pub(super) fn start(with: &Surroundings<'_>) -> (Self, Firing) {
        let Surroundings { store, read, registry, capacity, settings, unique, metrics } = with;
        let (registry, read) = (|| (*registry).clone(), || (*read).clone());
        let (scheduler, firing) = Scheduler::run(registry(), read(), (*unique).clone());
        let meter = Meter::new((*metrics).clone(), settings.names().chain([BULK_CANCEL]));
        let hearers = Self {
            dispatcher: Dispatcher::new(registry(), read(), Arc::clone(capacity), Arc::clone(settings)).start(),
            hub: Hub::new(read(), Arc::clone(capacity), store.epoch()).start(),
            cascade: Cascade::new(registry(), read(), (*store).clone(), Arc::clone(settings)).start(),
            scheduler,
            meter: meter.start(),
        };
        (hearers, firing)
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
