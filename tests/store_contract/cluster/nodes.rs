//! Nodes that are unavailable, stop, start again, or stop being the leader.

use super::*;

/// A port on which nothing listens.
async fn free_port() -> SocketAddr {
    tokio::net::TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_opened_before_its_database_runs_connects_later() {
    let addr = free_port().await;
    let store = connect(addr, "taskbell");
    let why = wait_until_unhealthy(&store).await;
    assert!(why.contains("the store has been unreachable since"), "{why}");
    assert!(store.epoch().is_nil());
    let appending = tokio::spawn({
        let store = store.clone();
        async move { store.append(first(&stream(), "t")).await }
    });
    let database = Database::new();
    let _server = database.serve(addr).await.unwrap();
    assert_eq!(in_time(appending).await.unwrap(), Ok(Revision(0)));
    let store = ready(store).await;
    assert_eq!((store.head().position, store.epoch().get_version_num()), (Position(1), 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_database_an_append_and_a_read_fail_after_a_while_with_the_reason() {
    let store = connect(free_port().await, "taskbell");
    let task = stream();
    let (append, read) =
        in_time(async { tokio::join!(store.append(first(&task, "t")), store.read_for_decision(&task, Revision(0))) })
            .await;
    let Err(error @ AppendError::Unavailable(_)) = append else { panic!("{append:?}") };
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(read.unwrap_err().is_transient());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_restart_of_the_node_and_what_waits_is_written_after_it() {
    let Fixture { database, mut server } = Fixture::start().await;
    let addr = server.addr();
    let store = ready(connect(addr, "taskbell")).await;
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    let epoch = store.epoch();
    for round in 0..5 {
        server.stop().await;
        let why = wait_until_unhealthy(&store).await;
        assert!(why.contains("since") && !why.contains("MetadataMap") && !store.has_failed(), "{why}");
        let appending = tokio::spawn({
            let (store, append) = (store.clone(), next(&task, round));
            async move { store.append(append).await }
        });
        server = database.serve(addr).await.unwrap();
        assert_eq!(in_time(appending).await.unwrap(), Ok(Revision(round + 1)));
        wait_for_events(&store, round + 2).await;
    }
    let store = ready(store).await;
    assert_eq!(store.epoch(), epoch);
    assert_eq!(store.read_stream(&task, Revision(0)).await.unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_is_found_and_so_is_a_node_that_is_left() {
    let database = Database::new();
    let (one, two) = (database.serve(ANY_PORT).await.unwrap(), database.serve(ANY_PORT).await.unwrap());
    two.follow(one.addr());
    let store = ready(connect_to(&format!("esdb://{},{}?tls=false", one.addr(), two.addr()))).await;
    let task = stream();
    store.append(first(&task, "t")).await.unwrap();
    one.follow(two.addr());
    two.lead();
    assert_eq!(in_time(store.append(next(&task, 0))).await, Ok(Revision(1)));
    one.stop().await;
    assert_eq!(in_time(store.append(next(&task, 1))).await, Ok(Revision(2)));
    wait_for_events(&store, 3).await;
    ready(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_leads_to_a_follower_is_enough_to_find_the_leader() {
    let database = Database::new();
    let (leader, follower) = (database.serve(ANY_PORT).await.unwrap(), database.serve(ANY_PORT).await.unwrap());
    follower.follow(leader.addr());
    let store = ready(connect(follower.addr(), "taskbell")).await;
    assert_eq!(in_time(store.append(first(&stream(), "t"))).await, Ok(Revision(0)));
}
