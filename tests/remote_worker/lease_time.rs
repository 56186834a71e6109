//! How long a worker assumes that it holds a lease: never longer than the server does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use taskbell::work::Done;
use tokio::sync::{mpsc, watch};

use super::fake::{FINISH, FakeServer, HEARTBEAT, Reply, TAKE, heartbeat_response, leases_response};
use super::library::TestWorker;
use crate::support::TEST_TIMEOUT;

const LEASE: Duration = Duration::from_secs(1);

/// Sends the time at which it is dropped.
struct DropTime(mpsc::UnboundedSender<Instant>);

impl Drop for DropTime {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

#[tokio::test]
async fn an_attempt_whose_heartbeats_are_not_answered_stops_before_its_lease_ends() {
    let (granted_at, mut grants) = mpsc::unbounded_channel();
    let taken = AtomicUsize::new(0);
    let server = FakeServer::start(move |path, _| {
        if path != TAKE || taken.fetch_add(1, Ordering::SeqCst) > 0 {
            return Reply::Silence;
        }
        granted_at.send(Instant::now()).unwrap();
        Reply::Json(200, leases_response(&["one"], LEASE))
    })
    .await;
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let worker = TestWorker::at(&server.url, move |_| {
        let drop_time = DropTime(drops.clone());
        async move {
            std::future::pending::<()>().await;
            drop(drop_time);
            Ok(Done::default())
        }
    });
    let granted_at = grants.recv().await.unwrap();
    let dropped_at = tokio::time::timeout(TEST_TIMEOUT, dropped.recv()).await.expect("the attempt stops").unwrap();
    let ran = dropped_at - granted_at;
    assert!(ran < LEASE, "the attempt ran for {ran:?} on a lease of {LEASE:?}");
    drop(worker);
}

#[tokio::test]
async fn an_answered_heartbeat_counts_from_its_sending() {
    // Each response to a heartbeat is late, and contains the time that was left when the heartbeat arrived.
    let (sent_at, mut sent) = mpsc::unbounded_channel();
    let (taken, heartbeats) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = FakeServer::start(move |path, _| match path {
        TAKE if taken.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Json(200, leases_response(&["one"], LEASE)),
        HEARTBEAT if heartbeats.fetch_add(1, Ordering::SeqCst) == 0 => {
            sent_at.send(Instant::now()).unwrap();
            std::thread::sleep(Duration::from_millis(200)); // the answer's way: that it takes time is the point
            Reply::Json(200, heartbeat_response(LEASE))
        }
        _ => Reply::Silence,
    })
    .await;
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let worker = TestWorker::at(&server.url, move |_| {
        let drop_time = DropTime(drops.clone());
        async move {
            std::future::pending::<()>().await;
            drop(drop_time);
            Ok(Done::default())
        }
    });
    let sent_at = sent.recv().await.unwrap();
    let dropped_at = tokio::time::timeout(TEST_TIMEOUT, dropped.recv()).await.expect("the attempt stops").unwrap();
    let ran = dropped_at - sent_at;
    assert!(ran < LEASE + Duration::from_millis(100), "the attempt ran for {ran:?} after its last heartbeat");
    drop(worker);
}

#[tokio::test]
async fn a_short_lease_survives_a_heartbeat_that_is_never_answered() {
    let (signal, renewed_once) = watch::channel(false);
    let (outcome, mut outcomes) = mpsc::unbounded_channel();
    let (taken, heartbeats) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = FakeServer::start(move |path, body| match path {
        TAKE if taken.fetch_add(1, Ordering::SeqCst) == 0 => Reply::Json(200, leases_response(&["one"], LEASE)),
        HEARTBEAT if heartbeats.fetch_add(1, Ordering::SeqCst) > 0 => {
            signal.send_replace(true);
            Reply::Json(200, heartbeat_response(LEASE))
        }
        FINISH => {
            outcome.send(body["items"][0]["outcome"].clone()).unwrap();
            Reply::Json(200, json!({"items": [{"status": "succeeded"}], "position": 2}))
        }
        _ => Reply::Silence,
    })
    .await;
    let (drops, mut dropped) = mpsc::unbounded_channel();
    let worker = TestWorker::at(&server.url, move |_| {
        let (drop_time, mut renewed_once) = (DropTime(drops.clone()), renewed_once.clone());
        async move {
            renewed_once.wait_for(|renewed| *renewed).await.unwrap();
            std::mem::forget(drop_time);
            Ok(Done::default())
        }
    });
    tokio::select! {
        ended = outcomes.recv() => assert_eq!(ended.unwrap(), "succeeded"),
        _ = dropped.recv() => panic!("the attempt was given up: its second heartbeat came too late"),
    }
    drop(worker);
}
