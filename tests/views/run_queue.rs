//! What may run next: turns, limits, keys, pauses, offers.

use taskbell::task::queue::{Paused, QueueEvent, Resumed};
use taskbell::task::{Command, TaskId};
use taskbell::views::{Limits, RunQueue, Views, Waiting, Wants};

use super::history::{Created, Log, plain, start, succeed};

/// A log, its views, and what may run next.
struct Desk {
    log: Log,
    views: Views,
    pending: RunQueue,
}

impl Desk {
    fn new(limits: Limits) -> Self {
        Self { log: Log::default(), views: Views::default(), pending: RunQueue::new(limits) }
    }

    fn task(&mut self, with: impl FnOnce(&mut Created)) -> TaskId {
        let mut created = plain("ann", "x");
        with(&mut created);
        let id = self.log.create(created, "ann");
        self.follow();
        id
    }

    fn does(&mut self, id: TaskId, command: &Command) {
        self.log.execute(id, command, "bob").unwrap();
        self.follow();
    }

    fn follow(&mut self) {
        let from = usize::try_from(self.views.position().0).unwrap();
        for recorded in &self.log.events[from..] {
            if let Some(changed) = self.views.apply(recorded).task {
                self.pending.settle(changed.before.as_ref(), &changed.after);
            }
        }
    }

    /// The next, by anybody.
    fn next(&mut self) -> Option<TaskId> {
        self.pending.offer(&Wants::default())
    }

    /// All that may run now, in their turns.
    fn all(&mut self) -> Vec<TaskId> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn waits_for(&self, id: TaskId) -> Option<Waiting> {
        self.pending.obstacle(self.views.get(id).unwrap())
    }
}

fn in_queue(name: &str) -> impl FnOnce(&mut Created) {
    move |new| name.clone_into(&mut new.queue)
}

fn with_key(key: &str) -> impl FnOnce(&mut Created) {
    move |new| new.concurrency_key = Some(key.to_owned())
}

#[test]
fn higher_priority_goes_first_then_the_older_task() {
    let mut desk = Desk::new(Limits::default());
    let ids = [0, 5, 5, -1].map(|priority| desk.task(|new| new.priority = priority));
    assert_eq!(desk.all(), [ids[1], ids[2], ids[0], ids[3]]);
    assert_eq!(desk.next(), None, "nothing is offered twice");
}

#[test]
fn a_flood_in_one_queue_does_not_starve_another() {
    let mut desk = Desk::new(Limits::default());
    let flood: Vec<_> = (0..100).map(|_| desk.task(in_queue("flood"))).collect();
    let few = [0; 3].map(|_| desk.task(in_queue("quiet")));
    let turns = desk.all();
    assert_eq!(turns.len(), 103);
    let last = turns.iter().position(|id| *id == few[2]).unwrap();
    assert!(last <= 6, "three of the quiet queue came within {} turns", last + 1);
    let kept: Vec<_> = turns.into_iter().filter(|id| flood.contains(id)).collect();
    assert_eq!(kept, flood, "each queue keeps its own order");
}

#[test]
fn a_queue_that_was_empty_has_no_claim_on_the_turns_that_it_did_not_need() {
    let mut desk = Desk::new(Limits::default());
    for _ in 0..10 {
        desk.task(in_queue("busy"));
    }
    for _ in 0..5 {
        desk.next();
    }
    let late: Vec<_> = (0..5).map(|_| desk.task(in_queue("late"))).collect();
    let turns = desk.all();
    let first_four = turns[..4].iter().filter(|id| late.contains(id)).count();
    assert_eq!(first_four, 2, "they take turns from now on");
}

#[test]
fn no_more_of_a_kind_run_than_may_and_what_is_offered_counts() {
    let limits = Limits { kinds: [("a".to_owned(), 2)].into(), ..Limits::default() };
    let mut desk = Desk::new(limits);
    let of = |kind: &str| {
        let kind = kind.to_owned();
        move |new: &mut Created| new.kind = kind
    };
    let a = [0; 3].map(|_| desk.task(of("a")));
    let b = desk.task(of("b"));
    assert_eq!(desk.all(), [a[0], a[1], b]);
    assert_eq!(desk.waits_for(a[2]), Some(Waiting::Limit));
    desk.does(a[0], &start("w"));
    assert_eq!(desk.next(), None, "its start changes nothing: it counted already");
    desk.does(a[0], &succeed(1, "done"));
    assert_eq!(desk.all(), [a[2]]);
}

#[test]
fn no_more_of_a_queue_run_than_may() {
    let limits = Limits { queues: [("small".to_owned(), 1)].into(), ..Limits::default() };
    let mut desk = Desk::new(limits);
    let small = [0; 2].map(|_| desk.task(in_queue("small")));
    let other = desk.task(in_queue("wide"));
    assert_eq!(desk.all(), [small[0], other]);
    desk.pending.take_back(small[0]);
    assert_eq!(desk.all(), [small[0]], "an offer that came to nothing goes back to its place");
}

#[test]
fn tasks_with_one_key_share_a_limit_whatever_their_kind_and_queue() {
    let mut desk = Desk::new(Limits { per_key: Some(2), ..Limits::default() });
    let mine = [0; 3].map(|_| desk.task(with_key("acme")));
    let elsewhere = desk.task(|new| {
        with_key("acme")(new);
        new.kind = "another".to_owned();
        new.queue = "another".to_owned();
    });
    let yours = desk.task(with_key("umbrella"));
    let free = desk.task(|_| {});
    let turns = desk.all();
    assert_eq!(turns.len(), 4);
    assert!(turns.contains(&yours) && turns.contains(&free));
    let left = [mine[0], mine[1], mine[2], elsewhere].into_iter().filter(|id| !turns.contains(id));
    for id in left {
        assert_eq!(desk.waits_for(id), Some(Waiting::Limit));
    }
    let running = turns.iter().find(|id| mine.contains(id)).copied().unwrap();
    desk.does(running, &start("w"));
    desk.does(running, &succeed(1, "done"));
    assert_eq!(desk.all().len(), 1);
}

#[test]
fn a_hundred_thousand_behind_one_key_do_not_slow_the_others() {
    let mut desk = Desk::new(Limits::default());
    let many: Vec<_> = (0..1000).map(|_| desk.task(with_key("acme"))).collect();
    let free = desk.task(|_| {});
    assert_eq!(desk.all(), [many[0], free]);
}

#[test]
fn one_may_run_at_once_with_a_key_where_nothing_is_set() {
    let mut desk = Desk::new(Limits::default());
    let ids = [0; 3].map(|_| desk.task(with_key("acme")));
    for id in ids {
        assert_eq!(desk.all(), [id]);
        desk.does(id, &start("w"));
        desk.does(id, &succeed(1, "done"));
    }
}

#[test]
fn nothing_of_a_paused_queue_is_offered_until_it_is_resumed() {
    let mut desk = Desk::new(Limits::default());
    let id = desk.task(in_queue("q"));
    desk.pending.hear("q", &QueueEvent::Paused(Paused { reason: None }));
    desk.pending.hear("empty", &QueueEvent::Paused(Paused { reason: None }));
    let later = desk.task(in_queue("empty"));
    assert_eq!(desk.next(), None);
    assert_eq!(desk.waits_for(id), Some(Waiting::Paused));
    desk.pending.hear("q", &QueueEvent::Resumed(Resumed { reason: None }));
    assert_eq!(desk.all(), [id]);
    desk.pending.hear("empty", &QueueEvent::Resumed(Resumed { reason: None }));
    assert_eq!(desk.all(), [later]);
}

#[test]
fn a_cancel_that_overtakes_its_offer_frees_what_it_held() {
    let mut desk = Desk::new(Limits { per_key: Some(1), ..Limits::default() });
    let first = desk.task(with_key("acme"));
    let second = desk.task(with_key("acme"));
    assert_eq!(desk.all(), [first]);
    desk.does(first, &Command::RequestCancel { reason: None, policy: <_>::default() });
    desk.pending.forget(first);
    assert_eq!(desk.all(), [second], "the refused start comes after the cancel and changes nothing");
}

#[test]
fn workers_get_only_what_they_want_and_never_this_servers_own_kinds_unasked() {
    let mut desk = Desk::new(Limits::default());
    desk.task(|new| new.kind = "taskbell.bulk-cancel".to_owned());
    let other = desk.task(|new| {
        new.kind = "b".to_owned();
        new.queue = "slow".to_owned();
    });
    assert_eq!(desk.all(), [other]);
    desk.pending.take_back(other);
    let wants = |kind: &str, queue: &str| Wants { kinds: Some(vec![kind.into()]), queues: Some(vec![queue.into()]) };
    assert_eq!(desk.pending.offer(&wants("b", "default")), None);
    assert_eq!(desk.pending.offer(&wants("a", "slow")), None);
    assert_eq!(desk.pending.offer(&wants("b", "slow")), Some(other));
}
