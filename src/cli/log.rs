//! `taskbell log`: prints recorded events and the end of the log. Its other commands are in `log_export`, `log_import`,
//! `log_prove`, `log_sign`, `log_upgrade` and `log_verify`.

use std::collections::VecDeque;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::client::{Client, ConnectionArgs};
use super::command_error::CommandError;
use super::console::{self, text_field};
use taskbell::internal::json_value;

/// The number of events that `tail` prints by default.
const DEFAULT_TAIL: usize = 20;
/// The pause before `tail --follow` connects again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Reads, exports and imports the log, and converts its file.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Show recorded events: the last 20, or all after a position
    Tail(Tail),
    /// Show the last position and the hash of the whole log
    Head(Head),
    /// Write events to a file, one JSON object on each line
    Export(super::log_export::Export),
    /// Check every event of the log of a stopped server, and name each one that is not as it was written
    Verify(super::log_verify::Verify),
    /// Sign a checkpoint of the whole log, to be kept elsewhere
    Sign(super::log_sign::Sign),
    /// Prove that the events of a task are in the log of a checkpoint
    Prove(super::log_prove::Prove),
    /// Check a proof without the log
    Check(super::log_prove::Check),
    /// Make a log of an exported file, or copy the log of a stopped server into a cluster
    Import(super::log_import::Import),
    /// Convert the log of a stopped server to the present format; if it was interrupted, run the same command again
    Upgrade(super::log_upgrade::Upgrade),
}

#[derive(Debug, Args)]
pub struct Tail {
    /// Start after this position (0: at the first event) [default: show the last events]
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Number of events [default: 20, or all after a position]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only events of this type, like Completed
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of this stream, like task-<id>
    #[arg(long)]
    stream: Option<String>,
    /// Keep printing new events, until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[arg(skip)]
    connection: ConnectionArgs,
}

#[derive(Debug, Args)]
pub struct Head {
    #[arg(skip)]
    connection: ConnectionArgs,
}

impl Log {
    pub(super) const fn connection(&mut self) -> &mut ConnectionArgs {
        match self {
            Self::Tail(tail) => &mut tail.connection,
            Self::Head(head) => &mut head.connection,
            Self::Export(export) => &mut export.connection,
            Self::Sign(sign) => &mut sign.connection,
            Self::Prove(prove) => &mut prove.connection,
            Self::Check(check) => &mut check.connection,
            Self::Verify(verify) => &mut verify.connection,
            Self::Import(import) => &mut import.connection,
            Self::Upgrade(upgrade) => &mut upgrade.connection,
        }
    }

    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Tail(tail) => tail.run().await,
            Self::Head(head) => head.run().await,
            Self::Export(export) => export.run().await,
            Self::Sign(sign) => sign.run().await,
            Self::Prove(prove) => prove.run().await,
            Self::Check(check) => check.run(),
            Self::Verify(verify) => verify.run(),
            Self::Import(import) => import.run().await,
            Self::Upgrade(upgrade) => upgrade.run(),
        }
    }
}

impl Head {
    async fn run(self) -> Result<(), CommandError> {
        let response = self.connection.client()?.get("/v1/log/head", &[]).await?;
        if self.connection.json {
            return console::print_json(&response.text);
        }
        let head = &response.body;
        let time = text_field(head, "time");
        let time = if time.is_empty() { "the log is empty".into() } else { time };
        console::print_line(&format!(
            "position {}  {time}  hash {}",
            text_field(head, "position"),
            text_field(head, "hash")
        ))
    }
}

impl Tail {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let mut position = match self.after {
            Some(after) => after,
            None => self.print_last(&client).await?,
        };
        if !self.follow {
            return if self.after.is_some() { self.print_after(&client, &mut position).await } else { Ok(()) };
        }
        let mut has_responded = self.after.is_none();
        loop {
            let position_before = position;
            match self.print_after(&client, &mut position).await {
                Ok(()) if self.limit.is_some() && self.after.is_some() => return Ok(()),
                Ok(()) => console::print_to_stderr(&format!(
                    "the server closed the response after position {position}; connecting again"
                )),
                Err(mut failure) if failure.exit_code() == 5 && (has_responded || position > position_before) => {
                    console::print_failure(&mut failure, false);
                }
                Err(failure) => return Err(failure),
            }
            has_responded = true;
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Prints the last events and returns the position up to which the log was read. Without a filter, reading starts
    /// at the first event to print. With a filter, the positions of the last matching events are unknown, so the whole
    /// log is read.
    async fn print_last(&self, client: &Client) -> Result<u64, CommandError> {
        let count = self.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(DEFAULT_TAIL);
        let head = client.get("/v1/log/head", &[]).await?.body["position"].as_u64().unwrap_or_default();
        let has_filter = self.event_type.is_some() || self.stream.is_some();
        let mut position = if has_filter { 0 } else { head.saturating_sub(count as u64) };
        let mut last_events = VecDeque::new();
        let mut lines = client.lines("/v1/log", &self.query(position, None, false)).await?;
        while let Some(line) = lines.next().await.transpose()? {
            let event = parse_event(&line)?;
            position = position.max(event["position"].as_u64().unwrap_or_default());
            last_events.push_back((line, event));
            if last_events.len() > count {
                last_events.pop_front();
            }
        }
        for (line, event) in &last_events {
            self.print_event(line, event)?;
        }
        Ok(position.max(head))
    }

    /// Prints the events after `position`, and moves `position` to the last printed event. With `--follow`, ends when
    /// the server ends the response.
    async fn print_after(&self, client: &Client, position: &mut u64) -> Result<(), CommandError> {
        let limit = self.limit.filter(|_| self.after.is_some());
        let mut lines = client.lines("/v1/log", &self.query(*position, limit, self.follow)).await?;
        while let Some(line) = lines.next().await.transpose()? {
            let event = parse_event(&line)?;
            self.print_event(&line, &event)?;
            *position = event["position"].as_u64().unwrap_or(*position);
        }
        Ok(())
    }

    /// The query parameters of `GET /v1/log`.
    fn query(&self, after: u64, limit: Option<u64>, follow: bool) -> Vec<(&'static str, String)> {
        [
            ("after", Some(after.to_string())),
            ("limit", limit.map(|n| n.to_string())),
            ("type", self.event_type.clone()),
            ("stream", self.stream.clone()),
            ("follow", follow.then(|| "true".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
    }

    fn print_event(&self, line: &str, event: &Value) -> Result<(), CommandError> {
        if self.connection.json {
            return console::print_json(line);
        }
        let [position, time, stream] = ["position", "time", "stream"].map(|field| text_field(event, field));
        let by = format!("by {} via {}", text_field(&event["meta"], "actor"), text_field(&event["meta"], "via"));
        console::print_line(&format!("{position:>8}  {time}  {stream}  {}  {by}", event_summary(event)))
    }
}

fn parse_event(line: &str) -> Result<Value, CommandError> {
    json_value(line).map_err(|error| CommandError::failed(format!("a line of the log is not JSON: {error}")))
}

/// One line about the event: its type and the important fields of its data.
pub(super) fn event_summary(event: &Value) -> String {
    let data = &event["data"];
    let kind = text_field(event, "type");
    let details: Vec<String> = match kind.as_str() {
        "Created" => vec![text_field(data, "kind"), text_field(data, "title")],
        "Started" => vec![format!("attempt {} on {}", text_field(data, "attempt"), text_field(data, "worker"))],
        "CancelAcknowledged" => match text_field(data, "stopping_after") {
            step if step.is_empty() => vec!["stops at once".into()],
            step => vec![format!("stops after {step}"), console::time_field(data, "expected_end")],
        },
        "AttemptFailed" => vec![
            format!("attempt {}", text_field(data, "attempt")),
            text_field(&data["error"], "code"),
            text_field(&data["error"], "message"),
            format!("next at {}", console::time_field(data, "retry_at")),
        ],
        "Completed" => vec![
            text_field(data, "outcome"),
            text_field(&data["error"], "code"),
            text_field(&data["error"], "message"),
            text_field(data, "message"),
            if data["forced"] == true { "by force".into() } else { String::new() },
        ],
        "OutputKept" => {
            let bytes = data["tail"].as_str().map_or(0, str::len);
            vec![format!("attempt {}", text_field(data, "attempt")), format!("{bytes} bytes kept")]
        }
        "ScheduleCreated" => {
            vec![text_field(data, "cron"), text_field(data, "time_zone"), text_field(&data["task"], "kind")]
        }
        "Seen" => vec![format!("up to {}", text_field(data, "position"))],
        _ => vec![text_field(data, "rung"), text_field(data, "reason")],
    };
    let details: Vec<String> = details.into_iter().filter(|detail| !detail.is_empty()).collect();
    if details.is_empty() { kind } else { format!("{kind}: {}", details.join(", ")) }
}
