//! When a worker acknowledges a request to cancel, and what the acknowledgement contains.

use std::time::Duration;

use serde_json::json;
use taskbell::task::event::Outcome;
use taskbell::work::{Context, Done, Failure};

use super::bench::{Gate, WorkerBench, closure_handler};

#[actix_rt::test]
async fn a_named_step_under_way_is_acknowledged_at_once_with_its_end() {
    let leave = Gate::closed();
    let left = leave.clone();
    let steps = move |ctx: Context| {
        let left = left.clone();
        async move {
            let step = ctx.step("loading\nthe ship", Some(Duration::from_hours(1)));
            step.progress(0.1, "loading");
            left.pass().await;
            drop(step);
            ctx.stop_if_cancelled().map(|()| Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(steps)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    let began = bench.wait_for_progress(|_| true).await.at;
    bench.cancel(task).await;
    let ack = bench.wait_for_acknowledgement().await;
    assert_eq!(ack.stopping_after.as_deref(), Some("loading the ship"));
    let left = ack.expected_end.unwrap().since(began);
    assert!(left.abs_diff(Duration::from_hours(1)) < Duration::from_mins(1), "{left:?}");
    leave.open();
    let ended = bench.wait_for_end().await;
    assert!(ended.acknowledged.is_empty(), "one acknowledgement is enough");
    assert_eq!(ended.completed().outcome, Outcome::Cancelled);
}

#[actix_rt::test]
async fn without_a_named_step_the_handler_acknowledges_when_it_checks() {
    let looks = |ctx: Context| async move {
        ctx.progress(None, "in");
        match ctx.input_value().as_str() {
            Some("waits") => ctx.cancelled().await,
            _ => while !ctx.observe_cancel() {},
        }
        Err::<Done, _>(Failure::cancelled())
    };
    let mut bench = WorkerBench::with(closure_handler(looks)).await;
    for way in ["waits", "polls"] {
        let task = bench.create_with_input_and_start(json!(way)).await;
        bench.wait_for_progress(|_| true).await;
        bench.cancel(task).await;
        let ended = bench.wait_for_end().await;
        let [ack] = ended.acknowledged.as_slice() else { panic!("{ended:?}") };
        assert_eq!((&ack.stopping_after, ack.expected_end), (&None, None));
        assert_eq!(ended.completed().outcome, Outcome::Cancelled);
    }
}

#[actix_rt::test]
async fn a_handler_that_ends_first_acknowledges_nothing() {
    let leave = Gate::closed();
    let left = leave.clone();
    let deaf = move |ctx: Context| {
        let left = left.clone();
        async move {
            ctx.progress(None, "in");
            left.pass().await;
            Ok(Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(deaf)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    bench.cancel(task).await;
    leave.open();
    let ended = bench.wait_for_end().await;
    assert!(ended.acknowledged.is_empty());
    assert_eq!(ended.completed().outcome, Outcome::Succeeded);
}

#[actix_rt::test]
async fn a_step_that_begins_after_an_unseen_request_acknowledges_it() {
    let leave = Gate::closed();
    let left = leave.clone();
    let steps = move |ctx: Context| {
        let left = left.clone();
        async move {
            ctx.progress(None, "in");
            left.pass().await;
            let first = ctx.step("first", None);
            drop(first);
            ctx.blocking("second", |step| step.rename("third")).await?;
            ctx.stop_if_cancelled()?;
            Ok(Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(steps)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    bench.cancel(task).await;
    leave.open();
    let ended = bench.wait_for_end().await;
    let named: Vec<_> = ended.acknowledged.iter().map(|ack| ack.stopping_after.as_deref().unwrap()).collect();
    assert_eq!(named, ["first", "second", "third"]);
    assert_eq!(ended.completed().outcome, Outcome::Cancelled);
}

#[actix_rt::test]
async fn a_step_that_begins_after_a_seen_request_acknowledges_nothing() {
    let cleans_up = |ctx: Context| async move {
        ctx.progress(None, "in");
        ctx.cancelled().await;
        let _step = ctx.step("cleaning up", None);
        ctx.stop_if_cancelled().map(|()| Done::default())
    };
    let mut bench = WorkerBench::with(closure_handler(cleans_up)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    bench.cancel(task).await;
    let ended = bench.wait_for_end().await;
    assert_eq!(ended.acknowledged.len(), 1);
    assert_eq!(ended.acknowledged[0].stopping_after, None);
}

#[actix_rt::test]
async fn a_cancelled_token_acknowledges_nothing_by_itself() {
    let passes_on = |ctx: Context| async move {
        ctx.progress(None, "in");
        ctx.cancel_token().cancelled().await;
        if ctx.input_value().is_null() {
            Ok(Done::default())
        } else {
            ctx.stop_if_cancelled().map(|()| Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(passes_on)).await;
    for (input, answers) in [(json!(null), 0), (json!(1), 1)] {
        let task = bench.create_with_input_and_start(input).await;
        bench.wait_for_progress(|_| true).await;
        bench.cancel(task).await;
        assert_eq!(bench.wait_for_end().await.acknowledged.len(), answers);
    }
}
