//! Any program as a handler: `taskbell work --kind K -- COMMAND…`.
//!
//! **What the command gets.** The task's input as one line of JSON on stdin. In its environment `TASKBELL_TASK_ID`,
//! `TASKBELL_ATTEMPT`, `TASKBELL_KIND`, `TASKBELL_TITLE`, `TASKBELL_OWNER`, `TASKBELL_SERVER`, and each label as
//! `TASKBELL_LABEL_<KEY>` (upper case, `_` for what is neither letter nor digit). Neither the lease nor the worker's own
//! `TASKBELL_TOKEN`.
//!
//! **What it may say.** On either output, a line `::progress 0.4 message` (`-` in place of the number where it is
//! unknown). As the last line of stdout, `::result JSON`. All else is output: the last 64 KiB are kept with the attempt's
//! end, stdout and stderr as they are read: in order within each, between them out by what a pipe holds at most. (One pipe
//! for both would keep the order, and lose which of them said what.)
//!
//! **How it ends.** Exit 0: succeeded. After a cancel, which is SIGTERM to its process group, anything else: cancelled. The
//! message is the last line of stdout in which there is something to see, or else of stderr. Otherwise failed, with the
//! last line of stderr, or else of stdout; the code is `exit_<n>` or `killed_by_<signal>`. That is tried again while
//! attempts are left; only exit 65 (`EX_DATAERR`: the input was incorrect) is final, since the same input comes again. A
//! command that can't be started fails with `cannot_start`, for good where it isn't there or may not be executed.
//!
//! **What is killed.** An interrupt or a lost lease: SIGKILL to the process group. A worker that leaves: SIGTERM, then
//! SIGKILL. At the end of the command whatever it left running in its group: the same. If the worker itself is killed, a
//! guard (one `sh` beside each command) sends the group SIGKILL. Not covered: processes that leave the group (`setsid`,
//! daemons), a guard that is killed together with the worker, and the instant between the start of the command and that
//! of its guard.

mod group;
mod heard;

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
use group::{Group, Stopped};
use heard::Heard;

/// How long the pipes of a command are read after the last process of its group has gone: one that left the group may
/// hold them for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// `EX_DATAERR` of `sysexits.h`.
const BAD_INPUT: i32 = 65;

/// Runs a command for each task; see the module.
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
    /// Runs `path` with `args` for each task of this kind; `server` is what the command finds as `TASKBELL_SERVER`.
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

    /// The command is looked after by a task of its own: when this future is dropped, the attempt still waits until the
    /// command is killed.
    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let (attempt, program) = (Arc::clone(ctx.inner()), Arc::clone(&self.program));
        let running = attempt.blocking.spawn_on(async move { program.run(&ctx).await }, &attempt.runtime);
        running.await.unwrap_or_else(|_| Err(Failure::retryable(INTERRUPTED, "the worker is stopping")))
    }
}

impl Program {
    async fn run(&self, ctx: &Context) -> Result<Done, Failure> {
        let attempt = ctx.inner();
        if attempt.cut.is_cancelled() {
            return Err(Failure::retryable(INTERRUPTED, "the attempt was interrupted"));
        }
        ctx.stop_if_cancelled()?;
        let mut group = Group::start(&mut self.command(ctx)).map_err(|error| self.cannot_start(&error))?;
        let _step = ctx.step(self.name(), None);
        let pipes = group.pipes();
        let input = ctx.input_value().to_string();
        let mut heard = Heard::new(ctx.clone());
        let gone = CancellationToken::new();
        let leading = async {
            let ended = group.end(attempt).await;
            gone.cancel();
            ended
        };
        let listening = async {
            let mut talking =
                pin!(async { tokio::join!(feed(pipes.stdin, input), heard.read(pipes.stdout, pipes.stderr)) });
            tokio::select! {
                _ = &mut talking => return,
                () = gone.cancelled() => {}
            }
            // What is still in the pipes is read; it is no loss where somebody else holds them.
            let _ = tokio::time::timeout(LAST_WORDS, talking).await;
        };
        let (ended, ()) = tokio::join!(leading, listening);
        let ended = ended.map_err(|error| Failure::retryable("lost_sight", format!("the command's end: {error}")))?;
        self.judge(ended, heard)
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

    fn judge(&self, ended: (ExitStatus, Stopped), heard: Heard) -> Result<Done, Failure> {
        let (status, stopped) = ended;
        if status.success() {
            let (message, result) = heard.end();
            return Ok(Done { message, result });
        }
        if stopped == Stopped::Cut {
            return Err(Failure::retryable(INTERRUPTED, "the command was killed"));
        }
        if stopped == Stopped::Asked {
            let (message, result) = heard.end();
            let message = message.or_else(|| Some(format!("{} stopped", self.name())));
            return Err(Failure::Cancelled { message, result });
        }
        let message = heard.end_without_result();
        let (code, words) = match (status.code(), status.signal()) {
            (Some(exit), _) => (format!("exit_{exit}"), format!("{} ended with exit code {exit}", self.name())),
            (None, signal) => {
                let signal = signal.unwrap_or_default();
                (format!("killed_by_{signal}"), format!("{} was killed by signal {signal}", self.name()))
            }
        };
        let retryable = status.code() != Some(BAD_INPUT);
        Err(Failure::Failed { code, message: message.unwrap_or(words), retryable })
    }

    fn cannot_start(&self, error: &std::io::Error) -> Failure {
        let retryable = !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied);
        let message = format!("{} can't be started: {error}", self.path.display());
        Failure::Failed { code: "cannot_start".to_owned(), message, retryable }
    }

    /// As people know it.
    fn name(&self) -> String {
        Path::new(&self.path).file_name().map_or(self.path.as_os_str(), OsStr::new).to_string_lossy().into_owned()
    }
}

/// A command may end or close its stdin without having read all of it; that is its own business.
async fn feed(stdin: Option<ChildStdin>, input: String) {
    if let Some(mut stdin) = stdin {
        // A whole line, for commands that read one.
        let _ = stdin.write_all(format!("{input}\n").as_bytes()).await;
    }
}
