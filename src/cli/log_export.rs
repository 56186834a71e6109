//! `taskbell log export`: writes the events of a running server to a file or to stdout: one JSON object on each line, or OCEL 2.0.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt as _;

use taskbell::internal::json_value;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};
use super::ocel::OcelWriter;

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
    /// ndjson: as the log has them. ocel2: as an object-centric event log (OCEL 2.0, JSON), for tools of process mining
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// New file for the events [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Ndjson,
    Ocel2,
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
        let failure = |error: io::Error| self.failure(&error);
        let mut out =
            EventWriter::new(Output::open(self.output.as_ref()).map_err(failure)?, self.format).map_err(failure)?;
        let mut written = 0;
        if count > 0 {
            let mut lines = client.lines("/v1/log", &query).await?;
            while let Some(line) = lines.next().await.transpose()? {
                out.write(&line).map_err(failure)?;
                written += 1;
            }
        }
        out.finish().and_then(Output::finish).map_err(failure)?;
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

/// Writes events in one of the formats.
enum EventWriter {
    Ndjson(Output),
    Ocel(Box<OcelWriter<Output>>),
}

impl EventWriter {
    fn new(out: Output, format: Format) -> io::Result<Self> {
        Ok(match format {
            Format::Ndjson => Self::Ndjson(out),
            Format::Ocel2 => Self::Ocel(Box::new(OcelWriter::new(out)?)),
        })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Ndjson(out) => writeln!(out, "{line}"),
            Self::Ocel(ocel) => ocel.write(&json_value(line).map_err(io::Error::other)?),
        }
    }

    fn finish(self) -> io::Result<Output> {
        match self {
            Self::Ndjson(out) => Ok(out),
            Self::Ocel(ocel) => ocel.finish(),
        }
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

    /// The events are in the file, and durable, when this returns.
    fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all(),
            Self::Stdout(mut stdout) => stdout.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}
