//! `taskbell work`: a remote worker that runs a command for each task.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::ConnectionArgs;
use super::failure::Failure;
use super::out;
use taskbell::{CommandHandler, Handlers, RemoteError, RemoteWorker, WorkerEvent};

/// The part of the help that describes the command.
const COMMAND_HELP: &str = "\
The command gets the task's input as JSON on stdin, and in its environment TASKBELL_TASK_ID, TASKBELL_ATTEMPT,
TASKBELL_KIND, TASKBELL_TITLE, TASKBELL_OWNER, TASKBELL_SERVER and a TASKBELL_LABEL_<KEY> for each label.
  ::progress 0.4 message   on a line of either output: how far it is (- where the number is unknown)
  ::result JSON            as the last line of stdout: the task's result
All else is output: its last 64 KiB are kept, and its last line is the task's message.
Exit code 0 is success, 65 a failure that is not tried again, all else a failure. A cancel is SIGTERM to the command's
process group, an interrupt SIGKILL; what the command leaves running in its group is ended with it.";

/// Runs a command for each task of these kinds, until SIGINT or SIGTERM; the second signal doesn't wait for what runs.
#[derive(Debug, Args)]
#[command(after_help = COMMAND_HELP)]
pub struct Work {
    /// Take tasks of this kind; may be repeated
    #[arg(long = "kind", required = true, value_name = "KIND")]
    kinds: Vec<String>,
    /// Take from this queue only; may be repeated [default: from all]
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<String>,
    /// How many commands run at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// How people see this worker [default: taskbell/<host>/<process>/<random>]
    #[arg(long)]
    name: Option<String>,
    /// Seconds that running commands may go on after the first signal, before they are stopped and handed back
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    grace_s: u32,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Work {
    pub(super) async fn run(self) -> Result<(), Failure> {
        // This checks the address and the token in the same way as for every other command.
        let server = self.connection.client()?.server().to_owned();
        let mut worker = RemoteWorker::new(&server)
            .queues(self.queues)
            .concurrency(self.concurrency.into())
            .grace(Duration::from_secs(self.grace_s.into()))
            .handlers(handlers(&self.kinds, self.command, &server)?);
        if let Some(token) = self.connection.token {
            worker = worker.token(token);
        }
        if let Some(name) = self.name {
            worker = worker.name(name);
        }
        let json = self.connection.json;
        let worker = worker.on_event(move |note| if json { print_json_note(note) } else { print_note(note) });
        let mut signals = Signals::new()?;
        let mut second_signals = Signals::new()?;
        let first_signal = async {
            signals.wait().await;
            if !json {
                out::print_to_stderr("stopping: nothing more is taken; the next signal stops what runs");
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
                unfinished => Err(Failure::failed(format!("{unfinished} attempts had not stopped, or their ends could not be told"))),
            },
            () = second_signal => Err(Failure::failed("stopped at once: what ran is killed, and its leases expire")),
        }
    }
}

/// A handler for each kind; all run the same command.
fn handlers(kinds: &[String], command: Vec<OsString>, server: &str) -> Result<Handlers, Failure> {
    let mut command = command.into_iter();
    let path = command.next().ok_or_else(|| Failure::usage("a command is needed"))?;
    let first = CommandHandler::new(String::new(), path, command, server);
    let mut handlers = Handlers::new();
    for kind in kinds {
        handlers.register(first.for_kind(kind)).map_err(|error| Failure::usage(format!("--kind: {error}")))?;
    }
    Ok(handlers)
}

fn worker_failure(error: RemoteError) -> Failure {
    match error {
        RemoteError::Refused { status, code, detail } => {
            let problem = json!({"code": code, "detail": detail});
            Failure::from_error_response(status, &problem.to_string(), "the server")
        }
        RemoteError::Client(_) => Failure::failed(error.to_string()),
        RemoteError::Address(_)
        | RemoteError::Token
        | RemoteError::Name(_)
        | RemoteError::Queue(_)
        | RemoteError::NoHandlers => Failure::usage(error.to_string()),
    }
}

/// Prints an event of the worker as a line for people. It ignores notes that a later version of the library may add.
fn print_note(event: &WorkerEvent<'_>) {
    out::print_to_stderr(&match event {
        WorkerEvent::Begun { task, attempt, kind, title } => {
            format!("{task}  attempt {attempt} begins  {kind}  {title}")
        }
        WorkerEvent::Ended { task, attempt, outcome, message } => {
            let message = message.map_or_else(String::new, |message| format!("  {message}"));
            format!("{task}  attempt {attempt} {outcome}{message}")
        }
        WorkerEvent::Unreachable { reason } => format!("the server can't be spoken to: {reason}; trying again"),
        WorkerEvent::Reconnected => "the server answers again".to_owned(),
        _ => return,
    });
}

/// Prints an event of the worker as a line of JSON on stderr. stdout is reserved for responses of the API.
fn print_json_note(event: &WorkerEvent<'_>) {
    let line = match event {
        WorkerEvent::Begun { task, attempt, kind, title } => {
            json!({"type": "begun", "task": task, "attempt": attempt, "kind": kind, "title": title})
        }
        WorkerEvent::Ended { task, attempt, outcome, message } => {
            json!({"type": "ended", "task": task, "attempt": attempt, "outcome": outcome, "message": message})
        }
        WorkerEvent::Unreachable { reason } => json!({"type": "away", "message": reason}),
        WorkerEvent::Reconnected => json!({"type": "back"}),
        _ => return,
    };
    if let Ok(line) = out::escape_json(&line.to_string()) {
        out::print_to_stderr(&line);
    }
}

/// Receives the SIGINT and SIGTERM signals of this process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
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
