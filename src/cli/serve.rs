//! `taskbell serve`: runs the server in this process.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use super::settings::{CheckedSettings, Settings};

/// Runs the server until SIGINT or SIGTERM.
#[derive(Debug, Args)]
pub struct Serve {
    /// The settings file [default: taskbell.toml in the working directory, where there is one]
    #[arg(long, env = "TASKBELL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = self.settings.load(self.config.as_deref()).map_err(|error| Failure::usage(error.to_string()))?;
        run_server(settings)
    }
}

/// Writes log lines to stderr and runs the server in this process until a signal ends it.
pub(super) fn run_server(CheckedSettings { config, log }: CheckedSettings) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(&log).map_err(|error| Failure::usage(format!("log: {log:?} is not a filter: {error}")))?;
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_env_filter(filter);
    let log = log.try_init();
    log.map_err(|error| Failure::failed(format!("no log: {error}")))?;
    taskbell::server::run(config).map_err(|error| Failure::failed(error.to_string()))
}
