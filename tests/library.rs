//! An application embeds the library. These tests use only its public names.

use std::fs;
use std::path::Path;

use serde_json::json;
use taskbell::event::{Completed, Event, Outcome};
use taskbell::{
    Context, Done, Failure, Handler, LogEvent, LogSubscription, Options, Position, Status, TaskId, Taskbell,
};

use crate::support::TEST_TIMEOUT;

struct Greet;

#[taskbell::async_trait]
impl Handler for Greet {
    fn kind(&self) -> &'static str {
        "demo.greet"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        ctx.stop_if_cancelled()?;
        Ok(Done::new("greeted"))
    }
}

async fn start() -> Taskbell {
    let options = Options { data: None, ..Options::default() };
    Taskbell::start(options.handler(Greet).unwrap()).await.unwrap()
}

/// Follows the log to the end of this task.
async fn wait_for_end(mut events: LogSubscription, task: TaskId) -> Completed {
    loop {
        for recorded in events.next().await.unwrap() {
            if let LogEvent::Task(Event::Completed(end)) = &recorded.event {
                assert_eq!(recorded.stream.as_str(), format!("task-{task}"));
                return end.clone();
            }
        }
    }
}

#[actix_rt::test]
async fn an_application_submits_a_task_and_follows_its_events_to_the_end() {
    let taskbell = start().await;
    let task = taskbell.submit("demo.greet", json!({"name": "Ada"})).await.unwrap();
    let end = wait_for_end(taskbell.events(Position(0)), task);
    let end = tokio::time::timeout(TEST_TIMEOUT, end).await.expect("the task ends");
    assert_eq!((end.outcome, end.message.as_deref()), (Outcome::Succeeded, Some("greeted")));
    taskbell.stop().await;
}

#[actix_rt::test]
async fn a_task_has_a_status_as_soon_as_it_is_submitted_and_an_unknown_id_has_none() {
    let taskbell = start().await;
    let task = taskbell.submit("kind.without.a.handler", json!({})).await.unwrap();
    assert_eq!(taskbell.status(task), Some(Status::Queued));
    assert_eq!(taskbell.status(TaskId::from_uuid(uuid::Uuid::nil())), None);
    taskbell.stop().await;
}

#[actix_rt::test]
async fn a_request_that_the_api_would_refuse_is_refused_with_the_same_code() {
    let taskbell = start().await;
    let problem = taskbell.submit("No Kind", json!({})).await.unwrap_err();
    assert_eq!((problem.code, problem.retryable), ("invalid_request", false));
    taskbell.stop().await;
}

/// The modules that are public for tests alone.
fn modules_for_tests() -> Vec<String> {
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = library.split("#[cfg(feature = \"testing\")]\npub mod ").skip(1);
    modules.map(|rest| rest.split(';').next().unwrap().to_owned()).collect()
}

#[test]
fn the_examples_use_no_module_that_is_public_for_tests_alone() {
    let modules = modules_for_tests();
    assert!(modules.iter().any(|module| module == "task"), "the modules of lib.rs were not found: {modules:?}");
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for module in &modules {
            assert!(!text.contains(&format!("taskbell::{module}::")), "{} uses {module}", path.display());
        }
    }
}
