//! `taskbell cancel`.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Connect};
use super::failure::Failure;
use super::{out, watch};
use taskbell::TaskId;

/// Asks tasks to stop.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Which tasks
    #[arg(required = true)]
    ids: Vec<TaskId>,
    /// Why; kept in their history
    #[arg(long)]
    reason: Option<String>,
    /// Wait until each has ended: 0 where all were cancelled, 1 where one was not
    #[arg(long)]
    wait: bool,
    #[arg(skip)]
    pub(super) connect: Connect,
}

impl Cancel {
    /// Requests every cancel before it waits for any end. A request that fails doesn't keep the others from being sent.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        let body = self.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let mut worst = None;
        let mut requested = Vec::new();
        for id in &self.ids {
            match self.request(&client, *id, &body).await {
                Ok(()) => requested.push(*id),
                Err(failure) => self.keep(&mut worst, *id, failure)?,
            }
        }
        for id in requested.into_iter().filter(|_| self.wait) {
            if let Err(failure) = self.wait_for_end(&client, id).await {
                self.keep(&mut worst, id, failure)?;
            }
        }
        worst.map_or(Ok(()), Err)
    }

    async fn request(&self, client: &Client, id: TaskId, body: &Value) -> Result<(), Failure> {
        let answer = client.post(&format!("/v1/tasks/{id}/cancel"), body).await?;
        if self.wait {
            return Ok(());
        }
        if self.connect.json {
            return out::json(&answer.text);
        }
        Self::print(&answer.body, answer.status == 200)
    }

    async fn wait_for_end(&self, client: &Client, id: TaskId) -> Result<(), Failure> {
        let answer = watch::wait_for_end(client, id, |_| Ok(())).await?;
        if self.connect.json {
            out::json(&answer.text)?;
        } else {
            Self::print(&answer.body, false)?;
        }
        if answer.body["status"] == "cancelled" { Ok(()) } else { Err(Failure::printed()) }
    }

    fn print(task: &Value, was_final: bool) -> Result<(), Failure> {
        let summary = match (was_final, task["cancel"].is_null()) {
            (true, true) => "it had ended before anybody asked".into(),
            _ => out::summary(task),
        };
        let summary = if summary.is_empty() { summary } else { format!("  ({summary})") };
        let [id, status, title] = ["id", "status", "title"].map(|field| out::text(task, field));
        out::line(&format!("{id}  {status:<10}  {title}{summary}"))
    }

    /// Prints the failure and keeps the one with the highest exit code. Fails only if stdout is closed: that ends the command.
    fn keep(&self, worst: &mut Option<Failure>, id: TaskId, mut failure: Failure) -> Result<(), Failure> {
        if failure.exit() == 0 {
            return Err(failure);
        }
        out::failure_of(&id.to_string(), &mut failure, self.connect.json);
        if worst.as_ref().is_none_or(|known| known.exit() < failure.exit()) {
            *worst = Some(failure);
        }
        Ok(())
    }
}
