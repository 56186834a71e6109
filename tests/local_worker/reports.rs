//! Which reports a worker sends about an attempt, and how often it repeats them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskbell::store::{AppendError, ReadError};
use taskbell::streams::messages::ExecuteError;
use taskbell::task::Rejection;
use taskbell::task::event::{Event, Outcome};
use taskbell::work::{Context, Done, Failure};

use super::bench::{WorkerBench, WorkerMessage, closure_handler};

#[actix_rt::test]
async fn progress_is_passed_on_ten_times_a_second_and_the_last_one_is_kept() {
    let talks = |ctx: Context| async move {
        ctx.blocking("talking", |step| {
            let begun = Instant::now();
            let mut n = 0_u32;
            while begun.elapsed() < Duration::from_millis(450) {
                n += 1;
                step.progress(0.25, n.to_string());
            }
            step.progress(7.5, "the\nlast");
        })
        .await?;
        Ok(Done::default())
    };
    let mut bench = WorkerBench::with(closure_handler(talks)).await;
    bench.create_with_input_and_start(json!(null)).await;
    let last = bench.wait_for_end().await.completed().progress.unwrap();
    assert_eq!((last.fraction, last.message.as_deref()), (Some(1.0), Some("the last")));
    assert!((2..=6).contains(&bench.progress.len()), "{} remarks", bench.progress.len());
    assert!(bench.progress.iter().is_sorted_by_key(|note| note.at));
}

#[actix_rt::test]
async fn a_fraction_that_is_no_number_is_unknown() {
    let talks = |ctx: Context| async move {
        let fraction = if ctx.input_value().is_null() { f64::NAN } else { -1.0 };
        ctx.progress(fraction, "");
        Ok(Done::default())
    };
    let mut bench = WorkerBench::with(closure_handler(talks)).await;
    for (input, expected) in [(json!(null), None), (json!(1), Some(0.0))] {
        bench.create_with_input_and_start(input).await;
        let progress = bench.wait_for_end().await.completed().progress.unwrap();
        assert_eq!((progress.fraction, progress.message), (expected, None));
    }
}

#[actix_rt::test]
async fn the_end_of_what_a_handler_writes_is_kept_and_no_character_in_part() {
    const KIB_64: usize = 64 * 1024;
    let writes = |ctx: Context| async move {
        for (piece, times) in ctx.input::<Vec<(String, usize)>>()? {
            ctx.output(piece.repeat(times));
        }
        Ok(Done::default())
    };
    let mut bench = WorkerBench::with(closure_handler(writes)).await;
    let many = "x".repeat(KIB_64 - 6);
    for (pieces, tail, dropped) in [
        (json!([["one\n", 1], ["two", 1]]), "one\ntwo".to_owned(), 0),
        (json!([["first\n", 1], ["x", KIB_64 - 6], ["ä", 1]]), format!("rst\n{many}ä"), 2),
        (json!([["ä", 1], ["y", KIB_64 - 1]]), "y".repeat(KIB_64 - 1), 2),
        (json!([["gone", 1], ["ä", KIB_64]]), "ä".repeat(KIB_64 / 2), 4 + KIB_64 as u64),
    ] {
        bench.create_with_input_and_start(pieces).await;
        let WorkerMessage::Recorded(events, _) = bench.next_message().await else { panic!("no end first") };
        let [Event::OutputKept(kept), Event::Completed(_)] = events.as_slice() else { panic!("{events:?}") };
        assert!(kept.tail == tail, "{} bytes, not {}", kept.tail.len(), tail.len());
        assert_eq!((kept.attempt, kept.dropped_bytes), (1, dropped));
        assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)));
    }
}

#[actix_rt::test]
async fn an_end_is_sent_until_it_is_recorded() {
    let mut bench = WorkerBench::with(closure_handler(|_| async { Ok(Done::default()) })).await;
    let passing = vec![
        ExecuteError::Busy("it is stopping"),
        AppendError::Unavailable("a full disk".to_owned()).into(),
        ReadError::Unavailable("closed".to_owned()).into(),
    ];
    let tries = passing.len();
    bench.fail_next_commands(passing).await;
    let begun = Instant::now();
    bench.create_with_input_and_start(json!(null)).await;
    for _ in 0..tries {
        assert!(matches!(bench.next_message().await, WorkerMessage::Refused(..)));
    }
    assert_eq!(bench.wait_for_end().await.completed().outcome, Outcome::Succeeded);
    assert!(begun.elapsed() >= Duration::from_millis(250 + 500 + 1000), "the pauses grow");
}

#[actix_rt::test]
async fn the_end_of_a_lost_attempt_is_not_sent_again() {
    let mut bench = WorkerBench::with(closure_handler(|_| async { Ok(Done::default()) })).await;
    bench.fail_next_commands(vec![Rejection::LeaseLost.into()]).await;
    bench.create_with_input_and_start(json!(null)).await;
    assert!(matches!(bench.next_message().await, WorkerMessage::Refused(..)));
    assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)));
}

#[actix_rt::test]
async fn a_read_only_log_ends_the_retries_and_the_slot_stays_taken() {
    let mut bench = WorkerBench::with(closure_handler(|_| async { Ok(Done::default()) })).await;
    bench.fail_next_commands(vec![AppendError::ReadOnly("a failed sync".to_owned()).into()]).await;
    bench.create_with_input_and_start(json!(null)).await;
    assert!(matches!(bench.next_message().await, WorkerMessage::Refused(..)));
    // The next attempt ends normally, and no message about the first attempt arrives.
    bench.create_with_input_and_start(json!(null)).await;
    assert!(matches!(bench.next_message().await, WorkerMessage::Recorded(..)));
    assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)));
}

#[actix_rt::test]
async fn the_end_of_a_task_whose_stream_cannot_be_read_is_sent_once_and_frees_the_slot() {
    let mut bench = WorkerBench::with(closure_handler(|_| async { Ok(Done::default()) })).await;
    let permanent = [
        ReadError::Damaged("no JSON".to_owned()),
        ReadError::Unknown { position: None, event_type: "FromTheFuture".to_owned(), version: 9 },
    ];
    for error in permanent {
        bench.fail_next_commands(vec![error.into()]).await;
        bench.create_with_input_and_start(json!(null)).await;
        assert!(matches!(bench.next_message().await, WorkerMessage::Refused(..)));
        assert!(matches!(bench.next_message().await, WorkerMessage::Stopped(1)), "a refusal for good is sent again");
    }
}

#[actix_rt::test]
async fn a_result_over_the_limit_fails_for_good() {
    let gives = |ctx: Context| async move {
        let mut deep = json!(0);
        for _ in 0..40 {
            deep = json!([deep]);
        }
        let result = if ctx.input_value().is_null() { Value::String("x".repeat(256 * 1024)) } else { deep };
        Ok(Done::new("large").with_result(result))
    };
    let mut bench = WorkerBench::with(closure_handler(gives)).await;
    for input in [json!(null), json!(1)] {
        bench.create_with_input_and_start(input).await;
        let (error, again) = bench.wait_for_end().await.error();
        assert_eq!((error.code.as_str(), again), ("result_too_large", false));
    }
}

#[actix_rt::test]
async fn messages_are_one_line_of_at_most_1024_bytes() {
    let talks = |ctx: Context| async move {
        let text = format!("a\r\nb {}", "ü".repeat(2000));
        if ctx.input_value().is_null() { Ok(Done::new(text)) } else { Err(Failure::fatal("", text)) }
    };
    let mut bench = WorkerBench::with(closure_handler(talks)).await;
    bench.create_with_input_and_start(json!(null)).await;
    let message = bench.wait_for_end().await.completed().message.unwrap();
    assert!(message.starts_with("a  b ü") && message.len() == 1023, "{}", message.len());
    bench.create_with_input_and_start(json!(1)).await;
    let (error, _) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), error.message.len()), ("failed", 1023));
}

#[actix_rt::test]
async fn a_handler_that_stops_without_a_request_to_cancel_has_failed() {
    let mut bench = WorkerBench::with(closure_handler(|_| async { Err::<Done, _>(Failure::cancelled()) })).await;
    bench.create_with_input_and_start(json!(null)).await;
    assert!(matches!(
        bench.next_message().await,
        WorkerMessage::Refused(_, ExecuteError::Rejected(Rejection::NotCancelling))
    ));
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("stopped_unasked", true));
}
