//! A thread that runs one session after the other, each on a new runtime.
//!
//! The client of the database doesn't recover from failures:
//! - A client that could not connect never connects later.
//! - A client whose node has died doesn't find another node.
//! - The tasks and connections of a dropped client stay until their runtime ends.
//!
//! So each client belongs to one *session*. The session ends at the first error that may mean that the client is lost. Its
//! runtime ends with it, and all tasks and connections of the client end with the runtime. Then the next session begins
//! after a pause. The pause grows from 50 ms to 2 s while sessions make no progress, and varies at random by up to 30 %.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use eventstore::ClientSettings;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::loop_breaker::{SubscriptionEnded, with_loop_breaker};
use crate::task::backoff::{BackOff, with_jitter};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a node may take to accept a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The work of a supervised thread. One value runs all sessions of the thread, one after the other.
pub(super) trait SessionRunner: Send + 'static {
    /// Runs one session: works until the client is lost, and returns the reason. The future is dropped if the store is closed
    /// or the client panics.
    fn run(&mut self) -> impl Future<Output = String>;

    /// Called after each session, with the reason why it has ended.
    fn session_ended(&mut self, why: String);

    /// Whether the last session has made progress. Then the next session begins after the shortest pause.
    fn last_session_progressed(&mut self) -> bool;
}

/// Starts the thread. It ends when `stop` becomes true or its sender is dropped.
pub(super) fn supervise(
    name: &str,
    stop: watch::Receiver<bool>,
    mut runner: impl SessionRunner,
) -> io::Result<JoinHandle<()>> {
    let work = move || {
        let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Some(why) = run_session(&stop, &mut runner) {
            runner.session_ended(why);
            if runner.last_session_progressed() {
                back_off.reset();
            }
            pause(&stop, with_jitter(back_off.next_pause(), 0.3, fastrand::f64()));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || with_loop_breaker(work))
}

/// Runs one session. Returns why it has ended; `None` if the store is closed.
fn run_session(stop: &watch::Receiver<bool>, runner: &mut impl SessionRunner) -> Option<String> {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Some(format!("no runtime: {error}")),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = wait_until_stopped(stop.clone()) => None,
                why = runner.run() => Some(why),
            }
        })
    }));
    // Unlike a drop of the runtime, this doesn't wait for DNS look-ups that still run.
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| Some(panic_text(&*panic)))
}

/// A new runtime for the current thread.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn wait_until_stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the store was dropped.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits for this time, or until the store is closed.
fn pause(stop: &watch::Receiver<bool>, pause: Duration) {
    match runtime() {
        Ok(runtime) => {
            drop(runtime.block_on(async { tokio::time::timeout(pause, wait_until_stopped(stop.clone())).await }));
        }
        Err(_) => std::thread::sleep(pause),
    }
}

/// The reason for people, from the payload of a panic of the client.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    if panic.is::<SubscriptionEnded>() {
        return "the database ended the subscription".to_owned();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    format!("the client has panicked: {}", text.unwrap_or("no message"))
}

/// Returns when one of the nodes has accepted a TCP connection. This check costs far less than a client that can't connect.
///
/// # Errors
/// Why the last node accepts no connection, if no node does.
pub(super) async fn check_reachable(settings: &ClientSettings) -> Result<(), String> {
    let mut why = String::new();
    for node in settings.hosts() {
        let Ok(port) = u16::try_from(node.port) else { continue };
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((node.host.as_str(), port))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => why = format!("{}:{port}: {error}", node.host),
            Err(_) => why = format!("{}:{port}: no response", node.host),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends the reason of each session's end to the test. The first session panics, and so does a task of it.
    struct PanickingSessions {
        sessions: u32,
        ended: mpsc::Sender<String>,
    }

    impl SessionRunner for PanickingSessions {
        async fn run(&mut self) -> String {
            self.sessions += 1;
            if self.sessions == 1 {
                let task = tokio::spawn(async { std::panic::resume_unwind(Box::new("a task")) });
                drop(task.await);
                std::panic::resume_unwind(Box::new(format!("session {}", self.sessions)));
            }
            format!("end of session {}", self.sessions)
        }

        fn session_ended(&mut self, why: String) {
            drop(self.ended.send(why));
        }

        fn last_session_progressed(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn a_session_that_panics_is_followed_by_another_until_the_store_is_closed() {
        let (ended, ends) = mpsc::channel();
        let stop = watch::Sender::new(false);
        let thread = supervise("panicking", stop.subscribe(), PanickingSessions { sessions: 0, ended }).unwrap();
        assert_eq!(ends.recv().unwrap(), "the client has panicked: session 1");
        assert_eq!(ends.recv().unwrap(), "end of session 2");
        drop(stop);
        thread.join().unwrap();
    }
}
