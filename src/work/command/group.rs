//! The process group of a command: the command and the processes that it starts, unless they leave the group.
//!
//! The group's id is the id of its first process, the leader. When the leader is reaped and the group is empty, the
//! kernel may give this id to another process, so after that no signal may be sent to the id. Therefore the steps have
//! this order:
//!
//! 1. The leader exits and is not reaped.
//! 2. The other processes of the group are ended.
//! 3. The watchdog (see [`WATCHDOG`]) is ended.
//! 4. The leader is reaped.

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

/// The time between SIGTERM and SIGKILL, for processes that must end within a limit.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to remove a group after SIGKILL.
const KILL_GRACE: Duration = Duration::from_millis(500);
/// The pauses between two checks whether a group is empty. Each pause is twice as long as the one before, up to the longest.
const FIRST_CHECK_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_CHECK_PAUSE: Duration = Duration::from_millis(160);
/// The script of the watchdog, a `sh` that runs beside each command. If its input ends without a line, the worker has
/// died. Then the watchdog kills the group `$1`.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r over || kill -s KILL -- "-$1""#;

/// Why the leader exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    /// The leader exited without a signal from the worker.
    NoSignal,
    /// The worker sent SIGTERM because a cancel was requested.
    Cancel,
    /// The attempt was interrupted, released or lost.
    Interrupt,
}

/// A running command in a process group of its own.
pub(super) struct ProcessGroup {
    leader: Child,
    /// `None` after the leader is reaped, because the id may then belong to another process.
    id: Option<Pid>,
    watchdog: Option<Child>,
    /// Receives SIGCHLD, when any child of this process has exited.
    child_exits: unix::Signal,
}

/// The worker's ends of the command's pipes.
pub(super) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

impl ProcessGroup {
    /// Starts the command and its watchdog. If the watchdog can't be started, the command runs without it.
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
        let watchdog = id.and_then(|id| {
            start_watchdog(id)
                .inspect_err(|error| tracing::warn!(%error, "the watchdog of a command can't be started"))
                .ok()
        });
        Ok(Self { leader, id, watchdog, child_exits })
    }

    pub const fn take_pipes(&mut self) -> Pipes {
        Pipes { stdin: self.leader.stdin.take(), stdout: self.leader.stdout.take(), stderr: self.leader.stderr.take() }
    }

    /// Sends signals for the attempt's cancel and interrupt until the leader exits. Then ends the other processes of
    /// the group and reaps the leader. Returns the leader's status, and why it exited.
    pub async fn run_to_end(&mut self, attempt: &Attempt) -> io::Result<(ExitStatus, StopCause)> {
        let cause = self.signal_until_exit(attempt).await;
        self.end_other_processes(attempt).await;
        self.end_watchdog().await;
        self.id = None;
        Ok((self.leader.wait().await?, cause))
    }

    /// Sends signals for the attempt's cancel and interrupt until the leader exits.
    async fn signal_until_exit(&mut self, attempt: &Attempt) -> StopCause {
        let mut cause = StopCause::NoSignal;
        loop {
            tokio::select! {
                biased;
                () = self.wait_for_leader_exit() => return cause,
                () = attempt.interrupt.cancelled(), if cause != StopCause::Interrupt => {
                    cause = StopCause::Interrupt;
                    if attempt.is_released() {
                        self.signal(Signal::TERM);
                        // SIGKILL is sent after the exit or the timeout.
                        let _ = timeout(TERM_GRACE, self.wait_for_leader_exit()).await;
                    }
                    self.signal(Signal::KILL);
                }
                () = attempt.cancel.cancelled(), if cause == StopCause::NoSignal => {
                    cause = StopCause::Cancel;
                    self.signal(Signal::TERM);
                }
            }
        }
    }

    /// Waits until the leader has exited, and doesn't reap it.
    async fn wait_for_leader_exit(&mut self) {
        while self.id.is_some_and(|id| !has_exited(id)) && self.child_exits.recv().await.is_some() {}
    }

    /// Sends SIGTERM to the processes that still run after the leader's exit, and SIGKILL to those that don't end. The
    /// leader is not reaped yet, so the id still belongs to this group.
    async fn end_other_processes(&self, attempt: &Attempt) {
        if !self.is_running().await {
            return;
        }
        if !attempt.interrupt.is_cancelled() {
            self.signal(Signal::TERM);
            tokio::select! {
                () = attempt.interrupt.cancelled() => {}
                () = self.wait_until_empty(TERM_GRACE) => {}
            }
        }
        self.signal(Signal::KILL);
        self.wait_until_empty(KILL_GRACE).await;
    }

    /// Waits until no process of the group runs, but not longer than `limit`.
    async fn wait_until_empty(&self, limit: Duration) {
        let until_empty = async {
            let mut pause = FIRST_CHECK_PAUSE;
            while self.is_running().await {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_CHECK_PAUSE);
            }
        };
        // After a timeout the caller continues with its next step.
        let _ = timeout(limit, until_empty).await;
    }

    /// Whether any process of the group runs.
    async fn is_running(&self) -> bool {
        let Some(id) = self.id else { return false };
        // The check reads the whole process table, which would block the other futures of this thread for too long.
        spawn_blocking(move || has_running_process(id)).await.unwrap_or(true)
    }

    /// Ends the watchdog. After this the group is not killed if the worker dies.
    async fn end_watchdog(&mut self) {
        let Some(mut watchdog) = self.watchdog.take() else { return };
        if let Some(mut stdin) = watchdog.stdin.take() {
            let _ = stdin.write_all(b"over\n").await;
        }
        let _ = watchdog.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It fails if the last process has just exited.
            let _ = kill_process_group(id, signal);
        }
    }
}

/// Whether this child has exited. The call doesn't reap it. A child that can't be waited for counts as exited.
fn has_exited(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).map_or(true, |status| status.is_some())
}

/// Whether any process of the group runs. Processes that have exited and are not reaped don't count. Only `/proc`
/// distinguishes them from running ones; on a system without it, they count as running.
fn has_running_process(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let group = group.as_raw_nonzero().to_string();
    processes.filter_map(Result::ok).any(|process| is_running_in(&process.path().join("stat"), &group))
}

/// Whether this `stat` file in `/proc` describes a running process of the group.
fn is_running_in(file: &Path, group: &str) -> bool {
    // The text is `pid (name) state parent group …`. The name may contain any character, also `)`. All of this is in
    // the first 256 bytes.
    let mut start = [0; 256];
    let read = fs::File::open(file).and_then(|mut file| file.read(&mut start)).unwrap_or_default();
    let text = String::from_utf8_lossy(&start[..read]);
    let mut fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let (state, process_group) = (fields.next(), fields.nth(1));
    process_group == Some(group) && !matches!(state, Some("Z" | "X"))
}

/// Starts the watchdog in a process group of its own.
fn start_watchdog(group: Pid) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", WATCHDOG, "taskbell-watchdog", &group.as_raw_nonzero().to_string()])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
