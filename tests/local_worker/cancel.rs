//! Distributions that receive a cancel.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use taskbell::dispatch::messages::Directive;
use taskbell::task::event::Outcome;

use super::bench::WorkerBench;
use super::trees::ContentFolder;

/// Reads the size of the target file again and again until the flag is set. Panics if the file exists but is not complete.
/// Returns the flag, and the thread, whose result is the number of reads.
fn watch_target(content: &ContentFolder, target: &str, name: &str) -> (Arc<AtomicBool>, std::thread::JoinHandle<u64>) {
    let (stop, path, whole) = (Arc::new(AtomicBool::new(false)), content.path(target).join(name), content.source(name));
    let (until, whole) = (Arc::clone(&stop), fs::metadata(whole).unwrap().len());
    let looking = std::thread::spawn(move || {
        let mut looks = 0;
        while !until.load(Ordering::SeqCst) {
            if let Ok(meta) = fs::metadata(&path) {
                assert_eq!(meta.len(), whole, "half a file under its name");
            }
            looks += 1;
        }
        looks
    });
    (stop, looking)
}

#[actix_rt::test]
async fn a_cancel_in_the_middle_of_a_large_file_names_it_and_lets_it_be_completed() {
    let content = ContentFolder::new();
    content.write_source_file("a", b"small");
    content.write_source_file("big/video.bin", &vec![1; 2_000_000]);
    content.write_source_file("z", b"never reached");
    let (stop, looking) = watch_target(&content, "x", "big/video.bin");
    let mut bench = WorkerBench::with(content.handler(Some(1_000_000))).await;
    let task = bench.create_and_start(content.task(&["x", "y"])).await;
    let began = bench.wait_for_progress(|note| note.fraction > Some(0.1)).await.at;
    bench.cancel(task).await;
    let ack = bench.wait_for_acknowledgement().await;
    let step = format!("copying big/video.bin to {}", content.path("x").display());
    assert_eq!(ack.stopping_after, Some(step));
    let left = ack.expected_end.unwrap().since(began);
    assert!(left > Duration::from_millis(300) && left < Duration::from_mins(1), "{left:?}");
    let ended = bench.wait_for_end().await;
    stop.store(true, Ordering::SeqCst);
    assert!(looking.join().unwrap() > 0);
    assert!(ended.acknowledged.is_empty());
    let end = ended.completed();
    assert_eq!(end.outcome, Outcome::Cancelled);
    let message = "stopped: 2 of 6 files (2.0 MB of 4.0 MB) were copied; what was copied stays";
    assert_eq!(end.message.as_deref(), Some(message));
    assert_eq!(end.result.unwrap().to_value()["targets_done"], json!(0));
    assert_eq!(fs::read(content.path("x/big/video.bin")).unwrap(), fs::read(content.source("big/video.bin")).unwrap());
    let names = |dir: &str| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(content.path(dir)).unwrap().map(|item| item.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("x"), ["a", "big"]);
    assert_eq!(names("x/big"), ["video.bin"]);
    assert!(!content.path("y").exists());
}

#[actix_rt::test]
async fn a_cancel_among_small_files_stops_between_them_and_the_next_attempt_goes_on() {
    let content = ContentFolder::new();
    for n in 0..40 {
        content.write_source_file(&format!("{n:02}"), &vec![7; 20_000]);
    }
    let mut bench = WorkerBench::with(content.handler(Some(400_000))).await;
    let task = bench.create_and_start(content.task(&["x"])).await;
    bench.wait_for_progress(|note| note.fraction > Some(0.1)).await;
    bench.cancel(task).await;
    let ended = bench.wait_for_end().await;
    assert_eq!(ended.acknowledged.len(), 1);
    let result = ended.completed().result.unwrap().to_value();
    let copied = result["files"].as_u64().unwrap();
    assert!((4..40).contains(&copied), "{copied}");
    let there: Vec<_> = fs::read_dir(content.path("x")).unwrap().map(|item| item.unwrap()).collect();
    assert_eq!(u64::try_from(there.len()).unwrap(), copied);
    assert!(there.iter().all(|item| item.metadata().unwrap().len() == 20_000));
    bench.execute(task, taskbell::task::Command::Retry { reason: None }).await;
    bench.start_attempt(task).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.outcome, Outcome::Succeeded);
    assert_eq!(end.result.unwrap().to_value()["skipped"], json!(copied));
}

#[actix_rt::test]
async fn an_interrupt_gives_up_the_file_under_way_and_leaves_nothing_of_it() {
    let content = ContentFolder::new();
    content.write_source_file("video.bin", &vec![1; 50_000_000]);
    let mut bench = WorkerBench::with(content.handler(Some(1_000_000))).await;
    let task = bench.create_and_start(content.task(&["x"])).await;
    bench.wait_for_progress(|note| note.fraction > Some(0.001)).await;
    bench.cancel(task).await;
    bench.send_directive(task, Directive::Interrupt).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!((end.outcome, end.forced), (Outcome::Cancelled, false));
    assert_eq!(fs::read_dir(content.path("x")).unwrap().count(), 0);
}
