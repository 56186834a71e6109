//! `taskbell log verify`: checks the log of a data folder.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use taskbell::internal::{Verified, VerifyError, VerifyRange, verify_log};
use taskbell::{Hash, OpenError, Position};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};

/// How often the bar is drawn in a second.
const BAR_HZ: u8 = 10;

/// Checks the log of a stopped server. Exit code 0 if it is as it was written, otherwise 1.
#[derive(Debug, Args)]
pub struct Verify {
    /// Data folder whose log is checked; its server must be stopped. The log is only read
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    /// First position to check; the hash before it is taken as right
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Last position to check [default: the end of the log]
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// Position and hash that `log head` has printed earlier: the log must still have both, so that a lost end is found
    #[arg(long, value_name = "POSITION:HASH")]
    head: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Self { data, from, to, head, connection } = self;
        if to.is_some_and(|to| to < from) {
            return Err(CommandError::usage(format!("--to must be at least --from, which is {from}")));
        }
        let head = head.as_deref().map(parse_head).transpose()?;
        let range = VerifyRange { from: Position(from), to: to.map(Position), head };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(BAR_HZ));
        let template = "{wide_bar} {human_pos} of {human_len} events, {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let mut show = |done: Position, last: Position| {
            bar.set_length(last.0.saturating_sub(from - 1));
            bar.set_position(done.0.saturating_sub(from - 1));
        };
        let verified = verify_log(&data, range, &mut show);
        bar.finish_and_clear();
        let verified = verified.map_err(|error| verify_failure(&error))?;
        if connection.json {
            print_json(&verified)?;
        } else {
            print(&verified)?;
        }
        if verified.fault_count == 0 { Ok(()) } else { Err(CommandError::already_printed()) }
    }
}

/// Parses the value of `--head`.
fn parse_head(text: &str) -> Result<(Position, Hash), CommandError> {
    let parsed = text.split_once(':').and_then(|(position, hash)| Some((position.parse().ok()?, hash.parse().ok()?)));
    let (position, hash) = parsed.ok_or_else(|| {
        CommandError::usage(
            "--head must be a position, a colon and a hash of 64 hexadecimal digits, as `log head` prints them",
        )
    })?;
    Ok((Position(position), hash))
}

fn print(verified: &Verified) -> Result<(), CommandError> {
    let Verified { events, position, hash, faults, fault_count } = verified;
    for fault in faults {
        console::print_line(&console::escape(&fault.what))?;
    }
    let more = fault_count - faults.len() as u64;
    if more > 0 {
        console::print_line(&format!("… and {} more", format_count(more)))?;
    }
    let outcome = match fault_count {
        0 => "all are as they were written".to_owned(),
        1 => "1 fault".to_owned(),
        faults => format!("{} faults", format_count(*faults)),
    };
    console::print_line(&format!("{} events checked: {outcome}", format_count(*events)))?;
    console::print_line(&format!("position {position}  hash {hash}"))
}

fn print_json(verified: &Verified) -> Result<(), CommandError> {
    let Verified { events, position, hash, faults, fault_count } = verified;
    let faults: Vec<_> = faults.iter().map(|fault| json!({"position": fault.position, "what": fault.what})).collect();
    let response = json!({
        "verified": faults.is_empty(),
        "events": events,
        "position": position,
        "hash": hash.to_string(),
        "fault_count": fault_count,
        "faults": faults,
    });
    console::print_json(&response.to_string())
}

fn verify_failure(error: &VerifyError) -> CommandError {
    let sentence = error.to_string();
    match error {
        VerifyError::NoLog(_) => CommandError::usage(format!("--data {sentence}")),
        VerifyError::Beyond { .. } => CommandError::usage(sentence),
        VerifyError::Open(OpenError::Locked(_) | OpenError::Newer { .. } | OpenError::Older { .. }) => {
            CommandError::refused(sentence)
        }
        VerifyError::Open(_) | VerifyError::Read(_) => CommandError::failed(sentence),
    }
}
