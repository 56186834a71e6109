//! Reads and checks the settings of a server.
//!
//! A flag overrides a `TASKBELL_*` variable, a variable overrides `taskbell.toml`, and the file overrides the default. If a
//! setting is a list, the whole list is overridden.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use taskbell::internal::is_name;
use taskbell::server::Config;

mod auth;
mod browser;
mod exposure;
mod limits;
mod network;
mod store;
mod tables;

use browser::BrowserSettings;
use limits::LimitSettings;
use network::{AuthSettings, TlsSettings};
pub(super) use store::EmbeddedStore;
#[cfg(feature = "eventstore")]
pub(super) use store::cluster_of_server;
use store::{LogLocation, StoreSetting};
use tables::{KindTable, QueueTable};

/// The settings file in the working directory, which is read if no file is named.
const DEFAULT_FILE: &str = "taskbell.toml";
/// The most attempts that run at the same time in the server's process. Each may occupy a thread.
const SLOTS_MAX: usize = 1024;
/// The log filter if none is set. It hides the log lines of the crate `eventstore`, which writes an error for each failed
/// request to the cluster; Taskbell logs the consequences itself.
const DEFAULT_LOG_FILTER: &str = "info,eventstore=off";

const KIND_HELP: &str = "Settings of one kind; may be repeated. The settings are separated by commas:
max_running (most tasks of the kind that run at the same time), lease_s (how long a lease is valid without a heartbeat,
default 30), ask_for_s, interrupt_for_s (the cancel ladder: how long the worker is asked to stop, and then how long it is
interrupted before its lease is revoked; default: only asked, without a time limit), max_attempts, timeout_s (defaults for
requests without them)";
const STORE_HELP: &str =
    "Where the log is stored: `sqlite` (a file in the data folder), `memory` (lost when the process ends), or the
address of an EventStoreDB or KurrentDB that several servers share, without --data:
esdb://[USER:PASSWORD@]HOST[:2113][,HOST…][?tls=false&prefix=NAME&…], or esdb+discover://… if one DNS name resolves to
all nodes. Installations with different prefixes share a database [default prefix: taskbell].
Every user of this machine can read flags with `ps`: put an address with a password into TASKBELL_STORE or the settings
file";
const CONTENT_ROOT_HELP: &str = "Folder that content.distribute may read and write; may be repeated

[env: TASKBELL_CONTENT_ROOTS, separated like PATH]";

/// The settings after the check.
pub(super) struct CheckedSettings {
    /// The configuration of the server.
    pub(super) config: Config,
    /// Which log lines are written to stderr, as a filter of `tracing_subscriber::EnvFilter`.
    pub(super) log_filter: String,
}

/// The unchecked settings from one source: the flags and the variables that clap reads, another variable, or the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Address to listen on; one that other machines reach needs --auth, and TLS or a proxy [default: 127.0.0.1:7070]
    #[arg(long, env = "TASKBELL_LISTEN", value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// Address on which clients of EventStoreDB can read the log, like 127.0.0.1:2113; one that other machines reach needs
    /// --tls-cert [default: none]
    #[cfg(feature = "eventstore")]
    #[arg(long, env = "TASKBELL_LOG_LISTEN", value_name = "ADDRESS")]
    pub(super) log_listen: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    pub(super) tls: TlsSettings,
    #[command(flatten)]
    #[serde(default)]
    pub(super) auth: AuthSettings,
    /// Name or IP address that clients reach the server by, besides the address it listens on; may be repeated. Requests for
    /// other hosts are refused [default: localhost and the loopback addresses, on a loopback address]
    #[arg(long = "allow-host", env = "TASKBELL_ALLOW_HOSTS", value_name = "NAME", value_delimiter = ',')]
    pub(super) allow_hosts: Option<Vec<String>>,
    /// Proxy in front of the server, like 10.0.0.5 or 10.0.0.0/8, whose X-Forwarded-For, -Proto and -Host are believed; may be
    /// repeated [default: none]
    #[arg(long = "trust-proxy", env = "TASKBELL_TRUST_PROXIES", value_name = "ADDRESS", value_delimiter = ',')]
    pub(super) trust_proxies: Option<Vec<String>>,
    /// Path below which a proxy offers the server, like /taskbell [default: none]
    #[arg(long, env = "TASKBELL_PATH_PREFIX", value_name = "PATH")]
    pub(super) path_prefix: Option<String>,
    /// Accept clear text from other machines, because the network itself protects it
    #[arg(long, env = "TASKBELL_PLAIN_HTTP", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) plain_http: Option<bool>,
    /// Folder of the log [default: ./taskbell-data]
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Go on with a log that has lost events, or of which nothing shows that it has lost none; it gets a new id (epoch)
    #[arg(long, env = "TASKBELL_ACCEPT_TRUNCATION", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) accept_truncation: Option<bool>,
    /// Where the log is stored: sqlite, memory, or the address of a cluster [default: sqlite]
    #[arg(long, env = "TASKBELL_STORE", value_name = "STORE", long_help = STORE_HELP, hide_env_values = true)]
    pub(super) store: Option<StoreSetting>,
    /// Folder that content.distribute may read and write; may be repeated
    #[arg(long = "content-root", value_name = "DIR", long_help = CONTENT_ROOT_HELP)]
    pub(super) content_roots: Option<Vec<PathBuf>>,
    /// Most bytes that all tasks of the kind content.distribute together copy per second [default: no limit]
    #[arg(long, env = "TASKBELL_CONTENT_BYTES_PER_S", value_name = "N")]
    pub(super) content_bytes_per_s: Option<u64>,
    /// The kinds that requests may name, separated by commas [default: any]
    #[arg(long = "kinds", env = "TASKBELL_KINDS", value_name = "KIND,…", value_delimiter = ',')]
    #[serde(rename = "kinds")]
    pub(super) allowed_kinds: Option<Vec<String>>,
    /// Most tasks that run in the server's process at the same time [default: 4]
    #[arg(long, env = "TASKBELL_SLOTS", value_name = "N")]
    pub(super) slots: Option<usize>,
    /// Settings of one kind, like `image.build:lease_s=60,ask_for_s=20,interrupt_for_s=10`; may be repeated
    #[arg(long = "kind", env = "TASKBELL_KIND_SETTINGS", value_name = "KIND:SETTING=N,…", long_help = KIND_HELP, value_delimiter = ';')]
    #[serde(rename = "kind", default, deserialize_with = "tables::deserialize_kinds")]
    pub(super) kind_tables: Option<Vec<KindTable>>,
    /// Most tasks of one queue that run at the same time, like `imports:max_running=2`; may be repeated
    #[arg(long = "queue", env = "TASKBELL_QUEUE_SETTINGS", value_name = "QUEUE:max_running=N", value_delimiter = ';')]
    #[serde(rename = "queue", default, deserialize_with = "tables::deserialize_queues")]
    pub(super) queue_tables: Option<Vec<QueueTable>>,
    /// Most tasks with the same `concurrency_key` that run at the same time [default: 1]
    #[arg(long, env = "TASKBELL_MAX_RUNNING_PER_KEY", value_name = "N")]
    pub(super) max_running_per_key: Option<u32>,
    /// Filter of the log lines on stderr, like debug or taskbell=debug,actix=warn [default: info,eventstore=off]
    #[serde(rename = "log")]
    #[arg(long = "log", env = "TASKBELL_LOG", value_name = "FILTER")]
    pub(super) log_filter: Option<String>,
    #[command(flatten)]
    #[serde(default)]
    pub(super) limits: LimitSettings,
    #[command(flatten)]
    #[serde(default)]
    pub(super) browser: BrowserSettings,
}

/// A setting is invalid. The message is for the person who wrote the setting.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettingsError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// The file is not a valid settings file. Line numbers start at 1.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Syntax { path: PathBuf, line: Option<usize>, message: String },
    /// The value is invalid; `why` says which values are valid.
    #[error("{setting}: {why}")]
    Value { setting: &'static str, why: String },
}

/// The error for an invalid value.
fn invalid<T>(setting: &'static str, why: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError::Value { setting, why: why.into() })
}

impl Settings {
    /// Combines and checks the settings of all sources. `self` (the flags and the variables that clap reads) overrides
    /// `TASKBELL_CONTENT_ROOTS`, and that variable overrides the file. The file is `file`; if that is `None`, it is
    /// [`DEFAULT_FILE`] in the working directory, if that exists.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn load(self, file: Option<&Path>) -> Result<CheckedSettings, SettingsError> {
        let from_file = Self::of_file(file)?;
        let roots = std::env::var_os("TASKBELL_CONTENT_ROOTS").filter(|roots| !roots.is_empty());
        let variables =
            Self { content_roots: roots.map(|roots| std::env::split_paths(&roots).collect()), ..Self::default() };
        self.with_fallback(variables).with_fallback(from_file).check()
    }

    /// The settings of this file; if it is `None`, of [`DEFAULT_FILE`] if that exists.
    fn of_file(file: Option<&Path>) -> Result<Self, SettingsError> {
        match file {
            Some(path) => Self::read(path),
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    /// Reads the settings from a file. Relative paths in it start at the file's folder.
    fn read(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| SettingsError::Read { path: path.to_owned(), error })?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            line: error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        if let Some(folder) = path.parent() {
            for path in settings.data.iter_mut().chain(settings.content_roots.iter_mut().flatten()) {
                *path = folder.join(&*path);
            }
            settings.tls.resolve_in(folder);
            settings.auth.resolve_in(folder);
        }
        Ok(settings)
    }

    /// Each setting of `self`; if it is not set, the setting of `fallback`.
    fn with_fallback(self, fallback: Self) -> Self {
        Self {
            listen: self.listen.or(fallback.listen),
            #[cfg(feature = "eventstore")]
            log_listen: self.log_listen.or(fallback.log_listen),
            tls: self.tls.with_fallback(fallback.tls),
            auth: self.auth.with_fallback(fallback.auth),
            allow_hosts: self.allow_hosts.or(fallback.allow_hosts),
            trust_proxies: self.trust_proxies.or(fallback.trust_proxies),
            path_prefix: self.path_prefix.or(fallback.path_prefix),
            plain_http: self.plain_http.or(fallback.plain_http),
            data: self.data.or(fallback.data),
            accept_truncation: self.accept_truncation.or(fallback.accept_truncation),
            store: self.store.or(fallback.store),
            content_roots: self.content_roots.or(fallback.content_roots),
            content_bytes_per_s: self.content_bytes_per_s.or(fallback.content_bytes_per_s),
            allowed_kinds: self.allowed_kinds.or(fallback.allowed_kinds),
            slots: self.slots.or(fallback.slots),
            kind_tables: self.kind_tables.or(fallback.kind_tables),
            queue_tables: self.queue_tables.or(fallback.queue_tables),
            max_running_per_key: self.max_running_per_key.or(fallback.max_running_per_key),
            log_filter: self.log_filter.or(fallback.log_filter),
            limits: self.limits.with_fallback(fallback.limits),
            browser: self.browser.with_fallback(fallback.browser),
        }
    }

    /// Checks the settings. A missing setting gets its default.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn check(self) -> Result<CheckedSettings, SettingsError> {
        let defaults = Config::default();
        let tls = self.tls.clone().check()?;
        let network = self.check_network(defaults.listen, tls.is_some())?;
        let log_location = self.store.unwrap_or_default().check(self.data.is_some())?;
        let data_folder = self.data.or(defaults.data).unwrap_or_default();
        let data = (log_location == LogLocation::DataFolder).then(|| data_folder.clone());
        if data_folder.as_os_str().is_empty() || (data_folder.exists() && !data_folder.is_dir()) {
            return invalid("data", format!("{:?} is not a folder", data_folder.display().to_string()));
        }
        let slots = self.slots.unwrap_or(defaults.slots);
        if !(1..=SLOTS_MAX).contains(&slots) {
            return invalid("slots", format!("{slots} is not within 1 to {SLOTS_MAX}"));
        }
        if self.content_bytes_per_s == Some(0) {
            return invalid("content_bytes_per_s", "must be at least 1; omit the setting for no limit");
        }
        if let Some(kinds) = &self.allowed_kinds {
            if kinds.is_empty() {
                return invalid("kinds", "must not be empty; omit the setting to accept any kind");
            }
            if let Some(kind) = kinds.iter().find(|kind| !is_name(kind)) {
                return invalid(
                    "kinds",
                    format!("{kind:?} is not a valid kind: use 1 to 64 of the characters a-z, 0-9, '.', '_', '-'"),
                );
            }
        }
        let (kind_tables, queue_tables) = (self.kind_tables.unwrap_or_default(), self.queue_tables.unwrap_or_default());
        let (kind_policies, limits) = tables::policies_and_limits(kind_tables, queue_tables, self.max_running_per_key)?;
        let config = Config {
            listen: network.listen,
            tls,
            auth: self.auth.mode(),
            public_address: network.public_address,
            #[cfg(feature = "eventstore")]
            log_listen: network.log_listen,
            content_roots: check_content_roots(self.content_roots.unwrap_or_default(), data.as_deref())?,
            data,
            accept_truncation: self.accept_truncation.unwrap_or(false),
            #[cfg(feature = "eventstore")]
            store: log_location.into_url(),
            content_bytes_per_s: self.content_bytes_per_s,
            kinds: self.allowed_kinds,
            slots,
            kind_policies,
            limits,
            client_limits: self.limits.check()?,
            allowed_origins: self.browser.check()?,
            identity_sources: self.auth.sources()?,
        };
        Ok(CheckedSettings { config, log_filter: self.log_filter.unwrap_or_else(|| DEFAULT_LOG_FILTER.into()) })
    }
}

/// Resolves the symbolic links in the content roots, so that paths can be compared with them. Refuses a root that
/// contains the data folder, because a distribution could then overwrite the log.
fn check_content_roots(paths: Vec<PathBuf>, data: Option<&Path>) -> Result<Vec<PathBuf>, SettingsError> {
    let data = data.map(resolve_existing_part);
    let mut roots = Vec::new();
    for path in paths {
        let root = match path.canonicalize() {
            Ok(root) if root.is_dir() => root,
            Ok(_) => return invalid("content_roots", format!("{:?} is not a folder", path.display().to_string())),
            Err(error) => return invalid("content_roots", format!("{:?}: {error}", path.display().to_string())),
        };
        if data.as_ref().is_some_and(|data| data.starts_with(&root)) {
            let root = root.display().to_string();
            return invalid(
                "content_roots",
                format!("the data folder is inside {root:?}: a task could overwrite the log"),
            );
        }
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// Resolves the symbolic links in the path of a folder that may not exist yet: resolves its nearest existing ancestor and
/// appends the rest of the path unchanged.
fn resolve_existing_part(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(resolved), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return resolved.join(rest);
        }
    }
    absolute
}
