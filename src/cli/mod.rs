//! The command line: one file or folder for each command. They share `client` (the HTTP API of a server), `live` (its
//! websocket), `out` (everything that is printed), `failure` (the exit codes) and `runtime`.

mod client;
mod failure;
mod out;

mod bench;
mod cancel;
mod demo;
mod list;
mod live;
mod log;
#[cfg(feature = "eventstore")]
mod log_import;
mod retry;
mod runtime;
mod serve;
mod settings;
mod show;
#[cfg(feature = "eventstore")]
mod store;
mod submit;
mod watch;
mod work;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use client::Connect;
use failure::Failure;
use runtime::block_on;

/// Background tasks behind a bell that people can trust
#[derive(Debug, Parser)]
#[command(
    name = "taskbell",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 unreachable or not available now."
)]
struct Cli {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Run a server with real work to watch and to cancel, in a folder that is removed at the end
    Demo(demo::Demo),
    /// Hand in a task
    Submit(submit::Submit),
    /// List tasks
    List(list::List),
    /// Show one task with its timeline
    Show(show::Show),
    /// Watch one task until it ends, or all that goes on
    Watch(watch::Watch),
    /// Ask tasks to stop
    Cancel(cancel::Cancel),
    /// Run a final task once more
    Retry(retry::Retry),
    /// Work for a server: run a command for each task
    Work(work::Work),
    /// Read the log
    #[command(subcommand)]
    Log(log::Log),
    /// Look after a cluster that keeps the log
    #[cfg(feature = "eventstore")]
    #[command(subcommand)]
    Store(store::Store),
    /// Measure a server: one that it starts for this, or the one that --server names
    Bench(bench::Bench),
}

impl Command {
    /// The server that the command talks to and how it prints; none for a command that is a server itself.
    const fn connect(&mut self) -> Option<&mut Connect> {
        match self {
            Self::Serve(_) | Self::Demo(_) => None,
            Self::Submit(submit) => Some(&mut submit.connect),
            Self::List(list) => Some(&mut list.connect),
            Self::Show(show) => Some(&mut show.connect),
            Self::Watch(watch) => Some(&mut watch.connect),
            Self::Cancel(cancel) => Some(&mut cancel.connect),
            Self::Retry(retry) => Some(&mut retry.connect),
            Self::Work(work) => Some(&mut work.connect),
            Self::Log(log) => Some(log.connect()),
            #[cfg(feature = "eventstore")]
            Self::Store(store) => Some(store.connect()),
            Self::Bench(bench) => Some(&mut bench.connect),
        }
    }

    fn run(self) -> Result<(), Failure> {
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
            Self::Log(log) => block_on(log.run()),
            #[cfg(feature = "eventstore")]
            Self::Store(store) => block_on(store.run()),
            Self::Bench(bench) => bench.run(),
        }
    }
}

/// Runs the command of the command line. A failure is one sentence on stderr and an exit code.
#[must_use]
pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let Cli { connect, mut command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = connect.json;
    if let Command::Bench(bench) = &mut command {
        bench.given = matches.value_source("server") == Some(ValueSource::CommandLine);
    }
    match command.connect() {
        Some(place) => *place = connect,
        None if json => {
            let what = "--json is for the commands that ask a server, not for the server";
            Cli::command().error(ErrorKind::ArgumentConflict, what).exit();
        }
        None => {}
    }
    let Err(mut failure) = command.run() else { return ExitCode::SUCCESS };
    out::failure(&mut failure, json);
    ExitCode::from(failure.exit())
}
