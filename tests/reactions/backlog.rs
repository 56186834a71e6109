//! Which children of a cancelled parent need a request, and how many of them one turn of the cascade takes.

use std::sync::Arc;

use taskbell::reactions::parents_to_cancel::{CHECKS_PER_ROUND, ChildBatch, ParentsToCancel, REQUESTS_PER_ROUND};
use taskbell::store::{Append, EventStore, Expected, LogEvent, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::event::{CancelLadder, CancelRequested, Created};
use taskbell::task::{Event, Position, Revision, TaskId};
use taskbell::views::Views;

/// A log, its views and the parents that the cascade has to handle. New events are applied at once.
struct BacklogFixture {
    store: EventStore,
    views: Views,
    parents: ParentsToCancel,
}

impl BacklogFixture {
    fn new() -> Self {
        Self { store: EventStore::memory(), views: Views::default(), parents: ParentsToCancel::default() }
    }

    async fn record(&mut self, events: Vec<(TaskId, Expected, Event)>) {
        let append = |(task, expected, event): (TaskId, Expected, Event)| {
            let meta = Meta {
                actor: "ann".into(),
                via: Via::Http,
                correlation_id: new_id(),
                causation_id: None,
                request_id: None,
            };
            let events = vec![NewEvent { id: new_id(), time: now(), meta, event: LogEvent::Task(event) }];
            Append { stream: StreamName::task(task), expected, events }
        };
        self.store.append_many(events.into_iter().map(append).collect()).await;
        let recorded = self.store.read_all(self.views.position(), usize::MAX).await.unwrap();
        for recorded in &recorded {
            self.views.apply(recorded);
        }
        for recorded in &recorded {
            self.parents.push_event(recorded, &self.views);
        }
    }

    async fn create(&mut self, parent: Option<TaskId>, count: usize) -> Vec<TaskId> {
        let ids: Vec<_> = (0..count).map(|_| TaskId::from_uuid(new_id())).collect();
        self.record(ids.iter().map(|id| (*id, Expected::NoStream, created(parent))).collect()).await;
        ids
    }

    async fn cancel(&mut self, tasks: &[TaskId]) {
        let request = |task: &TaskId| (*task, Expected::Revision(Revision(0)), cancel_requested());
        self.record(tasks.iter().map(request).collect()).await;
    }

    fn take_turn(&mut self) -> Vec<ChildBatch> {
        self.parents.take_round(&self.views)
    }

    /// Takes turns until no parent is left, and returns the children of each turn. If a turn leaves children of a
    /// parent, the parent is added to the list again.
    fn all_turns(&mut self) -> Vec<Vec<TaskId>> {
        let mut turns = Vec::new();
        while !self.parents.is_empty() {
            let turn = self.take_turn();
            self.parents.extend(turn.iter().filter_map(|batch| batch.rest));
            turns.push(turn.into_iter().flat_map(|batch| batch.children).collect());
        }
        turns
    }
}

fn created(parent: Option<TaskId>) -> Event {
    Event::Created(Arc::new(Created {
        kind: "k".into(),
        title: "t".into(),
        owner: "ann".into(),
        input: taskbell::JsonText::default(),
        queue: "q".into(),
        priority: 0,
        run_at: None,
        max_attempts: 1,
        timeout_s: None,
        labels: std::collections::BTreeMap::new(),
        parent,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }))
}

fn cancel_requested() -> Event {
    let policy = CancelLadder { ask_for_ms: None, interrupt_for_ms: None };
    Event::CancelRequested(CancelRequested { reason: None, policy })
}

#[tokio::test]
async fn each_child_that_has_no_request_is_in_one_turn_and_a_turn_has_a_hundred() {
    let mut fixture = BacklogFixture::new();
    let parent = fixture.create(None, 1).await[0];
    let children = fixture.create(Some(parent), 250).await;
    fixture.cancel(&[parent]).await;
    let turns = fixture.all_turns();
    assert_eq!(turns.iter().map(Vec::len).collect::<Vec<_>>(), [REQUESTS_PER_ROUND, REQUESTS_PER_ROUND, 50]);
    assert_eq!(turns.concat(), children);
}

#[tokio::test]
async fn a_turn_checks_a_thousand_children_however_many_need_no_request() {
    let mut fixture = BacklogFixture::new();
    let parent = fixture.create(None, 1).await[0];
    let requested = fixture.create(Some(parent), 2 * CHECKS_PER_ROUND + 1).await;
    let last = fixture.create(Some(parent), 1).await[0];
    fixture.cancel(&requested).await;
    fixture.cancel(&[parent]).await;
    assert_eq!(fixture.all_turns(), [vec![], vec![], vec![last]]);
}

#[tokio::test]
async fn a_parent_of_many_lets_others_go_first_after_each_turn() {
    let mut fixture = BacklogFixture::new();
    let parents = fixture.create(None, 2).await;
    let first = fixture.create(Some(parents[0]), REQUESTS_PER_ROUND + 1).await;
    let second = fixture.create(Some(parents[1]), 1).await;
    fixture.cancel(&parents).await;
    assert_eq!(fixture.all_turns(), [first[..REQUESTS_PER_ROUND].to_vec(), vec![second[0], first[REQUESTS_PER_ROUND]]]);
}

#[tokio::test]
async fn a_turn_that_failed_is_taken_again_as_it_was() {
    let mut fixture = BacklogFixture::new();
    let parent = fixture.create(None, 1).await[0];
    fixture.create(Some(parent), REQUESTS_PER_ROUND + 1).await;
    fixture.cancel(&[parent]).await;
    let failed = fixture.take_turn();
    fixture.parents.extend(failed.iter().map(|batch| batch.before));
    assert_eq!(fixture.take_turn(), failed);
}

#[tokio::test]
async fn a_child_of_a_cancelled_parent_is_in_the_list_from_its_creation_on() {
    let mut fixture = BacklogFixture::new();
    let parent = fixture.create(None, 1).await[0];
    fixture.cancel(&[parent]).await;
    assert!(fixture.parents.is_empty(), "there is no child yet");
    let child = fixture.create(Some(parent), 1).await;
    assert_eq!(fixture.all_turns(), [child]);
    assert_eq!(fixture.store.head().position, Position(3));
}
