//! Checks of appends.

use futures_util::future::join_all;
use serde_json::json;

use super::sample::{
    all_events, append, created, created_with_input, first, must_append, new_event, next, queued, stream, try_append,
    try_append_many,
};
use super::{CheckResult, ensure, ensure_eq};
use crate::store::{AppendError, EventStore, Expected};
use crate::task::{Position, Revision};

/// The result of an append whose expected revision is wrong. `actual` is the last revision of the stream.
fn conflict(actual: Option<u64>) -> Result<Revision, AppendError> {
    Err(AppendError::WrongExpectedRevision { actual: actual.map(Revision) })
}

pub(super) async fn an_append_with_a_wrong_expected_revision_writes_nothing(store: EventStore) -> CheckResult {
    let task = stream();
    ensure_eq!("revision 0 of a missing stream", try_append(&store, next(&task, 0)).await, conflict(None));
    ensure_eq!("a new stream", try_append(&store, first(&task, "one")).await, Ok(Revision(0)));
    ensure_eq!("a new stream again", try_append(&store, first(&task, "two")).await, conflict(Some(0)));
    ensure_eq!("a revision to come", try_append(&store, next(&task, 1)).await, conflict(Some(0)));
    ensure_eq!("the last revision", try_append(&store, next(&task, 0)).await, Ok(Revision(1)));
    ensure_eq!("a revision before", try_append(&store, next(&task, 0)).await, conflict(Some(1)));
    ensure_eq!("events in the log", all_events(&store).await?.len(), 2);
    ensure_eq!("position", store.head().position, Position(2));
    Ok("4 appends refused with the actual revision, 2 events".to_owned())
}

pub(super) async fn an_append_of_no_events_is_refused(store: EventStore) -> CheckResult {
    let refused = try_append(&store, append(&stream(), Expected::NoStream, vec![])).await;
    ensure!(matches!(refused, Err(AppendError::Invalid(_))), "{refused:?}");
    ensure!(try_append_many(&store, vec![]).await.is_empty(), "a result without an append");
    ensure_eq!("position", store.head().position, Position(0));
    Ok("refused before it is sent".to_owned())
}

pub(super) async fn an_event_that_could_not_be_read_back_is_refused(store: EventStore) -> CheckResult {
    let deep = (0..200).fold(json!(1), |value, _| json!([value]));
    let refused = try_append(
        &store,
        append(&stream(), Expected::NoStream, vec![new_event(created_with_input("deep", deep.into()))]),
    )
    .await;
    ensure!(matches!(refused, Err(AppendError::Invalid(_))), "{refused:?}");
    ensure_eq!("position", store.head().position, Position(0));
    Ok("refused before it is sent".to_owned())
}

pub(super) async fn the_events_of_an_append_are_written_together(store: EventStore) -> CheckResult {
    let task = stream();
    let three =
        |expected| append(&task, expected, vec![new_event(created("x")), new_event(queued()), new_event(queued())]);
    let refused = try_append(&store, three(Expected::Revision(Revision(7)))).await;
    ensure!(refused.is_err(), "{refused:?}");
    ensure_eq!("events after a refusal", all_events(&store).await?.len(), 0);
    ensure_eq!("three events", try_append(&store, three(Expected::NoStream)).await, Ok(Revision(2)));
    ensure_eq!("events in the log", all_events(&store).await?.len(), 3);
    Ok("none of 3, then all 3".to_owned())
}

pub(super) async fn positions_have_no_gaps_when_appends_are_refused(store: EventStore) -> CheckResult {
    let tasks: Vec<_> = (0..20).map(|_| stream()).collect();
    for round in 0..5 {
        let right = tasks.iter().map(|task| {
            let append = if round == 0 { first(task, "t") } else { next(task, round - 1) };
            try_append(&store, append)
        });
        let wrong = tasks.iter().map(|task| try_append(&store, next(task, 99)));
        let (right, wrong) = tokio::join!(join_all(right), join_all(wrong));
        ensure!(right.iter().all(|result| *result == Ok(Revision(round))), "{right:?}");
        ensure!(wrong.iter().all(Result::is_err), "{wrong:?}");
    }
    let positions: Vec<_> = all_events(&store).await?.iter().map(|event| event.position.0).collect();
    ensure_eq!("positions", positions, (1..=100).collect::<Vec<_>>());
    Ok("positions 1 to 100 beside 100 refusals".to_owned())
}

pub(super) async fn of_concurrent_writers_at_one_revision_one_succeeds(store: EventStore) -> CheckResult {
    let task = stream();
    must_append(&store, first(&task, "contested")).await?;
    for revision in 0..10 {
        let writers = (0..16).map(|_| {
            let (store, append) = (store.clone(), next(&task, revision));
            tokio::spawn(async move { try_append(&store, append).await })
        });
        let results: Vec<_> = join_all(writers).await.into_iter().flatten().collect();
        let count = |wanted| results.iter().filter(|result| **result == wanted).count();
        let (written, refused) = (count(Ok(Revision(revision + 1))), count(conflict(Some(revision + 1))));
        ensure!((written, refused) == (1, 15), "{written} written and {refused} refused at revision {revision}");
    }
    ensure_eq!("events in the log", all_events(&store).await?.len(), 11);
    Ok("1 of 16 writers at each of 10 revisions".to_owned())
}

pub(super) async fn each_of_many_appends_gets_its_own_result(store: EventStore) -> CheckResult {
    let (a, b, c) = (stream(), stream(), stream());
    must_append(&store, first(&a, "a")).await?;
    let empty = append(&b, Expected::NoStream, vec![]);
    let appends = vec![first(&a, "again"), empty, first(&b, "b"), next(&c, 4), next(&a, 0)];
    let results = try_append_many(&store, appends).await;
    let expected_results = [conflict(Some(0)), Ok(Revision(0)), conflict(None), Ok(Revision(1))];
    let results_with_events = [0, 2, 3, 4].map(|index: usize| results.get(index).cloned());
    ensure_eq!("results", results_with_events, expected_results.map(Some));
    ensure!(matches!(results.get(1), Some(Err(AppendError::Invalid(_)))), "no events: {:?}", results.get(1));
    let mut streams: Vec<_> = all_events(&store).await?.iter().map(|event| event.stream.clone()).collect();
    let mut expected_streams = [a.clone(), b, a];
    // A cluster writes the appends of different streams at the same time.
    if store.is_shared() {
        streams.sort();
        expected_streams.sort();
    }
    ensure_eq!("streams of the events", streams, expected_streams);
    Ok("3 refused, 2 written".to_owned())
}

pub(super) async fn an_append_may_expect_the_revision_that_an_append_before_it_in_the_same_call_writes(
    store: EventStore,
) -> CheckResult {
    let task = stream();
    let appends = vec![first(&task, "t"), next(&task, 0), next(&task, 1), next(&task, 1)];
    let expected_results = [Ok(Revision(0)), Ok(Revision(1)), Ok(Revision(2)), conflict(Some(2))];
    ensure_eq!("results", try_append_many(&store, appends).await, expected_results);
    Ok("3 written in order, the 4th refused".to_owned())
}
