//! `taskbell serve`: runs the server in this process.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::command_error::CommandError;
use super::settings::{CheckedSettings, Settings};

/// Runs the server until SIGINT or SIGTERM.
#[derive(Debug, Args)]
pub struct Serve {
    /// The settings file [default: taskbell.toml in the working directory, if it exists]
    #[arg(long, env = "TASKBELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let settings =
            self.settings.load(self.config.as_deref()).map_err(|error| CommandError::usage(error.to_string()))?;
        run_server(settings)
    }
}

/// Writes log lines to stderr and runs the server in this process until a signal ends it.
pub(super) fn run_server(CheckedSettings { config, log_filter }: CheckedSettings) -> Result<(), CommandError> {
    let filter = EnvFilter::try_new(&log_filter)
        .map_err(|error| CommandError::usage(format!("log: {log_filter:?} is not a filter: {error}")))?;
    let colours = std::io::stderr().is_terminal();
    let log_lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_env_filter(filter);
    let initialized = log_lines.try_init();
    initialized.map_err(|error| CommandError::failed(format!("log lines can't be written: {error}")))?;
    taskbell::server::run(config).map_err(|error| CommandError::failed(error.to_string()))
}
