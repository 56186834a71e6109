//! Each test here runs on all stores.

use std::collections::HashMap;

use futures_util::future::join_all;
use taskbell::store::{AppendError, Hash, chain};

use super::*;

macro_rules! every_store {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(taskbell::store::EventStore::memory()).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(taskbell::store::EventStore::open(dir.path()).unwrap()).await;
            })*
        }

        #[cfg(feature = "eventstore")]
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let fixture = crate::store_contract::cluster::Fixture::start().await;
                super::$name(fixture.store().await).await;
            })*
        }
    };
}

every_store! {
    a_new_log_is_empty_and_healthy
    an_event_is_read_back_as_it_was_written
    an_append_with_a_wrong_expected_revision_writes_nothing
    an_append_of_no_events_is_refused
    an_event_that_could_not_be_read_back_is_refused
    a_subscriber_gets_an_event_as_a_later_reader_gets_it
    the_events_of_an_append_are_written_together
    positions_have_no_gaps_when_appends_are_refused
    of_concurrent_writers_at_one_revision_one_succeeds
    each_of_many_appends_gets_its_own_answer
    an_append_can_follow_another_of_the_same_write
    the_log_can_be_read_in_pages
    a_stream_can_be_read_from_any_revision
    the_chain_of_hashes_verifies
    the_head_moves_before_the_answer
    a_subscription_gives_old_events_and_then_new_ones
    a_subscription_gives_each_event_once_while_others_write
    a_wait_for_the_next_events_can_be_dropped_without_losing_any
}

async fn a_new_log_is_empty_and_healthy(store: EventStore) {
    let head = store.head();
    assert_eq!((head.position, head.hash, head.time), (Position(0), Hash::ZERO, None));
    assert_eq!(store.health(), Ok(()));
    assert_eq!(store.epoch(), store.clone().epoch());
    assert_eq!(store.epoch().get_version_num(), 7);
    assert!(all_events(&store).await.is_empty());
    assert!(store.read_stream(&stream(), Revision(0)).await.unwrap().is_empty());
}

async fn an_event_is_read_back_as_it_was_written(store: EventStore) {
    let (task, bell) = (stream(), StreamName::bell("ann ü"));
    let events = vec![new_event(created("Zoë's \"task\"\n")), new_event(queued()), new_event(attempt_failed())];
    assert_eq!(store.append(append(&task, Expected::NoStream, events.clone())).await, Ok(Revision(2)));
    let bell_event = new_event(seen(3));
    assert_eq!(store.append(append(&bell, Expected::NoStream, vec![bell_event.clone()])).await, Ok(Revision(0)));
    let read = store.read_stream(&task, Revision(0)).await.unwrap();
    assert_eq!(read.len(), 3);
    for ((revision, read), written) in (0..).zip(&read).zip(&events) {
        assert_eq!((read.revision, read.position, read.version), (Revision(revision), Position(revision + 1), 1));
        assert_eq!((read.id, read.time, &read.stream), (written.id, written.time, &task));
        assert_eq!((&read.meta, &read.event), (&written.meta, &written.event));
    }
    let read = store.read_stream(&bell, Revision(0)).await.unwrap();
    assert_eq!((read[0].kind, &read[0].event, read[0].position), ("Seen", &bell_event.event, Position(4)));
}

async fn an_append_with_a_wrong_expected_revision_writes_nothing(store: EventStore) {
    let task = stream();
    let wrong = |actual: Option<u64>| Err(AppendError::WrongExpectedRevision { actual: actual.map(Revision) });
    assert_eq!(store.append(next(&task, 0)).await, wrong(None));
    assert_eq!(store.append(first(&task, "one")).await, Ok(Revision(0)));
    assert_eq!(store.append(first(&task, "two")).await, wrong(Some(0)));
    assert_eq!(store.append(next(&task, 1)).await, wrong(Some(0)));
    assert_eq!(store.append(next(&task, 0)).await, Ok(Revision(1)));
    assert_eq!(store.append(next(&task, 0)).await, wrong(Some(1)));
    assert_eq!(all_events(&store).await.len(), 2);
    assert_eq!(store.head().position, Position(2));
}

async fn an_append_of_no_events_is_refused(store: EventStore) {
    let refused = store.append(append(&stream(), Expected::NoStream, vec![])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(store.append_many(vec![]).await.is_empty());
    assert_eq!(store.head().position, Position(0));
}

async fn an_event_that_could_not_be_read_back_is_refused(store: EventStore) {
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    let Event::Created(mut request) = created("deep") else { panic!() };
    Arc::make_mut(&mut request).input = deep;
    let refused = store.append(append(&stream(), Expected::NoStream, vec![new_event(Event::Created(request))])).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert_eq!(store.head().position, Position(0));
}

async fn a_subscriber_gets_an_event_as_a_later_reader_gets_it(store: EventStore) {
    let mut live = store.subscribe(Position(0));
    let Event::AttemptFailed(mut failed) = attempt_failed() else { panic!() };
    failed.progress = Some(Progress { fraction: Some(f64::NAN), message: None, at: now() });
    let task = stream();
    store.append(append(&task, Expected::NoStream, vec![new_event(Event::AttemptFailed(failed))])).await.unwrap();
    let live = live.next().await.unwrap();
    let back = store.read_stream(&task, Revision(0)).await.unwrap();
    assert_eq!(live[0].event, back[0].event);
}

async fn the_events_of_an_append_are_written_together(store: EventStore) {
    let task = stream();
    let three =
        |expected| append(&task, expected, vec![new_event(created("x")), new_event(queued()), new_event(queued())]);
    assert!(store.append(three(Expected::Revision(Revision(7)))).await.is_err());
    assert!(all_events(&store).await.is_empty());
    assert_eq!(store.append(three(Expected::NoStream)).await, Ok(Revision(2)));
    assert_eq!(all_events(&store).await.len(), 3);
}

async fn positions_have_no_gaps_when_appends_are_refused(store: EventStore) {
    let tasks: Vec<_> = (0..20).map(|_| stream()).collect();
    for round in 0..5 {
        let right =
            tasks.iter().map(|task| store.append(if round == 0 { first(task, "t") } else { next(task, round - 1) }));
        let wrong = tasks.iter().map(|task| store.append(next(task, 99)));
        let (right, wrong) = tokio::join!(join_all(right), join_all(wrong));
        assert!(right.iter().all(|answer| *answer == Ok(Revision(round))));
        assert!(wrong.iter().all(Result::is_err));
    }
    let positions: Vec<_> = all_events(&store).await.iter().map(|event| event.position.0).collect();
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
}

async fn of_concurrent_writers_at_one_revision_one_succeeds(store: EventStore) {
    let task = stream();
    store.append(first(&task, "contested")).await.unwrap();
    for revision in 0..10 {
        let writers = (0..16).map(|_| {
            let (store, append) = (store.clone(), next(&task, revision));
            tokio::spawn(async move { store.append(append).await })
        });
        let answers: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Ok(Revision(revision + 1))).count(), 1);
        let lost = Err(AppendError::WrongExpectedRevision { actual: Some(Revision(revision + 1)) });
        assert_eq!(answers.iter().filter(|answer| **answer == lost).count(), 15);
    }
    assert_eq!(all_events(&store).await.len(), 11);
}

async fn each_of_many_appends_gets_its_own_answer(store: EventStore) {
    let (a, b, c) = (stream(), stream(), stream());
    store.append(first(&a, "a")).await.unwrap();
    let empty = append(&b, Expected::NoStream, vec![]);
    let answers = store.append_many(vec![first(&a, "again"), empty, first(&b, "b"), next(&c, 4), next(&a, 0)]).await;
    assert_eq!(answers[0], Err(AppendError::WrongExpectedRevision { actual: Some(Revision(0)) }));
    assert!(matches!(answers[1], Err(AppendError::Unavailable(_))));
    assert_eq!(answers[2], Ok(Revision(0)));
    assert_eq!(answers[3], Err(AppendError::WrongExpectedRevision { actual: None }));
    assert_eq!(answers[4], Ok(Revision(1)));
    let streams: Vec<_> = all_events(&store).await.iter().map(|event| event.stream.clone()).collect();
    assert_eq!(streams, [a.clone(), b, a]);
}

async fn an_append_can_follow_another_of_the_same_write(store: EventStore) {
    let task = stream();
    let answers = store.append_many(vec![first(&task, "t"), next(&task, 0), next(&task, 1), next(&task, 1)]).await;
    assert_eq!(answers[..3], [Ok(Revision(0)), Ok(Revision(1)), Ok(Revision(2))]);
    assert_eq!(answers[3], Err(AppendError::WrongExpectedRevision { actual: Some(Revision(2)) }));
}

async fn the_log_can_be_read_in_pages(store: EventStore) {
    store.append_many((0..25).map(|n| first(&stream(), &n.to_string())).collect()).await;
    let mut pages = Vec::new();
    let mut after = Position(0);
    loop {
        let page = store.read_all(after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(lines(&pages.concat()), lines(&all_events(&store).await));
    assert!(store.read_all(Position(0), 0).await.unwrap().is_empty());
    assert!(store.read_all(Position(26), 10).await.unwrap().is_empty());
    assert!(store.read_all(Position(u64::MAX), 10).await.unwrap().is_empty());
}

async fn a_stream_can_be_read_from_any_revision(store: EventStore) {
    let task = stream();
    store.append_many(vec![first(&task, "t"), first(&stream(), "other"), next(&task, 0), next(&task, 1)]).await;
    for (from, expected) in [(0, vec![0, 1, 2]), (1, vec![1, 2]), (2, vec![2]), (3, vec![]), (u64::MAX, vec![])] {
        let read = store.read_stream(&task, Revision(from)).await.unwrap();
        assert_eq!(read.iter().map(|event| event.revision.0).collect::<Vec<_>>(), expected);
    }
}

async fn the_chain_of_hashes_verifies(store: EventStore) {
    store.append_many((0..10).map(|n| first(&stream(), &n.to_string())).collect()).await;
    let events = all_events(&store).await;
    let middle = chain::verify(Hash::ZERO, &events[..4]).unwrap();
    assert_eq!(chain::verify(middle, &events[4..]), Ok(store.head().hash));
    assert!(chain::verify(middle, &events[5..]).is_err());
    let served: Vec<_> = lines(&events).iter().map(|line| Arc::new(Recorded::from_json(line).unwrap())).collect();
    assert_eq!(chain::verify(Hash::ZERO, &served), Ok(store.head().hash));
    assert_eq!(lines(&served), lines(&events));
}

async fn the_head_moves_before_the_answer(store: EventStore) {
    let head = store.watch();
    for position in 1..=20 {
        store.append(first(&stream(), "t")).await.unwrap();
        assert_eq!((store.head().position, *head.borrow()), (Position(position), Position(position)));
        let last = store.read_all(Position(position - 1), 10).await.unwrap().pop().unwrap();
        assert_eq!((store.head().hash, store.head().time), (last.hash, Some(last.time)));
    }
}

async fn a_subscription_gives_old_events_and_then_new_ones(store: EventStore) {
    for _ in 0..3 {
        store.append_many((0..800).map(|_| first(&stream(), "old")).collect()).await;
    }
    let mut subscription = store.subscribe(Position(100));
    for (from, length) in [(101, 1000), (1101, 1000), (2101, 300)] {
        let events = subscription.next().await.unwrap();
        assert_eq!((events[0].position, events.len()), (Position(from), length));
    }
    let (live, appended) = tokio::join!(subscription.next(), store.append(first(&stream(), "new")));
    assert_eq!((live.unwrap()[0].position, appended), (Position(2401), Ok(Revision(0))));
    let mut ahead = store.subscribe(Position(2403));
    store.append_many((0..3).map(|_| first(&stream(), "new")).collect()).await;
    assert_eq!(ahead.next().await.unwrap()[0].position, Position(2404));
}

async fn a_subscription_gives_each_event_once_while_others_write(store: EventStore) {
    const WRITERS: u64 = 8;
    // Each append to a cluster is a request of its own.
    let each = if format!("{store:?}").contains("Cluster") { 200 } else { 1500 };
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write(store.clone(), each))).collect();
    let readers = (0..3).map(|_| {
        let mut subscription = store.subscribe(Position(0));
        tokio::spawn(async move {
            let (mut position, mut revisions) = (0, HashMap::new());
            while position < WRITERS * each {
                let events = subscription.next().await.unwrap();
                assert!((1..=1000).contains(&events.len()));
                for event in events {
                    position += 1;
                    assert_eq!(event.position, Position(position));
                    let revision: &mut u64 = revisions.entry(event.stream.clone()).or_default();
                    assert_eq!(event.revision, Revision(*revision));
                    *revision += 1;
                }
            }
        })
    });
    join_all(readers).await.into_iter().for_each(|reader| reader.unwrap());
    join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
}

async fn write(store: EventStore, events: u64) {
    let task = stream();
    store.append(first(&task, "busy")).await.unwrap();
    for revision in (0..events - 1).step_by(10) {
        let length = (events - 1 - revision).min(10);
        let appends = (revision..revision + length).map(|revision| next(&task, revision)).collect();
        assert!(store.append_many(appends).await.iter().all(Result::is_ok));
    }
}

async fn a_wait_for_the_next_events_can_be_dropped_without_losing_any(store: EventStore) {
    let mut subscription = store.subscribe(Position(0));
    for position in 1..=5 {
        tokio::select! {
            biased;
            _ = subscription.next() => panic!("there is no event yet"),
            () = std::future::ready(()) => {}
        }
        store.append(first(&stream(), "t")).await.unwrap();
        let events = subscription.next().await.unwrap();
        assert_eq!(events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [position]);
    }
}
