//! A process that is killed at any step of an upgrade leaves a complete log, and the next call completes the upgrade.

use std::process::{Command, Stdio};

use super::*;

/// Upgrades the log, and ends without any cleanup after the step of this number. Prints the step.
#[test]
#[ignore = "runs in a process that ends itself: see a_kill_after_any_step_leaves_one_complete_log"]
fn upgrade_until_a_step() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let last_step: usize = variable("TASKBELL_TEST_STEPS").parse().unwrap();
    let mut steps = 0;
    let upgraded = upgrade(Path::new(&variable("TASKBELL_TEST_DIR")), &mut |step| {
        steps += 1;
        if steps == last_step {
            println!("after {step:?}");
            std::process::abort();
        }
    });
    upgraded.unwrap().unwrap();
}

/// Runs [`upgrade_until_a_step`]. Returns the step after which it has ended; `None` if it has done all steps.
fn run_until_step(dir: &Path, last_step: usize) -> Option<String> {
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log_upgrade::kill::upgrade_until_a_step", "--ignored", "--nocapture"])
        .env("TASKBELL_TEST_DIR", dir)
        .env("TASKBELL_TEST_STEPS", last_step.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8(run.stdout).unwrap();
    let step = output.lines().find_map(|line| line.strip_prefix("after ")).map(str::to_owned);
    assert_eq!(step.is_none(), run.status.success(), "{output}");
    step
}

#[tokio::test]
async fn a_kill_after_any_step_leaves_one_complete_log() {
    let old = OldLog::with(1200);
    let mut steps = Vec::new();
    loop {
        let dir = old.copy();
        let Some(step) = run_until_step(dir.path(), steps.len() + 1) else { break };
        match EventStore::open(dir.path()) {
            Ok(store) => {
                drop(store);
                assert_eq!(upgrade_quietly(dir.path()).unwrap(), None, "after {step}");
            }
            Err(OpenError::Older { found: 1, .. }) => {
                old.is_old_file(&dir.path().join("log.db"));
                let upgraded = upgrade_quietly(dir.path()).unwrap().unwrap();
                assert_eq!((upgraded.events, upgraded.hash), (1200, old.hash), "after {step}");
            }
            Err(error) => panic!("after {step}: {error}"),
        }
        old.is_in(dir.path()).await;
        old.is_old_file(&dir.path().join("log.db.format1"));
        assert!(!files(dir.path()).iter().any(|name| name.starts_with("log.db.new")), "after {step}");
        steps.push(step);
    }
    let names: Vec<_> = steps.iter().map(|step| step.split(' ').next().unwrap()).collect();
    let expected = [
        "OldFileCompleted",
        "NewFileCreated",
        "Copied",
        "Copied",
        "Verified",
        "Verified",
        "NewFileSynced",
        "WriteAheadLogRemoved",
        "OldFileKept",
        "Renamed",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn leftovers_of_other_upgrades_are_no_obstacle() {
    let old = OldLog::with(100);
    for name in ["log.db.new", "log.db.new-journal", "log.db.new-wal", "log.db.new-shm", "log.db.format1"] {
        std::fs::write(old.path().join(name), "of another time").unwrap();
    }
    let upgraded = upgrade_quietly(old.path()).unwrap().unwrap();
    assert_eq!(upgraded.old_file, old.path().join("log.db.format1-2"));
    assert_eq!(std::fs::read(old.path().join("log.db.format1")).unwrap(), b"of another time");
    old.is_in(old.path()).await;
    old.is_old_file(&upgraded.old_file);
    assert!(!files(old.path()).iter().any(|name| name.starts_with("log.db.new")));
}
