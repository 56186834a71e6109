//! The settings of a server process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::dispatch::policies::KindPolicies;
use crate::http::{AllowedOrigin, AuthSettings, ClientLimits, PublicAddress};
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
use crate::tls::server::TlsFiles;
use crate::views::Limits;

/// Whether requests need credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Every client that reaches the server is the local user, and may do everything.
    None,
    /// Every request needs credentials.
    Required,
}

/// The settings of a server that [`run`](crate::server::run) starts. `run` does not check them; the command line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address on which the server listens. With port 0 the operating system chooses a free port.
    pub listen: SocketAddr,
    /// The files of the server's certificate. The server reads them again when they change. With `None` it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether requests need credentials. With `None` they don't, unless another setting offers a way to authenticate.
    pub auth: Option<AuthMode>,
    /// How clients reach the server: its names, the proxies in front of it, and its path prefix. `is_https` is ignored; `tls`
    /// decides it.
    pub public_address: PublicAddress,
    /// The address on which the server offers the log read-only to clients of EventStoreDB, with `tls` if that is set. Without
    /// it, only a loopback address is possible. With `None` the server doesn't offer the log.
    #[cfg(feature = "eventstore")]
    pub log_listen: Option<SocketAddr>,
    /// The folder of the log. The server creates it if it is missing. With `None` the log is in memory.
    pub data: Option<PathBuf>,
    /// Whether the server goes on with a log in `data` that has lost events, or of which nothing shows that it has lost none. Such a
    /// log gets a new id (epoch).
    pub accept_truncation: bool,
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
    /// The origins of pages, other than the server's own, that may use the server.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// Which credentials of others are accepted: JWTs of an issuer, the header of a proxy.
    pub identity_sources: AuthSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            tls: None,
            auth: None,
            public_address: PublicAddress::default(),
            #[cfg(feature = "eventstore")]
            log_listen: None,
            data: Some(PathBuf::from("./taskbell-data")),
            accept_truncation: false,
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
            allowed_origins: Vec::new(),
            identity_sources: AuthSettings::default(),
        }
    }
}
