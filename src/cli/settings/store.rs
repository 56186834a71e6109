//! The setting `store`: where the log is stored.

use std::convert::Infallible;
#[cfg(feature = "eventstore")]
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use taskbell::Secret;
#[cfg(feature = "eventstore")]
use taskbell::StoreUrl;

#[cfg(feature = "eventstore")]
use super::Settings;
use super::{SettingsError, invalid};

/// The valid values, for error messages.
const VALID_VALUES: &str = "must be sqlite, memory, or the address of a cluster, like esdb://db.example:2113";

/// A store that only one server can use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum EmbeddedStore {
    /// A file in the data folder.
    #[default]
    Sqlite,
    /// The memory of the process: the log is lost when the process ends.
    Memory,
}

impl EmbeddedStore {
    /// The value of the setting `store`.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
        }
    }
}

/// The unchecked setting. It may contain a password, so it is never printed. It is checked only after parsing, because the
/// error messages of clap and TOML quote an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(in crate::cli) struct StoreSetting(Secret);

impl Default for StoreSetting {
    fn default() -> Self {
        Self(EmbeddedStore::Sqlite.name().to_owned().into())
    }
}

impl FromStr for StoreSetting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned().into()))
    }
}

/// Where the log is stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogLocation {
    /// A file in the data folder.
    DataFolder,
    /// The memory of the process.
    Memory,
    /// The cluster at this address.
    #[cfg(feature = "eventstore")]
    Cluster(Box<StoreUrl>),
}

impl StoreSetting {
    /// Checks the setting. `has_data`: whether the setting `data` is set too, which is invalid with a cluster.
    ///
    /// # Errors
    /// The value is invalid, or both settings are set.
    pub(super) fn check(&self, has_data: bool) -> Result<LogLocation, SettingsError> {
        match self.0.reveal() {
            "sqlite" => Ok(LogLocation::DataFolder),
            "memory" => Ok(LogLocation::Memory),
            url if !url.contains("://") => invalid("store", VALID_VALUES),
            _ if has_data => invalid("data", "a log in a cluster needs no data folder: set either data or store"),
            url => parse_cluster(url),
        }
    }
}

#[cfg(feature = "eventstore")]
fn parse_cluster(url: &str) -> Result<LogLocation, SettingsError> {
    url.parse().map_or_else(
        |error: taskbell::InvalidUrl| invalid("store", error.to_string()),
        |url| Ok(LogLocation::Cluster(Box::new(url))),
    )
}

#[cfg(not(feature = "eventstore"))]
fn parse_cluster(_: &str) -> Result<LogLocation, SettingsError> {
    invalid("store", "this program was built without the feature eventstore, so it can't use a cluster")
}

impl LogLocation {
    /// The address of the cluster; `None` for a log that only one server uses.
    #[cfg(feature = "eventstore")]
    pub(super) fn into_url(self) -> Option<StoreUrl> {
        match self {
            Self::DataFolder | Self::Memory => None,
            Self::Cluster(url) => Some(*url),
        }
    }
}

/// The cluster of a server that has the variables of this process and this settings file. `config`: the file that a flag names.
///
/// # Errors
/// The file can't be read, no store is set, or it is not a cluster.
#[cfg(feature = "eventstore")]
pub(in crate::cli) fn cluster_of_server(config: Option<PathBuf>) -> Result<StoreUrl, SettingsError> {
    let config = config.or_else(|| std::env::var_os("TASKBELL_CONFIG").map(PathBuf::from));
    let store = match std::env::var("TASKBELL_STORE") {
        Ok(text) => Some(StoreSetting(text.into())),
        Err(_) => Settings::of_file(config.as_deref())?.store,
    };
    let Some(store) = store else {
        return invalid("store", "is not set: use --store URL, or set TASKBELL_STORE or `store` in the settings file");
    };
    let embedded = match store.check(false)? {
        LogLocation::Cluster(url) => return Ok(*url),
        LogLocation::DataFolder => EmbeddedStore::Sqlite,
        LogLocation::Memory => EmbeddedStore::Memory,
    };
    let name = embedded.name();
    invalid(
        "store",
        format!("{name} is not a cluster; --data DIR creates the token in the data folder of a stopped server"),
    )
}
