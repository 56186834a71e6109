//! `taskbell submit`: creates a task.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::{ApiResponse, ConnectionArgs};
use super::failure::Failure;
use super::{out, watch};
use taskbell::{TaskId, Timestamp};

/// Hands in a task.
#[derive(Debug, Args)]
pub struct Submit {
    /// What sort of work, like content.distribute
    kind: String,
    /// What people read
    #[arg(long)]
    title: Option<String>,
    /// A file with the input as JSON; - reads stdin
    #[arg(long, value_name = "FILE|-")]
    input: Option<PathBuf>,
    /// Where it waits
    #[arg(long)]
    queue: Option<String>,
    /// Higher goes first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Not before this time (RFC 3339, like 2026-11-22T15:04:05Z)
    #[arg(long, value_name = "TIME")]
    run_at: Option<Timestamp>,
    /// How often it is tried at most
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Seconds that one attempt may take
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
    /// A label to filter by; may be repeated
    #[arg(long = "label", value_name = "KEY:VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Who sees it
    #[arg(long)]
    owner: Option<String>,
    /// The task that this one belongs to
    #[arg(long, value_name = "ID")]
    parent: Option<TaskId>,
    /// The same key and request again is the same task
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait for its end: 0 where it succeeded, 1 where it did not
    #[arg(long)]
    wait: bool,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

/// The body of the request. It omits each field that the command line doesn't set, so that the server's default applies.
#[derive(Serialize)]
struct RequestBody<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    /// The unchanged text of the input: numbers keep all their digits, and the server sees duplicate keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_s: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<TaskId>,
}

impl Submit {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let body = self.body()?;
        let response = client.submit(&body, self.idempotency_key.as_deref()).await?;
        match (self.connection.json, self.wait) {
            (true, false) => out::print_json(&response.text)?,
            (true, true) => {}
            (false, _) => print_task(&response)?,
        }
        if !self.wait {
            return Ok(());
        }
        watch::wait_and_print(&client, watch::task_id(&response)?, self.connection.json, watch::PrintedStates::Last)
            .await
    }

    fn body(&self) -> Result<RequestBody<'_>, Failure> {
        Ok(RequestBody {
            kind: &self.kind,
            title: self.title.as_deref(),
            input: self.input.as_deref().map(read_input).transpose()?,
            queue: self.queue.as_deref(),
            priority: self.priority,
            run_at: self.run_at,
            max_attempts: self.max_attempts,
            timeout_s: self.timeout_s,
            labels: self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            owner: self.owner.as_deref(),
            parent: self.parent,
        })
    }
}

fn print_task(response: &ApiResponse) -> Result<(), Failure> {
    let task = &response.body;
    let reused = if response.status == 200 { " (this key was used before: the same task)" } else { "" };
    let summary = out::task_summary(task);
    let summary = if summary.is_empty() { summary } else { format!(" ({summary})") };
    let [id, status, title] = ["id", "status", "title"].map(|field| out::text_field(task, field));
    out::print_line(&format!("{id}  {status}  {title}{summary}{reused}"))
}

/// Reads the JSON from a file, or from stdin if the path is `-`.
fn read_input(path: &Path) -> Result<Box<RawValue>, Failure> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        ("stdin".to_owned(), std::io::stdin().lock().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| Failure::usage(format!("--input {name}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("--input {name} is not JSON: {error}")))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(key, value)| !key.is_empty() && !value.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "KEY:VALUE is needed".into())
}
