//! The command line, with one file or folder for each command. The commands share `client` (a client of the HTTP API;
//! `token_file` reads its token), `live` (a client of the websocket), `stream` (a connection with or without TLS), `console`
//! (output on stdout and stderr), `command_error` (the exit codes) and
//! `runtime` (the async runtime).

mod client;
mod command_error;
mod console;

mod backup;
mod bench;
mod cancel;
mod checkpoint;
mod demo;
mod list;
mod live;
mod log;
mod log_export;
mod log_import;
mod log_prove;
mod log_sign;
mod log_upgrade;
mod log_verify;
mod ocel;
mod retry;
mod runtime;
mod serve;
mod settings;
mod show;
#[cfg(feature = "eventstore")]
mod store;
mod stream;
mod submit;
mod token;
mod token_file;
mod views;
mod watch;
mod work;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use client::ConnectionArgs;
use command_error::CommandError;
use runtime::block_on;

/// Runs background tasks that people can see and stop
#[derive(Debug, Parser)]
#[command(
    name = "taskbell",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 the server is unreachable or unavailable."
)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<serve::Serve>),
    /// Run a server with example tasks to watch and to cancel, in a temporary folder
    Demo(demo::Demo),
    /// Create a task
    Submit(submit::Submit),
    /// List tasks
    List(list::List),
    /// Show one task with its timeline
    Show(show::Show),
    /// Watch one task until it ends, or all running tasks
    Watch(watch::Watch),
    /// Request the cancel of tasks
    Cancel(cancel::Cancel),
    /// Run a final task once more
    Retry(retry::Retry),
    /// Run a worker that executes a command for each task
    Work(work::Work),
    /// Create, list and revoke API tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Read the log
    #[command(subcommand)]
    Log(log::Log),
    /// Copy the log to a folder, also while its server runs
    Backup(backup::Backup),
    /// Prove that what a server shows is what its log says
    #[command(subcommand)]
    Views(views::Views),
    /// Check a database cluster in which the log can be stored
    #[cfg(feature = "eventstore")]
    #[command(subcommand)]
    Store(store::Store),
    /// Measure a server: a new one, or the one that --server names
    Bench(bench::Bench),
}

impl Command {
    /// The connection flags of a command that is a client of a server; `None` for a command that runs a server.
    const fn connection(&mut self) -> Option<&mut ConnectionArgs> {
        match self {
            Self::Serve(_) | Self::Demo(_) => None,
            Self::Submit(submit) => Some(&mut submit.connection),
            Self::List(list) => Some(&mut list.connection),
            Self::Show(show) => Some(&mut show.connection),
            Self::Watch(watch) => Some(&mut watch.connection),
            Self::Cancel(cancel) => Some(&mut cancel.connection),
            Self::Retry(retry) => Some(&mut retry.connection),
            Self::Work(work) => Some(&mut work.connection),
            Self::Token(token) => Some(token.connection()),
            Self::Log(log) => Some(log.connection()),
            Self::Backup(backup) => Some(&mut backup.connection),
            Self::Views(views) => Some(views.connection()),
            #[cfg(feature = "eventstore")]
            Self::Store(store) => Some(store.connection()),
            Self::Bench(bench) => Some(&mut bench.connection),
        }
    }

    fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Demo(demo) => demo.run(),
            Self::Submit(submit) => block_on(submit.run()),
            Self::List(list) => block_on(list.run()),
            Self::Show(show) => block_on(show.run()),
            Self::Watch(watch) => block_on(watch.run()),
            Self::Cancel(cancel) => block_on(cancel.run()),
            Self::Retry(retry) => block_on(retry.run()),
            Self::Work(work) => block_on(work.run()),
            Self::Token(token) => block_on(token.run()),
            Self::Log(log) => block_on(log.run()),
            Self::Backup(backup) => backup.run(),
            Self::Views(views) => block_on(views.run()),
            #[cfg(feature = "eventstore")]
            Self::Store(store) => block_on(store.run()),
            Self::Bench(bench) => bench.run(),
        }
    }
}

/// Parses the command line, runs the command and returns the exit code. If the command fails, one sentence is printed on
/// stderr.
#[must_use]
pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let Cli { mut connection, mut command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = connection.json;
    if let Command::Bench(bench) = &mut command {
        bench.server_is_named = matches.value_source("server") == Some(ValueSource::CommandLine);
    }
    if let Err(message) = connection.choose_token(&matches) {
        Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    match command.connection() {
        Some(flags) => *flags = connection,
        None if json => {
            let message = "`serve` and `demo` have no --json";
            Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
        None => {}
    }
    let Err(mut failure) = command.run() else { return ExitCode::SUCCESS };
    console::print_failure(&mut failure, json);
    ExitCode::from(failure.exit_code())
}
