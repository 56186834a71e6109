//! Who may read the log over gRPC: callers with an API token whose role may read the log.

use std::sync::Arc;

use async_trait::async_trait;

use crate::http::identity::Identity;
use crate::http::identity::authenticate::identify;
use crate::http::identity::bearer::{BearerKind, ClaimedBearer};
use crate::projection::reader::ViewsReader;
use crate::store::now;
use crate::task::access::{Access, Action, decide_access};
use crate::wire::{LogAccessError, LogAuthenticator, LogReader};

/// Looks up the API tokens in the views.
pub(super) struct TokensInViews(pub(super) ViewsReader);

struct TokenHolder {
    identity: Identity,
    sees_everything: bool,
    views: ViewsReader,
}

impl LogAuthenticator for TokensInViews {
    fn authenticate(&self, password: &str) -> Result<Arc<dyn LogReader>, LogAccessError> {
        let claimed = ClaimedBearer::parse(password).filter(|claimed| claimed.kind == BearerKind::Token);
        let claimed = claimed.ok_or(LogAccessError::Unauthenticated)?;
        let identity = identify(self.0.views().credentials(), &claimed, now());
        let identity = identity.ok_or(LogAccessError::Unauthenticated)?;
        let sees_everything = match decide_access(identity.role, &identity.subject, Action::ReadLog) {
            Access::Granted => true,
            Access::GrantedRedacted => false,
            Access::Hidden | Access::Denied => return Err(LogAccessError::Denied),
        };
        Ok(Arc::new(TokenHolder { identity, sees_everything, views: self.0.clone() }))
    }
}

#[async_trait]
impl LogReader for TokenHolder {
    fn sees_everything(&self) -> bool {
        self.sees_everything
    }

    async fn wait_for_end(&self) {
        self.identity.wait_for_end(&self.views).await;
    }
}
