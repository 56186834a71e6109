//! `taskbell list`: prints a page of tasks.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console;
use taskbell::{Status, TaskId, Timestamp};

/// Lists tasks, the newest first. Filters may be combined. A list separated by commas matches any of its values.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
    /// Number of tasks [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: Option<u16>,
    /// Cursor of the next page, from the output of the previous command
    #[arg(long)]
    cursor: Option<String>,
    /// Order by time of creation [default: desc]
    #[arg(long, value_parser = ["desc", "asc"])]
    order: Option<String>,
    /// The list as it was when this position was the last one of the log, or at this time (RFC 3339)
    #[arg(long, value_name = "POSITION|TIME")]
    as_of: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

#[derive(Debug, Args)]
struct Filter {
    /// Status: scheduled, queued, running, cancelling, retrying, succeeded, failed, cancelled
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(Status::ALL.map(Status::name)))]
    #[arg(hide_possible_values = true)]
    status: Vec<String>,
    /// Kind
    #[arg(long)]
    kind: Option<String>,
    /// Queue
    #[arg(long)]
    queue: Option<String>,
    /// Owners: names separated by commas, or `*` for everyone [default: the caller; everyone if the server has no
    /// authentication]
    #[arg(long, value_name = "NAMES")]
    owner: Option<String>,
    /// A label; may be repeated, all must match
    #[arg(long = "label", value_name = "KEY:VALUE")]
    labels: Vec<String>,
    /// Words that the title or the outcome contains
    #[arg(long, value_name = "WORDS")]
    q: Option<String>,
    /// Created after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    created_after: Option<Timestamp>,
    /// Created before this time
    #[arg(long, value_name = "TIME")]
    created_before: Option<Timestamp>,
    /// Ended after this time
    #[arg(long, value_name = "TIME")]
    finished_after: Option<Timestamp>,
    /// Ended before this time
    #[arg(long, value_name = "TIME")]
    finished_before: Option<Timestamp>,
    /// Only children of this task
    #[arg(long, value_name = "ID")]
    parent: Option<TaskId>,
}

impl List {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let response = self.connection.client()?.get("/v1/tasks", &self.query()).await?;
        if self.connection.json {
            return console::print_json(&response.text);
        }
        let body = &response.body;
        let items = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !items.is_empty() {
            print_table(items)?;
        }
        let total = console::format_count(body["total"].as_u64().unwrap_or_default());
        let more = match body["next"].as_str() {
            Some(next) => format!("; next page: --cursor {}", console::escape(next)),
            None => String::new(),
        };
        console::print_line(&format!("{} of {total} tasks{more}", console::format_count(items.len() as u64)))
    }

    /// The query parameters of `GET /v1/tasks`.
    fn query(&self) -> Vec<(&'static str, String)> {
        let filter = &self.filter;
        let status = (!filter.status.is_empty()).then(|| filter.status.join(","));
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        let mut query: Vec<_> = [
            ("status", status),
            ("kind", filter.kind.clone()),
            ("queue", filter.queue.clone()),
            ("owner", filter.owner.clone()),
            ("q", filter.q.clone()),
            ("created_after", time(filter.created_after)),
            ("created_before", time(filter.created_before)),
            ("finished_after", time(filter.finished_after)),
            ("finished_before", time(filter.finished_before)),
            ("parent", filter.parent.map(|id| id.to_string())),
            ("limit", self.limit.map(|n| n.to_string())),
            ("cursor", self.cursor.clone()),
            ("order", self.order.clone()),
            ("as_of", self.as_of.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect();
        query.extend(filter.labels.iter().map(|label| ("label", label.clone())));
        query
    }
}

/// Prints a table whose columns are as wide as their longest cell. The last column is the complete id, so that it can be
/// copied.
fn print_table(tasks: &[Value]) -> Result<(), CommandError> {
    let header = ["STATUS", "TITLE", "STARTED", "DURATION", "OUTCOME", "ID"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header)
        .chain(tasks.iter().map(|task| {
            [
                console::text_field(task, "status"),
                console::truncate(&console::text_field(task, "title"), 40),
                console::time_field(task, "started_at"),
                console::duration_field(task, "duration_ms"),
                console::truncate(&console::task_summary(task), 48),
                console::text_field(task, "id"),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        console::print_line(cells.join("  ").trim_end())?;
    }
    Ok(())
}
