//! The commands: one file each. What they share stands in [`client`] (one server, over HTTP and the websocket),
//! [`out`] (everything that is printed) and [`failure`] (the exit codes).

pub mod client;
pub mod failure;
pub mod out;

mod cancel;
mod demo;
mod list;
mod live;
mod log;
mod retry;
mod serve;
mod show;
mod submit;
mod tree;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Background tasks behind a bell that people can trust
#[derive(Debug, Parser)]
#[command(
    name = "taskbell",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused, 5 unreachable or not available now."
)]
struct Cli {
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
    /// Read the log
    #[command(subcommand)]
    Log(log::Log),
}

impl Command {
    /// Whether stdout is for a machine.
    const fn json(&self) -> bool {
        match self {
            Self::Serve(_) | Self::Demo(_) => false,
            Self::Submit(submit) => submit.connect.json,
            Self::List(list) => list.connect.json,
            Self::Show(show) => show.connect.json,
            Self::Watch(watch) => watch.connect.json,
            Self::Cancel(cancel) => cancel.connect.json,
            Self::Retry(retry) => retry.connect.json,
            Self::Log(log) => log.connect().json,
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
            Self::Log(log) => wait(log.run()),
        }
    }
}

/// Does what the command line says; errors are one sentence on stderr.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    let json = command.json();
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
