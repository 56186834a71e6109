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
    /// All are asked before any is waited for, and one that can't be asked doesn't save the others.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        let body = self.reason.as_ref().map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let mut worst = None;
        let mut asked = Vec::new();
        for id in &self.ids {
            match self.ask(&client, *id, &body).await {
                Ok(()) => asked.push(*id),
                Err(failure) => self.keep(&mut worst, *id, failure)?,
            }
        }
        for id in asked.into_iter().filter(|_| self.wait) {
            if let Err(failure) = self.ended(&client, id).await {
                self.keep(&mut worst, id, failure)?;
            }
        }
        worst.map_or(Ok(()), Err)
    }

    async fn ask(&self, client: &Client, id: TaskId, body: &Value) -> Result<(), Failure> {
        let answer = client.post(&format!("/v1/tasks/{id}/cancel"), body).await?;
        if self.wait {
            return Ok(());
        }
        if self.connect.json {
            return out::json(&answer.text);
        }
        Self::say(&answer.body, answer.status == 200)
    }

    async fn ended(&self, client: &Client, id: TaskId) -> Result<(), Failure> {
        let answer = watch::end_of(client, id, |_| Ok(())).await?;
        if self.connect.json {
            out::json(&answer.text)?;
        } else {
            Self::say(&answer.body, false)?;
        }
        if answer.body["status"] == "cancelled" { Ok(()) } else { Err(Failure::said()) }
    }

    fn say(task: &Value, was_final: bool) -> Result<(), Failure> {
        let story = match (was_final, task["cancel"].is_null()) {
            (true, true) => "it had ended before anybody asked".into(),
            _ => out::story(task),
        };
        let story = if story.is_empty() { story } else { format!("  ({story})") };
        let [id, status, title] = ["id", "status", "title"].map(|field| out::text(task, field));
        out::line(&format!("{id}  {status:<10}  {title}{story}"))
    }

    /// Says it and goes on with the others; the gravest gives the exit code. A closed stdout ends all.
    fn keep(&self, worst: &mut Option<Failure>, id: TaskId, mut failure: Failure) -> Result<(), Failure> {
        if failure.exit() == 0 {
            return Err(failure);
        }
        failure.say_about(&id.to_string(), self.connect.json);
        if worst.as_ref().is_none_or(|known| known.exit() < failure.exit()) {
            *worst = Some(failure);
        }
        Ok(())
    }
}
