//! A worker in a process of its own, with two kinds of tasks: one has many small steps, the other has one step that can't be
//! interrupted.
//!
//! Start `taskbell serve` and `cargo run --example worker`. Then submit two tasks with `taskbell submit demo.walk
//! --input - --wait <<< '{"steps": 50}'` and `taskbell submit demo.post`, and cancel them. In the environment,
//! `TASKBELL_SERVER` is the address of the server, and `WORKER_CONCURRENCY` is the number of attempts that run at the
//! same time. `TASKBELL_TOKEN` is sent as a bearer token, for a proxy; this release of the server ignores it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use taskbell::{Context, Done, Failure, Handler, Handlers, RemoteWorker, WorkerEvent};

/// Work in many small steps. It can stop between any two of them.
struct Walk;

#[derive(Deserialize)]
struct WalkInput {
    steps: u32,
}

#[taskbell::async_trait]
impl Handler for Walk {
    fn kind(&self) -> &'static str {
        "demo.walk"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let WalkInput { steps } = ctx.input()?;
        for step in 1..=steps {
            ctx.progress(f64::from(step) / f64::from(steps), format!("step {step} of {steps}"));
            ctx.output(format!("step {step}\n")); // the task's page shows the last 64 KiB
            tokio::select! {
                () = ctx.cancelled() => return Err(Failure::cancelled()),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        Ok(Done::new(format!("walked {steps} steps")).with_result(json!({ "steps": steps })))
    }
}

/// Work with one step that can't be interrupted. A cancel that is requested during the step is acknowledged with its name.
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

/// Runs the worker for `server` until `stop` resolves. Returns the number of attempts that have not stopped even after the
/// grace time (`RemoteWorker::grace`) and the interrupt.
pub(crate) async fn run_worker(
    server: &str,
    stop: impl Future<Output = ()>,
) -> Result<usize, Box<dyn std::error::Error>> {
    let mut handlers = Handlers::new();
    handlers.register(Walk)?;
    handlers.register(Post)?;
    let concurrency = std::env::var("WORKER_CONCURRENCY").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut worker = RemoteWorker::new(server).concurrency(concurrency).handlers(handlers).on_event(print);
    if let Ok(token) = std::env::var("TASKBELL_TOKEN") {
        worker = worker.token(token);
    }
    Ok(worker.run(stop).await?)
}

fn print(event: &WorkerEvent<'_>) {
    match event {
        WorkerEvent::Begun { task, attempt, title, .. } => eprintln!("{task}: attempt {attempt} begins: {title}"),
        WorkerEvent::Ended { task, attempt, outcome, .. } => eprintln!("{task}: attempt {attempt} {outcome}"),
        other => eprintln!("{other:?}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("TASKBELL_SERVER").unwrap_or_else(|_| "http://127.0.0.1:7070".to_owned());
    let unfinished = run_worker(&server, async { _ = tokio::signal::ctrl_c().await }).await?;
    if unfinished > 0 {
        eprintln!("{unfinished} attempts still ran");
    }
    Ok(())
}
