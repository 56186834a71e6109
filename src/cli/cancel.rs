//! `taskbell cancel`: requests the cancel of tasks.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ConnectionArgs};
use super::command_error::CommandError;
use super::{console, watch};
use taskbell::TaskId;

/// Requests the cancel of tasks.
#[derive(Debug, Args)]
pub struct Cancel {
    /// Ids of the tasks
    #[arg(required = true)]
    ids: Vec<TaskId>,
    /// Reason, recorded in the log
    #[arg(long)]
    reason: Option<String>,
    /// Wait until all tasks have ended. Exit code 0 if all were cancelled, otherwise 1
    #[arg(long)]
    wait: bool,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Cancel {
    /// First requests the cancel of every task; then, with `--wait`, waits for the end of each. After a failed request the
    /// others are still sent.
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let body = self.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let mut worst = None;
        let mut requested = Vec::new();
        for id in &self.ids {
            match self.request_cancel(&client, *id, &body).await {
                Ok(()) => requested.push(*id),
                Err(failure) => self.print_and_keep_worst(&mut worst, *id, failure)?,
            }
        }
        for id in requested.into_iter().filter(|_| self.wait) {
            if let Err(failure) = self.wait_for_end(&client, id).await {
                self.print_and_keep_worst(&mut worst, id, failure)?;
            }
        }
        worst.map_or(Ok(()), Err)
    }

    async fn request_cancel(&self, client: &Client, id: TaskId, body: &Value) -> Result<(), CommandError> {
        let response = client.post(&format!("/v1/tasks/{id}/cancel"), body).await?;
        if self.wait {
            return Ok(());
        }
        if self.connection.json {
            return console::print_json(&response.text);
        }
        Self::print_task(&response.body, response.status == 200)
    }

    async fn wait_for_end(&self, client: &Client, id: TaskId) -> Result<(), CommandError> {
        let response = watch::wait_for_end(client, id, |_, _| Ok(())).await?;
        if self.connection.json {
            console::print_json(&response.text)?;
        } else {
            Self::print_task(&response.body, false)?;
        }
        if response.body["status"] == "cancelled" { Ok(()) } else { Err(CommandError::already_printed()) }
    }

    /// Prints the task on one line. `was_final`: it had ended before the cancel was requested.
    fn print_task(task: &Value, was_final: bool) -> Result<(), CommandError> {
        let summary = match (was_final, task["cancel"].is_null()) {
            (true, true) => "the task had already ended".into(),
            _ => console::task_summary(task),
        };
        let summary = if summary.is_empty() { summary } else { format!("  ({summary})") };
        let [id, status, title] = ["id", "status", "title"].map(|field| console::text_field(task, field));
        console::print_line(&format!("{id}  {status:<10}  {title}{summary}"))
    }

    /// Prints the error, and stores it in `worst` if it has the highest exit code so far.
    ///
    /// # Errors
    /// The reader of stdout has closed the pipe (exit code 0): the same error, because it ends the command.
    fn print_and_keep_worst(
        &self,
        worst: &mut Option<CommandError>,
        id: TaskId,
        mut failure: CommandError,
    ) -> Result<(), CommandError> {
        if failure.exit_code() == 0 {
            return Err(failure);
        }
        console::print_failure_of(&id.to_string(), &mut failure, self.connection.json);
        if worst.as_ref().is_none_or(|known| known.exit_code() < failure.exit_code()) {
            *worst = Some(failure);
        }
        Ok(())
    }
}
