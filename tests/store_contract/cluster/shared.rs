//! Several stores on one database, as several servers have them.

use futures_util::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_stores_of_a_database_give_the_same_events_the_same_positions_and_hashes() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.store().await, fixture.store().await);
    assert_eq!(one.epoch(), two.epoch());
    let writers = (0..200).map(|n| {
        let store = if n % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { store.append(first(&stream(), "t")).await })
    });
    assert!(join_all(writers).await.into_iter().all(|written| written.unwrap() == Ok(Revision(0))));
    wait_for_events(&one, 200).await;
    wait_for_events(&two, 200).await;
    let late = fixture.store().await;
    let expected = positions_ids_hashes(&all_events(&one).await);
    assert_eq!(positions_ids_hashes(&all_events(&two).await), expected);
    assert_eq!(positions_ids_hashes(&all_events(&late).await), expected);
    assert_eq!(expected.iter().map(|place| place.1).collect::<Vec<_>>(), ids_in(&fixture.database));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_expected_revision_is_a_lock_for_the_writers_of_all_stores() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.store().await, fixture.store().await);
    let task = stream();
    one.append(first(&task, "t")).await.unwrap();
    for revision in 0..20 {
        let (a, b) = tokio::join!(one.append(next(&task, revision)), two.append(next(&task, revision)));
        let lost = Err(AppendError::WrongExpectedRevision { actual: Some(Revision(revision + 1)) });
        assert!([&a, &b].contains(&&Ok(Revision(revision + 1))) && [&a, &b].contains(&&lost), "{a:?} {b:?}");
    }
    // What one store has written, the other one reads at once.
    assert_eq!(two.read_for_decision(&task, Revision(0)).await.unwrap().len(), 21);
    let pasts = two.read_many_for_decision(vec![stream(), task.clone(), stream()]).await.unwrap();
    assert_eq!(pasts.iter().map(Vec::len).collect::<Vec<_>>(), [0, 21, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_installations_in_the_same_database_are_not_seen() {
    let fixture = Fixture::start().await;
    let addr = fixture.server.addr();
    let ours = fixture.store().await;
    let others = [ready(connect(addr, "taskbell2")).await, ready(connect(addr, "taskbel")).await];
    let task = stream();
    for other in &others {
        assert_ne!(other.epoch(), ours.epoch());
        other.append_many((0..50).map(|_| first(&stream(), "foreign")).collect()).await;
        other.append(first(&task, "the same name")).await.unwrap();
    }
    assert!(ours.read_stream(&task, Revision(0)).await.unwrap().is_empty());
    assert_eq!(ours.append(first(&task, "ours")).await, Ok(Revision(0)));
    assert_eq!(ours.head().position, Position(1));
    assert_eq!(ready(connect(addr, "taskbell")).await.head(), ours.head());
    let shown = all_events(&ours).await;
    assert_eq!((shown.len(), &shown[0].stream), (1, &task));
    assert!(fixture.database.streams().contains(&format!("taskbell2.{task}")));
}
