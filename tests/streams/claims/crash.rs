//! Servers that stop after they have claimed a key and before they have created the task.

use super::*;

/// Starts a request on this server, and cuts its connections to the database when the claim of the key is durable.
/// Returns the request, which is still running.
async fn stopped_after_the_claim(
    fixture: &Fixture,
    proxy: &Proxy,
    server: ServerWriteSide,
    id: TaskId,
    request: Created,
) -> tokio::task::JoinHandle<Result<Accepted, ExecuteError>> {
    let claims = fixture.claims();
    fixture.database.hold_responses(true);
    let request = actix_rt::spawn(async move { server.create_with_id(id, request).await });
    in_time(fixture.database.wait_for_delayed_requests(1)).await;
    assert_eq!(fixture.claims(), claims + 1);
    proxy.set_mode(Mode::Refuse);
    proxy.cut();
    fixture.database.hold_responses(false);
    request
}

#[actix_rt::test]
async fn a_claim_whose_server_stopped_is_completed_by_the_next_server_and_its_request_finds_its_task_later() {
    let fixture = Fixture::start().await;
    let (proxy, stopped) = fixture.proxied().await;
    let [two, three] = fixture.servers().await;
    let id = new_task();
    let request = stopped_after_the_claim(&fixture, &proxy, stopped, id, unique("nightly")).await;
    assert_eq!(fixture.tasks(), 0);
    let (a, b) = tokio::join!(two.create(unique("nightly")), three.create(unique("nightly")));
    assert_eq!([outcome_of(&a), outcome_of(&b)], [("held", Some(id)); 2]);
    two.cancel(id).await;
    let next = created(&three.create(unique("nightly")).await);
    proxy.set_mode(Mode::Pass);
    assert_eq!(
        created(&in_time(request).await.unwrap()),
        id,
        "its events are there already, and are not written again"
    );
    assert_eq!(fixture.database.stream(&format!("taskbell.task-{id}")).len(), 3);
    assert_eq!(outcome_of(&two.create(unique("nightly")).await), ("held", Some(next)));
}

#[actix_rt::test]
async fn an_idempotency_key_whose_server_stopped_gives_the_repeated_request_the_same_task() {
    let fixture = Fixture::start().await;
    let (proxy, stopped) = fixture.proxied().await;
    let two = fixture.new_server().await;
    let id = new_task();
    let request = stopped_after_the_claim(&fixture, &proxy, stopped, id, idempotent("k", "body")).await;
    assert_eq!(outcome_of(&two.create(idempotent("k", "other")).await), ("reused", None));
    assert_eq!(fixture.tasks(), 1, "the claim was completed first");
    assert_eq!(outcome_of(&two.create(idempotent("k", "body")).await), ("known", Some(id)));
    proxy.set_mode(Mode::Pass);
    assert_eq!(created(&in_time(request).await.unwrap()), id);
}

#[actix_rt::test]
async fn a_request_with_both_keys_whose_server_stopped_after_the_first_claim_is_completed_with_both() {
    let fixture = Fixture::start().await;
    let (proxy, stopped) = fixture.proxied().await;
    let two = fixture.new_server().await;
    let id = new_task();
    let request = stopped_after_the_claim(&fixture, &proxy, stopped, id, with_both_keys("nightly", "k", "body")).await;
    assert_eq!(outcome_of(&two.create(with_both_keys("nightly", "k", "body")).await), ("known", Some(id)));
    assert_eq!(fixture.key_streams().len(), 2);
    proxy.set_mode(Mode::Pass);
    assert_eq!(created(&in_time(request).await.unwrap()), id);
    assert_eq!((fixture.tasks(), fixture.claims()), (1, 2));
}

#[actix_rt::test]
async fn a_unique_claim_whose_idempotency_key_went_to_another_task_holds_nothing() {
    let fixture = Fixture::start().await;
    let (proxy, stopped) = fixture.proxied().await;
    let [two, three] = fixture.servers().await;
    let request =
        stopped_after_the_claim(&fixture, &proxy, stopped, new_task(), with_both_keys("nightly", "k", "body")).await;
    let other = created(&two.create(idempotent("k", "other")).await);
    let holder = created(&three.create(unique("nightly")).await);
    proxy.set_mode(Mode::Pass);
    assert_eq!(outcome_of(&in_time(request).await.unwrap()), ("reused", None));
    assert_eq!(outcome_of(&two.create(unique("nightly")).await), ("held", Some(holder)));
    assert_ne!(other, holder);
    assert_eq!(fixture.tasks(), 2);
}

#[actix_rt::test]
async fn a_retry_whose_server_stopped_is_completed_by_the_next_server() {
    let fixture = Fixture::start().await;
    let (proxy, stopped) = fixture.proxied().await;
    let two = fixture.new_server().await;
    let task = created(&two.create(unique("nightly")).await);
    two.cancel(task).await;
    fixture.database.hold_responses(true);
    let request = actix_rt::spawn(async move { stopped.retry(task).await });
    in_time(fixture.database.wait_for_delayed_requests(1)).await;
    proxy.set_mode(Mode::Refuse);
    proxy.cut();
    fixture.database.hold_responses(false);
    assert_eq!(outcome_of(&two.create(unique("nightly")).await), ("held", Some(task)));
    two.cancel(task).await;
    let next = created(&two.create(unique("nightly")).await);
    proxy.set_mode(Mode::Pass);
    assert_eq!(in_time(request).await.unwrap().unwrap().appended, 1);
    assert_eq!(outcome_of(&two.create(unique("nightly")).await), ("held", Some(next)));
    check_log(&fixture, &two).await;
}
