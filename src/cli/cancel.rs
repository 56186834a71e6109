//! `taskbell cancel`: requests the cancel of tasks.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ConnectionArgs};
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
    pub(super) connection: ConnectionArgs,
}

impl Cancel {
    /// First requests the cancel of every task; then, with `--wait`, waits for the end of each. After a failed request the
    /// others are still sent.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let body = self.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let mut worst = None;
        let mut requested = Vec::new();
        for id in &self.ids {
            match self.request_cancel(&client, *id, &body).await {
                Ok(()) => requested.push(*id),
                Err(failure) => self.record_failure(&mut worst, *id, failure)?,
            }
        }
        for id in requested.into_iter().filter(|_| self.wait) {
            if let Err(failure) = self.wait_for_end(&client, id).await {
                self.record_failure(&mut worst, id, failure)?;
            }
        }
        worst.map_or(Ok(()), Err)
    }

    async fn request_cancel(&self, client: &Client, id: TaskId, body: &Value) -> Result<(), Failure> {
        let response = client.post(&format!("/v1/tasks/{id}/cancel"), body).await?;
        if self.wait {
            return Ok(());
        }
        if self.connection.json {
            return out::print_json(&response.text);
        }
        Self::print_task(&response.body, response.status == 200)
    }

    async fn wait_for_end(&self, client: &Client, id: TaskId) -> Result<(), Failure> {
        let response = watch::wait_for_end(client, id, |_, _| Ok(())).await?;
        if self.connection.json {
            out::print_json(&response.text)?;
        } else {
            Self::print_task(&response.body, false)?;
        }
        if response.body["status"] == "cancelled" { Ok(()) } else { Err(Failure::already_printed()) }
    }

    /// Prints the task on one line. `was_final`: it had ended before the cancel was requested.
    fn print_task(task: &Value, was_final: bool) -> Result<(), Failure> {
        let summary = match (was_final, task["cancel"].is_null()) {
            (true, true) => "it had ended before anybody asked".into(),
            _ => out::task_summary(task),
        };
        let summary = if summary.is_empty() { summary } else { format!("  ({summary})") };
        let [id, status, title] = ["id", "status", "title"].map(|field| out::text_field(task, field));
        out::print_line(&format!("{id}  {status:<10}  {title}{summary}"))
    }

    /// Prints the failure, and stores it in `worst` if it has the highest exit code so far. Returns the failure if the
    /// reader of stdout has closed the pipe, because that ends the command.
    fn record_failure(&self, worst: &mut Option<Failure>, id: TaskId, mut failure: Failure) -> Result<(), Failure> {
        if failure.exit_code() == 0 {
            return Err(failure);
        }
        out::print_failure_of(&id.to_string(), &mut failure, self.connection.json);
        if worst.as_ref().is_none_or(|known| known.exit_code() < failure.exit_code()) {
            *worst = Some(failure);
        }
        Ok(())
    }
}
