//! A handler that runs any program: `taskbell work --kind K -- COMMAND…`.
//!
//! **Input.** The command gets the task's input on stdin, as one line of JSON. Its environment has `TASKBELL_TASK_ID`,
//! `TASKBELL_ATTEMPT`, `TASKBELL_KIND`, `TASKBELL_TITLE`, `TASKBELL_OWNER`, `TASKBELL_SERVER`, and each label as
//! `TASKBELL_LABEL_<KEY>`. In `<KEY>`, letters are in upper case, and `_` replaces every character other than a letter or a
//! digit. The environment contains neither the lease nor the worker's `TASKBELL_TOKEN`.
//!
//! **Output.** On stdout and stderr, a line `::progress 0.4 message` reports progress; `-` instead of the number means
//! that the fraction is unknown. The last line of stdout may be `::result JSON`. All other lines are output, whose last
//! 64 KiB are recorded with the attempt's end. The order of the lines of one stream is kept. The order between lines of
//! stdout and lines of stderr may change, because each stream has its own pipe.
//!
//! **End.** After exit code 0 the attempt has succeeded, unless the last line of stdout is a `::result` that can't be read:
//! then it has failed with `invalid_result` or `result_too_large`, and is not retried. After a cancel (SIGTERM to the process
//! group), any other end means that the attempt was cancelled. In both cases the message is the last visible line of stdout, or of stderr if
//! stdout has none. Otherwise the attempt has failed. Then the message is the last visible line of stderr, or of stdout
//! if stderr has none, and the code is `exit_<n>` or `killed_by_<signal>`. A failure is retried while attempts are
//! left. Exit code 65 is not retried: it means that the input was incorrect (`EX_DATAERR`), and the next attempt would
//! get the same input. A command that can't be started fails with `cannot_start`, which is not retried if the program
//! doesn't exist or may not be executed.
//!
//! **Signals.** After an interrupt or the loss of the lease, the process group gets SIGKILL. When the worker stops, the
//! group gets SIGTERM and then SIGKILL. When the command has ended, the processes that it left in its group get SIGTERM
//! and then SIGKILL. If the worker itself is killed, a watchdog (one `sh` beside each command) sends SIGKILL to the group.
//!
//! There are three exceptions: processes that leave the group (`setsid`, daemons) get no signal, a watchdog that is
//! killed together with the worker can't act, and no watchdog runs in the instant between the start of the command and the
//! start of its watchdog.

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

use super::worker::context::{Context, INTERRUPTED};
use super::worker::handler::{Done, Failure, Handler};
use super::worker::latch::Latch;
use group::{ProcessGroup, StopCause};
use output::CommandOutput;

/// How long a command's pipes are still read after the last process of its group has exited. A process that has left
/// the group may keep them open for ever.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// The exit code for incorrect input: `EX_DATAERR` of `sysexits.h`.
const EXIT_INVALID_INPUT: i32 = 65;

/// Runs a command for each task, like `taskbell work`.
///
/// The command gets the task's input on stdin, as one line of JSON, and the other fields of the task in its environment
/// (`TASKBELL_TASK_ID`, `TASKBELL_KIND` and others). A line `::progress 0.4 message` on stdout or stderr reports
/// progress. If the last line of stdout is `::result JSON`, it is the result.
///
/// Exit code 0 means success, 65 a failure that is not retried, and every other code a failure. For a cancel the command's
/// process group gets SIGTERM, for an interrupt SIGKILL. `taskbell work --help` has the full description.
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
    /// Makes a handler that runs `path` with `args` for each task of this kind. The command gets `server` as
    /// `TASKBELL_SERVER`.
    pub fn new(
        kind: impl Into<String>,
        path: impl Into<OsString>,
        args: impl IntoIterator<Item = OsString>,
        server: impl Into<String>,
    ) -> Self {
        let program = Program { path: path.into(), args: args.into_iter().collect(), server: server.into() };
        Self { kind: kind.into(), program: Arc::new(program) }
    }

    /// Makes a handler of the same command for another kind.
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

    /// The command runs in a separate future, which is one of the attempt's blocking steps. When an interrupt drops
    /// this future, the attempt still waits until the command is killed.
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
        let mut group = ProcessGroup::start(&mut self.command(ctx)).map_err(|error| self.start_failure(&error))?;
        let _step = ctx.step(self.name(), None);
        let pipes = group.take_pipes();
        let input = ctx.input_text().to_owned();
        let mut output = CommandOutput::new(ctx.clone());
        let group_ended = Latch::default();
        let ending = async {
            let status = group.run_to_end(attempt).await;
            group_ended.set();
            status
        };
        let reading = async {
            let mut streams =
                pin!(async { tokio::join!(write_input(pipes.stdin, input), output.read(pipes.stdout, pipes.stderr)) });
            tokio::select! {
                _ = &mut streams => return,
                () = group_ended.wait() => {}
            }
            // After a timeout, a process that has left the group still has the pipes open.
            let _ = tokio::time::timeout(OUTPUT_GRACE, streams).await;
        };
        let (status, ()) = tokio::join!(ending, reading);
        let status = status.map_err(|error| {
            Failure::retryable("lost_sight", format!("the command's exit status can't be read: {error}"))
        })?;
        self.handler_result(status, output)
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

    /// Makes the result of the handler from the status and the output of the command.
    fn handler_result(&self, (status, cause): (ExitStatus, StopCause), output: CommandOutput) -> Result<Done, Failure> {
        if status.success() {
            let (message, result) = output.into_message_and_result();
            return Ok(Done { message, result: result? });
        }
        match cause {
            StopCause::Interrupt => Err(Failure::retryable(INTERRUPTED, "the command was killed")),
            StopCause::Cancel => {
                let (message, result) = output.into_message_and_result();
                let message = message.or_else(|| Some(format!("{} stopped", self.name())));
                // The command did what was requested: a result that can't be read does not make that a failure.
                Err(Failure::Cancelled { message, result: result.unwrap_or_default() })
            }
            StopCause::NoSignal => Err(self.failure(status, output.into_error_message())),
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
        let retryable = status.code() != Some(EXIT_INVALID_INPUT);
        Failure::Failed { code, message: message.unwrap_or(description), retryable }
    }

    fn start_failure(&self, error: &std::io::Error) -> Failure {
        let retryable = !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        let message = format!("{} can't be started: {error}", self.path.display());
        Failure::Failed { code: "cannot_start".to_owned(), message, retryable }
    }

    /// Returns the file name of the program, for messages.
    fn name(&self) -> String {
        Path::new(&self.path).file_name().map_or(self.path.as_os_str(), OsStr::new).to_string_lossy().into_owned()
    }
}

/// Writes the input. A command may exit or close its stdin before it has read all of it.
async fn write_input(stdin: Option<ChildStdin>, input: String) {
    if let Some(mut stdin) = stdin {
        // The newline is for commands that read a line.
        let _ = stdin.write_all(format!("{input}\n").as_bytes()).await;
    }
}
