//! Clusters into which an import refuses to write, and logs that it refuses to copy.

use taskbell::store::ReadError;

use super::*;

/// An event that is in no log of these tests.
fn foreign(queue: &str) -> Append {
    let mut append = append(history::random_log(9, 1).events.remove(0));
    append.stream = StreamName::queue(queue);
    append
}

#[track_caller]
fn refused(answer: Result<Imported, ImportError>, reason: &str) {
    let Err(error @ ImportError::Refused(_)) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains(reason), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_that_a_server_has_used_is_refused_and_nothing_is_written() {
    let folder = Folder::with(10).await;
    let (database, server) = database().await;
    drop(ready(connect(server.addr(), "taskbell")).await);
    let before = database.all().len();
    refused(import_quietly(&folder, &server).await, "another log under this prefix");
    assert_eq!(database.all().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_a_server_has_written_to_is_refused() {
    let folder = Folder::with(10).await;
    let (_database, server) = database().await;
    import_quietly(&folder, &server).await.unwrap();
    let store = ready(connect(server.addr(), "taskbell")).await;
    store.append(foreign("mail")).await.unwrap();
    refused(import_quietly(&folder, &server).await, "a server has written to the cluster since the import");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_events_differ_is_refused() {
    let folder = Folder::with(10).await;
    let (_database, server) = database().await;
    let twin = tempfile::tempdir().unwrap();
    copy_as_killed(folder.path(), twin.path());
    for (dir, queue) in [(folder.path(), "mail"), (twin.path(), "post")] {
        EventStore::open(dir).unwrap().append(foreign(queue)).await.unwrap();
    }
    in_time(import(twin.path(), &url(server.addr()), &mut |_| {})).await.unwrap();
    refused(import_quietly(&folder, &server).await, "differs at position 11 or before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_writer_is_noticed_at_its_first_event() {
    let folder = Folder::with(1500).await;
    let (_database, server) = database().await;
    let (begun, has_begun) = oneshot::channel();
    let (mut begun, addr) = (Some(begun), server.addr());
    let writing = tokio::spawn(async move {
        has_begun.await.unwrap();
        let store = ready(connect(addr, "taskbell")).await;
        store.append(foreign("mail")).await.unwrap();
    });
    let answer = in_time(import(folder.path(), &url(server.addr()), &mut |step| {
        if let (ImportProgress::Copied(_), Some(begun)) = (step, begun.take()) {
            begun.send(()).unwrap();
        }
    }))
    .await;
    in_time(writing).await.unwrap();
    let answer = answer.map(|(imported, _)| imported);
    let Err(error @ ImportError::Different(_)) = answer else { panic!("{answer:?}") };
    assert!(error.to_string().contains("wrote to this prefix meanwhile"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_not_imported() {
    let folder = Folder::with(10).await;
    let (database, server) = database().await;
    let sql = "DROP TRIGGER events_are_not_changed; UPDATE events SET time = time + 1 WHERE position = 5;";
    rusqlite::Connection::open(folder.path().join("log.db")).unwrap().execute_batch(sql).unwrap();
    let answer = import_quietly(&folder, &server).await;
    let Err(ImportError::Source(ReadError::Damaged(what))) = answer else { panic!("{answer:?}") };
    assert!(what.contains("event 5"), "{what}");
    assert_eq!(database.all().len(), 1, "the id of the log");
}
