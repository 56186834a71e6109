//! `taskbell retry`.

use clap::Args;
use serde_json::json;

use super::client::Connect;
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
    pub(super) connect: Connect,
}

impl Retry {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let body = self.reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let answer = self.connect.client()?.post(&format!("/v1/tasks/{}/retry", self.id), &body).await?;
        if self.connect.json {
            return out::json(&answer.text);
        }
        let task = &answer.body;
        out::line(&format!("{}  {}  {}", out::text(task, "id"), out::text(task, "status"), out::text(task, "title")))
    }
}
