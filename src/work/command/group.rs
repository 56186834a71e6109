//! A command and all that it starts, as long as it stays in the command's process group.
//!
//! The group's id is the id of its first process, the leader. The kernel may give that number to another process once the
//! leader is reaped and the group is empty, so nothing may be signalled after that. Therefore the order is: the leader
//! exits and stays unreaped; the rest of the group is ended; the guard is dismissed; the leader is reaped.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::work::worker::attempt::Attempt;

/// Between SIGTERM and SIGKILL, where the command's own end is not waited for.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to remove a group after SIGKILL.
const KILL_GRACE: Duration = Duration::from_millis(500);
/// Pauses between two checks whether a group is empty, doubled from the first to the longest.
const FIRST_CHECK: Duration = Duration::from_millis(5);
const LONGEST_CHECK: Duration = Duration::from_millis(160);
/// Kills the group `$1` when its input ends without a line: then the worker has died.
const GUARD: &str = r#"trap '' HUP INT TERM; read -r over || kill -s KILL -- "-$1""#;

/// Why the leader exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// By itself.
    None,
    /// It was sent SIGTERM because a cancel was requested.
    Cancel,
    /// The attempt was interrupted, handed back or lost.
    Interrupt,
}

/// A running command in a process group of its own.
pub(super) struct Group {
    leader: Child,
    /// `None` once the leader is reaped: from then on the number may belong to another process.
    id: Option<Pid>,
    guard: Option<Child>,
    /// Tells that some child of this process has exited.
    child_exits: unix::Signal,
}

pub(super) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

impl Group {
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let child_exits = unix::signal(SignalKind::child())?;
        let leader = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let guard = id.and_then(|id| start_guard(id).inspect_err(|error| tracing::warn!(%error, "no guard")).ok());
        Ok(Self { leader, id, guard, child_exits })
    }

    pub const fn take_pipes(&mut self) -> Pipes {
        Pipes { stdin: self.leader.stdin.take(), stdout: self.leader.stdout.take(), stderr: self.leader.stderr.take() }
    }

    /// Passes the attempt's cancel and interrupt on as signals until the leader exits, ends the rest of the group, and
    /// reaps the leader; its status.
    pub async fn end(&mut self, attempt: &Attempt) -> io::Result<(ExitStatus, StopCause)> {
        let cause = self.signal_until_exit(attempt).await;
        self.end_rest(attempt).await;
        self.dismiss_guard().await;
        self.id = None;
        Ok((self.leader.wait().await?, cause))
    }

    async fn signal_until_exit(&mut self, attempt: &Attempt) -> StopCause {
        let mut cause = StopCause::None;
        loop {
            tokio::select! {
                biased;
                () = self.leader_exits() => return cause,
                () = attempt.interrupt.cancelled(), if cause != StopCause::Interrupt => {
                    cause = StopCause::Interrupt;
                    if attempt.is_handed_back() {
                        self.signal(Signal::TERM);
                        // After a timeout SIGKILL follows.
                        let _ = timeout(TERM_GRACE, self.leader_exits()).await;
                    }
                    self.signal(Signal::KILL);
                }
                () = attempt.cancel.cancelled(), if cause == StopCause::None => {
                    cause = StopCause::Cancel;
                    self.signal(Signal::TERM);
                }
            }
        }
    }

    /// Waits until the leader has exited, and leaves it unreaped.
    async fn leader_exits(&mut self) {
        while self.id.is_some_and(|id| !has_exited(id)) && self.child_exits.recv().await.is_some() {}
    }

    /// Sends SIGTERM to the processes that outlived the leader, and SIGKILL to those that stay. The leader is unreaped, and
    /// so the group is still the command's.
    async fn end_rest(&self, attempt: &Attempt) {
        if !self.is_running().await {
            return;
        }
        if !attempt.interrupt.is_cancelled() {
            self.signal(Signal::TERM);
            tokio::select! {
                () = attempt.interrupt.cancelled() => {}
                () = self.is_empty_within(TERM_GRACE) => {}
            }
        }
        self.signal(Signal::KILL);
        self.is_empty_within(KILL_GRACE).await;
    }

    async fn is_empty_within(&self, limit: Duration) {
        let empty = async {
            let mut pause = FIRST_CHECK;
            while self.is_running().await {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_CHECK);
            }
        };
        // After a timeout the caller goes on to its next signal.
        let _ = timeout(limit, empty).await;
    }

    /// Whether a process of the group runs.
    async fn is_running(&self) -> bool {
        let Some(id) = self.id else { return false };
        // It reads the whole process table: too long for the threads that other futures run on.
        spawn_blocking(move || has_running_process(id)).await.unwrap_or(true)
    }

    /// Ends the guard: from now on the group is not killed when this process dies.
    async fn dismiss_guard(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        if let Some(mut stdin) = guard.stdin.take() {
            let _ = stdin.write_all(b"over\n").await;
        }
        let _ = guard.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It fails where the last process has just exited.
            let _ = kill_process_group(id, signal);
        }
    }
}

/// Whether this child has exited. It is not reaped by that. A child that can't be waited for is gone.
fn has_exited(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).map_or(true, |status| status.is_some())
}

/// Whether a process of the group runs. Processes that have exited and are not reaped don't count; they can be told apart
/// only by `/proc`, where there is one.
fn has_running_process(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().to_string();
    processes.filter_map(Result::ok).any(|process| runs_in(&process.path().join("stat"), &group))
}

/// Whether this file describes a process of the group that runs.
fn runs_in(file: &Path, group: &str) -> bool {
    // `pid (name) state parent group …`: the name may hold any character, also `)`; all of this is in the first bytes.
    let mut start = [0; 256];
    let read = fs::File::open(file).and_then(|mut file| file.read(&mut start)).unwrap_or_default();
    let text = String::from_utf8_lossy(&start[..read]);
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let (state, of) = (fields.next(), fields.nth(1));
    of == Some(group) && !matches!(state, Some("Z" | "X"))
}

fn start_guard(group: Pid) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", GUARD, "taskbell-guard", &group.as_raw_nonzero().to_string()])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
