//! The commands: one file each. What they share stands in [`client`] (one server, over HTTP and the websocket),
//! [`out`] (everything that is printed) and [`failure`] (the exit codes).

mod client;
mod failure;
mod out;

mod bench;
mod cancel;
mod demo;
mod list;
mod live;
mod log;
mod retry;
mod serve;
mod settings;
mod show;
mod submit;
mod watch;
mod work;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use client::Connect;
use failure::Failure;

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
    /// Measure a server: one that it starts for this, or the one that --server names
    Bench(bench::Bench),
}

impl Command {
    /// Where a client's command goes, and how it prints; the others are no clients.
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
            Self::Bench(bench) => Some(&mut bench.connect),
        }
    }

    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(serve) => serve.run(),
            Self::Demo(demo) => demo.run(),
            Self::Submit(submit) => wait(submit.run()),
            Self::List(list) => wait(list.run()),
            Self::Show(show) => wait(show.run()),
            Self::Watch(watch) => wait(watch.run()),
            Self::Cancel(cancel) => wait(cancel.run()),
            Self::Retry(retry) => wait(retry.run()),
            Self::Work(work) => wait(work.run()),
            Self::Log(log) => wait(log.run()),
            Self::Bench(bench) => bench.run(),
        }
    }
}

/// Does what the command line says; errors are one sentence on stderr.
#[must_use]
pub fn main() -> ExitCode {
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
    failure.say(json);
    ExitCode::from(failure.exit())
}

/// Runs a client's command: one thread is enough for one conversation.
fn wait<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let done = runtime.block_on(command);
    // A read of stdin that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    done
}
