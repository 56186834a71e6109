//! Logs that are not upgraded. They stay as they are.

use super::*;

#[track_caller]
fn refused(old: &OldLog, words: &str) -> UpgradeError {
    let error = upgrade_quietly(old.path()).unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert!(!files(old.path()).iter().any(|name| name.starts_with("log.db.format1")));
    error
}

#[tokio::test]
async fn every_opener_refuses_format_1_and_names_the_command() {
    let old = OldLog::with(10);
    let error = EventStore::open(old.path()).unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 1, known: 2, .. }), "{error:?}");
    let command = format!("taskbell log upgrade --data {}", old.path().display());
    assert!(error.to_string().contains(&command), "{error}");
    upgrade_quietly(old.path()).unwrap().unwrap();
    old.is_in(old.path()).await;
}

#[tokio::test]
async fn a_damaged_log_is_not_upgraded_and_the_error_names_the_event() {
    for (sql, words) in [
        ("UPDATE events SET time = time + 1 WHERE position = 5", "event 5 doesn't continue the chain"),
        ("DELETE FROM events WHERE position = 7", "event 7 is missing"),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 10", "event 10 doesn't continue the chain"),
    ] {
        let old = OldLog::with(10);
        let database = database(old.path());
        database.execute_batch("DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_deleted;").unwrap();
        database.execute_batch(sql).unwrap();
        drop(database);
        assert!(matches!(refused(&old, words), UpgradeError::Damaged(_)), "{sql}");
    }
}

#[tokio::test]
async fn a_log_whose_write_ahead_log_is_damaged_is_not_upgraded_and_stays_as_it_is() {
    let old = OldLog::with(10);
    let path = old.path().join("log.db-wal");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    assert!(matches!(refused(&old, "log.db-wal is damaged at byte 32"), UpgradeError::Open(_)));
    assert!(std::fs::read(&path).unwrap() == damaged);
    std::fs::write(&path, whole).unwrap();
    upgrade_quietly(old.path()).unwrap().unwrap();
    old.is_in(old.path()).await;
}

#[tokio::test]
async fn a_program_that_reads_the_old_log_is_in_the_way() {
    let old = OldLog::with(10);
    let reader = database(old.path());
    reader.execute_batch("BEGIN; SELECT count(*) FROM events;").unwrap();
    let writer = database(old.path());
    writer.execute_batch("CREATE TABLE later (a)").unwrap();
    drop(writer);
    assert!(matches!(refused(&old, "close it"), UpgradeError::Busy(_)));
    drop(reader);
    upgrade_quietly(old.path()).unwrap().unwrap();
    old.is_in(old.path()).await;
}

#[tokio::test]
async fn a_program_that_writes_to_the_old_log_meanwhile_is_noticed() {
    let old = OldLog::with(10);
    let mut writer = None;
    let answer = upgrade(old.path(), &mut |step| {
        if step == UpgradeStep::NewFileSynced {
            let other = database(old.path());
            other.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            other.execute_batch("CREATE TABLE later (a)").unwrap();
            writer = Some(other);
        }
    });
    assert!(matches!(answer, Err(UpgradeError::Busy(_))), "{answer:?}");
    drop(writer);
    upgrade_quietly(old.path()).unwrap().unwrap();
    old.is_in(old.path()).await;
}

#[tokio::test]
async fn folders_without_a_log_of_format_1_are_refused_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(upgrade_quietly(dir.path()), Err(UpgradeError::NoLog(_))));
    assert!(files(dir.path()).is_empty());
    std::fs::write(dir.path().join("log.db"), "").unwrap();
    assert_eq!(upgrade_quietly(dir.path()).unwrap(), None);
    std::fs::write(dir.path().join("log.db"), "a text of another program ".repeat(100)).unwrap();
    assert!(matches!(upgrade_quietly(dir.path()), Err(UpgradeError::Open(OpenError::NotALog(_)))));

    let old = OldLog::with(10);
    database(old.path()).execute_batch("UPDATE log SET format = 3").unwrap();
    assert!(matches!(refused(&old, "newer"), UpgradeError::Open(OpenError::Newer { found: 3, known: 2, .. })));

    let dir = tempfile::tempdir().unwrap();
    let _running = EventStore::open(dir.path()).unwrap();
    assert!(matches!(upgrade_quietly(dir.path()), Err(UpgradeError::Open(OpenError::Locked(_)))));
}
