//! The worker as a library: the handlers of `examples/worker.rs`, and handlers that behave badly.

use serde_json::{Value, json};
use taskbell::work::{Context, Done, Failure, Handler, Handlers, RemoteError, RemoteWorker, Step};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::process::{events, submit, wait_for_progress};
use crate::support::{Server, TEST_TIMEOUT};

#[allow(dead_code)] // its own `main`
#[path = "../../examples/worker.rs"]
mod example;

type HandlerFuture = std::pin::Pin<Box<dyn Future<Output = Result<Done, Failure>> + Send>>;

/// A handler of the kind `demo` that runs a closure.
struct ClosureHandler(Box<dyn Fn(Context) -> HandlerFuture + Send + Sync>);

#[taskbell::async_trait]
impl Handler for ClosureHandler {
    fn kind(&self) -> &'static str {
        "demo"
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        (self.0)(ctx).await
    }
}

/// A worker in this process.
pub struct TestWorker {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<usize, RemoteError>>,
}

impl TestWorker {
    /// Starts a worker that runs `run` for each task of the kind `demo`.
    pub fn start<F>(server: &Server, run: impl Fn(Context) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        Self::at(&server.url(), run)
    }

    /// Starts a worker that runs `run` for each task of the kind `demo`, for the server at this address.
    pub fn at<F>(url: &str, run: impl Fn(Context) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        Self::running(RemoteWorker::new(url), run)
    }

    /// Starts this worker, which runs `run` for each task of the kind `demo`.
    pub fn running<F>(worker: RemoteWorker, run: impl Fn(Context) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let mut handlers = Handlers::new();
        handlers.register(ClosureHandler(Box::new(move |ctx| Box::pin(run(ctx))))).unwrap();
        let worker = worker.concurrency(64).handlers(handlers);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move { worker.run(async { _ = stopped.await }).await });
        Self { stop, running }
    }

    pub async fn stop(self) -> usize {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap()
    }

    /// Waits until the worker ends by itself.
    pub async fn ended(self) -> Result<usize, RemoteError> {
        let Self { stop: _stop, running } = self;
        tokio::time::timeout(TEST_TIMEOUT, running).await.expect("the worker ends").unwrap()
    }
}

async fn error_of(server: &Server, id: &str) -> Value {
    server.task_at_end(id).await["outcome"]["error"]["code"].clone()
}

#[tokio::test]
async fn the_example_works() {
    let server = Server::start();
    let (url, (stop, stopped)) = (server.url(), oneshot::channel::<()>());
    let stopping = async { _ = stopped.await };
    let work = async { example::run_worker(&url, stopping).await.unwrap() };
    let test = async {
        let walk = server.submit(&json!({"kind": "demo.walk", "input": {"steps": 3}})).await;
        let task = server.task_at_end(&walk).await;
        assert_eq!((&task["status"], &task["result"]), (&json!("succeeded"), &json!({"steps": 3})), "{task}");
        assert_eq!(events(&server, &walk, "OutputKept").await[0]["data"]["tail"], "step 1\nstep 2\nstep 3\n");
        let long = server.submit(&json!({"kind": "demo.walk", "input": {"steps": 3000}})).await;
        let post = server.submit(&json!({"kind": "demo.post"})).await;
        for id in [&long, &post] {
            server.task_with_status(id, "running").await;
            server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
        }
        let asked = server.task_when(&post, |task| !task["cancel"]["acknowledged_at"].is_null()).await;
        assert_eq!(asked["cancel"]["stopping_after"], "posting the invoice", "{asked}");
        assert!(!asked["cancel"]["expected_end"].is_null() || asked["status"] == "cancelling", "{asked}");
        for id in [&long, &post] {
            assert_eq!(server.task_at_end(id).await["cancel"]["verdict"], "cancelled");
        }
        stop.send(()).unwrap();
    };
    assert_eq!(tokio::join!(work, test).0, 0);
}

#[tokio::test]
async fn many_short_tasks_end_once_each_by_their_batches() {
    let server = Server::start();
    let worker = TestWorker::start(&server, |ctx| async move {
        Ok(Done::default().with_result(json!({"n": ctx.input_value()["n"], "attempt": ctx.attempt()})))
    });
    let items: Vec<Value> = (0..500).map(|n| json!({"kind": "demo", "input": {"n": n}})).collect();
    let batch = server.post("/v1/tasks/batch", &json!({"items": items})).await.body;
    for (n, item) in batch["items"].as_array().unwrap().iter().enumerate() {
        let task = server.task_at_end(item["id"].as_str().unwrap()).await;
        assert_eq!(task["result"], json!({"n": n, "attempt": 1}), "{task}");
    }
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn an_end_that_the_server_refuses_becomes_a_failure_with_the_reason() {
    let server = Server::start();
    let worker = TestWorker::start(&server, |ctx| async move {
        match ctx.input_value().as_str() {
            // Only the server may use this code.
            Some("verdict") => Err(Failure::retryable("timed_out", "I say so")),
            Some("unasked") => Err(Failure::cancelled()),
            Some("huge") => Ok(Done::default().with_result(json!("x".repeat(300 * 1024)))),
            Some("panic") => panic!("no"),
            _ => {
                ctx.progress(7.5, "a\u{2028}b\n");
                ctx.progress(f64::NAN, "\u{1}");
                Ok(Done::new("\u{2029}"))
            }
        }
    });
    let expected = [
        ("verdict", json!("end_refused")),
        ("unasked", json!("stopped_unasked")),
        ("huge", json!("result_too_large")),
        ("panic", json!("panicked")),
        ("fine", Value::Null),
    ];
    for (input, code) in expected {
        let id = submit(&server, json!({"input": input})).await;
        assert_eq!(error_of(&server, &id).await, code, "{input}");
    }
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn the_last_progress_is_sent_before_the_end() {
    let server = Server::start();
    let worker = TestWorker::start(&server, |ctx| async move {
        for n in 0..=100 {
            ctx.progress(f64::from(n) / 100.0, n.to_string());
        }
        Ok(Done::default())
    });
    let id = submit(&server, json!({})).await;
    server.task_at_end(&id).await;
    let last = &events(&server, &id, "Completed").await[0]["data"]["progress"];
    assert_eq!((&last["fraction"], &last["message"]), (&json!(1.0), &json!("100")));
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn an_interrupted_attempt_waits_for_its_blocking_step() {
    let server = Server::with(["--kind", "demo:ask_for_s=0.5"]);
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Arc::new(std::sync::Mutex::new(gate));
    let worker = TestWorker::start(&server, move |ctx| {
        let gate = gate.clone();
        async move {
            let step = move |step: &Step| {
                step.progress(None, "begun");
                gate.lock().unwrap().recv().unwrap();
                while !step.is_interrupted() {
                    std::thread::yield_now();
                }
            };
            ctx.blocking("moving a mountain", step).await?;
            Ok(Done::new("moved"))
        }
    });
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "begun").await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let task = server.task_when(&id, |task| task["cancel"]["rung"] == "interrupt").await;
    assert_eq!(
        (&task["status"], &task["cancel"]["stopping_after"]),
        (&json!("cancelling"), &json!("moving a mountain"))
    );
    assert_eq!(events(&server, &id, "Completed").await, Vec::<Value>::new());
    open.send(()).unwrap();
    let task = server.task_at_end(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("cancelled")), "{task}");
    assert_eq!(task["outcome"]["message"], "interrupted while moving a mountain");
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_worker_that_is_dropped_interrupts_its_attempts() {
    let server = Server::start();
    let (sender, dropped) = oneshot::channel::<()>();
    let sender = std::sync::Arc::new(std::sync::Mutex::new(Some(sender)));
    let worker = TestWorker::start(&server, move |ctx| {
        // This value is dropped together with the handler's future.
        let sender = sender.lock().unwrap().take();
        async move {
            ctx.progress(None, "begun");
            std::future::pending::<()>().await;
            drop(sender);
            Ok(Done::default())
        }
    });
    let id = submit(&server, json!({})).await;
    wait_for_progress(&server, &id, "begun").await;
    worker.running.abort();
    assert!(dropped.await.is_err(), "the future is dropped");
    assert_eq!(server.task(&id).await["status"], "running");
}

#[tokio::test]
async fn a_configuration_that_is_not_valid_is_an_error_at_once() {
    let handlers = || {
        let mut handlers = Handlers::new();
        handlers.register(ClosureHandler(Box::new(|_| Box::pin(async { Ok(Done::default()) })))).unwrap();
        handlers
    };
    let worker = |url: &str| RemoteWorker::new(url).handlers(handlers());
    let never = || std::future::pending::<()>();
    let server = Server::start();
    assert!(matches!(worker("ftp://here").run(never()).await, Err(RemoteError::Address(_))));
    let url = server.url();
    assert!(matches!(worker(&url).name("local/x").run(never()).await, Err(RemoteError::Name(_))));
    assert!(matches!(worker(&url).queues(["A B"]).run(never()).await, Err(RemoteError::Queue(_))));
    assert!(matches!(RemoteWorker::new(&url).run(never()).await, Err(RemoteError::NoHandlers)));
    let wrong = format!("{url}/nowhere");
    assert!(matches!(worker(&wrong).run(never()).await, Err(RemoteError::Refused { status: 404, .. })));
}
