//! Distributions that fail because of files on the disk.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::bench::WorkerBench;
use super::trees::{ContentFolder, task_with_input};

/// Runs a distribution that must fail. Returns the error's code, whether another attempt follows, and the error's message.
async fn run_and_get_error(content: &ContentFolder, source: &str, target: &str) -> (String, bool, String) {
    let mut bench = WorkerBench::with(content.handler(None)).await;
    let input: Value = json!({"source": content.path(source), "targets": [content.path(target)]});
    bench.create_and_start(task_with_input(input)).await;
    let (error, again) = bench.wait_for_end().await.error();
    (error.code, again, error.message)
}

#[actix_rt::test]
async fn a_source_that_is_missing_or_not_a_directory_fails_with_its_own_code() {
    let content = ContentFolder::new();
    fs::write(content.path("file"), "").unwrap();
    let (code, again, message) = run_and_get_error(&content, "missing", "x").await;
    assert_eq!((code.as_str(), again), ("source_missing", false));
    assert_eq!(message, format!("the source {} does not exist", content.path("missing").display()));
    assert_eq!(run_and_get_error(&content, "file/below", "x").await.0, "source_missing");
    let (code, again, _) = run_and_get_error(&content, "file", "x").await;
    assert_eq!((code.as_str(), again), ("source_not_a_directory", false));
    assert!(!content.path("x").exists());
}

#[actix_rt::test]
async fn symlinks_that_lead_out_of_the_roots_are_not_followed() {
    let (content, outside) = (ContentFolder::new(), tempfile::tempdir().unwrap());
    content.write_source_file("sub/a", b"x");
    symlink(outside.path(), content.path("out")).unwrap();
    symlink(outside.path().join("missing"), content.path("nowhere")).unwrap();
    for (source, target) in [("out", "x"), ("source", "out"), ("source", "out/deeper/x"), ("source", "nowhere/x")] {
        let (code, again, message) = run_and_get_error(&content, source, target).await;
        assert_eq!((code.as_str(), again), ("outside_roots", false), "{message}");
    }
    // The target has a symlink at the place of a directory of the source.
    fs::create_dir(content.path("x")).unwrap();
    symlink(outside.path(), content.path("x/sub")).unwrap();
    assert_eq!(run_and_get_error(&content, "source", "x").await.0, "target_conflict");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[actix_rt::test]
async fn trees_that_overlap_after_symlinks_are_followed_are_refused() {
    let content = ContentFolder::new();
    content.write_source_file("a", b"x");
    symlink(content.path("source"), content.path("alias")).unwrap();
    let (code, again, _) = run_and_get_error(&content, "source", "alias/inside").await;
    assert_eq!((code.as_str(), again), ("overlapping_paths", false));
    assert!(!content.source("inside").exists());
}

#[actix_rt::test]
async fn a_file_where_a_directory_has_to_go_and_the_other_way_round_are_conflicts() {
    let content = ContentFolder::new();
    content.write_source_file("sub/a", b"x");
    content.write_source_file("b", b"x");
    symlink("b", content.source("link")).unwrap();
    fs::create_dir_all(content.path("one/b")).unwrap();
    fs::create_dir_all(content.path("two")).unwrap();
    fs::write(content.path("two/sub"), "").unwrap();
    fs::create_dir_all(content.path("three/link")).unwrap();
    fs::write(content.path("four"), "").unwrap();
    for target in ["one", "two", "three", "four", "four/below"] {
        let (code, again, _) = run_and_get_error(&content, "source", target).await;
        assert_eq!((code.as_str(), again), ("target_conflict", false), "{target}");
    }
}

#[actix_rt::test]
async fn pipes_sockets_and_devices_are_refused_before_anything_is_copied() {
    let content = ContentFolder::new();
    content.write_source_file("a", b"x");
    let _socket = UnixListener::bind(content.source("socket")).unwrap();
    let (code, again, message) = run_and_get_error(&content, "source", "x").await;
    assert_eq!((code.as_str(), again), ("unsupported_file", false));
    assert!(message.contains("source/socket"), "{message}");
    assert!(!content.path("x").exists());
}

/// A separate file system; it is unmounted when this value is dropped.
struct MountedFileSystem(PathBuf);

impl MountedFileSystem {
    fn tmpfs(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED in part: this process may not mount a file system, so {options} was not tried");
        None
    }
}

impl Drop for MountedFileSystem {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[actix_rt::test]
async fn a_full_disk_fails_the_attempt_retryably_and_leaves_no_half_file() {
    let content = ContentFolder::new();
    content.write_source_file("a", b"fits");
    content.write_source_file("large", &vec![0; 3_000_000]);
    let Some(_full) = MountedFileSystem::tmpfs(content.path("x"), "size=1m") else { return };
    let (code, again, message) = run_and_get_error(&content, "source", "x").await;
    assert_eq!((code.as_str(), again), ("disk_full", true), "{message}");
    assert!(message.contains("x/large") && message.ends_with("No space left on device"), "{message}");
    let left: Vec<_> = fs::read_dir(content.path("x")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
}

#[actix_rt::test]
async fn a_read_only_target_fails_with_its_own_code() {
    let content = ContentFolder::new();
    content.write_source_file("a", b"x");
    let Some(_locked) = MountedFileSystem::tmpfs(content.path("x"), "ro") else { return };
    let (code, again, message) = run_and_get_error(&content, "source", "x").await;
    assert_eq!((code.as_str(), again), ("read_only_target", false), "{message}");
}
