//! `taskbell log export`: writes the events of a running server to a file or to stdout, one JSON object on each line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt as _;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};

/// Writes events as NDJSON, byte for byte as they are stored and hashed. `taskbell log import` makes a log of them. Needs the role
/// admin; an auditor gets events without inputs and results, which can't be imported.
#[derive(Debug, Args)]
pub struct Export {
    /// First position
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Last position [default: the end of the log at the beginning of the command]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// New file for the events [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Export {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let head = client.get("/v1/log/head", &[]).await?.body["position"].as_u64().unwrap_or_default();
        let to = self.to.unwrap_or(head);
        if to > head {
            return Err(CommandError::usage(format!("--to {to}: the log ends at position {head}")));
        }
        let count = (to + 1).saturating_sub(self.from);
        let query = [("after", (self.from - 1).to_string()), ("limit", count.to_string())];
        let mut out = Output::open(self.output.as_ref()).map_err(|error| self.failure(&error))?;
        let mut written = 0;
        if count > 0 {
            let mut lines = client.lines("/v1/log", &query).await?;
            while let Some(line) = lines.next().await.transpose()? {
                out.write_line(&line).map_err(|error| self.failure(&error))?;
                written += 1;
            }
        }
        out.finish().map_err(|error| self.failure(&error))?;
        if written < count {
            return Err(CommandError::failed(format!("only {written} of {count} events have arrived")));
        }
        console::print_to_stderr(&format!("{} events are exported", format_count(written)));
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> CommandError {
        let place = self.output.as_ref().map_or_else(|| "stdout".to_owned(), |file| file.display().to_string());
        CommandError::failed(format!("{place}: {error}"))
    }
}

/// A new file, or stdout.
enum Output {
    File(BufWriter<File>),
    Stdout(BufWriter<io::Stdout>),
}

impl Output {
    fn open(file: Option<&PathBuf>) -> io::Result<Self> {
        Ok(match file {
            Some(file) => Self::File(BufWriter::new(File::create_new(file)?)),
            None => Self::Stdout(BufWriter::new(io::stdout())),
        })
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::File(file) => writeln!(file, "{line}"),
            Self::Stdout(stdout) => writeln!(stdout, "{line}"),
        }
    }

    /// The events are in the file, and durable, when this returns.
    fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            Self::Stdout(mut stdout) => stdout.flush(),
        }
    }
}
