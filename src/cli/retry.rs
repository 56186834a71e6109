//! `taskbell retry`: runs a final task once more.

use clap::Args;
use serde_json::json;

use super::client::ConnectionArgs;
use super::failure::Failure;
use super::out;
use taskbell::TaskId;

/// Runs a final task once more.
#[derive(Debug, Args)]
pub struct Retry {
    /// Which task
    id: TaskId,
    /// Why; kept in its history
    #[arg(long)]
    reason: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Retry {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let response = self.connection.client()?.post(&format!("/v1/tasks/{}/retry", self.id), &body).await?;
        if self.connection.json {
            return out::print_json(&response.text);
        }
        let task = &response.body;
        out::print_line(&format!(
            "{}  {}  {}",
            out::text_field(task, "id"),
            out::text_field(task, "status"),
            out::text_field(task, "title")
        ))
    }
}
