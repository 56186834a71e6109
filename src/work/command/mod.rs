//! Any program as a handler: `taskbell work --kind K -- COMMAND…`.
//!
//! **Input.** The task's input as one line of JSON on stdin. In the environment `TASKBELL_TASK_ID`, `TASKBELL_ATTEMPT`,
//! `TASKBELL_KIND`, `TASKBELL_TITLE`, `TASKBELL_OWNER`, `TASKBELL_SERVER`, and each label as `TASKBELL_LABEL_<KEY>` (upper
//! case, `_` for every other character than a letter or a digit). Neither the lease nor the worker's own `TASKBELL_TOKEN`.
//!
//! **Output.** On either stream, a line `::progress 0.4 message` reports progress (`-` in place of the number where it is
//! unknown). The last line of stdout may be `::result JSON`. All else is output: the last 64 KiB are kept with the attempt's
//! end. The lines of each stream keep their order; between stdout and stderr the order may be off by what a pipe buffers.
//! (One pipe for both would keep it, but not tell the streams apart.)
//!
//! **End.** Exit 0: succeeded, unless the last line of stdout is a `::result` that can't be read: then the attempt has failed
//! with `invalid_result`, for good. After a cancel, which is SIGTERM to the process group, any other end: cancelled. The message
//! is the last visible line of stdout, or else of stderr. Otherwise failed, with the last visible line of stderr, or else of
//! stdout; the code is `exit_<n>` or `killed_by_<signal>`. A failure is retried while attempts are left, but for exit 65
//! (`EX_DATAERR`: the input was incorrect): the next attempt would get the same input. A command that can't be started fails
//! with `cannot_start`, for good where it doesn't exist or may not be executed.
//!
//! **Signals.** An interrupt or a lost lease: SIGKILL to the process group. A worker that stops: SIGTERM, then SIGKILL.
//! After the command's own end, to the processes that it left in its group: the same. If the worker itself is killed, a
//! guard (one `sh` beside each command) sends the group SIGKILL. Not covered: processes that leave the group (`setsid`,
//! daemons), a guard that is killed together with the worker, and the instant between the start of the command and that
//! of its guard.

mod group;
mod output;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use super::worker::context::{Context, INTERRUPTED};
use super::worker::handler::{Done, Failure, Handler};
use group::{Group, StopCause};
use output::CommandOutput;

/// How long a command's pipes are read after the last process of its group has exited: a process that left the group may
/// keep them open for ever.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// `EX_DATAERR` of `sysexits.h`.
const BAD_INPUT: i32 = 65;

/// Runs a command for each task, like `taskbell work`.
///
/// The command gets the task's input as one line of JSON on stdin, and the rest in its environment (`TASKBELL_TASK_ID`,
/// `TASKBELL_KIND` and others). A line `::progress 0.4 message` on either output is progress; a last line `::result JSON` on
/// stdout is the result. Exit code 0 is success, 65 a failure without another attempt, every other code a failure. A cancel is
/// SIGTERM to the command's process group, an interrupt SIGKILL. `taskbell work --help` says it in full.
///
/// ```
/// # use taskbell::{CommandHandler, Handlers};
/// let mut handlers = Handlers::new();
/// let args = ["-c".into(), "wc -c".into()];
/// handlers.register(CommandHandler::new("text.count", "sh", args, "http://127.0.0.1:7070"))?;
/// # Ok::<(), taskbell::NotRegistered>(())
/// ```
#[derive(Clone, Debug)]
pub struct CommandHandler {
    kind: String,
    program: Arc<Program>,
}

#[derive(Debug)]
struct Program {
    path: OsString,
    args: Vec<OsString>,
    server: String,
}

impl CommandHandler {
    /// Runs `path` with `args` for each task of this kind, with `server` as `TASKBELL_SERVER`.
    pub fn new(
        kind: impl Into<String>,
        path: impl Into<OsString>,
        args: impl IntoIterator<Item = OsString>,
        server: impl Into<String>,
    ) -> Self {
        let program = Program { path: path.into(), args: args.into_iter().collect(), server: server.into() };
        Self { kind: kind.into(), program: Arc::new(program) }
    }

    /// The same command for another kind.
    #[must_use]
    pub fn for_kind(&self, kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), program: Arc::clone(&self.program) }
    }
}

#[async_trait::async_trait]
impl Handler for CommandHandler {
    fn kind(&self) -> &str {
        &self.kind
    }

    /// The command runs in a future of its own among the attempt's blocking steps: when this one is dropped, the attempt
    /// still waits until the command is killed.
    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let (attempt, program) = (Arc::clone(ctx.inner()), Arc::clone(&self.program));
        let running = attempt.blocking.spawn_on(async move { program.run(&ctx).await }, &attempt.runtime);
        running.await.unwrap_or_else(|_| Err(Failure::retryable(INTERRUPTED, "the worker is stopping")))
    }
}

impl Program {
    async fn run(&self, ctx: &Context) -> Result<Done, Failure> {
        let attempt = ctx.inner();
        if attempt.interrupt.is_cancelled() {
            return Err(Failure::retryable(INTERRUPTED, "the attempt was interrupted"));
        }
        ctx.stop_if_cancelled()?;
        let mut group = Group::start(&mut self.command(ctx)).map_err(|error| self.cannot_start(&error))?;
        let _step = ctx.step(self.name(), None);
        let pipes = group.take_pipes();
        let input = ctx.input_text().to_owned();
        let mut output = CommandOutput::new(ctx.clone());
        let ended = CancellationToken::new();
        let ending = async {
            let status = group.end(attempt).await;
            ended.cancel();
            status
        };
        let reading = async {
            let mut streams =
                pin!(async { tokio::join!(write_input(pipes.stdin, input), output.read(pipes.stdout, pipes.stderr)) });
            tokio::select! {
                _ = &mut streams => return,
                () = ended.cancelled() => {}
            }
            // After a timeout a process that left the group holds the pipes.
            let _ = tokio::time::timeout(LAST_OUTPUT, streams).await;
        };
        let (status, ()) = tokio::join!(ending, reading);
        let status = status.map_err(|error| Failure::retryable("lost_sight", format!("the command's end: {error}")))?;
        self.outcome(status, output)
    }

    fn command(&self, ctx: &Context) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env_remove("TASKBELL_TOKEN");
        for (key, value) in ctx.labels() {
            let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
            command.env(format!("TASKBELL_LABEL_{}", key.chars().map(upper).collect::<String>()), value);
        }
        command
            .env("TASKBELL_TASK_ID", ctx.task_id().to_string())
            .env("TASKBELL_ATTEMPT", ctx.attempt().to_string())
            .env("TASKBELL_KIND", ctx.kind())
            .env("TASKBELL_TITLE", ctx.title())
            .env("TASKBELL_OWNER", ctx.owner())
            .env("TASKBELL_SERVER", &self.server);
        command
    }

    fn outcome(&self, (status, cause): (ExitStatus, StopCause), output: CommandOutput) -> Result<Done, Failure> {
        if status.success() {
            let (message, result) = output.into_outcome();
            return Ok(Done { message, result: result? });
        }
        match cause {
            StopCause::Interrupt => Err(Failure::retryable(INTERRUPTED, "the command was killed")),
            StopCause::Cancel => {
                let (message, result) = output.into_outcome();
                let message = message.or_else(|| Some(format!("{} stopped", self.name())));
                // The command did what was requested: a result that can't be read does not make that a failure.
                Err(Failure::Cancelled { message, result: result.unwrap_or_default() })
            }
            StopCause::None => Err(self.failure(status, output.into_error_message())),
        }
    }

    fn failure(&self, status: ExitStatus, message: Option<String>) -> Failure {
        let (code, description) = match (status.code(), status.signal()) {
            (Some(exit), _) => (format!("exit_{exit}"), format!("{} ended with exit code {exit}", self.name())),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                (format!("killed_by_{signal}"), format!("{} was killed by signal {signal}", self.name()))
            }
        };
        let retryable = status.code() != Some(BAD_INPUT);
        Failure::Failed { code, message: message.unwrap_or(description), retryable }
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        let retryable = !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        let message = format!("{} can't be started: {error}", self.path.display());
        Failure::Failed { code: "cannot_start".to_owned(), message, retryable }
    }

    /// The program's name for people.
    fn name(&self) -> String {
        Path::new(&self.path).file_name().map_or(self.path.as_os_str(), OsStr::new).to_string_lossy().into_owned()
    }
}

/// Writes the input. A command may exit or close its stdin before it has read all of it.
async fn write_input(stdin: Option<ChildStdin>, input: String) {
    if let Some(mut stdin) = stdin {
        // A whole line, for commands that read one.
        let _ = stdin.write_all(format!("{input}\n").as_bytes()).await;
    }
}
