//! The caller of a request. In this release all callers are the same local user, and the server listens on loopback only.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use uuid::Uuid;

use super::error::Problem;
use super::forwarded::Client;
use crate::store::{Meta, Via, new_id, now};
use crate::streams::messages::Execute;
use crate::task::{Command, TaskId};

/// The subject of every caller.
pub const LOCAL_USER: &str = "local";
/// The `User-Agent` of the command line begins with this.
const CLI_AGENT: &str = "taskbell-cli/";

/// The request's id: the one in the client's header, or one that the middleware has made.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// The user and the interface that a request comes from, and the ids that its events record.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The authenticated subject.
    pub subject: String,
    /// The client's address, as the connection or a trusted proxy says. `None` for a call inside this process.
    pub address: Option<IpAddr>,
    /// The interface over which the request came: the command line or plain HTTP.
    pub via: Via,
    /// An id that all events which follow from this request share.
    pub correlation_id: Uuid,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Caller {
    /// Makes the metadata for the events of this request.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta {
            actor: self.subject.clone(),
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
        let address = request.extensions().get::<Client>().and_then(|client| client.address);
        ready(Ok(Self {
            subject: LOCAL_USER.to_owned(),
            address,
            via: if agent.starts_with(CLI_AGENT) { Via::Cli } else { Via::Http },
            correlation_id: new_id(),
            request_id,
        }))
    }
}
