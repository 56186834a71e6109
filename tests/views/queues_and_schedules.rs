//! The views of paused queues and of schedules.

use std::sync::Arc;
use std::time::Duration;

use taskbell::store::StreamName;
use taskbell::task::calendar::task_id;
use taskbell::task::queue::{Paused, QueueEvent, Resumed};
use taskbell::task::schedule::{Missed, ScheduleCreated, ScheduleEvent, ScheduleRemoved};
use taskbell::task::{Command, TaskId, Timestamp};
use uuid::Uuid;

use super::history::{Created, plain};
use super::world::ViewsFixture;
use crate::support::task_template;

impl ViewsFixture {
    fn queue(&mut self, name: &str, event: QueueEvent, actor: &str) {
        self.log.advance_time(Duration::from_secs(1));
        self.log.record(StreamName::queue(name), 0, event.into(), actor);
        self.apply_new_events();
    }

    fn schedule(&mut self, id: Uuid, event: ScheduleEvent) {
        self.log.advance_time(Duration::from_secs(1));
        self.log.record(StreamName::schedule(id), 0, event.into(), "ann");
        self.apply_new_events();
    }

    fn fires(&mut self, schedule: Uuid, id: TaskId) {
        let created = Created { schedule: Some(schedule), ..plain("ann", "again") };
        self.log.execute(id, &Command::Create(Arc::new(created)), "system").unwrap();
        self.apply_new_events();
    }

    fn last(&self, schedule: Uuid) -> Option<Timestamp> {
        self.views.schedules().get(schedule).unwrap().last_nominal
    }
}

fn every_hour() -> ScheduleEvent {
    let task = task_template();
    let (cron, time_zone) = ("0 * * * *".into(), "UTC".into());
    ScheduleEvent::ScheduleCreated(Box::new(ScheduleCreated { cron, time_zone, missed: Missed::RunAll, task }))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn a_pause_shows_its_time_its_subject_and_its_reason_until_it_ends() {
    let mut fixture = ViewsFixture::default();
    fixture.queue("night", QueueEvent::Paused(Paused { reason: Some("new disks".into()) }), "olga");
    let pause = fixture.views.paused_queues().get("night").unwrap().clone();
    assert_eq!((pause.at, &*pause.by, pause.reason.as_deref()), (fixture.log.now(), "olga", Some("new disks")));
    fixture.queue("a", QueueEvent::Paused(Paused { reason: None }), "tom");
    assert_eq!(fixture.views.paused_queues().iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "night"]);
    let digest = fixture.views.digest();
    fixture.queue("night", QueueEvent::Resumed(Resumed { reason: None }), "olga");
    assert!(fixture.views.paused_queues().get("night").is_none());
    assert_ne!(fixture.views.digest(), digest);
}

#[test]
fn a_queue_has_counts_once_it_has_had_a_task() {
    let mut fixture = ViewsFixture::default();
    assert!(fixture.views.queue_counts().is_empty());
    for (owner, queue, kind) in [("ann", "a", "x"), ("bob", "a", "y"), ("ann", "b", "x")] {
        let created = Created { queue: queue.into(), kind: kind.into(), ..plain(owner, "one") };
        let id = fixture.log.create(created, owner);
        fixture.apply_new_events();
        if queue == "b" {
            fixture.execute(id, &super::history::cancel(None));
        }
    }
    let counts: Vec<(String, u64)> =
        fixture.views.queue_counts().iter().map(|(name, counts)| (name.to_string(), counts.iter().sum())).collect();
    assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn a_schedule_is_in_force_until_it_is_removed_and_shows_the_time_of_its_last_task() {
    let mut fixture = ViewsFixture::default();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    fixture.schedule(one, every_hour());
    fixture.schedule(other, every_hour());
    let scheduled = fixture.views.schedules().get(one).unwrap();
    assert_eq!((scheduled.last_nominal, &*scheduled.created_by), (None, "ann"));
    assert_eq!(scheduled.handled_until(), scheduled.created_at);
    let (nine, ten) = (at("2026-11-22T09:00:00Z"), at("2026-11-22T10:00:00Z"));
    fixture.fires(one, task_id(one, ten));
    assert_eq!((fixture.last(one), fixture.last(other)), (Some(ten), None));
    fixture.fires(one, task_id(one, nine));
    assert_eq!(fixture.last(one), Some(ten), "an earlier nominal time doesn't replace a later one");
    fixture.schedule(one, ScheduleEvent::ScheduleRemoved(ScheduleRemoved { reason: None }));
    assert!(fixture.views.schedules().get(one).is_none());
    fixture.fires(one, task_id(one, at("2026-11-22T11:00:00Z")));
    assert_eq!(fixture.views.schedules().iter().map(|(id, _)| id).collect::<Vec<_>>(), [other]);
    assert_eq!(fixture.views.len(), 3, "its tasks stay");
}

#[test]
fn the_passed_time_of_a_schedule_is_that_of_its_last_task_or_its_creation_whichever_is_later() {
    let mut fixture = ViewsFixture::default();
    let id = Uuid::from_u128(1);
    fixture.schedule(id, every_hour());
    let created = fixture.views.schedules().get(id).unwrap().created_at;
    fixture.fires(id, task_id(id, at("2000-01-01T00:00:00Z")));
    assert_eq!(fixture.views.schedules().get(id).unwrap().handled_until(), created);
    fixture.fires(id, task_id(id, at("2040-01-01T00:00:00Z")));
    assert_eq!(fixture.views.schedules().get(id).unwrap().handled_until(), at("2040-01-01T00:00:00Z"));
}
