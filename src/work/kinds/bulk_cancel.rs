//! The built-in kind `taskbell.bulk-cancel`: requests the cancel of every task that matches a filter.

use std::sync::Arc;

use actix::Recipient;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::now;
use crate::dispatch::policies::KindPolicies;
use crate::projection::replay::{BULK_CANCEL, CancellableAt};
use crate::store::{Meta, Via};
use crate::streams::messages::Execute;
use crate::task::{Command, Position, TaskId};
use crate::views::Filter;
use crate::work::worker::context::Context;
use crate::work::worker::handler::{Defaults, Done, Failure, Handler};

/// How many requests to cancel are sent at once.
const CONCURRENT_REQUESTS: usize = 100;

/// The input of a bulk cancel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkCancelInput {
    /// The tasks to cancel are those that match this filter.
    pub filter: Filter,
    /// The log position at which the filter is applied. So the set of tasks is the same in every attempt.
    pub position: Position,
    /// The reason of each cancel.
    pub reason: Option<String>,
    /// The subject who requested the bulk cancel. The events of each cancel record this subject as their actor.
    pub requested_by: String,
}

/// The handler of `taskbell.bulk-cancel`; its input is a [`BulkCancelInput`].
pub struct BulkCancel {
    /// Executes commands on tasks.
    pub execute: Recipient<Execute>,
    /// Finds the tasks that matched a filter at a position.
    pub replayer: Recipient<CancellableAt>,
    /// The cancel ladder of each kind.
    pub policies: Arc<KindPolicies>,
}

impl BulkCancel {
    /// Requests the cancel of one task. Returns whether the request was recorded. It is not recorded if the task has
    /// ended or if its cancel was requested before.
    async fn request_cancel(
        &self,
        ctx: &Context,
        input: &BulkCancelInput,
        id: TaskId,
        kind: &str,
    ) -> Result<bool, Failure> {
        let meta = Meta {
            actor: input.requested_by.clone(),
            // The bulk cancel itself was requested over HTTP.
            via: Via::Http,
            correlation_id: Uuid::now_v7(),
            causation_id: Some(ctx.task_id().uuid()),
            request_id: None,
        };
        let policy = self.policies.cancel(kind);
        let command = Command::RequestCancel { reason: input.reason.clone(), policy };
        let sent = self.execute.send(Execute { task: id, command, at: now(), meta }).await;
        let receipt = sent.map_err(|error| Failure::retryable("stopping", error.to_string()))?;
        receipt.map(|r| r.appended > 0).map_err(|error| Failure::retryable("not_recorded", format!("{id}: {error}")))
    }
}

#[async_trait::async_trait]
impl Handler for BulkCancel {
    fn kind(&self) -> &str {
        BULK_CANCEL
    }

    fn title(&self, _: &Value) -> Option<String> {
        Some("Cancel all tasks that match a filter".to_owned())
    }

    /// A second attempt may repeat all requests, because a repeated request records no second event.
    fn defaults(&self) -> Defaults {
        Defaults { max_attempts: 3, ..Defaults::default() }
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let input: BulkCancelInput = ctx.input()?;
        let query = CancellableAt { filter: input.filter.clone(), position: input.position };
        let matches =
            self.replayer.send(query).await.map_err(|error| Failure::retryable("stopping", error.to_string()))?;
        let matches = matches.map_err(|error| Failure::retryable("log_unavailable", error.to_string()))?;
        let (total, mut done, mut requested) = (matches.len(), 0, 0);
        for chunk in matches.chunks(CONCURRENT_REQUESTS) {
            if ctx.observe_cancel() {
                let message = Some(format!("stopped after {done} of {total} tasks"));
                return Err(Failure::Cancelled {
                    message,
                    result: Some(json!({"matched": total, "asked": requested}).into()),
                });
            }
            for recorded in join_all(chunk.iter().map(|(id, kind)| self.request_cancel(&ctx, &input, *id, kind))).await
            {
                requested += usize::from(recorded?);
            }
            done += chunk.len();
            #[allow(clippy::cast_precision_loss)] // precise enough for a progress bar
            ctx.progress(done as f64 / total as f64, format!("{done} of {total}"));
        }
        let message = match total - requested {
            0 => format!("cancel requested for {}", tasks(requested)),
            not_recorded => format!(
                "cancel requested for {}; {not_recorded} had ended or were being cancelled already",
                tasks(requested)
            ),
        };
        Ok(Done::new(message).with_result(json!({"matched": total, "asked": requested})))
    }
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}
