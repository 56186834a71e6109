//! Runs the queries that read many rows, on the blocking pool, a few at a time.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::{Problem, Refusal};

/// The maximum number of rows that a query reads while it holds the lock of the views. A longer query reads a snapshot on the
/// blocking pool.
pub const ROWS_UNDER_LOCK_MAX: usize = 10_000;
/// How long a query waits for the queries before it.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Bounds how many scans run at the same time, so that they leave the processors to other requests and don't fill the blocking
/// pool. A clone counts together with the original.
#[derive(Clone)]
pub struct Scans {
    running: Arc<Semaphore>,
}

impl Default for Scans {
    /// As many scans at the same time as there are processors.
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self { running: Arc::new(Semaphore::new(processors)) }
    }
}

impl Scans {
    /// Waits until fewer scans run, calls `prepare` on this thread, and `scan` with its result on the blocking pool. So a scan
    /// that waits holds no snapshot.
    ///
    /// # Errors
    /// 503 `overloaded` if too many scans run for 5 s; 503 if the process is stopping.
    pub async fn run<S, T>(
        &self,
        prepare: impl FnOnce() -> S,
        scan: impl FnOnce(S) -> T + Send + 'static,
    ) -> Result<T, Problem>
    where
        S: Send + 'static,
        T: Send + 'static,
    {
        let stopping = || Problem::of_status(StatusCode::SERVICE_UNAVAILABLE);
        let overloaded =
            "too many queries that read many tasks are running; use a narrower filter, or send the query again later";
        let permit = timeout(WAIT_MAX, self.running.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| Problem::new(Refusal::Overloaded, overloaded))?.map_err(|_| stopping())?;
        let prepared = prepare();
        let result = web::block(move || {
            let result = scan(prepared);
            drop(permit);
            result
        });
        result.await.map_err(|_| stopping())
    }
}
