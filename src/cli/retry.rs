//! `taskbell retry`: runs a final task once more.

use clap::Args;
use serde_json::json;

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console;
use taskbell::TaskId;

/// Runs a final task once more.
#[derive(Debug, Args)]
pub struct Retry {
    /// Id of the task
    id: TaskId,
    /// Reason, recorded in the log
    #[arg(long)]
    reason: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Retry {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let response = self.connection.client()?.post(&format!("/v1/tasks/{}/retry", self.id), &body).await?;
        if self.connection.json {
            return console::print_json(&response.text);
        }
        let task = &response.body;
        console::print_line(&format!(
            "{}  {}  {}",
            console::text_field(task, "id"),
            console::text_field(task, "status"),
            console::text_field(task, "title")
        ))
    }
}
