//! The settings of a server process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::dispatch::policies::KindPolicies;
use crate::http::{AuthSettings, ClientLimits};
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::views::Limits;

/// The settings of a server that [`run`](crate::server::run) starts. `run` does not check them; the command line does.
///
/// There is no authentication yet: every client that reaches `listen` may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address on which the server listens. With port 0 the operating system chooses a free port.
    pub listen: SocketAddr,
    /// The loopback address on which the server offers the log read-only to clients of EventStoreDB. With `None` the server
    /// doesn't offer it.
    #[cfg(feature = "eventstore")]
    pub log_listen: Option<SocketAddr>,
    /// The folder of the log. The server creates it if it is missing. With `None` the log is in memory.
    pub data: Option<PathBuf>,
    /// The log of a cluster, which several servers share. If it is set, the server ignores `data` and creates no folder.
    #[cfg(feature = "eventstore")]
    pub store: Option<StoreUrl>,
    /// The folders that tasks of the kind `content.distribute` may read and write. Such a task has no access to other
    /// folders. Each path is absolute, exists and contains no symbolic links.
    pub content_roots: Vec<PathBuf>,
    /// How many bytes per second all tasks of the kind `content.distribute` may copy together. With `None` there is no limit.
    pub content_bytes_per_s: Option<u64>,
    /// The kinds that requests may name. With `None` requests may name any kind.
    pub kinds: Option<Vec<String>>,
    /// How many attempts may run at the same time in the server's process; at least 1.
    pub slots: usize,
    /// The settings of each kind: lease time, cancel ladder, attempts and timeout.
    pub kind_policies: KindPolicies,
    /// How many tasks may run at the same time, by kind, by queue and by concurrency key.
    pub limits: Limits,
    /// What clients may send, and how much of the server they may use at the same time.
    pub client_limits: ClientLimits,
    /// Which credentials of others are accepted: JWTs of an issuer, the header of a proxy.
    pub auth: AuthSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            #[cfg(feature = "eventstore")]
            log_listen: None,
            data: Some(PathBuf::from("./taskbell-data")),
            #[cfg(feature = "eventstore")]
            store: None,
            content_roots: Vec::new(),
            content_bytes_per_s: None,
            kinds: None,
            // The default for any machine: 4 attempts are enough to keep the disk and the CPU of a small machine busy.
            slots: 4,
            kind_policies: KindPolicies::default(),
            limits: Limits::default(),
            client_limits: ClientLimits::default(),
            auth: AuthSettings::default(),
        }
    }
}
