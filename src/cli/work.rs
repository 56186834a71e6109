//! `taskbell work`: a remote worker that runs a command for each task.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::{Client, ConnectionArgs};
use super::command_error::CommandError;
use super::console;
use taskbell::Secret;
use taskbell::{CommandHandler, Handlers, RemoteError, RemoteWorker, WorkerEvent};

/// The part of the help that describes the command.
const COMMAND_HELP: &str = "\
The command gets the task's input as JSON on stdin, and in its environment TASKBELL_TASK_ID, TASKBELL_ATTEMPT,
TASKBELL_KIND, TASKBELL_TITLE, TASKBELL_OWNER, TASKBELL_SERVER and a TASKBELL_LABEL_<KEY> for each label.
  ::progress 0.4 message   on a line of either output: progress from 0 to 1, or - if unknown
  ::result JSON            as the last line of stdout: the task's result; if it can't be read, the attempt has failed
All other lines are output. The last 64 KiB of it are stored, and the last line is the task's message.
Exit code 0 is a success, 65 is a failure without another attempt, and any other code is a failure. A cancel sends
SIGTERM to the command's process group, an interrupt sends SIGKILL. Processes of the group that still run when the
command has ended get SIGTERM and then SIGKILL.";

/// Runs a command for each task of these kinds, until SIGINT or SIGTERM. A second signal kills the running commands.
#[derive(Debug, Args)]
#[command(after_help = COMMAND_HELP)]
pub struct Work {
    /// Take tasks of this kind; may be repeated
    #[arg(long = "kind", required = true, value_name = "KIND")]
    kinds: Vec<String>,
    /// Take tasks of this queue only; may be repeated [default: all queues]
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// Most commands that run at the same time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Name of this worker [default: taskbell/<host>/<process>/<random>]
    #[arg(long)]
    name: Option<String>,
    /// How long running commands may continue after the first signal, in seconds. Then they are stopped, and their tasks are
    /// given back to the server
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    grace_s: u32,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Work {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let token = self.connection.token()?;
        // This checks the address and the token in the same way as for every other command.
        let server = Client::new(
            &self.connection.server,
            token.as_ref().map(Secret::reveal),
            self.connection.ca_file.as_deref(),
        )?
        .server()
        .to_owned();
        let mut worker = RemoteWorker::new(&server)
            .queues(self.queues)
            .concurrency(self.concurrency.into())
            .grace(Duration::from_secs(self.grace_s.into()))
            .handlers(handlers(&self.kinds, self.command, &server)?);
        match (token, self.connection.token, self.connection.token_file) {
            // The worker reads the file again when its token is refused.
            (Some(_), None, Some(file)) => worker = worker.token_file(file),
            (Some(token), _, _) => worker = worker.token(token.reveal()),
            (None, _, _) => {}
        }
        if let Some(ca_file) = self.connection.ca_file {
            worker = worker.ca_file(ca_file);
        }
        if let Some(name) = self.name {
            worker = worker.name(name);
        }
        let json = self.connection.json;
        let worker = worker.on_event(move |event| if json { print_event_as_json(event) } else { print_event(event) });
        let mut signals = Signals::new()?;
        let mut second_signals = Signals::new()?;
        let first_signal = async {
            signals.wait().await;
            if !json {
                console::print_to_stderr(
                    "stopping: no new tasks are taken; press Ctrl-C again to kill the running commands",
                );
            }
        };
        let second_signal = async {
            second_signals.wait().await;
            second_signals.wait().await;
        };
        tokio::select! {
            // If the worker ends at the same time as the second signal arrives, the command counts as ended normally.
            biased;
            unfinished = worker.run(first_signal) => match unfinished.map_err(worker_failure)? {
                0 => Ok(()),
                unfinished => Err(CommandError::failed(format!("{unfinished} attempts had not stopped, or their ends could not be reported"))),
            },
            () = second_signal => Err(CommandError::failed("stopped at once: running commands are killed, and their leases expire")),
        }
    }
}

/// A handler for each kind; all run the same command.
fn handlers(kinds: &[String], command: Vec<OsString>, server: &str) -> Result<Handlers, CommandError> {
    let mut command = command.into_iter();
    let path = command.next().ok_or_else(|| CommandError::usage("the command is missing"))?;
    let first = CommandHandler::new(String::new(), path, command, server);
    let mut handlers = Handlers::new();
    for kind in kinds {
        handlers.register(first.for_kind(kind)).map_err(|error| CommandError::usage(format!("--kind: {error}")))?;
    }
    Ok(handlers)
}

fn worker_failure(error: RemoteError) -> CommandError {
    match error {
        RemoteError::Refused { status, code, detail } => {
            let problem = json!({"code": code, "detail": detail});
            CommandError::from_error_response(status, &problem.to_string(), "the server")
        }
        RemoteError::Client(_) => CommandError::failed(error.to_string()),
        RemoteError::Address(_)
        | RemoteError::Token
        | RemoteError::TokenFile { .. }
        | RemoteError::CaFile(_)
        | RemoteError::Name(_)
        | RemoteError::Queue(_)
        | RemoteError::NoHandlers => CommandError::usage(error.to_string()),
    }
}

/// Prints an event of the worker as a line for people. It ignores events that a later version of the library may add.
fn print_event(event: &WorkerEvent<'_>) {
    console::print_to_stderr(&match event {
        WorkerEvent::Begun { task, attempt, kind, title } => {
            format!("{task}  attempt {attempt} begins  {kind}  {title}")
        }
        WorkerEvent::Ended { task, attempt, outcome, message } => {
            let message = message.map_or_else(String::new, |message| format!("  {message}"));
            format!("{task}  attempt {attempt} {outcome}{message}")
        }
        WorkerEvent::Unreachable { reason } => format!("the server can't be reached: {reason}; trying again"),
        WorkerEvent::Reconnected => "the server can be reached again".to_owned(),
        _ => return,
    });
}

/// Prints an event of the worker as a line of JSON on stderr. stdout is reserved for responses of the API.
fn print_event_as_json(event: &WorkerEvent<'_>) {
    let line = match event {
        WorkerEvent::Begun { task, attempt, kind, title } => {
            json!({"type": "begun", "task": task, "attempt": attempt, "kind": kind, "title": title})
        }
        WorkerEvent::Ended { task, attempt, outcome, message } => {
            json!({"type": "ended", "task": task, "attempt": attempt, "outcome": outcome, "message": message})
        }
        WorkerEvent::Unreachable { reason } => json!({"type": "unreachable", "message": reason}),
        WorkerEvent::Reconnected => json!({"type": "reconnected"}),
        _ => return,
    };
    if let Ok(line) = console::escape_json(&line.to_string()) {
        console::print_to_stderr(&line);
    }
}

/// Receives the SIGINT and SIGTERM signals of this process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, CommandError> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next signal of either kind.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
