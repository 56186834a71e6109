//! A command and all that it starts, as long as it stays in its process group.

use std::fs;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::sleep;

use crate::work::worker::attempt::Attempt;

/// Between SIGTERM and SIGKILL, where the worker doesn't wait for the command's own end.
const TERM_FOR: Duration = Duration::from_secs(2);
/// After SIGKILL a group is gone as soon as the kernel comes to it.
const KILL_FOR: Duration = Duration::from_millis(500);
/// Pauses between looks at a group that ends, doubled from the first to the last.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(160);
/// Waits for a word; where none comes before the end of its input, the worker is gone, and the group `$1` goes too.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r over || kill -s KILL -- "-$1""#;

/// What made the command stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Nothing of ours.
    Itself,
    /// It was told that somebody asked.
    Asked,
    /// It was killed, or told to go before that.
    Cut,
}

/// A command that runs, in a process group of its own.
pub(super) struct Group {
    leader: Child,
    id: Option<Pid>,
    guard: Option<Child>,
}

pub(super) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

impl Group {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let leader = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let guard = id.and_then(|id| guard(id).inspect_err(|error| tracing::warn!(%error, "no guard")).ok());
        Ok(Self { leader, id, guard })
    }

    pub const fn pipes(&mut self) -> Pipes {
        Pipes { stdin: self.leader.stdin.take(), stdout: self.leader.stdout.take(), stderr: self.leader.stderr.take() }
    }

    /// Passes on what the attempt is told, until no process of the group is left; the leader's end.
    pub async fn end(&mut self, attempt: &Attempt) -> io::Result<(ExitStatus, Stopped)> {
        let ended = self.leader_ends(attempt).await;
        self.clear(attempt).await;
        self.dismiss().await;
        ended
    }

    async fn leader_ends(&mut self, attempt: &Attempt) -> io::Result<(ExitStatus, Stopped)> {
        let mut stopped = Stopped::Itself;
        loop {
            tokio::select! {
                biased;
                status = self.leader.wait() => return Ok((status?, stopped)),
                () = attempt.cut.cancelled(), if stopped != Stopped::Cut => {
                    stopped = Stopped::Cut;
                    if attempt.is_handed_back() {
                        self.signal(Signal::TERM);
                        // Out of time: what follows is SIGKILL.
                        let _ = tokio::time::timeout(TERM_FOR, self.leader.wait()).await;
                    }
                    self.signal(Signal::KILL);
                }
                () = attempt.asked.cancelled(), if stopped == Stopped::Itself => {
                    stopped = Stopped::Asked;
                    self.signal(Signal::TERM);
                }
            }
        }
    }

    /// What outlived the leader is told to go, and killed where it doesn't.
    async fn clear(&self, attempt: &Attempt) {
        if !attempt.cut.is_cancelled() && self.signal(Signal::TERM) {
            tokio::select! {
                () = attempt.cut.cancelled() => {}
                () = self.is_gone_within(TERM_FOR) => {}
            }
        }
        if self.signal(Signal::KILL) {
            self.is_gone_within(KILL_FOR).await;
        }
    }

    async fn is_gone_within(&self, within: Duration) {
        let gone = async {
            let mut pause = LOOK_FIRST;
            while self.id.is_some_and(is_alive) {
                sleep(pause).await;
                pause = (pause * 2).min(LOOK_LAST);
            }
        };
        // Out of time: whoever waits goes on to what is next.
        let _ = tokio::time::timeout(within, gone).await;
    }

    /// The guard has nothing to guard any more.
    async fn dismiss(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        if let Some(mut stdin) = guard.stdin.take() {
            let _ = stdin.write_all(b"over\n").await;
        }
        let _ = guard.wait().await;
    }

    /// Whether there was anybody to hear it.
    fn signal(&self, signal: Signal) -> bool {
        self.id.is_some_and(|id| kill_process_group(id, signal).is_ok())
    }
}

/// Whether a process of the group runs. One that has died and was never fetched by whoever adopted it, as in a container
/// whose first process doesn't care, can be signalled and is dead nonetheless; `/proc` tells them apart, where there is one.
fn is_alive(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().to_string();
    processes.filter_map(Result::ok).any(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // `pid (name) state parent group …`, and the name may hold anything.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, of) = (fields.next(), fields.nth(1));
        of == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
    })
}

fn guard(group: Pid) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", GUARD, "taskbell-guard", &group.as_raw_nonzero().to_string()])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
