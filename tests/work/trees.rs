//! What a distribution leaves in its targets.

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

use super::bench::{Bench, created};

/// A content root with a source in it.
pub struct Yard {
    pub root: TempDir,
}

impl Yard {
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

    /// Writes a file of the source, with an old time of change.
    pub fn file(&self, name: &str, content: &[u8]) {
        let path = self.source(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        age(&path);
    }

    pub fn handler(&self, bytes_per_s: Option<u64>) -> Distribute {
        let limit = bytes_per_s.map(|limit| limit.try_into().unwrap());
        Distribute::new(ContentRoots::new([self.root.path()]).unwrap(), limit)
    }

    pub fn order(&self, targets: &[&str]) -> Created {
        let targets: Vec<_> = targets.iter().map(|name| self.path(name)).collect();
        order_of(json!({"source": self.path("source"), "targets": targets}))
    }
}

pub fn order_of(input: Value) -> Created {
    Created { kind: "content.distribute".to_owned(), input: input.into(), max_attempts: 3, ..created() }
}

/// Sets an old time of change.
pub fn age(path: &Path) {
    let then = filetime::FileTime::from_unix_time(1_600_000_000, 123_456_789);
    filetime::set_symlink_file_times(path, then, then).unwrap();
}

/// A tree as text: the name, type, permissions, time and content of every entry.
pub fn picture(dir: &Path) -> Vec<String> {
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

fn odd_tree(yard: &Yard) {
    yard.file("empty", b"");
    yard.file("with space\nand newline", b"odd");
    yard.file("deep/er/and deeper/file.bin", &vec![7; 3_000_000]);
    fs::write(yard.source("").join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
    fs::create_dir(yard.source("empty dir")).unwrap();
    symlink("deep/er", yard.source("relative")).unwrap();
    symlink("/etc/passwd", yard.source("absolute")).unwrap();
    symlink("nowhere", yard.source("dangling")).unwrap();
    yard.file("tool", b"#!/bin/sh\n");
    fs::set_permissions(yard.source("tool"), Permissions::from_mode(0o4755)).unwrap();
    yard.file("locked/secret", b"x");
    fs::set_permissions(yard.source("locked/secret"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(yard.source("locked"), Permissions::from_mode(0o555)).unwrap();
    fs::hard_link(yard.source("tool"), yard.source("tool, again")).unwrap();
    for name in ["relative", "absolute", "dangling", "empty dir", "locked", "deep/er", "deep", ""] {
        age(&yard.source(name));
    }
}

#[actix_rt::test]
async fn a_copy_is_its_source_in_every_byte_name_link_permission_and_time() {
    let yard = Yard::new();
    odd_tree(&yard);
    fs::create_dir(yard.path("there")).unwrap();
    fs::write(yard.path("there/own"), b"stays").unwrap();
    let mut bench = Bench::with(yard.handler(None)).await;
    let targets = ["there", "new/one", "two"];
    bench.begin_as(yard.order(&targets)).await;
    let end = bench.end().await.completed();
    assert_eq!(end.outcome, Outcome::Succeeded, "{end:?}");
    assert_eq!(end.message.as_deref(), Some("10 files (3.0 MB) copied to 3 targets"));
    let result = end.result.unwrap().to_value();
    assert_eq!(
        (&result["files"], &result["files_total"], &result["targets_done"]),
        (&json!(30), &json!(30), &json!(3))
    );
    assert_eq!(end.progress.unwrap().fraction, Some(1.0));
    assert_eq!(fs::read(yard.path("there/own")).unwrap(), b"stays");
    fs::remove_file(yard.path("there/own")).unwrap();
    age(&yard.path("there"));
    for target in targets {
        assert_eq!(picture(&yard.path(target)), picture(&yard.path("source")));
    }
}

#[actix_rt::test]
async fn entries_that_are_there_already_stay_and_entries_that_differ_are_replaced() {
    let yard = Yard::new();
    odd_tree(&yard);
    let mut bench = Bench::with(yard.handler(None)).await;
    let task = bench.begin_as(yard.order(&["a"])).await;
    bench.end().await;
    let inode = |name: &str| yard.path("a").join(name).symlink_metadata().unwrap().ino();
    let before = inode("deep/er/and deeper/file.bin");
    // A temporary file that a killed attempt of this task left, a symlink in place of a file, an older file.
    let left = yard.path("a/deep").join(format!(".taskbell-{task}-0123456789abcdef.tmp"));
    fs::write(&left, b"half").unwrap();
    // A temporary file that another task is about to rename: it has the time of change of its source already.
    let foreign = yard.path("a/deep/.taskbell-01a2040b-3892-71f4-8d6b-ab3e5e27a971-0123456789abcdef.tmp");
    fs::write(&foreign, b"complete").unwrap();
    age(&foreign);
    fs::remove_file(yard.path("a/empty")).unwrap();
    symlink("/etc/passwd", yard.path("a/empty")).unwrap();
    fs::write(yard.path("a/tool"), b"older").unwrap();
    let again = taskbell::task::Command::Retry { reason: None };
    bench.execute(task, again).await;
    bench.attempt(task).await;
    let end = bench.end().await.completed();
    assert_eq!(end.message.as_deref(), Some("10 files (3.0 MB) copied to 1 target; 8 of 10 were there already"));
    assert_eq!(inode("deep/er/and deeper/file.bin"), before);
    assert_eq!(fs::read(&foreign).unwrap(), b"complete");
    fs::remove_file(&foreign).unwrap();
    age(&yard.path("a/deep"));
    age(&yard.source("deep"));
    assert_eq!(picture(&yard.path("a")), picture(&yard.path("source")));
}

#[actix_rt::test]
async fn verifying_repairs_a_copy_that_differs_but_has_the_same_size_and_time() {
    let yard = Yard::new();
    yard.file("a/large", &vec![1; 2_500_000]);
    yard.file("b", b"right");
    symlink("b", yard.source("link")).unwrap();
    let mut bench = Bench::with(yard.handler(None)).await;
    let input = json!({"source": yard.path("source"), "targets": [yard.path("x"), yard.path("y")], "verify": true});
    let task = bench.begin_as(order_of(input)).await;
    let end = bench.end().await.completed();
    assert_eq!(end.message.as_deref(), Some("3 files (2.5 MB) copied to 2 targets, verified"));
    assert_eq!(end.progress.unwrap().message.as_deref(), Some("verifying copy 6 of 6"));
    fs::write(yard.path("y/b"), b"wrong").unwrap();
    age(&yard.path("y/b"));
    bench.execute(task, taskbell::task::Command::Retry { reason: None }).await;
    bench.attempt(task).await;
    let result = bench.end().await.completed().result.unwrap().to_value();
    assert_eq!((&result["repaired"], &result["verified"], &result["skipped"]), (&json!(1), &json!(6), &json!(6)));
    assert_eq!(fs::read(yard.path("y/b")).unwrap(), b"right");
}

#[actix_rt::test]
async fn progress_counts_bytes_and_names_file_and_target() {
    let yard = Yard::new();
    for n in 0..1200 {
        yard.file(&format!("{n:04}"), b"");
    }
    yard.file("z", &vec![0; 100_000]);
    let mut bench = Bench::with(yard.handler(Some(200_000))).await;
    bench.begin_as(yard.order(&["a", "b"])).await;
    let half =
        |note: &taskbell::task::event::Progress| note.message.as_deref() == Some("file 1,201 of 1,201, target 2 of 2");
    let first = bench.noted(|note| note.fraction.is_some_and(|fraction| fraction > 0.0)).await;
    assert_eq!(first.message.as_deref(), Some("file 1,201 of 1,201, target 1 of 2"));
    let second = bench.noted(half).await;
    assert!(second.fraction.is_some_and(|fraction| (0.5..=1.0).contains(&fraction)), "{second:?}");
    assert_eq!(bench.end().await.completed().outcome, Outcome::Succeeded);
    assert!(bench.notes.iter().is_sorted_by(|a, b| a.fraction <= b.fraction));
}

#[actix_rt::test]
async fn a_source_without_files_gives_targets_without_files() {
    let yard = Yard::new();
    let mut bench = Bench::with(yard.handler(None)).await;
    bench.begin_as(yard.order(&["a"])).await;
    let end = bench.end().await.completed();
    assert_eq!(end.message.as_deref(), Some("0 files (0 bytes) copied to 1 target"));
    assert!(yard.path("a").is_dir());
}

#[actix_rt::test]
async fn a_source_file_that_grows_while_it_is_copied_fails_the_attempt_and_leaves_nothing() {
    let yard = Yard::new();
    yard.file("log", &vec![0; 400_000]);
    let mut bench = Bench::with(yard.handler(Some(400_000))).await;
    bench.begin_as(yard.order(&["a"])).await;
    bench.noted(|note| note.fraction > Some(0.1)).await;
    File::options().append(true).open(yard.source("log")).unwrap().write_all(b"more").unwrap();
    let (error, again) = bench.end().await.error();
    assert_eq!((error.code.as_str(), again), ("source_changed", true));
    assert!(error.message.contains("source/log"), "{}", error.message);
    assert_eq!(fs::read_dir(yard.path("a")).unwrap().count(), 0);
}
