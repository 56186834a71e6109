//! The four actors that receive applied events from the projector: the dispatcher, the hub, the cascade and the scheduler.
//!
//! The dispatcher, the cascade and the scheduler act on what the views show: they start tasks, expire leases, cancel children
//! and create the tasks of schedules. Views that have not caught up with the log may show a task as running that ended long
//! ago. So these three actors start when the views have caught up for the first time. At their start they read the views.
//!
//! - **Before the views have caught up**: the projector sends them no events. Other messages wait in their mailboxes.
//! - **When the views have caught up**: from then on the projector sends every batch that concerns an actor. The actor starts
//!   a little later and reads the views at its start. So it sees there every event that was not sent to it. If the views also
//!   show a batch that was sent, the actor recognises its positions and skips it.
//! - **After that**: the actors run until the process ends, also while the views are stale.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::channel::channel;
use actix::{Actor, Addr, Arbiter, Context};

use super::threads::Threads;
use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::policies::KindPolicies;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::dispatch::shares::Shares;
use crate::projection::freshness::Freshness;
use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::Subscriber;
use crate::push::hub::Hub;
use crate::push::open_sockets::OpenSockets;
use crate::reactions::cascade::Cascade;
use crate::reactions::scheduler::{CreationLock, Scheduler};
use crate::store::{EventStore, Recorded};
use crate::streams::create::UniqueKeys;
use crate::streams::registry::Registry;

/// How many messages fit into the mailbox of an actor that has not started yet. `do_send` ignores this bound.
const MAILBOX_CAPACITY: usize = 16;

/// The actors that receive applied events from the projector.
pub(super) struct SubscriberActors {
    pub(super) dispatcher: Addr<Dispatcher>,
    pub(super) hub: Addr<Hub>,
    pub(super) cascade: Addr<Cascade>,
    pub(super) scheduler: Addr<Scheduler>,
    open_sockets: OpenSockets,
    freshness: Freshness,
}

/// The parts of a Taskbell that its actors and its HTTP routes share.
#[derive(Clone)]
pub(super) struct SharedParts {
    pub(super) store: EventStore,
    pub(super) reader: ViewsReader,
    pub(super) registry: Registry,
    pub(super) queue_and_offers: Arc<QueueAndOffers>,
    pub(super) kind_policies: Arc<KindPolicies>,
    pub(super) unique_keys: UniqueKeys,
    /// The removal of a schedule uses it to wait until no creation of a task runs.
    pub(super) creation_lock: CreationLock,
    pub(super) freshness: Freshness,
}

impl SubscriberActors {
    /// Starts the hub now, and the other actors as soon as the views have caught up.
    /// `stall_timeout` is that of websockets.
    pub(super) fn start(parts: SharedParts, stall_timeout: Duration, threads: &Threads) -> Self {
        let SharedParts {
            store,
            reader,
            registry,
            queue_and_offers,
            kind_policies,
            unique_keys,
            creation_lock,
            freshness,
        } = parts;
        let open_sockets = OpenSockets::default();
        let dispatcher = Dispatcher::new(
            registry.clone(),
            reader.clone(),
            Arc::clone(&queue_and_offers),
            Arc::clone(&kind_policies),
        );
        let shares = Shares::default();
        let dispatcher =
            if store.is_shared() { dispatcher.on_cluster(store.clone(), shares.clone()) } else { dispatcher };
        let hub = Hub::new(
            reader.clone(),
            queue_and_offers,
            store.clone(),
            freshness.clone(),
            open_sockets.clone(),
            stall_timeout,
        );
        let scheduler =
            Scheduler::new(registry.clone(), reader.clone(), unique_keys, creation_lock).with_shares(shares);
        let scheduler = if store.is_shared() { scheduler.on_cluster(store.clone()) } else { scheduler };
        let cascade = Cascade::new(registry, reader, store, kind_policies);
        Self {
            dispatcher: start_once_caught_up(&threads.dispatch, &freshness, dispatcher),
            hub: Hub::start_in_arbiter(&threads.push.handle(), |_| hub),
            cascade: start_once_caught_up(&threads.reactions, &freshness, cascade),
            scheduler: start_once_caught_up(&threads.reactions, &freshness, scheduler),
            open_sockets,
            freshness,
        }
    }

    /// The addresses of the actors for the projector, each with the condition for the events that it receives.
    pub(super) fn for_projector(&self) -> Vec<Subscriber> {
        let open_sockets = self.open_sockets.clone();
        vec![
            Subscriber::new(self.dispatcher.clone().recipient(), self.once_caught_up(Dispatcher::concerns)),
            Subscriber::new(self.hub.clone().recipient(), move |_| !open_sockets.is_empty()),
            Subscriber::new(self.cascade.clone().recipient(), self.once_caught_up(Cascade::concerns)),
            Subscriber::new(self.scheduler.clone().recipient(), self.once_caught_up(Scheduler::concerns)),
        ]
    }

    /// The condition `concerns`, but no event meets it until the views have caught up.
    fn once_caught_up(&self, concerns: fn(&Recorded) -> bool) -> impl Fn(&Recorded) -> bool + Send + 'static {
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

/// Starts the actor on the arbiter's thread when the views have caught up for the first time. Its address is valid at once.
fn start_once_caught_up<A>(arbiter: &Arbiter, freshness: &Freshness, actor: A) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Send,
{
    let (sender, receiver) = channel(MAILBOX_CAPACITY);
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
    use crate::projection::reader::split_views;
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
        let actor = start_once_caught_up(&arbiter, &freshness, Reporter(reports.clone()));
        actor.do_send(Request);
        assert!(actor.connected(), "an actor that has not started looks as if it had stopped");
        // The thread runs its futures in order. If the actor started too early, it would start before the last of these.
        for _ in 0..3 {
            let reports = reports.clone();
            arbiter.spawn(async move { reports.send("a future of the thread").unwrap() });
            assert_eq!(reported.recv().await, Some("a future of the thread"));
        }
        let following = actix_rt::spawn(freshness.follow(EventStore::memory(), split_views(Views::default()).1));
        assert_eq!(reported.recv().await, Some("started"));
        assert_eq!(reported.recv().await, Some("handled"));
        following.abort();
        arbiter.stop();
    }
}
