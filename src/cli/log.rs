//! `taskbell log`.

use std::collections::VecDeque;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::client::{Client, Connect};
use super::failure::Failure;
use super::out::{self, text};
use taskbell::internal::json_value;

/// How many events `tail` shows by default.
const TAIL: usize = 20;
/// The pause before a client that follows the log connects again.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the log.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Show recorded events: the last 20, or all after a position
    Tail(Tail),
    /// Show the last position and the hash of the whole log
    Head(Head),
    /// Copy the log of a stopped server into a cluster; run again, it continues
    #[cfg(feature = "eventstore")]
    Import(super::log_import::Import),
}

#[derive(Debug, Args)]
pub struct Tail {
    /// Those after this position (0: from the beginning) instead of the last ones
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// How many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only events of this type, like Completed
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only events of this stream, like task-<id>
    #[arg(long)]
    stream: Option<String>,
    /// Go on with what comes, until Ctrl-C
    #[arg(long)]
    follow: bool,
    #[arg(skip)]
    connect: Connect,
}

#[derive(Debug, Args)]
pub struct Head {
    #[arg(skip)]
    connect: Connect,
}

impl Log {
    pub(super) const fn connect(&mut self) -> &mut Connect {
        match self {
            Self::Tail(tail) => &mut tail.connect,
            Self::Head(head) => &mut head.connect,
            #[cfg(feature = "eventstore")]
            Self::Import(import) => &mut import.connect,
        }
    }

    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Tail(tail) => tail.run().await,
            Self::Head(head) => head.run().await,
            #[cfg(feature = "eventstore")]
            Self::Import(import) => import.run().await,
        }
    }
}

impl Head {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.connect.client()?.get("/v1/log/head", &[]).await?;
        if self.connect.json {
            return out::json(&answer.text);
        }
        let head = &answer.body;
        let time = text(head, "time");
        let time = if time.is_empty() { "nothing written yet".into() } else { time };
        out::line(&format!("position {}  {time}  hash {}", text(head, "position"), text(head, "hash")))
    }
}

impl Tail {
    async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        let mut at = match self.after {
            Some(after) => after,
            None => self.show_last(&client).await?,
        };
        if !self.follow {
            return if self.after.is_some() { self.print(&client, &mut at).await } else { Ok(()) };
        }
        let mut reached = self.after.is_none();
        loop {
            let before = at;
            match self.print(&client, &mut at).await {
                Ok(()) if self.limit.is_some() && self.after.is_some() => return Ok(()),
                Ok(()) => out::note(&format!("the server ended the answer after position {at}; asking again")),
                Err(mut failure) if failure.exit() == 5 && (reached || at > before) => {
                    out::failure(&mut failure, false);
                }
                Err(failure) => return Err(failure),
            }
            reached = true;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Shows the last events and returns the position up to which the log was read. With a filter their place is unknown, so
    /// the whole log is read and the last matching events are kept.
    async fn show_last(&self, client: &Client) -> Result<u64, Failure> {
        let wanted = self.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(TAIL);
        let head = client.get("/v1/log/head", &[]).await?.body["position"].as_u64().unwrap_or_default();
        let all = self.kind.is_some() || self.stream.is_some();
        let mut at = if all { 0 } else { head.saturating_sub(wanted as u64) };
        let mut kept = VecDeque::new();
        let mut lines = client.lines("/v1/log", &self.query(at, None, false)).await?;
        while let Some(line) = lines.next().await.transpose()? {
            let event = read(&line)?;
            at = at.max(event["position"].as_u64().unwrap_or_default());
            kept.push_back((line, event));
            if kept.len() > wanted {
                kept.pop_front();
            }
        }
        for (line, event) in &kept {
            self.show(line, event)?;
        }
        Ok(at.max(head))
    }

    async fn print(&self, client: &Client, at: &mut u64) -> Result<(), Failure> {
        let limit = self.limit.filter(|_| self.after.is_some());
        let mut lines = client.lines("/v1/log", &self.query(*at, limit, self.follow)).await?;
        while let Some(line) = lines.next().await.transpose()? {
            let event = read(&line)?;
            self.show(&line, &event)?;
            *at = event["position"].as_u64().unwrap_or(*at);
        }
        Ok(())
    }

    fn query(&self, after: u64, limit: Option<u64>, follow: bool) -> Vec<(&'static str, String)> {
        [
            ("after", Some(after.to_string())),
            ("limit", limit.map(|n| n.to_string())),
            ("type", self.kind.clone()),
            ("stream", self.stream.clone()),
            ("follow", follow.then(|| "true".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
    }

    fn show(&self, line: &str, event: &Value) -> Result<(), Failure> {
        if self.connect.json {
            return out::json(line);
        }
        let [position, time, stream] = ["position", "time", "stream"].map(|field| text(event, field));
        let by = format!("by {} via {}", text(&event["meta"], "actor"), text(&event["meta"], "via"));
        out::line(&format!("{position:>8}  {time}  {stream}  {}  {by}", sentence(event)))
    }
}

fn read(line: &str) -> Result<Value, Failure> {
    json_value(line).map_err(|error| Failure::failed(format!("a line of the log is not JSON: {error}")))
}

/// An event's type and the important parts of its data, on one line.
pub(super) fn sentence(event: &Value) -> String {
    let data = &event["data"];
    let kind = text(event, "type");
    let words: Vec<String> = match kind.as_str() {
        "Created" => vec![text(data, "kind"), text(data, "title")],
        "Started" => vec![format!("attempt {} on {}", text(data, "attempt"), text(data, "worker"))],
        "CancelAcknowledged" => match text(data, "stopping_after") {
            step if step.is_empty() => vec!["stops at once".into()],
            step => vec![format!("stops after {step}"), out::time(data, "expected_end")],
        },
        "AttemptFailed" => vec![
            format!("attempt {}", text(data, "attempt")),
            text(&data["error"], "code"),
            text(&data["error"], "message"),
            format!("next at {}", out::time(data, "retry_at")),
        ],
        "Completed" => vec![
            text(data, "outcome"),
            text(&data["error"], "code"),
            text(&data["error"], "message"),
            text(data, "message"),
            if data["forced"] == true { "by force".into() } else { String::new() },
        ],
        "OutputKept" => {
            let bytes = data["tail"].as_str().map_or(0, str::len);
            vec![format!("attempt {}", text(data, "attempt")), format!("{bytes} bytes kept")]
        }
        "ScheduleCreated" => vec![text(data, "cron"), text(data, "time_zone"), text(&data["task"], "kind")],
        "Seen" => vec![format!("up to {}", text(data, "position"))],
        _ => vec![text(data, "rung"), text(data, "reason")],
    };
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { kind } else { format!("{kind}: {}", words.join(", ")) }
}
