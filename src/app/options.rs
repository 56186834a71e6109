//! The settings of a [`Taskbell`](super::Taskbell).

use std::path::PathBuf;

use crate::dispatch::policies::KindPolicies;
use crate::http::{AllowedOrigin, AuthSettings, ClientLimits, PublicAddress};
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::views::Limits;
use crate::work::{Handler, Handlers, NotRegistered};

/// The settings of a [`Taskbell`](super::Taskbell). With the defaults, the log is in the folder `./taskbell-data`, 4 attempts
/// may run at the same time, every kind is accepted, there are no handlers, and running tasks are not limited.
pub struct Options {
    /// The folder of the log. It is created if it is missing. Only one process at a time can open it. With `None` the log is
    /// in memory and is lost when the process ends.
    pub data: Option<PathBuf>,
    /// Whether to go on with a log in `data` that has lost events, or of which nothing shows that it has lost none. Such a log gets a
    /// new id (epoch). Without this the start fails with [`OpenError::Incomplete`](crate::OpenError::Incomplete).
    pub accept_truncation: bool,
    /// The log of a cluster, which several servers share: `"esdb://db.example:2113".parse()?`. If it is set, `data` is
    /// ignored and no folder is created. A program that has installed a default crypto provider of `rustls` can't use a
    /// cluster.
    #[cfg(feature = "eventstore")]
    pub store: Option<StoreUrl>,
    /// How many attempts may run at the same time in this process.
    pub slots: usize,
    /// The kinds that requests may name. With `None` requests may name any kind. The tasks of a kind without a handler wait
    /// for a worker in another process.
    pub kinds: Option<Vec<String>>,
    /// The handlers of the kinds that this process executes.
    pub handlers: Handlers,
    /// The settings of each kind: lease time, cancel ladder, attempts and timeout.
    pub kind_policies: KindPolicies,
    /// How many tasks may run at the same time, by kind, by queue and by concurrency key.
    pub limits: Limits,
    /// What clients may send over HTTP, and how much of this process they may use at the same time.
    pub client_limits: ClientLimits,
    /// How clients reach the routes: the names that `Host` may have, the trusted proxies, and the path prefix. With the
    /// default, only loopback names are accepted.
    pub public_address: PublicAddress,
    /// Whether HTTP requests without a credential are refused. If not, they come from the local user, who is an admin.
    pub auth_required: bool,
    /// The origins of pages, other than this server's own, that may use it over HTTP and websockets. Without
    /// `auth_required` such a page may do everything.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Which credentials of others are accepted: JWTs of an issuer, the header of a proxy.
    pub identity_sources: AuthSettings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: Some("taskbell-data".into()),
            accept_truncation: false,
            #[cfg(feature = "eventstore")]
            store: None,
            slots: 4,
            kinds: None,
            handlers: Handlers::new(),
            kind_policies: KindPolicies::default(),
            limits: Limits::default(),
            client_limits: ClientLimits::default(),
            public_address: PublicAddress::default(),
            auth_required: false,
            allowed_origins: Vec::new(),
            identity_sources: AuthSettings::default(),
        }
    }
}

impl Options {
    /// The same options with one more handler.
    ///
    /// # Errors
    /// [`NotRegistered`] if the handler's kind is not a valid name, or has a handler already.
    pub fn handler(mut self, handler: impl Handler) -> Result<Self, NotRegistered> {
        self.handlers.register(handler)?;
        Ok(self)
    }
}
