//! The files that a distribution writes into its targets.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use taskbell::task::event::{Created, Outcome};
use taskbell::work::kinds::distribute::{ContentRoots, Distribute};
use tempfile::TempDir;

use super::bench::{WorkerBench, created};

/// A content root that contains a source folder.
pub struct ContentFolder {
    pub root: TempDir,
}

impl ContentFolder {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("source")).unwrap();
        Self { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn source(&self, name: &str) -> PathBuf {
        self.path("source").join(name)
    }

    /// Writes a file of the source, with an old modification time.
    pub fn write_source_file(&self, name: &str, content: &[u8]) {
        let path = self.source(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_old_time(&path);
    }

    pub fn handler(&self, bytes_per_s: Option<u64>) -> Distribute {
        let limit = bytes_per_s.map(|limit| limit.try_into().unwrap());
        Distribute::new(ContentRoots::new([self.root.path()]).unwrap(), limit)
    }

    /// A task that distributes the source to these targets.
    pub fn task(&self, targets: &[&str]) -> Created {
        let targets: Vec<_> = targets.iter().map(|name| self.path(name)).collect();
        task_with_input(json!({"source": self.path("source"), "targets": targets}))
    }
}

pub fn task_with_input(input: Value) -> Created {
    Created { kind: "content.distribute".to_owned(), input: input.into(), max_attempts: 3, ..created() }
}

/// Sets an old modification time.
pub fn set_old_time(path: &Path) {
    let then = filetime::FileTime::from_unix_time(1_600_000_000, 123_456_789);
    filetime::set_symlink_file_times(path, then, then).unwrap();
}

/// Describes a tree as text: the name, type, permissions, modification time and content hash of every entry.
pub fn describe_tree(dir: &Path) -> Vec<String> {
    fn look(top: &Path, path: &Path, out: &mut Vec<String>) {
        let meta = path.symlink_metadata().unwrap();
        let (kind, content) = if meta.is_dir() {
            ("dir", String::new())
        } else if meta.is_symlink() {
            ("link", fs::read_link(path).unwrap().display().to_string())
        } else {
            ("file", blake3::hash(&fs::read(path).unwrap()).to_hex().to_string())
        };
        let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes().escape_ascii();
        let (mode, s, ns) = (meta.mode(), meta.mtime(), meta.mtime_nsec());
        out.push(format!("{name} {kind} {mode:o} {s}.{ns} {content}"));
        if meta.is_dir() {
            let mut inside: Vec<_> = fs::read_dir(path).unwrap().map(|item| item.unwrap().path()).collect();
            inside.sort();
            for item in &inside {
                look(top, item, out);
            }
        }
    }
    let mut out = Vec::new();
    look(dir, dir, &mut out);
    out
}

fn odd_tree(content: &ContentFolder) {
    content.write_source_file("empty", b"");
    content.write_source_file("with space\nand newline", b"odd");
    content.write_source_file("deep/er/and deeper/file.bin", &vec![7; 3_000_000]);
    fs::write(content.source("").join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
    fs::create_dir(content.source("empty dir")).unwrap();
    symlink("deep/er", content.source("relative")).unwrap();
    symlink("/etc/passwd", content.source("absolute")).unwrap();
    symlink("nowhere", content.source("dangling")).unwrap();
    content.write_source_file("tool", b"#!/bin/sh\n");
    fs::set_permissions(content.source("tool"), Permissions::from_mode(0o4755)).unwrap();
    content.write_source_file("locked/secret", b"x");
    fs::set_permissions(content.source("locked/secret"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(content.source("locked"), Permissions::from_mode(0o555)).unwrap();
    fs::hard_link(content.source("tool"), content.source("tool, again")).unwrap();
    for name in ["relative", "absolute", "dangling", "empty dir", "locked", "deep/er", "deep", ""] {
        set_old_time(&content.source(name));
    }
}

#[actix_rt::test]
async fn a_copy_is_its_source_in_every_byte_name_link_permission_and_time() {
    let content = ContentFolder::new();
    odd_tree(&content);
    fs::create_dir(content.path("there")).unwrap();
    fs::write(content.path("there/own"), b"stays").unwrap();
    let mut bench = WorkerBench::with(content.handler(None)).await;
    let targets = ["there", "new/one", "two"];
    bench.create_and_start(content.task(&targets)).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.outcome, Outcome::Succeeded, "{end:?}");
    assert_eq!(end.message.as_deref(), Some("10 files (3.0 MB) copied to 3 targets"));
    let result = end.result.unwrap().to_value();
    assert_eq!(
        (&result["files"], &result["files_total"], &result["targets_done"]),
        (&json!(30), &json!(30), &json!(3))
    );
    assert_eq!(end.progress.unwrap().fraction, Some(1.0));
    assert_eq!(fs::read(content.path("there/own")).unwrap(), b"stays");
    fs::remove_file(content.path("there/own")).unwrap();
    set_old_time(&content.path("there"));
    for target in targets {
        assert_eq!(describe_tree(&content.path(target)), describe_tree(&content.path("source")));
    }
}

#[actix_rt::test]
async fn entries_that_are_there_already_stay_and_entries_that_differ_are_replaced() {
    let content = ContentFolder::new();
    odd_tree(&content);
    let mut bench = WorkerBench::with(content.handler(None)).await;
    let task = bench.create_and_start(content.task(&["a"])).await;
    bench.wait_for_end().await;
    let inode = |name: &str| content.path("a").join(name).symlink_metadata().unwrap().ino();
    let before = inode("deep/er/and deeper/file.bin");
    // The target has a temporary file of a killed attempt of this task, a symlink instead of a file, and an older file.
    let left = content.path("a/deep").join(format!(".taskbell-{task}-0123456789abcdef.tmp"));
    fs::write(&left, b"half").unwrap();
    // This is a temporary file that another task will rename next. It already has the modification time of its source.
    let foreign = content.path("a/deep/.taskbell-01a2040b-3892-71f4-8d6b-ab3e5e27a971-0123456789abcdef.tmp");
    fs::write(&foreign, b"complete").unwrap();
    set_old_time(&foreign);
    fs::remove_file(content.path("a/empty")).unwrap();
    symlink("/etc/passwd", content.path("a/empty")).unwrap();
    fs::write(content.path("a/tool"), b"older").unwrap();
    let again = taskbell::task::Command::Retry { reason: None };
    bench.execute(task, again).await;
    bench.start_attempt(task).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.message.as_deref(), Some("10 files (3.0 MB) copied to 1 target; 8 of 10 were there already"));
    assert_eq!(inode("deep/er/and deeper/file.bin"), before);
    assert_eq!(fs::read(&foreign).unwrap(), b"complete");
    fs::remove_file(&foreign).unwrap();
    set_old_time(&content.path("a/deep"));
    set_old_time(&content.source("deep"));
    assert_eq!(describe_tree(&content.path("a")), describe_tree(&content.path("source")));
}

#[actix_rt::test]
async fn verifying_repairs_a_copy_that_differs_but_has_the_same_size_and_time() {
    let content = ContentFolder::new();
    content.write_source_file("a/large", &vec![1; 2_500_000]);
    content.write_source_file("b", b"right");
    symlink("b", content.source("link")).unwrap();
    let mut bench = WorkerBench::with(content.handler(None)).await;
    let input =
        json!({"source": content.path("source"), "targets": [content.path("x"), content.path("y")], "verify": true});
    let task = bench.create_and_start(task_with_input(input)).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.message.as_deref(), Some("3 files (2.5 MB) copied to 2 targets, verified"));
    assert_eq!(end.progress.unwrap().message.as_deref(), Some("verifying copy 6 of 6"));
    fs::write(content.path("y/b"), b"wrong").unwrap();
    set_old_time(&content.path("y/b"));
    bench.execute(task, taskbell::task::Command::Retry { reason: None }).await;
    bench.start_attempt(task).await;
    let result = bench.wait_for_end().await.completed().result.unwrap().to_value();
    assert_eq!((&result["repaired"], &result["verified"], &result["skipped"]), (&json!(1), &json!(6), &json!(6)));
    assert_eq!(fs::read(content.path("y/b")).unwrap(), b"right");
}

#[actix_rt::test]
async fn progress_counts_bytes_and_names_file_and_target() {
    let content = ContentFolder::new();
    for n in 0..1200 {
        content.write_source_file(&format!("{n:04}"), b"");
    }
    content.write_source_file("z", &vec![0; 100_000]);
    let mut bench = WorkerBench::with(content.handler(Some(200_000))).await;
    bench.create_and_start(content.task(&["a", "b"])).await;
    let half =
        |note: &taskbell::task::event::Progress| note.message.as_deref() == Some("file 1,201 of 1,201, target 2 of 2");
    let first = bench.wait_for_progress(|note| note.fraction.is_some_and(|fraction| fraction > 0.0)).await;
    assert_eq!(first.message.as_deref(), Some("file 1,201 of 1,201, target 1 of 2"));
    let second = bench.wait_for_progress(half).await;
    assert!(second.fraction.is_some_and(|fraction| (0.5..=1.0).contains(&fraction)), "{second:?}");
    assert_eq!(bench.wait_for_end().await.completed().outcome, Outcome::Succeeded);
    assert!(bench.progress.iter().is_sorted_by(|a, b| a.fraction <= b.fraction));
}

#[actix_rt::test]
async fn a_source_without_files_gives_targets_without_files() {
    let content = ContentFolder::new();
    let mut bench = WorkerBench::with(content.handler(None)).await;
    bench.create_and_start(content.task(&["a"])).await;
    let end = bench.wait_for_end().await.completed();
    assert_eq!(end.message.as_deref(), Some("0 files (0 bytes) copied to 1 target"));
    assert!(content.path("a").is_dir());
}

#[actix_rt::test]
async fn a_source_file_that_grows_while_it_is_copied_fails_the_attempt_and_leaves_nothing() {
    let content = ContentFolder::new();
    content.write_source_file("log", &vec![0; 400_000]);
    let mut bench = WorkerBench::with(content.handler(Some(400_000))).await;
    bench.create_and_start(content.task(&["a"])).await;
    bench.wait_for_progress(|note| note.fraction > Some(0.1)).await;
    File::options().append(true).open(content.source("log")).unwrap().write_all(b"more").unwrap();
    let (error, again) = bench.wait_for_end().await.error();
    assert_eq!((error.code.as_str(), again), ("source_changed", true));
    assert!(error.message.contains("source/log"), "{}", error.message);
    assert_eq!(fs::read_dir(content.path("a")).unwrap().count(), 0);
}
