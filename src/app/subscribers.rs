//! The actors that receive from the projector what it has applied, each on a thread of its own or beside others that do not
//! hurry.
//!
//! All but the hub act on what the views show: they start tasks, expire leases, fire schedules, pass cancels on. Views that
//! have not caught up with the log show tasks as running that ended long ago. So these actors start when the views have caught
//! up for the first time, and make their tables from the views then:
//!
//! - **Before**: no event is sent to them, and other messages wait in their mailboxes.
//! - **During**: once the views have caught up, every further batch is sent. An actor reads the views when it starts, which is
//!   later, so they show every batch that was not sent. A batch that they show and that was sent too is skipped by its position.
//! - **After**: they run until the process ends, also while the views are stale.

use std::sync::Arc;

use actix::dev::channel::channel;
use actix::{Actor, Addr, Arbiter, Context};

use super::threads::Threads;
use crate::dispatch::capacity::Capacity;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::dispatch::shares::Shares;
use crate::projection::freshness::Freshness;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::Subscriber;
use crate::push::audience::Audience;
use crate::push::hub::Hub;
use crate::reactions::cascade::Cascade;
use crate::reactions::scheduler::{Firing, Scheduler};
use crate::store::{EventStore, Recorded};
use crate::streams::create::UniqueKeys;
use crate::streams::registry::Registry;

/// Messages that an actor's mailbox takes before it starts.
const MAILBOX: usize = 16;

/// The actors that receive from the projector.
pub(super) struct Subscribers {
    pub(super) dispatcher: Addr<Dispatcher>,
    pub(super) hub: Addr<Hub>,
    pub(super) cascade: Addr<Cascade>,
    pub(super) scheduler: Addr<Scheduler>,
    audience: Audience,
    freshness: Freshness,
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
    pub(super) freshness: Freshness,
}

impl Subscribers {
    /// Starts them all.
    pub(super) fn start(parts: Parts, threads: &Threads) -> Self {
        let Parts { store, read, registry, capacity, settings, unique, firing, freshness } = parts;
        let audience = Audience::default();
        let dispatcher = Dispatcher::new(registry.clone(), read.clone(), Arc::clone(&capacity), Arc::clone(&settings));
        let shares = Shares::default();
        let dispatcher =
            if store.is_shared() { dispatcher.on_cluster(store.clone(), shares.clone()) } else { dispatcher };
        let hub = Hub::new(read.clone(), capacity, store.clone(), freshness.clone(), audience.clone());
        let scheduler = Scheduler::new(registry.clone(), read.clone(), unique, firing).with_shares(shares);
        let scheduler = if store.is_shared() { scheduler.on_cluster(store.clone()) } else { scheduler };
        let cascade = Cascade::new(registry, read, store, settings);
        Self {
            dispatcher: start_caught_up(&threads.dispatch, &freshness, dispatcher),
            hub: Hub::start_in_arbiter(&threads.push.handle(), |_| hub),
            cascade: start_caught_up(&threads.reactions, &freshness, cascade),
            scheduler: start_caught_up(&threads.reactions, &freshness, scheduler),
            audience,
            freshness,
        }
    }

    /// Which events each of them receives.
    pub(super) fn subscribers(&self) -> Vec<Subscriber> {
        let audience = self.audience.clone();
        vec![
            Subscriber::new(self.dispatcher.clone().recipient(), self.caught_up(Dispatcher::concerns)),
            Subscriber::new(self.hub.clone().recipient(), move |_| !audience.is_empty()),
            Subscriber::new(self.cascade.clone().recipient(), self.caught_up(Cascade::concerns)),
            Subscriber::new(self.scheduler.clone().recipient(), self.caught_up(Scheduler::concerns)),
        ]
    }

    fn caught_up(&self, concerns: fn(&Recorded) -> bool) -> impl Fn(&Recorded) -> bool + Send + 'static {
        let freshness = self.freshness.clone();
        move |recorded| concerns(recorded) && freshness.has_caught_up()
    }

    pub(super) fn stop(&self) {
        self.dispatcher.do_send(Stop);
        self.hub.do_send(Stop);
        self.cascade.do_send(Stop);
        self.scheduler.do_send(Stop);
    }
}

/// Starts the actor on the arbiter's thread once the views have caught up for the first time.
fn start_caught_up<A>(arbiter: &Arbiter, freshness: &Freshness, actor: A) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Send,
{
    let (sender, receiver) = channel(MAILBOX);
    let freshness = freshness.clone();
    arbiter.spawn(async move {
        freshness.wait_until_caught_up().await;
        Context::with_receiver(receiver).run(actor);
    });
    Addr::new(sender)
}

#[cfg(test)]
mod tests {
    use actix::{Handler, Message};
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;
    use crate::projection::reader::sides;
    use crate::views::Views;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Request;

    struct Reporter(UnboundedSender<&'static str>);

    impl Actor for Reporter {
        type Context = Context<Self>;

        fn started(&mut self, _: &mut Context<Self>) {
            self.0.send("started").unwrap();
        }
    }

    impl Handler<Request> for Reporter {
        type Result = ();

        fn handle(&mut self, _: Request, _: &mut Context<Self>) {
            self.0.send("handled").unwrap();
        }
    }

    #[actix_rt::test]
    async fn an_actor_starts_once_the_views_have_caught_up_and_handles_what_was_sent_to_it_before() {
        let (arbiter, freshness) = (Arbiter::new(), Freshness::new(false));
        let (reports, mut reported) = unbounded_channel();
        let actor = start_caught_up(&arbiter, &freshness, Reporter(reports.clone()));
        actor.do_send(Request);
        assert!(actor.connected(), "it is not taken for one that has stopped");
        // The thread works off what it is given in order: by then it would have started the actor.
        for _ in 0..3 {
            let reports = reports.clone();
            arbiter.spawn(async move { reports.send("a turn of the thread").unwrap() });
            assert_eq!(reported.recv().await, Some("a turn of the thread"));
        }
        let following = actix_rt::spawn(freshness.follow(EventStore::memory(), sides(Views::default()).1));
        assert_eq!(reported.recv().await, Some("started"));
        assert_eq!(reported.recv().await, Some("handled"));
        following.abort();
        arbiter.stop();
    }
}
