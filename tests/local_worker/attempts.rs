//! An attempt from its assignment to its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use taskbell::JsonText;
use taskbell::dispatch::messages::{Assign, AttemptDirective, Directive};
use taskbell::task::event::{Created, Event, Outcome, ReleasedReason};
use taskbell::work::{Context, Done, Drain, Failure, Handler, Handlers, NotRegistered};

use super::bench::{ClosureHandler, Gate, WorkerBench, WorkerMessage, closure_handler, created};

#[actix_rt::test]
async fn the_end_is_recorded_before_the_slot_is_free() {
    let mut bench =
        WorkerBench::with(closure_handler(|_| async { Ok(Done::new("greeted").with_result(json!({"n": 1}))) })).await;
    bench.create_with_input_and_start(json!(null)).await;
    let WorkerMessage::Recorded(events, meta) = bench.next_message().await else { panic!("not recorded first") };
    let [Event::Completed(end)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((end.outcome, end.message.as_deref()), (Outcome::Succeeded, Some("greeted")));
    assert_eq!(end.result, Some(json!({"n": 1}).into()));
    assert_eq!((meta.actor.as_str(), meta.via), ("local/test/1", taskbell::store::Via::Worker));
    assert!(!meta.correlation_id.is_nil() && meta.causation_id.is_none());
    assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)));
}

#[actix_rt::test]
async fn a_handler_sees_the_request_and_runs_on_threads_of_its_own() {
    let seen = Arc::new(Mutex::new(String::new()));
    let write = Arc::clone(&seen);
    let look = move |ctx: Context| {
        let thread = std::thread::current().name().unwrap().to_owned();
        let input: Vec<u8> = ctx.input().unwrap();
        let all = (ctx.attempt(), ctx.owner(), ctx.kind(), ctx.title(), ctx.labels(), ctx.input_value());
        *write.lock().unwrap() = format!("{thread} {all:?} {input:?} {}", ctx.task_id());
        async { Ok(Done::default()) }
    };
    let mut bench = WorkerBench::with(closure_handler(look)).await;
    let task = bench.create_with_input_and_start(json!([7])).await;
    bench.wait_for_end().await;
    let expected = format!(
        "taskbell-work (1, \"ada\", \"test.act\", \"Act\", {{\"team\": \"web\"}}, Array [Number(7)]) [7] {task}"
    );
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[actix_rt::test]
async fn an_input_that_the_handler_cannot_read_is_an_error_that_names_the_field() {
    #[derive(Debug, serde::Deserialize)]
    struct Input {
        #[allow(dead_code)]
        sizes: Vec<u8>,
    }
    let mut bench =
        WorkerBench::with(closure_handler(|ctx| async move { ctx.input::<Input>().map(|_| Done::default()) })).await;
    bench.create_with_input_and_start(json!({"sizes": [1, "two"]})).await;
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("invalid_input", false));
    assert!(error.message.contains("sizes[1]"), "{}", error.message);
}

#[actix_rt::test]
async fn a_panic_ends_the_attempt_and_nothing_else() {
    let panics = |ctx: Context| async move {
        match ctx.input_value().as_str() {
            Some("here") => panic!("the {} fell", "sky"),
            Some("blocking") => ctx.blocking("falling", |_| panic!("the sky fell")).await,
            _ => Ok(Done::default()),
        }
    };
    let mut bench = WorkerBench::with(closure_handler(panics)).await;
    for place in ["here", "blocking"] {
        bench.create_with_input_and_start(json!(place)).await;
        let (error, again) = bench.wait_for_end().await.error();
        assert_eq!((error.code.as_str(), again), ("panicked", true));
        assert_eq!(error.message, "the handler panicked: the sky fell");
    }
    bench.create_with_input_and_start(json!("nowhere")).await;
    assert_eq!(bench.wait_for_end().await.completed().outcome, Outcome::Succeeded);
}

#[actix_rt::test]
async fn a_timeout_cuts_the_attempt_but_waits_for_its_blocking_step() {
    let (gate, over) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let (pass, count) = (gate.clone(), Arc::clone(&over));
    let slow = move |ctx: Context| {
        let (pass, count) = (pass.clone(), Arc::clone(&count));
        async move {
            let work = move |step: &taskbell::work::Step| {
                while !step.is_interrupted() {
                    std::thread::yield_now();
                }
                pass.open();
                count.fetch_add(1, Ordering::SeqCst);
            };
            ctx.blocking("grinding", work).await?;
            std::future::pending().await
        }
    };
    let mut bench = WorkerBench::with(closure_handler(slow)).await;
    bench.create_and_start(Created { timeout_s: Some(1), ..created() }).await;
    gate.pass().await;
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("timed_out", true));
    assert_eq!(over.load(Ordering::SeqCst), 1);
}

/// Opens a gate when it is dropped.
struct OpensOnDrop(Gate);

impl Drop for OpensOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

fn waits_for_ever(gone: &Gate) -> ClosureHandler {
    let gone = gone.clone();
    closure_handler(move |ctx: Context| {
        let gone = OpensOnDrop(gone.clone());
        async move {
            ctx.progress(0.5, "waiting");
            std::future::pending::<()>().await;
            drop(gone);
            Ok(Done::default())
        }
    })
}

#[actix_rt::test]
async fn an_interrupt_drops_the_future_at_its_next_await() {
    let gone = Gate::closed();
    let mut bench = WorkerBench::with(waits_for_ever(&gone)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    bench.cancel(task).await;
    bench.send_directive(task, Directive::Interrupt).await;
    gone.pass().await;
    let ended = bench.wait_for_end().await;
    assert!(ended.acknowledged.is_empty(), "it never saw the request");
    let end = ended.completed();
    assert_eq!((end.outcome, end.forced), (Outcome::Cancelled, false));
    assert_eq!(end.message.as_deref(), Some("interrupted"));
    assert_eq!(end.progress.unwrap().message.as_deref(), Some("waiting"));
}

#[actix_rt::test]
async fn an_interrupt_waits_for_the_blocking_step_and_names_it() {
    let (entered, leave) = (Gate::closed(), Gate::closed());
    let (enter, left) = (entered.clone(), leave.clone());
    let grinds = move |ctx: Context| {
        let (enter, left) = (enter.clone(), left.clone());
        async move {
            ctx.blocking("grinding", move |_| {
                enter.open();
                left.pass_blocking();
            })
            .await?;
            std::future::pending().await
        }
    };
    let mut bench = WorkerBench::with(closure_handler(grinds)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    entered.pass().await;
    bench.cancel(task).await;
    bench.send_directive(task, Directive::Interrupt).await;
    assert_eq!(bench.wait_for_acknowledgement().await.stopping_after.as_deref(), Some("grinding"));
    leave.open();
    let end = bench.wait_for_end().await.completed();
    assert_eq!((end.outcome, end.message.as_deref()), (Outcome::Cancelled, Some("interrupted while grinding")));
}

#[actix_rt::test]
async fn a_lost_attempt_stops_and_reports_nothing() {
    let gone = Gate::closed();
    let mut bench = WorkerBench::with(waits_for_ever(&gone)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    bench.send_directive(task, Directive::Lost).await;
    gone.pass().await;
    assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)));
}

#[actix_rt::test]
async fn no_attempt_starts_while_the_code_of_its_predecessor_runs() {
    let (runs, leave) = (Arc::new(AtomicUsize::new(0)), Gate::closed());
    let (count, left) = (Arc::clone(&runs), leave.clone());
    let grinds = move |ctx: Context| {
        let (count, left) = (Arc::clone(&count), left.clone());
        async move {
            let at_once = count.fetch_add(1, Ordering::SeqCst) + 1;
            let work = move |step: &taskbell::work::Step| {
                step.progress(None, "in");
                left.pass_blocking();
                count.fetch_sub(1, Ordering::SeqCst);
            };
            if ctx.attempt() == 1 {
                ctx.blocking("grinding", work).await?;
                std::future::pending::<()>().await;
            }
            Ok(Done::new(format!("{at_once} at once")))
        }
    };
    let mut bench = WorkerBench::with(closure_handler(grinds)).await;
    let task = bench.create_with_input_and_start(json!(null)).await;
    bench.wait_for_progress(|_| true).await;
    // The lease is revoked while the handler still runs, and a person retries the task.
    bench.cancel(task).await;
    bench.wait_for_acknowledgement().await;
    let revoke =
        taskbell::task::Command::Escalate { rung: taskbell::task::event::Rung::Revoke, reason: None, attempt: None };
    bench.execute(task, revoke).await;
    bench.send_directive(task, Directive::Lost).await;
    bench.execute(task, taskbell::task::Command::Retry { reason: None }).await;
    bench.start_attempt(task).await;
    leave.open();
    assert!(bench.wait_for_end().await.last.is_none());
    assert_eq!(bench.wait_for_end().await.completed().message.as_deref(), Some("1 at once"));
}

#[actix_rt::test]
async fn an_attempt_that_is_lost_while_it_waits_for_its_predecessor_never_starts() {
    let (starts, leave) = (Arc::new(AtomicUsize::new(0)), Gate::closed());
    let (count, left) = (Arc::clone(&starts), leave.clone());
    let grinds = move |ctx: Context| {
        count.fetch_add(1, Ordering::SeqCst);
        let left = left.clone();
        async move {
            ctx.blocking("grinding", move |step| {
                step.progress(None, "in");
                left.pass_blocking();
            })
            .await?;
            Ok(Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(grinds)).await;
    for rounds in 1..=50 {
        let task = bench.create_with_input_and_start(json!(null)).await;
        bench.wait_for_progress(|_| true).await;
        bench.send_directive(task, Directive::Lost).await;
        let created = Arc::new(created());
        bench.worker.send(Assign { task, attempt: 2, created }).await.unwrap();
        bench.worker.send(AttemptDirective { task, attempt: 2, directive: Directive::Lost }).await.unwrap();
        leave.open();
        let mut stopped = [wait_until_stopped(&mut bench).await, wait_until_stopped(&mut bench).await];
        stopped.sort_unstable();
        assert_eq!(stopped, [1, 2]);
        assert_eq!(starts.load(Ordering::SeqCst), rounds, "the lost attempt of round {rounds} was started");
    }
}

/// Waits until the worker reports that the handler of an attempt has stopped. Returns the number of the attempt.
async fn wait_until_stopped(bench: &mut WorkerBench) -> u32 {
    loop {
        match bench.next_message().await {
            WorkerMessage::Stopped(attempt) => return attempt,
            WorkerMessage::Progress(_) => {}
            WorkerMessage::Recorded(events, _) => panic!("{events:?} of an attempt that was lost"),
            WorkerMessage::Offered(_) | WorkerMessage::Refused(..) => panic!("the attempt does not stop"),
        }
    }
}

#[actix_rt::test]
async fn a_draining_worker_begins_nothing_and_counts_what_still_runs() {
    let leave = Gate::closed();
    let left = leave.clone();
    let waits = move |_: Context| {
        let left = left.clone();
        async move {
            left.pass().await;
            Ok(Done::default())
        }
    };
    let mut bench = WorkerBench::with(closure_handler(waits)).await;
    bench.create_with_input_and_start(json!(null)).await;
    assert_eq!(bench.worker.send(Drain { within: Duration::from_millis(1) }).await.unwrap(), 1);
    bench.create_with_input_and_start(json!(null)).await;
    match bench.wait_for_end().await.last {
        Some(Event::Released(released)) => assert_eq!(released.reason, ReleasedReason::HandedBack),
        other => panic!("{other:?}"),
    }
    leave.open();
    assert_eq!(bench.worker.send(Drain { within: Duration::from_mins(1) }).await.unwrap(), 0);
    assert_eq!(bench.wait_for_end().await.completed().outcome, Outcome::Succeeded);
}

#[test]
fn a_kind_is_a_name_and_has_one_handler() {
    struct Of(&'static str);

    #[taskbell::async_trait]
    impl Handler for Of {
        fn kind(&self) -> &str {
            self.0
        }

        async fn run(&self, _: Context) -> Result<Done, Failure> {
            Ok(Done::default())
        }
    }

    let mut handlers = Handlers::new();
    handlers.register(Of("b")).unwrap();
    handlers.register(Of("a")).unwrap();
    assert_eq!(handlers.register(Of("a")), Err(NotRegistered::Duplicate("a".to_owned())));
    assert_eq!(handlers.register(Of("A b")), Err(NotRegistered::BadKind("A b".to_owned())));
    assert_eq!(handlers.kinds().collect::<Vec<_>>(), ["a", "b"]);
    assert!(handlers.get("a").is_some() && handlers.get("c").is_none());
}

#[actix_rt::test]
async fn a_handler_reads_the_exact_text_of_its_input() {
    let text = r#"{"n":1.50,"big":123456789012345678901234567890}"#;
    let read = move |ctx: Context| async move {
        assert_eq!(ctx.input_text(), text);
        assert_eq!(ctx.input_value()["big"].as_f64(), Some(123_456_789_012_345_678_901_234_567_890.0));
        let mut exact: BTreeMap<String, JsonText> = ctx.input()?;
        Ok(Done::default().with_result(exact.remove("big").unwrap()))
    };
    let mut bench = WorkerBench::with(closure_handler(read)).await;
    bench.create_and_start(Created { input: text.parse().unwrap(), ..created() }).await;
    let result = bench.wait_for_end().await.completed().result.unwrap();
    assert_eq!(result.as_str(), "123456789012345678901234567890");
}

#[actix_rt::test]
async fn a_handler_is_not_given_an_input_that_its_library_would_read_as_another() {
    let text = r#"{"a":{"$serde_json::private::RawValue":"[1]"}}"#;
    let read = move |ctx: Context| async move {
        assert_eq!(ctx.input_value()["a"]["$serde_json::private::RawValue"], "[1]");
        ctx.input::<Value>().map(|_| Done::default())
    };
    let mut bench = WorkerBench::with(closure_handler(read)).await;
    bench.create_and_start(Created { input: text.parse().unwrap(), ..created() }).await;
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("invalid_input", false), "{}", error.message);
}
