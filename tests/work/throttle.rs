//! A distribution that waits because of the rate limit.

use taskbell::dispatch::messages::Directive;
use taskbell::task::event::Outcome;

use super::bench::Bench;
use super::trees::Yard;

#[actix_rt::test]
async fn an_interrupt_ends_the_wait_of_a_throttled_copy_at_once() {
    let yard = Yard::new();
    yard.file("file", &[0; 2048]);
    // At one byte per second, the second chunk of 1,024 bytes waits 17 minutes.
    let mut bench = Bench::with(yard.handler(Some(1))).await;
    let task = bench.begin_as(yard.order(&["a"])).await;
    bench.noted(|progress| progress.fraction > Some(0.0)).await;
    bench.cancel(task).await;
    bench.direct(task, Directive::Interrupt).await;
    let end = bench.end().await.completed();
    assert_eq!(end.outcome, Outcome::Cancelled, "{end:?}");
    assert_eq!(std::fs::read_dir(yard.path("a")).unwrap().count(), 0);
}
