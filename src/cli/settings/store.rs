//! The setting `store`: where the log is kept.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
#[cfg(feature = "eventstore")]
use taskbell::StoreUrl;

use super::{SettingsError, refuse};

/// What a value must be.
const NEEDED: &str = "sqlite, memory, or the address of a cluster, like esdb://db.example:2113, is needed";

/// A log of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum StoreKind {
    /// A file in the data folder.
    #[default]
    Sqlite,
    /// Nothing outlives the process: for trying things out.
    Memory,
}

impl StoreKind {
    /// The name that flags and files use.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
        }
    }
}

/// The setting as it is written. It may hold a password: it is shown nowhere, so it is not checked while it is read, because
/// the messages of the parsers quote what they refuse.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(in crate::cli) struct StoreSetting(String);

impl Default for StoreSetting {
    fn default() -> Self {
        Self(StoreKind::Sqlite.name().to_owned())
    }
}

impl fmt::Debug for StoreSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSetting")
    }
}

impl FromStr for StoreSetting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Where the log is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file of the data folder.
    Folder,
    Memory,
    #[cfg(feature = "eventstore")]
    Cluster(Box<StoreUrl>),
}

impl StoreSetting {
    /// `has_data`: whether a data folder is set too, which a cluster has no use for.
    pub(super) fn check(&self, has_data: bool) -> Result<Place, SettingsError> {
        match self.0.as_str() {
            "sqlite" => Ok(Place::Folder),
            "memory" => Ok(Place::Memory),
            url if !url.contains("://") => refuse("store", NEEDED),
            _ if has_data => refuse("data", "a log in a cluster needs no data folder: set either data or store"),
            url => cluster(url),
        }
    }
}

#[cfg(feature = "eventstore")]
fn cluster(url: &str) -> Result<Place, SettingsError> {
    url.parse().map_or_else(
        |error: taskbell::InvalidUrl| refuse("store", error.to_string()),
        |url| Ok(Place::Cluster(Box::new(url))),
    )
}

#[cfg(not(feature = "eventstore"))]
fn cluster(_: &str) -> Result<Place, SettingsError> {
    refuse("store", "this program was built without the feature eventstore, so it knows no cluster")
}

impl Place {
    /// The address of the cluster; none where the log is of one server alone.
    #[cfg(feature = "eventstore")]
    pub(super) fn into_url(self) -> Option<StoreUrl> {
        match self {
            Self::Folder | Self::Memory => None,
            Self::Cluster(url) => Some(*url),
        }
    }
}
