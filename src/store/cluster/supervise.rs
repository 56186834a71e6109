//! A thread that does one thing again and again, each time on a new runtime.
//!
//! The client can't look after itself: one that failed to connect is dead for ever, one whose node died doesn't find
//! another, and the tasks and connections of a dropped one stay. So a client lives in a *session*, which ends at the first
//! sign of trouble, and takes its runtime with all its tasks and connections along. The next session begins after a pause
//! that grows from 50 ms to 2 s while sessions achieve nothing.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

use eventstore::ClientSettings;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::spin::{SubscriptionEnded, without_spinning};
use crate::task::backoff::{BackOff, with_jitter};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a node may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// What a supervised thread does.
pub(super) trait Session: Send + 'static {
    /// Works until the client is lost; the reason. The future is dropped where the store is closed or the client panics.
    fn run(&mut self) -> impl Future<Output = String>;

    /// Called after each session.
    fn ended(&mut self, why: String);

    /// Whether the last session achieved something, so that the next one begins soon.
    fn has_progressed(&mut self) -> bool;
}

/// Starts the thread. It ends when `stop` becomes true or its sender is gone.
pub(super) fn supervise(
    name: &str,
    stop: watch::Receiver<bool>,
    mut session: impl Session,
) -> io::Result<JoinHandle<()>> {
    let work = move || {
        let mut back_off = BackOff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Some(why) = run_once(&stop, &mut session) {
            session.ended(why);
            if session.has_progressed() {
                back_off.reset();
            }
            pause(&stop, with_jitter(back_off.next_pause(), 0.3, fastrand::f64()));
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(move || without_spinning(work))
}

/// One session; why it ended, none where the store is closed.
fn run_once(stop: &watch::Receiver<bool>, session: &mut impl Session) -> Option<String> {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Some(format!("no runtime: {error}")),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = stopped(stop.clone()) => None,
                why = session.run() => Some(why),
            }
        })
    }));
    // It does not wait for name look-ups that are under way.
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| Some(panic_text(&*panic)))
}

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the store is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn pause(stop: &watch::Receiver<bool>, pause: Duration) {
    match runtime() {
        Ok(runtime) => drop(runtime.block_on(async { tokio::time::timeout(pause, stopped(stop.clone())).await })),
        Err(_) => std::thread::sleep(pause),
    }
}

/// The message of a panic of the client.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    if panic.is::<SubscriptionEnded>() {
        return "the database ended the subscription".to_owned();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    format!("the client has panicked: {}", text.unwrap_or("no message"))
}

/// Returns when one of the nodes accepts a connection; why none does. A client that can't connect costs far more than this.
pub(super) async fn reachable(settings: &ClientSettings) -> Result<(), String> {
    let mut why = String::new();
    for node in settings.hosts() {
        let Ok(port) = u16::try_from(node.port) else { continue };
        match tokio::time::timeout(CONNECT, TcpStream::connect((node.host.as_str(), port))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => why = format!("{}:{port}: {error}", node.host),
            Err(_) => why = format!("{}:{port}: no answer", node.host),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The reasons why its sessions ended are sent to the test. The first session panics, also in a task.
    struct Fragile {
        sessions: u32,
        ended: mpsc::Sender<String>,
    }

    impl Session for Fragile {
        async fn run(&mut self) -> String {
            self.sessions += 1;
            if self.sessions == 1 {
                let task = tokio::spawn(async { std::panic::resume_unwind(Box::new("a task")) });
                drop(task.await);
                std::panic::resume_unwind(Box::new(format!("session {}", self.sessions)));
            }
            format!("end of session {}", self.sessions)
        }

        fn ended(&mut self, why: String) {
            drop(self.ended.send(why));
        }

        fn has_progressed(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn a_session_that_panics_is_followed_by_another_until_the_store_is_closed() {
        let (ended, ends) = mpsc::channel();
        let stop = watch::Sender::new(false);
        let thread = supervise("fragile", stop.subscribe(), Fragile { sessions: 0, ended }).unwrap();
        assert_eq!(ends.recv().unwrap(), "the client has panicked: session 1");
        assert_eq!(ends.recv().unwrap(), "end of session 2");
        drop(stop);
        thread.join().unwrap();
    }
}
