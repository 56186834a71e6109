//! The settings, checked once.
//!
//! A flag wins over a `TASKBELL_*` variable, a variable over `taskbell.toml`, the file over the default. Where a
//! setting is a list, the winner replaces the whole list.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::dispatch::policies::KindPolicies;
use crate::task::limits::is_name;
use crate::views::Limits;

mod tables;

pub use tables::{KindTable, QueueTable};

/// The file that is read where none is named.
pub const FILE: &str = "taskbell.toml";
/// Attempts inside the process at once, where nothing is said: enough to overlap disk and CPU on a small machine.
pub const SLOTS: usize = 4;
/// Attempts inside the process at once, at most: each may hold a thread.
pub const SLOTS_MAX: usize = 1024;

const KIND_HELP: &str = "What holds for a kind of work; may be repeated. Settings, separated by commas:
max_running (tasks of it that run at once), lease_s (how long a lease lives without a heartbeat, default 30),
ask_for_s, interrupt_for_s (the ladder of a cancel: how long its worker is asked, then interrupted, before the lease is
revoked; default: asked for ever), max_attempts, timeout_s (where a request doesn't say)";
const CONTENT_ROOT_HELP: &str = "A folder that content.distribute may read and write; may be repeated

[env: TASKBELL_CONTENT_ROOTS, separated like PATH]";

/// Which log the server writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file in the data folder.
    #[default]
    Sqlite,
    /// Nothing outlives the process: for trying things out.
    Memory,
}

/// What the server runs with; every value has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it listens; a loopback address. Port 0: the system chooses one.
    pub listen: SocketAddr,
    /// The folder of its log; it need not exist yet.
    pub data: PathBuf,
    /// Which log.
    pub store: StoreKind,
    /// The only folders that `content.distribute` may read and write: absolute, without links, existing.
    pub content_roots: Vec<PathBuf>,
    /// Bound on what all distributions together copy, in bytes per second; none: as fast as it goes.
    pub content_bytes_per_s: Option<u64>,
    /// The only kinds that are accepted; none: any.
    pub kinds: Option<Vec<String>>,
    /// Attempts inside the process at once: 1 to [`SLOTS_MAX`].
    pub slots: usize,
    /// What is set for each kind.
    pub settings: KindPolicies,
    /// How many tasks may run at once.
    pub limits: Limits,
    /// Which log lines go to stderr, in the words of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            data: PathBuf::from("./taskbell-data"),
            store: StoreKind::default(),
            content_roots: Vec::new(),
            content_bytes_per_s: None,
            kinds: None,
            slots: SLOTS,
            settings: KindPolicies::default(),
            limits: Limits::default(),
            log: "info".into(),
        }
    }
}

/// The settings as somebody wrote them: the flags with their variables, or the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on (loopback only) [default: 127.0.0.1:7070]
    #[arg(long, env = "TASKBELL_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Folder of the log [default: ./taskbell-data]
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the log is kept [default: sqlite]
    #[arg(long, env = "TASKBELL_STORE", value_enum)]
    pub store: Option<StoreKind>,
    /// A folder that content.distribute may read and write; may be repeated
    #[arg(long = "content-root", value_name = "DIR", long_help = CONTENT_ROOT_HELP)]
    pub content_roots: Option<Vec<PathBuf>>,
    /// Bytes that all distributions together copy per second at most
    #[arg(long, env = "TASKBELL_CONTENT_BYTES_PER_S", value_name = "N")]
    pub content_bytes_per_s: Option<u64>,
    /// The only kinds to accept, separated by commas [default: any]
    #[arg(long, env = "TASKBELL_KINDS", value_name = "KIND,…", value_delimiter = ',')]
    pub kinds: Option<Vec<String>>,
    /// Tasks that run in the server's process at once [default: 4]
    #[arg(long, env = "TASKBELL_SLOTS", value_name = "N")]
    pub slots: Option<usize>,
    /// What holds for a kind of work, like `image.build:lease_s=60,ask_for_s=20,interrupt_for_s=10`; may be repeated
    #[arg(long = "kind", env = "TASKBELL_KIND_SETTINGS", value_name = "KIND:SETTING=N,…", long_help = KIND_HELP, value_delimiter = ';')]
    #[serde(default, deserialize_with = "tables::kinds")]
    pub kind: Option<Vec<KindTable>>,
    /// How many tasks of a queue run at once, like `imports:max_running=2`; may be repeated
    #[arg(long = "queue", env = "TASKBELL_QUEUE_SETTINGS", value_name = "QUEUE:max_running=N", value_delimiter = ';')]
    #[serde(default, deserialize_with = "tables::queues")]
    pub queue: Option<Vec<QueueTable>>,
    /// How many tasks with the same `concurrency_key` run at once [default: 1]
    #[arg(long, env = "TASKBELL_MAX_RUNNING_PER_KEY", value_name = "N")]
    pub max_running_per_key: Option<u32>,
    /// Which log lines go to stderr, like debug or taskbell=debug,actix=warn [default: info]
    #[arg(long, env = "TASKBELL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// The settings can't be used; the words are for the person who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file isn't what it should be.
    #[error("{}{}: {message}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: Option<usize>,
        /// What is wrong there.
        message: String,
    },
    /// A value can't be used.
    #[error("{setting}: {why}")]
    Value {
        /// Which setting.
        setting: &'static str,
        /// Why, and what would do.
        why: String,
    },
}

fn refuse<T>(setting: &'static str, why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Value { setting, why: why.into() })
}

impl Config {
    /// The checked settings: `flags` (with what clap took from the environment) over `TASKBELL_CONTENT_ROOTS` over
    /// the file, which is `file` or, if it exists, [`FILE`] in the working directory.
    ///
    /// # Errors
    /// The first thing that can't be used.
    pub fn load(flags: Settings, file: Option<&Path>) -> Result<Self, ConfigError> {
        let written = match file {
            Some(path) => Settings::read(path)?,
            None if Path::new(FILE).exists() => Settings::read(Path::new(FILE))?,
            None => Settings::default(),
        };
        let roots = std::env::var_os("TASKBELL_CONTENT_ROOTS").filter(|roots| !roots.is_empty());
        let variables = Settings {
            content_roots: roots.map(|roots| std::env::split_paths(&roots).collect()),
            ..Settings::default()
        };
        flags.over(variables).over(written).check()
    }
}

impl Settings {
    /// What a file says; paths in it are relative to its own folder.
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        if let Some(folder) = path.parent() {
            for path in settings.data.iter_mut().chain(settings.content_roots.iter_mut().flatten()) {
                *path = folder.join(&*path);
            }
        }
        Ok(settings)
    }

    fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            data: self.data.or(below.data),
            store: self.store.or(below.store),
            content_roots: self.content_roots.or(below.content_roots),
            content_bytes_per_s: self.content_bytes_per_s.or(below.content_bytes_per_s),
            kinds: self.kinds.or(below.kinds),
            slots: self.slots.or(below.slots),
            kind: self.kind.or(below.kind),
            queue: self.queue.or(below.queue),
            max_running_per_key: self.max_running_per_key.or(below.max_running_per_key),
            log: self.log.or(below.log),
        }
    }

    /// The checked settings; what is not said gets its default.
    ///
    /// # Errors
    /// The first thing that can't be used.
    pub fn check(self) -> Result<Config, ConfigError> {
        let or = Config::default();
        let data = self.data.unwrap_or(or.data);
        let store = self.store.unwrap_or(or.store);
        if data.as_os_str().is_empty() || (data.exists() && !data.is_dir()) {
            return refuse("data", format!("{:?} is not a folder", data.display().to_string()));
        }
        let slots = self.slots.unwrap_or(or.slots);
        if !(1..=SLOTS_MAX).contains(&slots) {
            return refuse("slots", format!("{slots} is not within 1 to {SLOTS_MAX}"));
        }
        if self.content_bytes_per_s == Some(0) {
            return refuse("content_bytes_per_s", "0 would never copy anything; leave it away for no bound");
        }
        if let Some(kinds) = &self.kinds {
            if kinds.is_empty() {
                return refuse("kinds", "an empty list would refuse every task; leave it away to accept any kind");
            }
            if let Some(kind) = kinds.iter().find(|kind| !is_name(kind)) {
                return refuse("kinds", format!("{kind:?} is not a kind: 1 to 64 of a-z, 0-9, '.', '_', '-'"));
            }
        }
        let (kinds_set, queues_set) = (self.kind.unwrap_or_default(), self.queue.unwrap_or_default());
        let (settings, limits) = tables::check(kinds_set, queues_set, self.max_running_per_key)?;
        Ok(Config {
            listen: self.listen.map_or(Ok(or.listen), |text| listen(&text))?,
            content_roots: roots(
                self.content_roots.unwrap_or_default(),
                (store == StoreKind::Sqlite).then_some(&data),
            )?,
            data,
            store,
            content_bytes_per_s: self.content_bytes_per_s,
            kinds: self.kinds,
            slots,
            settings,
            limits,
            log: self.log.unwrap_or(or.log),
        })
    }
}

fn listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let Ok(address) = numeric.as_deref().unwrap_or(text).parse::<SocketAddr>() else {
        return refuse("listen", format!("{text:?} is not an address with a port, like 127.0.0.1:7070"));
    };
    if address.ip().is_loopback() {
        return Ok(address);
    }
    refuse(
        "listen",
        format!(
            "{address} can be reached from outside this machine, and this release has no authentication yet: \
             only a loopback address, like 127.0.0.1:{}, is accepted",
            address.port()
        ),
    )
}

/// The roots without links, so that paths can be held against them. The log must not lie in one: a distribution
/// could then write over it.
fn roots(given: Vec<PathBuf>, data: Option<&PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    let data = data.map(|data| real(data));
    let mut roots = Vec::new();
    for path in given {
        let root = match path.canonicalize() {
            Ok(root) if root.is_dir() => root,
            Ok(_) => return refuse("content_roots", format!("{:?} is not a folder", path.display().to_string())),
            Err(error) => return refuse("content_roots", format!("{:?}: {error}", path.display().to_string())),
        };
        if data.as_ref().is_some_and(|data| data.starts_with(&root)) {
            let root = root.display().to_string();
            return refuse(
                "content_roots",
                format!("the data folder lies in {root:?}: a task could overwrite the log"),
            );
        }
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    Ok(roots)
}

/// Where a folder is or will be: its nearest existing ancestor without links, and the rest as it is written.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    absolute
}
