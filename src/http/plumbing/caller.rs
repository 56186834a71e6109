//! The caller of a request, and the check whether the caller may do what the request asks for.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use uuid::Uuid;

use super::error::{Problem, Refusal};
use super::forwarded::Client;
use crate::http::identity::Identity;
use crate::store::{Meta, Via, new_id, now};
use crate::streams::messages::Execute;
use crate::task::access::{Access, Action, decide_access};
use crate::task::{Command, TaskId};

/// The `User-Agent` of the command line begins with this.
const CLI_AGENT: &str = "taskbell-cli/";

/// The request's id: the one in the client's header, or one that the middleware has made.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// The user and the interface that a request comes from, and the ids that its events record.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The authenticated subject, its role, and the credential.
    pub identity: Identity,
    /// The client's address, as the connection or a trusted proxy says. `None` for a call inside this process.
    pub address: Option<IpAddr>,
    /// The interface over which the request came: the command line or plain HTTP.
    pub via: Via,
    /// An id that all events which follow from this request share.
    pub correlation_id: Uuid,
    /// The request's id.
    pub request_id: Option<String>,
}

/// Which parts of a task or event the caller may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// All of it.
    Whole,
    /// Not its inputs, results and outputs.
    Redacted,
}

impl Caller {
    /// The authenticated subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.identity.subject
    }

    /// Checks that the caller may do this. Every handler calls it before it acts or reads.
    ///
    /// # Errors
    /// 404 `not_found` if the caller must not learn that the thing exists; 403 `forbidden` if its role may not do this.
    pub fn check(&self, action: Action<'_>) -> Result<Visibility, Problem> {
        match decide_access(self.identity.role, self.subject(), action) {
            Access::Granted => Ok(Visibility::Whole),
            Access::GrantedRedacted => Ok(Visibility::Redacted),
            Access::Hidden => Err(Problem::not_found()),
            Access::Denied => {
                let detail = format!("the role `{}` may not do this", self.identity.role.name());
                Err(Problem::new(Refusal::Forbidden, detail))
            }
        }
    }

    /// Makes the metadata for the events of this request.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            actor: self.subject().to_owned(),
            via: self.via,
            correlation_id: self.correlation_id,
            causation_id: None,
            request_id: self.request_id.clone(),
        }
    }

    /// Makes the message that executes a command on this task, for this caller and at the present time.
    #[must_use]
    pub fn command(&self, task: TaskId, command: Command) -> Execute {
        Execute { task, command, at: now(), meta: self.meta() }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
        // The middleware has authenticated the request. A route without it refuses every caller.
        let Some(identity) = request.extensions().get::<Identity>().cloned() else {
            return ready(Err(Problem::unauthenticated()));
        };
        let address = request.extensions().get::<Client>().and_then(|client| client.address);
        ready(Ok(Self {
            identity,
            address,
            via: if agent.starts_with(CLI_AGENT) { Via::Cli } else { Via::Http },
            correlation_id: new_id(),
            request_id,
        }))
    }
}
