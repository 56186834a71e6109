//! The claims of an imported log.

use taskbell::store::AppendError;
use taskbell::streams::claims::open::{claim_open_keys, open_claims, write};
use taskbell::task::Position;

use super::*;

#[actix_rt::test]
async fn the_keys_of_an_imported_log_are_held_by_their_tasks_and_an_import_can_be_resumed() {
    let fixture = Fixture::start().await;
    let [one, two] = fixture.servers().await;
    let (holder, ended) = (new_task(), new_task());
    for (id, created) in
        [(holder, with_both_keys("nightly", "k 1", "body")), (ended, with_both_keys("hourly", "k 2", "body"))]
    {
        // The log is written without claims, as an import does.
        one.registry.execute(execute(id, Command::Create(created.into()))).await.unwrap();
    }
    one.cancel(ended).await;
    in_time(one.store.head_changes().wait_for(|head| head.0 == fixture.events())).await.unwrap();
    let mut views = Views::default();
    for recorded in one.store.read_all(Position(0), usize::MAX).await.unwrap() {
        views.apply(&recorded);
    }
    let claims: Vec<_> = open_claims(&views).collect();
    in_time(write(&one.store, &claims[0])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(in_time(claim_open_keys(&one.store)).await.unwrap(), 3);
    }
    assert_eq!(fixture.claims(), 3);
    assert_eq!(outcome_of(&two.create(unique("nightly")).await), ("held", Some(holder)));
    let next = created(&two.create(unique("hourly")).await);
    for (key, task) in [("k 1", holder), ("k 2", ended)] {
        assert_eq!(outcome_of(&two.create(idempotent(key, "body")).await), ("known", Some(task)));
    }
    one.cancel(holder).await;
    one.retry(holder).await.unwrap();
    assert_eq!(two.retry(ended).await.unwrap_err(), ExecuteError::Rejected(Rejection::UniqueKeyTaken(next)));
    let mut foreign = claims[0].clone();
    foreign.task = new_task();
    let refused = in_time(write(&one.store, &foreign)).await.unwrap_err();
    assert!(matches!(refused, ExecuteError::Append(AppendError::WrongExpectedRevision { .. })), "{refused}");
}
