//! A worker in a process of its own, with two kinds of work: one in small steps, one with a step that can't be interrupted.
//!
//! Start `taskbell serve`, then `cargo run --example worker`, then
//! `taskbell submit demo.walk --input - --wait <<< '{"steps": 50}'` and `taskbell submit demo.post`; cancel either of
//! them. `TASKBELL_SERVER` and `TASKBELL_TOKEN` name the server and the token, `WORKER_CONCURRENCY` the attempts at once.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use taskbell::{Context, Done, Failure, Handler, Handlers, Note, RemoteWorker};

/// Many small steps: it can stop between any two of them.
struct Walk;

#[derive(Deserialize)]
struct Way {
    steps: u32,
}

#[taskbell::async_trait]
impl Handler for Walk {
    fn kind(&self) -> &'static str {
        "demo.walk"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let Way { steps } = ctx.input()?;
        for step in 1..=steps {
            ctx.progress(f64::from(step) / f64::from(steps), format!("step {step} of {steps}"));
            ctx.output(format!("step {step}\n")); // the end of this is kept, and shown on the task's page
            tokio::select! {
                () = ctx.cancelled() => return Err(Failure::cancelled()),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        Ok(Done::new(format!("walked {steps} steps")).with_result(json!({ "steps": steps })))
    }
}

/// One step that can't be interrupted: a cancel that arrives meanwhile is acknowledged with its name.
struct Post;

#[taskbell::async_trait]
impl Handler for Post {
    fn kind(&self) -> &'static str {
        "demo.post"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        ctx.blocking("posting the invoice", |step| {
            step.expect_end_in(Duration::from_secs(2));
            std::thread::sleep(Duration::from_secs(2));
        })
        .await?;
        ctx.stop_if_cancelled()?;
        Ok(Done::new("posted"))
    }
}

/// Works for `server` until `until` resolves; how many attempts had not stopped even after the grace.
pub(crate) async fn work(server: &str, until: impl Future<Output = ()>) -> Result<usize, Box<dyn std::error::Error>> {
    let mut handlers = Handlers::new();
    handlers.register(Walk)?;
    handlers.register(Post)?;
    let concurrency = std::env::var("WORKER_CONCURRENCY").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut worker = RemoteWorker::connect(server).concurrency(concurrency).handlers(handlers).watch(print);
    if let Ok(token) = std::env::var("TASKBELL_TOKEN") {
        worker = worker.token(token);
    }
    Ok(worker.run(until).await?)
}

fn print(note: &Note<'_>) {
    match note {
        Note::Begun { task, attempt, title, .. } => eprintln!("{task}: attempt {attempt} begins: {title}"),
        Note::Ended { task, attempt, outcome, .. } => eprintln!("{task}: attempt {attempt} {outcome}"),
        other => eprintln!("{other:?}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("TASKBELL_SERVER").unwrap_or_else(|_| "http://127.0.0.1:7070".to_owned());
    let left = work(&server, async { _ = tokio::signal::ctrl_c().await }).await?;
    if left > 0 {
        eprintln!("{left} attempts still ran");
    }
    Ok(())
}
