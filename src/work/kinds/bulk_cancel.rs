//! The built-in kind `taskbell.bulk-cancel`: asks every task that matched to stop.

use std::sync::Arc;

use actix::Recipient;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dispatch::policies::KindPolicies;
use crate::projection::replay::{BULK_CANCEL, CancellableAt};
use crate::store::now;
use crate::store::{Meta, Via};
use crate::streams::messages::Execute;
use crate::task::{Command, Position, TaskId};
use crate::views::Filter;
use crate::work::worker::context::Context;
use crate::work::worker::handler::{Defaults, Done, Failure, Handler};

/// Requests that are under way at once.
const SIDE_BY_SIDE: usize = 100;

/// What a bulk cancel is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkCancelInput {
    /// Which tasks.
    pub filter: Filter,
    /// As they were when the log ended here: the set never changes, however often it is walked.
    pub position: Position,
    /// Why, for each of them.
    pub reason: Option<String>,
    /// Who asked: the actor of each cancel.
    pub requested_by: String,
}

/// The handler; see the module.
pub struct BulkCancel {
    /// The door by which all commands go.
    pub execute: Recipient<Execute>,
    /// Who knows which tasks matched.
    pub history: Recipient<CancellableAt>,
    /// The ladders of the kinds.
    pub kinds: Arc<KindPolicies>,
}

impl BulkCancel {
    /// Asks one task; true where it was news to it.
    async fn ask(&self, ctx: &Context, input: &BulkCancelInput, id: TaskId, kind: &str) -> Result<bool, Failure> {
        let meta = Meta {
            actor: input.requested_by.clone(),
            // By the door that the wish came in by.
            via: Via::Http,
            correlation_id: Uuid::now_v7(),
            causation_id: Some(ctx.task_id().uuid()),
            request_id: None,
        };
        let policy = self.kinds.cancel(kind);
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
        Some("Cancel what matches".to_owned())
    }

    /// A second request for the same cancel leads to no second event, so the set may be walked again.
    fn defaults(&self) -> Defaults {
        Defaults { max_attempts: 3, ..Defaults::default() }
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let input: BulkCancelInput = ctx.input()?;
        let ask = CancellableAt { filter: input.filter.clone(), position: input.position };
        let found = self.history.send(ask).await.map_err(|error| Failure::retryable("stopping", error.to_string()))?;
        let found = found.map_err(|error| Failure::retryable("log_unavailable", error.to_string()))?;
        let (total, mut done, mut asked) = (found.len(), 0, 0);
        for chunk in found.chunks(SIDE_BY_SIDE) {
            if ctx.is_cancelled() {
                let message = Some(format!("stopped: {done} of {total} tasks were asked to cancel"));
                return Err(Failure::Cancelled { message, result: Some(json!({"matched": total, "asked": asked})) });
            }
            for news in join_all(chunk.iter().map(|(id, kind)| self.ask(&ctx, &input, *id, kind))).await {
                asked += usize::from(news?);
            }
            done += chunk.len();
            #[allow(clippy::cast_precision_loss)] // a fraction for people
            ctx.progress(done as f64 / total as f64, format!("{done} of {total}"));
        }
        let message = match total - asked {
            0 => format!("asked to cancel: {asked}"),
            over => format!("asked to cancel: {asked}; over or asked before: {over}"),
        };
        Ok(Done::new(message).with_result(json!({"matched": total, "asked": asked})))
    }
}
