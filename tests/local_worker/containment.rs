//! A directory becomes a symlink while a distribution runs. Nothing outside the content roots may be read or written.
//!
//! Each test copies a throttled file and replaces the directory during that copy. The progress of the throttled file
//! tells the test that the attempt is at a known point and will use the directory next.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use taskbell::task::event::Progress;
use tempfile::TempDir;

use super::bench::WorkerBench;
use super::trees::{ContentFolder, describe_tree, set_old_time, task_with_input};

/// The size of a file whose copy takes one second at [`RATE`].
const SLOW: usize = 400_000;
/// Bytes per second.
const RATE: Option<u64> = Some(400_000);

fn started(progress: &Progress) -> bool {
    progress.fraction > Some(0.05)
}

/// Moves the directory to another name inside the root and puts a symlink to `outside` in its place.
fn swap(dir: &Path, outside: &TempDir) {
    fs::rename(dir, dir.with_extension("moved")).unwrap();
    symlink(outside.path(), dir).unwrap();
}

#[actix_rt::test]
async fn a_target_is_not_made_through_a_parent_that_became_a_symlink() {
    let (content, outside) = (ContentFolder::new(), tempfile::tempdir().unwrap());
    content.write_source_file("slow", &vec![0; SLOW]);
    fs::create_dir(content.path("parent")).unwrap();
    let mut bench = WorkerBench::with(content.handler(RATE)).await;
    bench.create_and_start(content.task(&["a", "parent/b"])).await;
    bench.wait_for_progress(started).await;
    swap(&content.path("parent"), &outside);
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("target_conflict", false), "{}", error.message);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[actix_rt::test]
async fn nothing_is_put_into_a_directory_of_a_target_that_became_a_symlink() {
    let (content, outside) = (ContentFolder::new(), tempfile::tempdir().unwrap());
    content.write_source_file("dir/1/slow", &vec![0; SLOW]);
    content.write_source_file("dir/2/file", b"new");
    content.write_source_file("dir/3", b"new");
    // The slow file can still be completed by its path, so only the files after it are affected by the symlink.
    symlink(content.path("a/dir.moved/1"), outside.path().join("1")).unwrap();
    fs::create_dir(outside.path().join("2")).unwrap();
    let abandoned = outside.path().join("2/.taskbell-01a2040b-3892-71f4-8d6b-ab3e5e27a971.tmp");
    fs::write(&abandoned, b"not ours to remove").unwrap();
    set_old_time(&abandoned);
    let before = describe_tree(outside.path());
    let mut bench = WorkerBench::with(content.handler(RATE)).await;
    bench.create_and_start(content.task(&["a"])).await;
    bench.wait_for_progress(started).await;
    swap(&content.path("a/dir"), &outside);
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("target_conflict", false), "{}", error.message);
    assert_eq!(describe_tree(outside.path()), before);
}

#[actix_rt::test]
async fn a_source_is_not_read_through_a_directory_that_became_a_symlink() {
    let (content, outside) = (ContentFolder::new(), tempfile::tempdir().unwrap());
    content.write_source_file("a-slow", &vec![0; SLOW]);
    content.write_source_file("dir/file", b"x");
    // The same file under another name, so that only the path to it differs.
    fs::hard_link(content.source("dir/file"), outside.path().join("file")).unwrap();
    let mut bench = WorkerBench::with(content.handler(RATE)).await;
    bench.create_and_start(content.task(&["a"])).await;
    bench.wait_for_progress(started).await;
    swap(&content.source("dir"), &outside);
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("source_changed", true), "{}", error.message);
    assert!(!content.path("a/dir/file").exists());
}

#[actix_rt::test]
async fn verifying_neither_compares_nor_repairs_through_a_directory_that_became_a_symlink() {
    let (content, outside) = (ContentFolder::new(), tempfile::tempdir().unwrap());
    content.write_source_file("a-slow", &vec![0; SLOW]);
    content.write_source_file("dir/file", b"right");
    // These copies have the right size and time. The content of the slow one differs, so verifying copies it again,
    // throttled.
    fs::create_dir_all(content.path("a/dir")).unwrap();
    for (name, bytes) in [("a/a-slow", vec![1; SLOW]), ("a/dir/file", b"right".to_vec())] {
        fs::write(content.path(name), bytes).unwrap();
        set_old_time(&content.path(name));
    }
    fs::write(outside.path().join("file"), b"wrong").unwrap();
    set_old_time(&outside.path().join("file"));
    let before = describe_tree(outside.path());
    let mut bench = WorkerBench::with(content.handler(RATE)).await;
    let input = json!({"source": content.path("source"), "targets": [content.path("a")], "verify": true});
    bench.create_and_start(task_with_input(input)).await;
    let repairing = |progress: &Progress| {
        progress.fraction > Some(0.55)
            && progress.message.as_deref().is_some_and(|message| message.starts_with("file "))
    };
    bench.wait_for_progress(repairing).await;
    swap(&content.path("a/dir"), &outside);
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("target_conflict", false), "{}", error.message);
    assert_eq!(describe_tree(outside.path()), before);
}
