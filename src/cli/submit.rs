//! `taskbell submit`: creates a task.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::{ApiResponse, ConnectionArgs};
use super::command_error::CommandError;
use super::{console, watch};
use taskbell::{TaskId, Timestamp};

/// Creates a task.
#[derive(Debug, Args)]
pub struct Submit {
    /// Kind, like content.distribute
    kind: String,
    /// Title
    #[arg(long)]
    title: Option<String>,
    /// File with the input as JSON; - reads stdin
    #[arg(long, value_name = "FILE|-")]
    input: Option<PathBuf>,
    /// Queue
    #[arg(long)]
    queue: Option<String>,
    /// Priority: in a queue, tasks with a higher number run first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Earliest start (RFC 3339, like 2026-11-22T15:04:05Z)
    #[arg(long, value_name = "TIME")]
    run_at: Option<Timestamp>,
    /// Most attempts
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Time limit of each attempt, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout_s: Option<u64>,
    /// Label, for filters; may be repeated
    #[arg(long = "label", value_name = "KEY:VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Owner: the task is counted in this person's bell
    #[arg(long)]
    owner: Option<String>,
    /// Id of the parent; a cancel of the parent also cancels this task
    #[arg(long, value_name = "ID")]
    parent: Option<TaskId>,
    /// Idempotency key: a second request with this key and the same body creates no second task
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until the task has ended. Exit code 0 if it succeeded, otherwise 1
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
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let body = self.body()?;
        let response = client.submit(&body, self.idempotency_key.as_deref()).await?;
        match (self.connection.json, self.wait) {
            (true, false) => console::print_json(&response.text)?,
            (true, true) => {}
            (false, _) => print_task(&response)?,
        }
        if !self.wait {
            return Ok(());
        }
        watch::wait_and_print(&client, watch::task_id(&response)?, self.connection.json, watch::PrintedStates::Last)
            .await
    }

    fn body(&self) -> Result<RequestBody<'_>, CommandError> {
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

fn print_task(response: &ApiResponse) -> Result<(), CommandError> {
    let task = &response.body;
    let reused = if response.status == 200 { " (existing task with this key)" } else { "" };
    let summary = console::task_summary(task);
    let summary = if summary.is_empty() { summary } else { format!(" ({summary})") };
    let [id, status, title] = ["id", "status", "title"].map(|field| console::text_field(task, field));
    console::print_line(&format!("{id}  {status}  {title}{summary}{reused}"))
}

/// Reads the JSON from a file, or from stdin if the path is `-`.
fn read_input(path: &Path) -> Result<Box<RawValue>, CommandError> {
    let (name, text) = if path == Path::new("-") {
        let mut text = String::new();
        ("stdin".to_owned(), std::io::stdin().lock().read_to_string(&mut text).map(|_| text))
    } else {
        (path.display().to_string(), std::fs::read_to_string(path))
    };
    let text = text.map_err(|error| CommandError::usage(format!("--input {name}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| CommandError::usage(format!("--input {name} is not JSON: {error}")))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').filter(|(key, value)| !key.is_empty() && !value.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "must have the form KEY:VALUE".into())
}
