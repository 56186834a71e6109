//! A distribution that waits because of the rate limit.

use taskbell::dispatch::messages::Directive;
use taskbell::task::event::Outcome;

use super::bench::WorkerBench;
use super::trees::ContentFolder;

#[actix_rt::test]
async fn an_interrupt_ends_the_wait_of_a_throttled_copy_at_once() {
    let content = ContentFolder::new();
    content.write_source_file("file", &[0; 2048]);
    // At one byte per second, the second chunk of 1,024 bytes waits 17 minutes.
    let mut bench = WorkerBench::with(content.handler(Some(1))).await;
    let task = bench.create_and_start(content.task(&["a"])).await;
    bench.wait_for_progress(|progress| progress.fraction > Some(0.0)).await;
    bench.cancel(task).await;
    bench.send_directive(task, Directive::Interrupt).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.outcome, Outcome::Cancelled, "{end:?}");
    assert_eq!(std::fs::read_dir(content.path("a")).unwrap().count(), 0);
}
