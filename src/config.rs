//! What a server of its own process runs with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::dispatch::policies::KindPolicies;
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::views::Limits;

/// The settings of a server that [`run`](crate::server::run) starts. `run` does not check them; the command line does.
///
/// There is no authentication yet: every client that reaches `listen` may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address it listens on. Port 0: the operating system chooses a free port.
    pub listen: SocketAddr,
    /// The loopback address on which the log is served read-only to clients of EventStoreDB; none: it isn't.
    #[cfg(feature = "eventstore")]
    pub log_listen: Option<SocketAddr>,
    /// The folder of the log; it is created where it is missing. None keeps the log in memory.
    pub data: Option<PathBuf>,
    /// The log of a cluster, which several servers share. Where it is set, `data` is not used and no folder is created.
    #[cfg(feature = "eventstore")]
    pub store: Option<StoreUrl>,
    /// The only folders that `content.distribute` may read and write: absolute, existing, without symbolic links.
    pub content_roots: Vec<PathBuf>,
    /// The most that all distributions together copy, in bytes per second; none: no bound.
    pub content_bytes_per_s: Option<u64>,
    /// The only kinds that requests may name; none: any.
    pub kinds: Option<Vec<String>>,
    /// Attempts that run at once in the server's process, at least 1.
    pub slots: usize,
    /// The settings of each kind.
    pub settings: KindPolicies,
    /// How many tasks may run at once.
    pub limits: Limits,
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
            // Enough to overlap disk and CPU on a small machine.
            slots: 4,
            settings: KindPolicies::default(),
            limits: Limits::default(),
        }
    }
}
